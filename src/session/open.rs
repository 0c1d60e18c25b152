//! From a handshake to a session: a ticket, a token, the connect webhook, or nobody in particular.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Lane, Policy, Session, Sessions, Ticket, Transport, apply, revoke};
use crate::auth::{Identity, Refused};
use crate::hub::{Outbox, Owner};
use crate::protocol::{Close, Code, Reply};
use crate::session::limits::Bucket;
use crate::webhook::{Answer, Connection, Event, Forwarded, Handshake, Refusal, Verdict};

/// What a client shows when it comes.
#[derive(Clone, Debug)]
pub struct Hello {
    pub transport: Transport,
    pub token: Option<String>,
    pub ticket: Option<String>,
    pub ip: IpAddr,
    pub path: Box<str>,
    pub query: Box<str>,
    pub origin: Option<Box<str>>,
    pub forwarded: Forwarded,
}

/// Why there is no session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    AuthenticationRequired,
    InvalidToken(Refused),
    /// By the backend.
    Refused(Refusal),
    Disconnected(Close),
    Later(Duration),
    /// The node goes away.
    Draining(Duration),
    Unavailable,
}

/// Who came, and what the backend wants done for it.
struct Admitted {
    who: Identity,
    forwarded: Forwarded,
    lane: Lane,
    state: Option<Arc<str>>,
    verdict: Option<Box<Verdict>>,
}

impl Sessions {
    /// Whether a client with these credentials would have to show a token first.
    pub fn needs_token(&self, hello: &Hello) -> bool {
        let policy = self.policy();
        hello.token.is_none() && hello.ticket.is_none() && !policy.anonymous && !policy.ask_connect
    }

    /// Lets a client in. Its outbox is the one it is heard through from now on.
    pub async fn open(self: &Arc<Self>, hello: Hello, outbox: &Arc<Outbox>) -> Result<Box<Session>, TurnedAway> {
        let policy = self.policy();
        let generation = self.next_generation();
        self.stay()?;
        if let Err(after) = self.gate.pass(policy.limits.handshakes) {
            self.metrics.rejected(Code::Busy);
            return Err(TurnedAway::Later(after));
        }
        let admitted = self.admit(&policy, &hello, outbox, generation).await.inspect_err(|it| {
            self.metrics.rejected(it.code());
        })?;
        let Admitted { who, forwarded, lane, state, verdict } = admitted;
        let owner = Owner::new(who.user.clone(), hello.ip, who.grants.shared()).proven(revoke::proof_of(&who));
        let listed = self.hub.directory().list(outbox, owner);
        // Once more: who was not listed yet when everybody was sent away, or a user was, is turned away here.
        self.stay()?;
        self.trust(&who)?;
        let mut session = Box::new(Session {
            _listed: listed,
            _counted: self.metrics.connected(hello.transport),
            shared: self.clone(),
            outbox: outbox.clone(),
            transport: hello.transport,
            ip: hello.ip,
            who,
            forwarded,
            state,
            lane,
            generation,
            since: tokio::time::Instant::now(),
            following: Vec::new(),
            catching_up: std::collections::VecDeque::new(),
            listing: Vec::new(),
            bucket: Bucket::full(policy.limits.burst),
            checked: policy.number,
            is_expiry_told: false,
            answers: std::sync::Mutex::default(),
            verdict,
        });
        session.note();
        Ok(session)
    }

    /// A ticket for whoever shows these credentials: it stands for them once, in a URL.
    pub async fn ticket(self: &Arc<Self>, hello: Hello) -> Result<String, TurnedAway> {
        self.stay()?;
        let policy = self.policy();
        let (who, forwarded) = match self.identify(&policy, &hello).await? {
            Some(it) => it,
            // Whoever is asked about later is asked then, with the headers of now.
            None if policy.anonymous || policy.ask_connect => (Identity::default(), hello.forwarded),
            None => return Err(TurnedAway::AuthenticationRequired),
        };
        self.tickets.issue(Ticket { who, forwarded }).map_err(|_| TurnedAway::Unavailable)
    }

    /// By ticket or token; none means that neither was shown.
    async fn identify(&self, policy: &Policy, hello: &Hello) -> Result<Option<(Identity, Forwarded)>, TurnedAway> {
        let identified = self.read(policy, hello).await?;
        if let Some((who, _)) = &identified {
            self.trust(who)?;
            self.complain_of_lasting(policy, who);
        }
        Ok(identified)
    }

    async fn read(&self, policy: &Policy, hello: &Hello) -> Result<Option<(Identity, Forwarded)>, TurnedAway> {
        if let Some(ticket) = &hello.ticket {
            let Some(Ticket { who, forwarded }) = self.tickets.redeem(ticket) else {
                return Err(TurnedAway::InvalidToken(Refused::Malformed("the ticket is not known, used or too old")));
            };
            return Ok(Some((who, forwarded)));
        }
        match (&hello.token, &policy.verifier) {
            (Some(token), Some(verifier)) => match verifier.verify(token).await {
                Ok(who) => Ok(Some((who, hello.forwarded.clone()))),
                Err(Refused::KeysUnavailable) => Err(TurnedAway::Unavailable),
                Err(refused) => Err(TurnedAway::InvalidToken(refused)),
            },
            (Some(_), None) if !policy.anonymous && !policy.ask_connect => {
                Err(TurnedAway::InvalidToken(Refused::Malformed("tokens are not used here")))
            }
            _ => Ok(None),
        }
    }

    async fn admit(
        &self,
        policy: &Policy,
        hello: &Hello,
        outbox: &Outbox,
        generation: u64,
    ) -> Result<Admitted, TurnedAway> {
        let identified = self.identify(policy, hello).await?;
        let is_known = identified.as_ref().is_some_and(|(who, _)| *who != Identity::default());
        let (who, forwarded) = identified.unwrap_or_else(|| (Identity::default(), hello.forwarded.clone()));
        let mut admitted = Admitted { who, forwarded, lane: Lane::new(), state: None, verdict: None };
        if is_known {
            return Ok(admitted);
        }
        match &policy.webhooks {
            Some(webhooks) if policy.ask_connect && webhooks.asks(Event::Connect) => {
                let node = self.hub.node();
                let connection = Connection {
                    id: outbox.id,
                    transport: hello.transport.name(),
                    user: None,
                    ip: hello.ip,
                    claims: None,
                    state: None,
                    node: &node,
                    generation,
                    forwarded: &admitted.forwarded,
                };
                let handshake = Handshake { path: &hello.path, query: &hello.query, origin: hello.origin.as_deref() };
                if webhooks.is_crowded() {
                    return Err(TurnedAway::Later(self.gate.book(policy.limits.handshakes)));
                }
                let answer = webhooks.ask_to_connect(&connection, &mut admitted.lane, handshake).await;
                admitted.take(answer)?;
                Ok(admitted)
            }
            _ if policy.anonymous => Ok(admitted),
            _ => Err(TurnedAway::AuthenticationRequired),
        }
    }
}

impl Admitted {
    /// The connect webhook's answer makes an identity.
    fn take(&mut self, answer: Answer) -> Result<(), TurnedAway> {
        let mut verdict = match answer {
            Answer::Verdict(verdict) => verdict,
            // Not before it said so, and not everybody at that very moment.
            Answer::Later { retry_after } => {
                return Err(TurnedAway::Later(retry_after.mul_f64(1.0 + 0.5 * fastrand::f64())));
            }
            Answer::Unavailable => return Err(TurnedAway::Unavailable),
        };
        if let Some(disconnect) = &verdict.disconnect {
            return Err(TurnedAway::Disconnected(Close::custom(disconnect.code, &disconnect.reason)));
        }
        if let Some(refusal) = verdict.refusal() {
            return Err(TurnedAway::Refused(refusal));
        }
        verdict.revise(&mut self.who);
        // As with a token: what was said before the user was revoked no longer counts.
        self.who.issued_at = verdict.asked_at;
        self.state = verdict.state.take();
        self.verdict = Some(verdict);
        Ok(())
    }
}

impl TurnedAway {
    /// How a WebSocket ends.
    pub fn close(&self) -> Close {
        match self {
            Self::AuthenticationRequired => Close::AUTHENTICATION_REQUIRED,
            Self::InvalidToken(_) => Close::INVALID_TOKEN,
            Self::Refused(refusal) if refusal.message.is_empty() => Close::REFUSED,
            Self::Refused(refusal) => Close::custom(Close::REFUSED.code, &refusal.message),
            Self::Disconnected(close) => close.clone(),
            Self::Later(after) => {
                let seconds = after.as_secs_f64().ceil();
                Close::custom(Close::OVERLOADED.code, &format!("{} in {seconds} s", Close::OVERLOADED.reason))
            }
            Self::Draining(_) => Close::DRAINING,
            Self::Unavailable => Close::UNAVAILABLE,
        }
    }

    /// What an event stream or a poll is told.
    pub fn reply(&self) -> Reply {
        match self {
            Self::AuthenticationRequired => Reply::error(self.code(), "Authentication required"),
            Self::InvalidToken(refused) => Reply::error(self.code(), format!("Invalid token: {refused}")),
            Self::Refused(refusal) => apply::refusal(refusal),
            Self::Disconnected(close) => Reply::error(self.code(), close.reason.to_string()),
            Self::Later(_) => Reply::error(self.code(), "Come back later"),
            Self::Draining(_) => Reply::error(self.code(), "Server is going away"),
            Self::Unavailable => Reply::error(self.code(), "Backend unavailable"),
        }
    }

    pub fn code(&self) -> Code {
        match self {
            Self::AuthenticationRequired => Code::NotAuthenticated,
            Self::InvalidToken(Refused::Expired) => Code::Expired,
            Self::InvalidToken(_) => Code::InvalidToken,
            // Its own code says whether to come back; where there is no close frame, this word does.
            Self::Disconnected(close) if close.is_come_back() => Code::Unavailable,
            Self::Refused(_) | Self::Disconnected(_) => Code::Refused,
            Self::Later(_) => Code::Busy,
            Self::Draining(_) => Code::Draining,
            Self::Unavailable => Code::Unavailable,
        }
    }

    /// What a WebSocket that may come back is told before its close.
    pub fn reconnect(&self) -> Option<Reply> {
        let reason = match self {
            Self::Draining(_) => "drain",
            Self::Later(_) => "busy",
            Self::Unavailable => "unavailable",
            _ => return None,
        };
        self.come_back().map(|after| Reply::reconnect(after, reason))
    }

    /// Whether coming back may help, and how soon.
    pub fn come_back(&self) -> Option<Duration> {
        match self {
            Self::Later(after) | Self::Draining(after) => Some(*after),
            Self::Unavailable => Some(Duration::from_secs(1).mul_f64(1.0 + 2.0 * fastrand::f64())),
            Self::Disconnected(close) if close.is_come_back() => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}
