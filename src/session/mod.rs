//! One client: who it is, what it follows, what it may do. A session is a plain value in the task of its transport; the
//! only way to get one is [`Sessions::open`], so there is none without an identity. It never formats a byte: what it has
//! to say goes to its [`Outbox`].

mod abroad;
mod apply;
mod farewell;
mod gate;
mod limits;
mod metrics;
mod open;
mod parting;
pub mod permission;
mod presence;
mod publish;
mod revoke;
mod subscribe;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use arc_swap::access::DynAccess;
use http::HeaderMap;
use tokio::time::Instant;

use crate::auth::{Identity, Keep, Refused, Revocations, Tickets, Verifier};
use crate::channel::{self, ChannelName};
use crate::hub::{CatchUp, Hub, Listed, Outbox, Present, Rules, Signal, Subscription};
use crate::protocol::{Close, Code, Command, Connected, Heartbeat, Misread, Reference, Reply};
use crate::webhook::{Connection, Event, Forwarded, Lane, Notices, Question, Verdict, Webhooks};
pub use abroad::{NotSpread, Whom, Word};
use gate::Gate;
use limits::Bucket;
pub use limits::Limits;
pub use metrics::Metrics;
pub use open::{Hello, TurnedAway};
pub use revoke::{Erasure, NotErased};

/// What a command is judged by, all of one generation.
pub struct Policy {
    /// Counts the generations.
    pub number: u64,
    pub rules: Arc<Rules>,
    pub verifier: Option<Arc<Verifier>>,
    pub webhooks: Option<Arc<Webhooks>>,
    /// Clients without a token get in, as nobody in particular.
    pub anonymous: bool,
    /// Clients without a token are let in or not by the connect webhook.
    pub ask_connect: bool,
    pub limits: Limits,
    /// How long and how many revocations are kept.
    pub revocations: Keep,
}

/// The policy of the current generation.
pub type CurrentPolicy = Box<dyn DynAccess<Arc<Policy>> + Send + Sync>;

/// How a client is connected, as webhooks and metrics call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    WebSocket,
    EventStream,
    Poll,
}

impl Transport {
    pub const ALL: [Self; 3] = [Self::WebSocket, Self::EventStream, Self::Poll];

    pub fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::EventStream => "sse",
            Self::Poll => "poll",
        }
    }
}

/// Opens sessions; what all of a node's sessions share.
pub struct Sessions {
    hub: Arc<Hub>,
    policy: CurrentPolicy,
    notices: Arc<Notices>,
    tickets: Tickets<Ticket>,
    revocations: Revocations,
    /// A token was seen that outlives its revocation.
    has_complained: AtomicBool,
    gate: Gate,
    metrics: Metrics,
    /// Grows with every session, over restarts too: a late notice of an older one is recognisable.
    generation: AtomicU64,
    /// Everybody is being sent away, and nobody is let in any more.
    is_closing: AtomicBool,
}

/// What a ticket stands for.
struct Ticket {
    who: Identity,
    forwarded: Forwarded,
}

/// Tickets live 30 seconds; so many clients fetch one at the same time.
const MAX_TICKETS: usize = 100_000;
/// How long before its token's end a client is told.
const EXPIRING: Duration = Duration::from_secs(60);

/// One client's session.
pub struct Session {
    shared: Arc<Sessions>,
    outbox: Arc<Outbox>,
    transport: Transport,
    ip: IpAddr,
    who: Identity,
    forwarded: Forwarded,
    /// The backend's own note on this connection, as JSON.
    state: Option<Arc<str>>,
    lane: Lane,
    generation: u64,
    since: Instant,
    /// In order of the channels' names.
    following: Vec<Followed>,
    catching_up: VecDeque<CatchUp>,
    /// Channels whose members the client is to be told anew.
    listing: Vec<ChannelName>,
    bucket: Bucket,
    /// The generation its subscriptions were last checked against.
    checked: u64,
    is_expiry_told: bool,
    /// While a POSTed command is handled: its answers, which go back with the POST.
    answers: Mutex<Option<Vec<Reply>>>,
    /// What the connect webhook still wants done once the client is greeted.
    verdict: Option<Box<Verdict>>,
    _listed: Listed,
    _counted: metrics::Connected,
}

struct Followed {
    /// Where the rule has presence. Before the subscription, as it ends: who leaves is told before the channel is empty.
    present: Option<Box<Present>>,
    subscription: Subscription,
    /// When it was joined, in milliseconds since the Unix epoch.
    since: u64,
}

impl Sessions {
    pub fn new(
        hub: Arc<Hub>,
        policy: CurrentPolicy,
        notices: Arc<Notices>,
        metrics: Metrics,
        revocations: Revocations,
    ) -> Arc<Self> {
        let generation = AtomicU64::new(first_generation(channel::now()));
        let gate = Gate::new(policy.load().limits.handshakes);
        let (tickets, is_closing) = (Tickets::new(MAX_TICKETS), AtomicBool::new(false));
        metrics.revocations(revocations.len());
        let has_complained = AtomicBool::new(false);
        Arc::new(Self {
            hub,
            policy,
            notices,
            tickets,
            revocations,
            has_complained,
            gate,
            metrics,
            generation,
            is_closing,
        })
    }

    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    pub fn policy(&self) -> Arc<Policy> {
        self.policy.load().clone()
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The headers of a handshake that webhooks are shown.
    pub fn forwarded(&self, headers: &HeaderMap) -> Forwarded {
        let policy = self.policy();
        policy.webhooks.as_ref().map(|it| Forwarded::pick(headers, it.forward_headers())).unwrap_or_default()
    }

    fn next_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Session {
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    pub fn user(&self) -> Option<&Arc<str>> {
        self.who.user.as_ref()
    }

    /// Whether it follows anything.
    pub fn channels(&self) -> impl Iterator<Item = &ChannelName> {
        self.following.iter().map(|it| it.subscription.channel())
    }

    /// Greets the client and does what the connect webhook asked for. The first thing after opening.
    ///
    /// `secret` authorises POSTed commands, where the transport has them.
    pub async fn begin(&mut self, heartbeat: Heartbeat, secret: Option<String>) {
        self.say(&Reply::Connected(Connected {
            connection_id: self.outbox.id.to_string(),
            user_id: self.who.user.clone(),
            timestamp: channel::now(),
            expires_at: self.who.expires_at.map(milliseconds),
            heartbeat,
            secret,
        }));
        self.shared.hub.tell_reach(&self.outbox);
        if let Some(verdict) = self.verdict.take() {
            self.apply_lists(*verdict).await;
        }
    }

    /// Does what a client asks for; the answers go to its outbox. Await it to its end: the backend may already have
    /// decided.
    pub async fn handle(&mut self, command: Command) {
        let policy = self.shared.policy();
        self.obey(&policy).await;
        match self.bucket.take(policy.limits.rate, policy.limits.burst, Instant::now()) {
            limits::Verdict::Take => {}
            limits::Verdict::Refuse => {
                self.shared.metrics.rejected(Code::RateLimited);
                let message = format!("more than {} messages a second", policy.limits.rate);
                let (about, to) = command.names();
                let error = Reply::error(Code::RateLimited, message).about(about, to);
                return self.say(&error);
            }
            limits::Verdict::Flood => return self.end(Close::FLOOD),
        }
        match command {
            Command::Subscribe { channel, since, reference } => {
                self.subscribe(&policy, channel, since, reference).await
            }
            Command::Unsubscribe { channel, reference } => self.unsubscribe(channel, reference).await,
            Command::Publish { channel, data, id, event, reference } => {
                let message = publish::Message { channel, data, id, event, reference };
                self.publish(&policy, message).await;
            }
            Command::History { channel, since, limit, reference } => {
                self.history(&policy, channel, since, limit, reference).await;
            }
            Command::Presence { channel, limit, reference } => self.presence(channel, limit, reference).await,
            Command::Refresh { token, reference } => self.refresh(&policy, &token, reference).await,
            Command::Auth { token } => self.refresh(&policy, &token, None).await,
            Command::Ping => self.say(&Reply::Pong { timestamp: channel::now() }),
        }
    }

    /// Counts a message of so many bytes.
    pub fn received(&self, bytes: usize) {
        self.shared.metrics.received(bytes);
    }

    /// A message that could not be read.
    pub fn misread(&mut self, misread: Misread) {
        self.shared.metrics.rejected(misread.code);
        let policy = self.shared.policy();
        if self.bucket.take(policy.limits.rate, policy.limits.burst, Instant::now()) == limits::Verdict::Flood {
            return self.end(Close::FLOOD);
        }
        self.say(&misread.into());
    }

    /// Looks at the clock and at the rules: what expired ends, what is no longer allowed is left. Called with every
    /// heartbeat and at [`Session::deadline`].
    pub async fn tick(&mut self) {
        let policy = self.shared.policy();
        self.obey(&policy).await;
        let Some(expires_at) = self.who.expires_at else { return };
        let now = SystemTime::now();
        if now >= expires_at {
            return self.end(Close::EXPIRED);
        }
        if !self.is_expiry_told && now + EXPIRING >= expires_at {
            self.is_expiry_told = true;
            self.say(&Reply::Expiring { expires_at: milliseconds(expires_at) });
        }
    }

    /// When the next [`Session::tick`] is due, whatever the heartbeat.
    pub fn deadline(&self) -> Option<Duration> {
        let left = self.who.expires_at?.duration_since(SystemTime::now()).unwrap_or_default();
        Some(if self.is_expiry_told { left } else { left.saturating_sub(EXPIRING) })
    }

    /// Leaves what newer rules do not allow.
    async fn obey(&mut self, policy: &Policy) {
        if self.checked == policy.number {
            return;
        }
        self.checked = policy.number;
        self.leave_forbidden(policy).await;
        self.obey_presence(policy).await;
    }

    /// A new token for the running session: the same user, perhaps other grants.
    async fn refresh(&mut self, policy: &Arc<Policy>, token: &str, reference: Option<Reference>) {
        let refuse = |it: &Self, message: String| {
            it.shared.metrics.rejected(Code::InvalidToken);
            it.say(&Reply::error(Code::InvalidToken, message).about(None, reference.clone()));
        };
        let Some(verifier) = &policy.verifier else {
            return refuse(self, "tokens are not used here".into());
        };
        let who = match verifier.verify(token).await {
            Ok(who) if self.shared.trust(&who).is_err() => return refuse(self, Refused::Revoked.to_string()),
            Ok(who) => who,
            Err(refused) => return refuse(self, refused.to_string()),
        };
        if who.user != self.who.user {
            return refuse(self, "the token is another user's".into());
        }
        let before = std::mem::replace(&mut self.who, who);
        if policy.webhooks.as_ref().is_some_and(|it| it.asks(Event::Refresh)) {
            match self.ask(policy, &Question::Refresh).await {
                Ok(verdict) => self.apply(policy, verdict).await,
                Err(error) => {
                    self.who = before;
                    return self.say(&error.about(None, reference));
                }
            }
        }
        self.outbox.prove(revoke::proof_of(&self.who));
        // Once more: who looked for connections of a token that was just revoked did not know it was this one's.
        if self.shared.trust(&self.who).is_err() {
            return self.end(Close::REVOKED);
        }
        self.is_expiry_told = false;
        self.note();
        self.leave_forbidden(policy).await;
        let expires_at = self.who.expires_at.map(milliseconds);
        self.say(&Reply::Refreshed { expires_at, reference });
    }

    /// Asks the backend. An error is what the client is told.
    async fn ask(&mut self, policy: &Policy, question: &Question<'_>) -> Result<Box<Verdict>, Reply> {
        let Some(webhooks) = &policy.webhooks else {
            return Err(Reply::error(Code::Unavailable, "the backend cannot be asked"));
        };
        let webhooks = webhooks.clone();
        let answer = self.with_connection(|connection, lane| webhooks.ask(connection, lane, question)).await;
        apply::judge(answer, &self.shared.metrics)
    }

    /// Shows the connection as it stands, and its lane.
    fn with_connection<T>(&mut self, show: impl FnOnce(&Connection, &mut Lane) -> T) -> T {
        let node = self.shared.hub.node();
        let connection = Connection {
            id: self.outbox.id,
            transport: self.transport.name(),
            user: self.who.user.as_deref(),
            ip: self.ip,
            claims: self.who.claims.as_deref(),
            state: self.state.as_deref(),
            node: &node,
            generation: self.generation,
            forwarded: &self.forwarded,
        };
        show(&connection, &mut self.lane)
    }

    /// The same as [`Session::handle`] for a command that came apart from the stream, and what it is answered with.
    pub async fn handle_posted(&mut self, command: Command) -> Vec<Reply> {
        *self.answers.lock().expect("nothing panics under this lock") = Some(Vec::new());
        self.handle(command).await;
        self.answers.lock().expect("nothing panics under this lock").take().unwrap_or_default()
    }

    /// Tells the client. What only answers a POST goes back with it; what changes the stream is said there too.
    fn say(&self, reply: &Reply) {
        let mut answers = self.answers.lock().expect("nothing panics under this lock");
        if let Some(answers) = answers.as_mut() {
            answers.push(reply.clone());
            if matches!(
                reply,
                Reply::Ack { .. }
                    | Reply::Error(_)
                    | Reply::History { .. }
                    | Reply::Presence { .. }
                    | Reply::Pong { .. }
            ) {
                return;
            }
        }
        drop(answers);
        self.outbox.reply(reply);
    }

    fn end(&self, close: Close) {
        self.outbox.signal(Signal::Close(close));
    }
}

/// Above all that an earlier process gave, however many it let in within its time: in microseconds, which nobody's clients
/// outrun, and which JavaScript can still count.
fn first_generation(milliseconds: u64) -> u64 {
    milliseconds * 1000
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.outbox.id)
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sessions")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_begins_above_all_generations_of_one_that_let_in_a_crowd_a_moment_ago() {
        let begun = channel::now();
        let crowd = 100_000;
        assert!(first_generation(begun + 1000) > first_generation(begun) + crowd);
        assert!(first_generation(begun) < 1 << 53, "a number that JavaScript counts exactly");
    }
}
