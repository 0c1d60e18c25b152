//! The HTTP client to the application behind us: a pool of connections per address, balancing, timeouts. It answers with
//! a response or an [`Error`] that says how far it got; what that means to a client is decided by who asked.

mod balance;
mod body;
mod link;
mod pool;
mod stream;
mod target;
mod tls;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};

pub use body::{Body, RequestBody};
pub use stream::Stream;
pub use target::{BadTarget, Target};

use balance::Balance;
use pool::{Pool, Unsent};

/// Whatever a body or a connection may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Origins outside the backend (a webhook receiver, a key set) that keep a pool at the same time.
const MAX_ORIGINS: usize = 64;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the application listens; several balance and fail over.
    pub targets: Vec<Target>,
    /// Until TCP and TLS are up, or until one of `max_connections` is free.
    pub connect_timeout: Duration,
    /// Until the response head, counted from the last piece of the request's body that was sent.
    pub response_timeout: Duration,
    /// How long an unused connection is kept. Shorter than what application servers allow (Node: 5 s), so that we are
    /// the one who closes.
    pub idle_timeout: Duration,
    /// Longest silence within a response body; none for event streams that may be quiet for hours.
    pub body_timeout: Option<Duration>,
    /// Connections per target; what exceeds it waits for `connect_timeout`.
    pub max_connections: usize,
    /// Certificates (PEM) that `https` targets may be signed by, besides those the system trusts.
    pub ca_file: Option<PathBuf>,
    /// Any certificate is believed: for commands that speak to a node on the same machine.
    pub trusts_anybody: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            targets: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(4),
            body_timeout: None,
            max_connections: 1024,
            ca_file: None,
            trusts_anybody: false,
        }
    }
}

/// The part of the settings that every request carries along.
#[derive(Clone, Copy, Debug)]
struct Timeouts {
    connect: Duration,
    response: Duration,
    idle: Duration,
    body: Option<Duration>,
}

/// The application, as one or several addresses. An immutable part of a generation.
#[derive(Debug)]
pub struct Backend {
    balance: Balance,
    timeouts: Timeouts,
    max_connections: usize,
    ca_file: Option<PathBuf>,
    /// Made at the first use of `https`: reading the system's certificates takes milliseconds and may fail.
    tls: OnceLock<Arc<rustls::ClientConfig>>,
    /// Pools of absolute URLs. Handed on from generation to generation with the connections in them.
    origins: Arc<Mutex<HashMap<Target, Arc<Pool>>>>,
}

/// How far a request got before it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("no connection within {0:?}")]
    ConnectTimeout(Duration),
    #[error("all {limit} connections are busy")]
    Busy { limit: usize },
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the sender of the request was silent for {0:?}")]
    SenderSilent(Duration),
    #[error("the sender of the request left: {0}")]
    SenderLeft(BoxError),
    #[error("the answer is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the connection broke: {0}")]
    Broken(BoxError),
    #[error("{0} is not a URL to send a request to")]
    BadUrl(String),
}

impl Error {
    /// Whether it was not the target that failed, but whoever sends the request's body.
    pub fn is_senders(&self) -> bool {
        matches!(self, Self::SenderSilent(_) | Self::SenderLeft(_))
    }
}

/// An [`Error`], and where it happened.
#[derive(Debug, thiserror::Error)]
#[error("{target}: {error}")]
pub struct Failure {
    pub target: Target,
    pub error: Error,
}

/// Why a backend cannot be made from its settings.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("the backend needs at least one address")]
    NoTarget,
    #[error("a backend needs room for at least one connection")]
    NoConnections,
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

impl Backend {
    /// Targets that `previous` has too keep their pool, so a reload breaks no connection; `https` ones start afresh,
    /// because what they trust may have changed with the file.
    pub fn build(settings: Settings, previous: Option<&Backend>) -> Result<Self, BuildError> {
        if settings.targets.is_empty() {
            return Err(BuildError::NoTarget);
        }
        if settings.max_connections == 0 {
            return Err(BuildError::NoConnections);
        }
        let tls = OnceLock::new();
        if settings.ca_file.is_some() || settings.targets.iter().any(Target::is_tls) {
            let config = match settings.trusts_anybody {
                true => tls::trusting_anybody()?,
                false => tls::client_config(settings.ca_file.as_deref())?,
            };
            tls.set(config).expect("nobody else has the cell yet");
        }
        let kept = previous
            .filter(|it| it.ca_file == settings.ca_file && it.max_connections == settings.max_connections)
            .map(|it| it.balance.pools())
            .unwrap_or_default();
        let pools = settings.targets.into_iter().map(|target| {
            let same = kept.iter().find(|pool| !target.is_tls() && *pool.target() == target);
            match same {
                Some(pool) => pool.clone(),
                None => Pool::new(target, tls.get().cloned(), settings.max_connections),
            }
        });
        Ok(Self {
            balance: Balance::new(pools.collect()),
            timeouts: Timeouts {
                connect: settings.connect_timeout,
                response: settings.response_timeout,
                idle: settings.idle_timeout,
                body: settings.body_timeout,
            },
            max_connections: settings.max_connections,
            ca_file: settings.ca_file,
            tls,
            origins: previous.map(|it| it.origins.clone()).unwrap_or_default(),
        })
    }

    /// Sends a request to one of the targets and answers with the head; the body streams as it is polled.
    ///
    /// The URI is taken in origin form. A target that refuses is left aside for a while and the next one is asked.
    pub async fn send(&self, request: Request<RequestBody>) -> Result<Response<Body>, Failure> {
        let mut request = request;
        let mut candidates = self.balance.candidates();
        let mut pool = candidates.next().expect("a backend has at least one target");
        loop {
            let Unsent { error, request: unsent } = match pool.send(request, self.timeouts).await {
                Ok(response) => return Ok(response),
                Err(unsent) => unsent,
            };
            let is_away = matches!(error, Error::Connect(_) | Error::ConnectTimeout(_));
            if is_away {
                pool.leave_aside();
            }
            match (unsent, candidates.next()) {
                (Some(unsent), Some(next)) if is_away => {
                    tracing::warn!(target = %pool.target(), next = %next.target(), %error, "backend is away, asking the next");
                    (request, pool) = (*unsent, next);
                }
                _ => return Err(Failure { target: pool.target().clone(), error }),
            }
        }
    }

    /// A whole small exchange: a bounded body out, a bounded body in (webhooks, key sets). A URI that is only a path goes
    /// to the backend, an absolute one (`http` or `https`) to its own host. `timeout` covers everything.
    pub async fn exchange(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
        max_reply: usize,
    ) -> Result<Response<Bytes>, Error> {
        let whole = async {
            let request = request.map(RequestBody::from);
            let (head, body) = self.send_anywhere(request).await?.into_parts();
            let body = Limited::new(body, max_reply).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() { Error::TooLarge { limit: max_reply } } else { Error::Broken(error) }
            })?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        tokio::time::timeout(timeout, whole).await.unwrap_or(Err(Error::Timeout(timeout)))
    }

    async fn send_anywhere(&self, mut request: Request<RequestBody>) -> Result<Response<Body>, Error> {
        if request.uri().authority().is_none() {
            return self.send(request).await.map_err(|failure| failure.error);
        }
        let bad_url = |uri: &Uri| Error::BadUrl(format!("{}://{}", uri.scheme_str().unwrap_or(""), uri.path()));
        let target = Target::of(request.uri()).ok_or_else(|| bad_url(request.uri()))?;
        request.headers_mut().remove(HOST);
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map(Uri::from).unwrap_or_else(|| Uri::from_static("/"));
        let pool = self.origin(target)?;
        pool.send(request, self.timeouts).await.map_err(|unsent| unsent.error)
    }

    /// The pool of a host outside the backend. Beyond [`MAX_ORIGINS`] an idle one makes room; if none is idle, the new
    /// one is used once and not kept.
    fn origin(&self, target: Target) -> Result<Arc<Pool>, Error> {
        // Protects the map alone; a pool is made outside so that reading certificates holds nobody up.
        if let Some(pool) = self.origins.lock().expect("nothing panics under this lock").get(&target) {
            return Ok(pool.clone());
        }
        let tls = if target.is_tls() { Some(self.tls()?) } else { None };
        let pool = Pool::new(target.clone(), tls, self.max_connections);
        let mut origins = self.origins.lock().expect("nothing panics under this lock");
        if origins.len() >= MAX_ORIGINS {
            let idle = origins.iter().find(|(_, pool)| pool.outstanding() == 0).map(|(target, _)| target.clone());
            idle.map(|target| origins.remove(&target));
        }
        if origins.len() < MAX_ORIGINS {
            origins.insert(target, pool.clone());
        }
        Ok(pool)
    }

    fn tls(&self) -> Result<Arc<rustls::ClientConfig>, Error> {
        if let Some(config) = self.tls.get() {
            return Ok(config.clone());
        }
        let config = tls::client_config(self.ca_file.as_deref())
            .map_err(|error| Error::Connect(std::io::Error::other(error)))?;
        Ok(self.tls.get_or_init(|| config).clone())
    }
}

#[cfg(test)]
mod tests;
