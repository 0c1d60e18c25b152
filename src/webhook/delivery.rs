use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::metrics::{Metrics, Outcome};
use crate::backend;

/// Carries a question to the backend: a bounded number at a time, and each within its time, waiting included.
pub(super) struct Delivery {
    exchange: Exchange,
    slots: Semaphore,
    timeout: Duration,
    max_reply: usize,
}

type Reply = Result<Response<Bytes>, backend::Error>;
/// One request and its answer, within a time and a size.
pub(super) type Exchange =
    Box<dyn Fn(Request<Bytes>, Duration, usize) -> Pin<Box<dyn Future<Output = Reply> + Send>> + Send + Sync>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Undelivered {
    #[error("there was no room to ask within {0:?}: max_in_flight questions are with the backend")]
    Busy(Duration),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error(transparent)]
    Backend(backend::Error),
}

impl Delivery {
    pub(super) fn new(exchange: Exchange, max_in_flight: usize, timeout: Duration, max_reply: usize) -> Self {
        let slots = Semaphore::new(max_in_flight.clamp(1, Semaphore::MAX_PERMITS));
        Self { exchange, slots, timeout, max_reply }
    }

    pub(super) async fn send(
        &self,
        request: Request<Bytes>,
        metrics: &Metrics,
    ) -> Result<Response<Bytes>, Undelivered> {
        let deadline = Instant::now() + self.timeout;
        let waiting = Counted::new(&metrics.waiting);
        let slot = timeout_at(deadline, self.slots.acquire()).await.map_err(|_| Undelivered::Busy(self.timeout))?;
        let _slot = slot.expect("the semaphore is never closed");
        drop(waiting);
        let _in_flight = Counted::new(&metrics.in_flight);
        let left = deadline.saturating_duration_since(Instant::now());
        match timeout_at(deadline, (self.exchange)(request, left, self.max_reply)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(backend::Error::Timeout(_))) | Err(_) => Err(Undelivered::Timeout(self.timeout)),
            Ok(Err(error)) => Err(Undelivered::Backend(error)),
        }
    }
}

impl Undelivered {
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Busy(_) => Outcome::Busy,
            Self::Timeout(_) => Outcome::Timeout,
            Self::Backend(backend::Error::TooLarge { .. }) => Outcome::Invalid,
            Self::Backend(_) => Outcome::Unreachable,
        }
    }
}

/// Counts for as long as it lives, however it ends.
struct Counted<'a>(&'a Gauge);

impl<'a> Counted<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
