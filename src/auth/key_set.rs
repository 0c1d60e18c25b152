use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL};
use http::{Request, Response, StatusCode, Uri};
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::keys::Key;
use crate::backend::{self, Backend};

/// A JSON Web Key Set (RFC 7517) at a URL: fetched before it grows stale, and when a token names a key it has not. The
/// last good set stays in use while its server is away. The fetching ends with the last who holds the set.
pub struct KeySet {
    url: Uri,
    allowed: Box<[Algorithm]>,
    known: watch::Receiver<Known>,
    wanted: Arc<Notify>,
    refresh: Mutex<Refresh>,
}

/// What is known of the set.
#[derive(Clone, Debug)]
struct Known {
    keys: Arc<[Key]>,
    /// Attempts to fetch it, failed ones too.
    attempts: u64,
    /// When the last attempt began, and whether it succeeded.
    last: Option<(Instant, bool)>,
}

enum Refresh {
    /// Not begun: building a configuration reaches out to nobody.
    Ready(Fetch, watch::Sender<Known>),
    Running(JoinHandle<()>),
    Between,
}

type Reply = Result<Response<Bytes>, backend::Error>;
/// How the set is fetched.
pub(super) type Fetch = Box<dyn Fn(Request<Bytes>) -> Pin<Box<dyn Future<Output = Reply> + Send>> + Send + Sync>;

/// Enough for any set; a larger answer is not one.
const MAX_BODY: usize = 256 * 1024;
const MAX_KEYS: usize = 100;
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// A token that names an unknown key makes us ask again, but not more often: anybody can write such tokens.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// A handshake waits this long for the set.
const PATIENCE: Duration = Duration::from_secs(5);
/// What `Cache-Control` may ask for, and what it is without one.
const LEAST_AGE: Duration = Duration::from_secs(60);
const MOST_AGE: Duration = Duration::from_secs(24 * 3600);
const USUAL_AGE: Duration = Duration::from_secs(3600);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Backend(#[from] backend::Error),
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("the answer is no key set: {0}")]
    Malformed(serde_json::Error),
    #[error("none of its {0} keys can check a signature with a configured algorithm")]
    NoKeys(usize),
}

impl KeySet {
    /// Goes on with `known` if that is the same set. None if keys must not be believed from there.
    pub(super) fn follow(
        url: &Uri,
        allowed: &[Algorithm],
        known: Option<&Arc<Self>>,
        fetch: impl FnOnce() -> Fetch,
    ) -> Option<Arc<Self>> {
        if !is_trustworthy(url) {
            return None;
        }
        match known.filter(|it| it.url == *url && *it.allowed == *allowed) {
            Some(known) => Some(known.clone()),
            None => Some(Arc::new(Self::fetched_by(url, allowed, fetch()))),
        }
    }

    pub(super) fn fetched_by(url: &Uri, allowed: &[Algorithm], fetch: Fetch) -> Self {
        let (sender, known) = watch::channel(Known { keys: Arc::new([]), attempts: 0, last: None });
        Self {
            url: url.clone(),
            allowed: allowed.into(),
            known,
            wanted: Arc::default(),
            refresh: Mutex::new(Refresh::Ready(fetch, sender)),
        }
    }

    /// Begins to fetch. Does nothing the second time.
    pub(super) fn start(&self) {
        let mut refresh = self.refresh.lock().expect("nothing panics under this lock");
        *refresh = match std::mem::replace(&mut *refresh, Refresh::Between) {
            Refresh::Ready(fetch, known) => Refresh::Running(tokio::spawn(keep_fresh(
                self.url.clone(),
                self.allowed.clone(),
                fetch,
                known,
                self.wanted.clone(),
            ))),
            other => other,
        };
    }

    /// The keys as far as they are known; none before the first answer.
    pub(super) fn keys(&self) -> Arc<[Key]> {
        self.known.borrow().keys.clone()
    }

    /// The keys after one more look at the server, if the last is not too recent. None if it cannot be reached.
    pub(super) async fn refreshed(&self) -> Option<Arc<[Key]>> {
        self.start();
        let mut known = self.known.clone();
        let attempts = {
            let now = known.borrow_and_update();
            if now.last.is_some_and(|(begun, _)| begun.elapsed() < ASK_AGAIN) {
                return now.if_answered();
            }
            now.attempts
        };
        self.wanted.notify_one();
        let next = timeout(PATIENCE, known.wait_for(|it| it.attempts > attempts)).await;
        next.ok()?.ok()?.if_answered()
    }
}

/// Fetches by the HTTP client that everything else goes by.
pub(super) fn through(backend: &Arc<Backend>) -> Fetch {
    let backend = backend.clone();
    Box::new(move |request| {
        let backend = backend.clone();
        Box::pin(async move { backend.exchange(request, FETCH_TIMEOUT, MAX_BODY).await })
    })
}

impl Drop for KeySet {
    fn drop(&mut self) {
        if let Ok(Refresh::Running(task)) = self.refresh.get_mut() {
            task.abort();
        }
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet").field("url", &self.url).field("known", &*self.known.borrow()).finish_non_exhaustive()
    }
}

impl Known {
    fn if_answered(&self) -> Option<Arc<[Key]>> {
        self.last.is_some_and(|(_, succeeded)| succeeded).then(|| self.keys.clone())
    }
}

/// Whoever can change a set on its way can make tokens. Plain HTTP is believed only within this machine.
fn is_trustworthy(url: &Uri) -> bool {
    match (url.scheme_str(), url.host()) {
        (Some("https"), Some(_)) => true,
        (Some("http"), Some(host)) => matches!(host, "localhost" | "127.0.0.1" | "[::1]"),
        _ => false,
    }
}

async fn keep_fresh(
    url: Uri,
    allowed: Box<[Algorithm]>,
    fetch: Fetch,
    known: watch::Sender<Known>,
    wanted: Arc<Notify>,
) {
    let mut retry = FIRST_RETRY;
    loop {
        let begun = Instant::now();
        let fetched = match fetch(request(&url)).await {
            Ok(response) => read(&response, &allowed),
            Err(error) => Err(error.into()),
        };
        let failed_before = known.borrow().last.is_some_and(|(_, succeeded)| !succeeded);
        let pause = match &fetched {
            Ok((keys, fresh_for)) => {
                if failed_before || known.borrow().keys.is_empty() {
                    info!(%url, keys = keys.len(), "fetched the key set");
                }
                retry = FIRST_RETRY;
                // Before it is stale, and not all nodes at once.
                fresh_for.mul_f64(0.75 + 0.15 * fastrand::f64())
            }
            Err(error) => {
                if !failed_before {
                    warn!(%url, %error, "cannot fetch the key set, going on with the keys there are");
                }
                retry = (retry * 2).min(LAST_RETRY);
                retry.mul_f64(0.5 + 0.5 * fastrand::f64())
            }
        };
        known.send_modify(|known| {
            known.attempts += 1;
            known.last = Some((begun, fetched.is_ok()));
            if let Ok((keys, _)) = fetched {
                known.keys = keys;
            }
        });
        // A pause that is over is the usual end; a client whose token names an unknown key is the other.
        let _ = timeout(pause, wanted_since(&wanted, begun + ASK_AGAIN)).await;
    }
}

async fn wanted_since(wanted: &Notify, earliest: Instant) {
    loop {
        wanted.notified().await;
        if Instant::now() >= earliest {
            return;
        }
    }
}

fn request(url: &Uri) -> Request<Bytes> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = url.clone();
    request.headers_mut().insert(ACCEPT, http::HeaderValue::from_static("application/jwk-set+json, application/json"));
    request
}

/// The keys that can be used, and for how long they may be kept.
fn read(response: &Response<Bytes>, allowed: &[Algorithm]) -> Result<(Arc<[Key]>, Duration), Failure> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    if response.status() != StatusCode::OK {
        return Err(Failure::Status(response.status()));
    }
    let set: Set = serde_json::from_slice(response.body()).map_err(Failure::Malformed)?;
    let given = set.keys.len();
    // One by one, so that a key of a kind nobody knows yet does not cost the others.
    let parsed = set.keys.into_iter().take(MAX_KEYS).filter_map(|key| serde_json::from_value(key).ok());
    let keys: Arc<[Key]> = parsed.filter_map(|jwk| Key::from_jwk(&jwk, allowed)).collect();
    if keys.is_empty() { Err(Failure::NoKeys(given)) } else { Ok((keys, fresh_for(response))) }
}

fn fresh_for(response: &Response<Bytes>) -> Duration {
    let lines = response.headers().get_all(CACHE_CONTROL).iter().filter_map(|it| it.to_str().ok());
    let mut directives = lines.flat_map(|line| line.split(',')).map(str::trim);
    let asked = directives.find_map(|it| {
        if it.eq_ignore_ascii_case("no-store") || it.eq_ignore_ascii_case("no-cache") {
            return Some(Duration::ZERO);
        }
        let (name, seconds) = it.split_once('=')?;
        if !name.eq_ignore_ascii_case("max-age") {
            return None;
        }
        seconds.trim_matches('"').parse().ok().map(Duration::from_secs)
    });
    asked.unwrap_or(USUAL_AGE).clamp(LEAST_AGE, MOST_AGE)
}

#[cfg(test)]
mod tests;
