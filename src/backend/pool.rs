//! The connections to one target: those in use are counted, those unused are kept for a short while.
//!
//! A request goes out twice in two cases only, each time on a fresh connection: nothing of it was sent, or it was sent on
//! a used connection that closed without a byte of answer and repeating it is harmless (idempotent, without a body).

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use http::header::HOST;
use http::{HeaderValue, Request, Response};
use rustls::ClientConfig;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use super::body::{Body, RequestBody};
use super::link::{Link, Lost};
use super::target::Target;
use super::{Error, Timeouts};

/// How long a target that refused a connection is asked last.
const LEFT_ASIDE: Duration = Duration::from_secs(3);

pub(super) struct Pool {
    target: Target,
    /// For requests that bring no `Host`.
    host: HeaderValue,
    tls: Option<Arc<ClientConfig>>,
    max_connections: usize,
    slots: Arc<Semaphore>,
    outstanding: AtomicUsize,
    /// Protects the unused connections and who sweeps them; a few lines, no await.
    unused: Mutex<Unused>,
    aside_until: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Unused {
    /// The latest used is last, and is taken first: the others then age and close.
    links: Vec<(Instant, Box<Link>)>,
    has_sweeper: bool,
}

/// A request that got no answer; with the request itself where nothing of it was sent.
pub(super) struct Unsent {
    pub error: Error,
    pub request: Option<Box<Request<RequestBody>>>,
}

impl From<Error> for Unsent {
    fn from(error: Error) -> Self {
        Self { error, request: None }
    }
}

/// The right to one connection.
#[derive(Debug)]
pub(super) struct Slot {
    pool: Arc<Pool>,
    idle_timeout: Duration,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.pool.outstanding.fetch_sub(1, Relaxed);
    }
}

impl Slot {
    pub fn keep(self, link: Box<Link>) {
        let until = Instant::now() + self.idle_timeout;
        let mut unused = self.pool.unused.lock().expect("nothing panics under this lock");
        unused.links.push((until, link));
        if !unused.has_sweeper {
            unused.has_sweeper = true;
            tokio::spawn(sweep(Arc::downgrade(&self.pool), self.idle_timeout));
        }
    }
}

/// Closes what nobody used. Ends with the last unused connection, or with the pool.
async fn sweep(pool: Weak<Pool>, every: Duration) {
    loop {
        sleep(every).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut unused = pool.unused.lock().expect("nothing panics under this lock");
        let now = Instant::now();
        unused.links.retain(|(until, _)| *until > now);
        if unused.links.is_empty() {
            unused.has_sweeper = false;
            return;
        }
    }
}

impl Pool {
    pub fn new(target: Target, tls: Option<Arc<ClientConfig>>, max_connections: usize) -> Arc<Self> {
        let host = HeaderValue::try_from(target.authority()).unwrap_or(HeaderValue::from_static("localhost"));
        Arc::new(Self {
            target,
            host,
            tls,
            max_connections,
            slots: Arc::new(Semaphore::new(max_connections)),
            outstanding: AtomicUsize::new(0),
            unused: Mutex::default(),
            aside_until: Mutex::default(),
        })
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    pub fn outstanding(&self) -> usize {
        self.outstanding.load(Relaxed)
    }

    /// This target refused a connection: others are asked first for a while.
    pub fn leave_aside(&self) {
        *self.aside_until.lock().expect("nothing panics under this lock") = Some(Instant::now() + LEFT_ASIDE);
    }

    pub fn is_left_aside(&self) -> bool {
        self.aside_until.lock().expect("nothing panics under this lock").is_some_and(|until| until > Instant::now())
    }

    pub async fn send(
        self: &Arc<Self>,
        request: Request<RequestBody>,
        timeouts: Timeouts,
    ) -> Result<Response<Body>, Unsent> {
        let mut request = request;
        if !request.headers().contains_key(HOST) {
            request.headers_mut().insert(HOST, self.host.clone());
        }
        let mut slot = match self.slot(&timeouts).await {
            Ok(slot) => slot,
            Err(error) => return Err(Unsent { error, request: Some(Box::new(request)) }),
        };
        if let Some(link) = self.used_link() {
            let spare = copy(&request);
            let lost = match link.send(request, timeouts, slot).await {
                Ok(response) => return Ok(response),
                Err(lost) => lost,
            };
            (request, slot) = repeatable(lost, spare)?;
        }
        match self.fresh_link(&timeouts).await {
            Ok(link) => link.send(request, timeouts, slot).await.map_err(|lost| lost.error.into()),
            Err(error) => Err(Unsent { error, request: Some(Box::new(request)) }),
        }
    }

    async fn slot(self: &Arc<Self>, timeouts: &Timeouts) -> Result<Slot, Error> {
        let permit = timeout(timeouts.connect, self.slots.clone().acquire_owned())
            .await
            .map_err(|_| Error::Busy { limit: self.max_connections })?
            .expect("the semaphore is never closed");
        self.outstanding.fetch_add(1, Relaxed);
        Ok(Slot { pool: self.clone(), idle_timeout: timeouts.idle, _permit: permit })
    }

    fn used_link(&self) -> Option<Box<Link>> {
        loop {
            let (until, mut link) = self.unused.lock().expect("nothing panics under this lock").links.pop()?;
            if until > Instant::now() && link.is_usable() {
                return Some(link);
            }
        }
    }

    async fn fresh_link(&self, timeouts: &Timeouts) -> Result<Box<Link>, Error> {
        match timeout(timeouts.connect, Link::connect(&self.target, self.tls.as_ref())).await {
            Ok(link) => link.map_err(Error::Connect),
            Err(_) => Err(Error::ConnectTimeout(timeouts.connect)),
        }
    }
}

/// The request once more, for the case that the first one is lost; none where its body streams.
fn copy(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let mut copy = Request::new(request.body().copy()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// What may be sent again after a used connection failed, and the slot for it.
fn repeatable(lost: Lost, spare: Option<Request<RequestBody>>) -> Result<(Request<RequestBody>, Slot), Unsent> {
    if let Some(unsent) = lost.unsent {
        return Ok((unsent, lost.slot));
    }
    let is_silent_close = matches!(lost.error, Error::Broken(_)) && !lost.was_heard;
    match spare {
        Some(spare) if is_silent_close && (!lost.was_written || is_harmless(&spare)) => Ok((spare, lost.slot)),
        _ => Err(lost.error.into()),
    }
}

fn is_harmless(request: &Request<RequestBody>) -> bool {
    request.method().is_idempotent() && matches!(request.body(), RequestBody::Empty)
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("target", &self.target).finish_non_exhaustive()
    }
}
