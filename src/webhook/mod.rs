//! Asks the backend, and tells it: a [`Question`] about a connection goes out as a signed HTTP request, a [`Verdict`] comes
//! back, read whole or not at all; a [`Notice`] goes out until it is taken, and says nothing back. Bounded in number and
//! time. What a verdict changes is the session's business; order within a connection is kept by the session too, which
//! asks one question at a time.

mod breaker;
mod complaints;
mod delivery;
mod event;
mod forwarded;
mod metrics;
mod notice;
mod object;
mod path;
mod push;
mod question;
mod remembered;
mod reply;
mod signature;
#[cfg(test)]
mod tests;
mod together;
mod trace;
mod turns;
mod verdict;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use tokio::time::Instant;
use tracing::warn;

use crate::auth::SecretBytes;
use crate::backend::Backend;
use breaker::Breaker;
pub use breaker::BreakerSettings;
use complaints::Complaints;
use delivery::{Delivery, DeliveryLimits, Destination, Exchange, Undelivered};
pub use event::{Event, OnError, OnErrors};
pub use forwarded::Forwarded;
pub use metrics::Metrics;
use metrics::Outcome;
pub use notice::{CurrentWebhooks, DeadLetters, Notice, NoticeSettings, Notices, Replayed};
pub use path::ClosedPath;
pub use push::{Push, Target};
pub use question::{Connection, Handshake, Lane, Question};
use remembered::Remembered;
pub use signature::{InvalidSecret, Mismatch, Signing};
use together::{Together, Turn};
use turns::Asker;
pub use verdict::{Action, Disconnect, Invalid, Limits, Refusal, Verdict};

/// Where and how the backend is asked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A path on the backend, or an absolute URL.
    pub url: Uri,
    /// The newest first; all of them sign.
    pub secrets: Vec<SecretBytes>,
    /// What the backend wants to be asked and told.
    pub events: Vec<Event>,
    /// For a whole question, waiting included.
    pub timeout: Duration,
    pub forward_headers: Vec<HeaderName>,
    pub max_in_flight: usize,
    pub on_error: OnErrors,
    pub breaker: BreakerSettings,
    pub notices: NoticeSettings,
    /// The largest reply, in bytes.
    pub max_reply: usize,
    /// The largest publication a verdict may ask for, in bytes.
    pub max_data: usize,
}

/// What became of a question.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Yes or no, and what else is to be done. A refusal by status is one that rejects.
    Verdict(Box<Verdict>),
    /// The backend wants to be asked again, not before this.
    Later { retry_after: Duration },
    /// The backend said nothing that can be used, and the configuration denies then.
    Unavailable,
}

/// Why webhooks cannot be sent with these settings.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("a webhook URL is a path (`/webhooks/realtime`) or an http or https URL")]
    Url,
    #[error(transparent)]
    Secret(#[from] InvalidSecret),
    #[error("the header `{0}` cannot be forwarded")]
    ForwardHeader(HeaderName),
}

/// The way to the backend's opinion. An immutable part of a generation.
pub struct Webhooks {
    settings: Settings,
    signing: Signing,
    delivery: Delivery,
    remembered: Remembered,
    together: Together,
    complaints: Complaints,
    metrics: Metrics,
}

/// State is kept with every connection, so it is no place for documents.
const MAX_STATE: usize = 16 * 1024;
/// Questions that may wait for each of those on their way, before clients are told to come back: so many answer times.
const WAITING_PER_SLOT: usize = 4;
/// Verdicts kept for their `ttl`; about 500 bytes each.
const MAX_REMEMBERED: usize = 20_000;

impl Webhooks {
    /// A URL that `previous` has too keeps its slots and its breaker.
    pub fn build(
        settings: Settings,
        backend: &Arc<Backend>,
        metrics: &Metrics,
        previous: Option<&Self>,
    ) -> Result<Self, Error> {
        let backend = backend.clone();
        let exchange: Exchange = Box::new(move |request, timeout, max_reply| {
            let backend = backend.clone();
            Box::pin(async move { backend.exchange(request, timeout, max_reply).await })
        });
        Self::through(exchange, settings, metrics, previous)
    }

    fn through(
        exchange: Exchange,
        settings: Settings,
        metrics: &Metrics,
        previous: Option<&Self>,
    ) -> Result<Self, Error> {
        let is_path = settings.url.scheme().is_none() && settings.url.path().starts_with('/');
        if !is_path && !matches!(settings.url.scheme_str(), Some("http" | "https")) {
            return Err(Error::Url);
        }
        if let Some(name) = settings.forward_headers.iter().find(|it| !forwarded::is_forwardable(it)) {
            return Err(Error::ForwardHeader(name.clone()));
        }
        let signing = Signing::build(&settings.secrets)?;
        let destination = match previous.filter(|it| it.settings.url == settings.url) {
            Some(previous) => previous.delivery.destination().clone(),
            None => Destination { turns: Arc::default(), breaker: Breaker::new(metrics.breaker.clone()) },
        };
        let limits = DeliveryLimits {
            max_in_flight: settings.max_in_flight,
            timeout: settings.timeout,
            max_reply: settings.max_reply,
            breaker: settings.breaker,
        };
        Ok(Self {
            signing,
            delivery: Delivery::new(exchange, destination, limits),
            remembered: Remembered::new(MAX_REMEMBERED),
            together: Together::new(),
            complaints: Complaints::default(),
            metrics: metrics.clone(),
            settings,
        })
    }

    /// Whether the backend wants to be asked, or told, at all.
    pub fn asks(&self, event: Event) -> bool {
        self.settings.events.contains(&event)
    }

    fn breaker(&self) -> &Breaker {
        &self.delivery.destination().breaker
    }

    /// The headers a session keeps of its handshake, to show them with each question.
    pub fn forward_headers(&self) -> &[HeaderName] {
        &self.settings.forward_headers
    }

    /// Asks. The question is written down at once, so the future borrows nothing; it must be awaited to its end, or the
    /// backend may have decided something that nobody applies.
    pub fn ask(
        self: &Arc<Self>,
        connection: &Connection<'_>,
        lane: &mut Lane,
        question: &Question<'_>,
    ) -> impl Future<Output = Answer> + Send + use<> {
        let this = self.clone();
        let event = question.event();
        let key = match question {
            Question::Subscribe { channel } => Some(Remembered::subscribe(connection, channel)),
            _ => None,
        };
        let user = key.and(connection.user).map(Arc::<str>::from);
        let asked = match key.and_then(|it| self.remembered.recall(&it)) {
            Some(verdict) => Err(verdict),
            None => Ok(self.request(connection, lane, question)),
        };
        let asker = match connection.user {
            Some(user) => Asker::User(user.into()),
            None => Asker::Address(connection.ip),
        };
        async move {
            let (id, request) = match asked {
                Ok(it) => it,
                Err(remembered) => {
                    this.metrics.remembered.inc();
                    return Answer::Verdict(Box::new(remembered));
                }
            };
            let answer = this.answer(event, request, asker, &id).await;
            if let (Some(key), Answer::Verdict(verdict)) = (key, &answer)
                && verdict.is_plain()
            {
                this.remembered.keep(key, user.as_deref(), verdict);
            }
            answer
        }
    }

    /// Asks whether a client may connect, together with all who ask the same at that moment, or not at all while an answer
    /// with a `ttl` holds. Such an answer was asked for one of them, under its connection's id.
    pub async fn ask_to_connect(
        self: &Arc<Self>,
        connection: &Connection<'_>,
        lane: &mut Lane,
        handshake: Handshake<'_>,
    ) -> Answer {
        let key = Remembered::connect(connection, &handshake);
        if let Some(verdict) = self.remembered.recall(&key) {
            self.metrics.remembered.inc();
            return Answer::Verdict(Box::new(verdict));
        }
        let question = Question::Connect(handshake);
        let turn = self.together.join(key, || {
            let (this, asking) = (self.clone(), self.ask(connection, lane, &question));
            Box::pin(async move {
                let answer = asking.await;
                if let Answer::Verdict(verdict) = &answer
                    && verdict.may_be_shared()
                {
                    this.remembered.keep(key, None, verdict);
                }
                this.together.done(&key, &answer);
                answer
            })
        });
        let asking = match turn {
            Turn::First(asking) => return asking.await,
            Turn::Second(asking) => asking,
        };
        let answer = asking.await;
        if together::is_for_all(&answer) {
            self.metrics.coalesced.inc();
            return answer;
        }
        self.ask(connection, lane, &question).await
    }

    /// Whether so many questions wait for the backend already that another would only wait too. Who wants to connect had
    /// better come back.
    pub fn is_crowded(&self) -> bool {
        let most = i64::try_from(self.settings.max_in_flight.saturating_mul(WAITING_PER_SLOT)).unwrap_or(i64::MAX);
        self.metrics.waiting.get() >= most
    }

    /// Forgets every verdict on a user, and how many there were. What the backend is being asked now is kept for nobody.
    pub fn forget(&self, user: &str) -> usize {
        self.together.forget();
        self.remembered.forget(user)
    }

    fn request(&self, connection: &Connection, lane: &mut Lane, question: &Question) -> (String, Request<Bytes>) {
        let now = question::since_epoch();
        let id = question.id(connection);
        lane.advance();
        let body = question.body(connection, &id, lane, now);
        let request = self.post(&id, question.event().name(), body, now, connection.forwarded);
        (id, request)
    }

    /// Signed as of `now`.
    fn post(
        &self,
        id: &str,
        event: &'static str,
        body: Vec<u8>,
        now: Duration,
        forwarded: &Forwarded,
    ) -> Request<Bytes> {
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.settings.url.clone();
        let headers = request.headers_mut();
        forwarded.add_to(headers);
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(OURSELVES));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(EVENT, HeaderValue::from_static(event));
        let signature = self.signing.sign(id, now.as_secs(), &body);
        for (name, value) in [
            (trace::TRACEPARENT, trace::step(forwarded.traceparent())),
            (ID, id.to_owned()),
            (TIMESTAMP, now.as_secs().to_string()),
            (SIGNATURE, signature),
        ] {
            headers.insert(name, HeaderValue::try_from(value).expect("hex, base64 and digits can stand in a header"));
        }
        *request.body_mut() = body.into();
        request
    }

    async fn answer(&self, event: Event, request: Request<Bytes>, asker: Asker, id: &str) -> Answer {
        let (begun, asked_at) = (Instant::now(), SystemTime::now());
        let limits = Limits { data: self.settings.max_data, state: MAX_STATE };
        let (outcome, mut answer) = match self.delivery.send(request, asker, &self.metrics).await {
            Ok((response, permit)) => {
                let read = reply::read(&response, id, limits);
                match reply::failure(response.status(), read.as_ref().err()) {
                    Some(failure) => permit.failed(&failure),
                    None => permit.succeeded(),
                }
                match read {
                    Ok(answer) => (answer.outcome(), answer),
                    Err(error) => (error.outcome(), self.without_answer(event, id, &error)),
                }
            }
            Err(error) => (error.outcome(), self.unasked(event, id, &error)),
        };
        self.metrics.answered(event.name(), outcome, begun.elapsed());
        if let Answer::Verdict(verdict) = &mut answer {
            verdict.asked_at = Some(asked_at);
        }
        answer
    }

    /// Where too many wait, a client that may not be let by had better come back than be told that nobody is there.
    fn unasked(&self, event: Event, id: &str, error: &Undelivered) -> Answer {
        match (self.without_answer(event, id, error), error) {
            (Answer::Unavailable, Undelivered::Full) => Answer::Later { retry_after: reply::USUAL_DELAY },
            (answer, _) => answer,
        }
    }

    fn without_answer(&self, event: Event, id: &str, error: &dyn fmt::Display) -> Answer {
        let is_allowed = self.settings.on_error.of(event) == OnError::Allow;
        if let Some(unsaid) = self.complaints.may_complain() {
            let (event, policy) = (event.name(), if is_allowed { "allow" } else { "deny" });
            warn!(event, %id, %error, policy, unsaid, "webhook gave no usable answer");
        }
        if is_allowed { Answer::Verdict(Box::default()) } else { Answer::Unavailable }
    }
}

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const EVENT: HeaderName = HeaderName::from_static("outrigger-event");
const OURSELVES: &str = concat!("outrigger/", env!("CARGO_PKG_VERSION"));

impl Answer {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Later { .. } => Outcome::Later,
            Self::Unavailable => Outcome::Invalid,
            Self::Verdict(verdict) => match verdict.action {
                Action::Allow => Outcome::Allow,
                Action::Drop => Outcome::Drop,
                Action::Reject => Outcome::Reject,
            },
        }
    }
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhooks").field("settings", &self.settings).finish_non_exhaustive()
    }
}
