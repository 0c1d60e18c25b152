use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::{Instant, timeout_at};

use super::breaker::{Breaker, BreakerSettings, Failure, Permit};
use super::metrics::{Metrics, Outcome};
use super::turns::{Asker, Full, Slot, Turns};
use crate::backend;

/// Carries questions and notices to the backend: a bounded number at a time, each within its time, waiting included, and
/// none while the breaker is open.
pub(super) struct Delivery {
    exchange: Exchange,
    destination: Destination,
    limits: DeliveryLimits,
}

/// What a delivery keeps to.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeliveryLimits {
    pub(super) max_in_flight: usize,
    pub(super) timeout: Duration,
    pub(super) max_reply: usize,
    pub(super) breaker: BreakerSettings,
}

/// What goes on from generation to generation while the URL stays the same.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    pub(super) turns: Arc<Turns>,
    pub(super) breaker: Arc<Breaker>,
}

type Reply = Result<Response<Bytes>, backend::Error>;
/// One request and its answer, within a time and a size.
pub(super) type Exchange =
    Box<dyn Fn(Request<Bytes>, Duration, usize) -> Pin<Box<dyn Future<Output = Reply> + Send>> + Send + Sync>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Undelivered {
    #[error("the backend has been failing, nothing is sent to it for a while")]
    Open,
    #[error("too many wait already: max_in_flight questions are with the backend")]
    Full,
    #[error("there was no room to ask within {0:?}: max_in_flight questions are with the backend")]
    Busy(Duration),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error(transparent)]
    Backend(backend::Error),
}

impl Delivery {
    pub(super) fn new(exchange: Exchange, destination: Destination, limits: DeliveryLimits) -> Self {
        Self { exchange, destination, limits }
    }

    pub(super) fn destination(&self) -> &Destination {
        &self.destination
    }

    /// The answer, and the permit that wants to hear whether it is of any use.
    pub(super) async fn send(
        &self,
        request: Request<Bytes>,
        asker: Asker,
        metrics: &Metrics,
    ) -> Result<(Response<Bytes>, Permit), Undelivered> {
        if self.destination.breaker.is_open() {
            return Err(Undelivered::Open);
        }
        let deadline = Instant::now() + self.limits.timeout;
        let _slot = self.slot(deadline, asker, metrics).await?;
        // It may have opened meanwhile; then everybody who waits hears so at once.
        let permit = self.destination.breaker.admit(self.limits.breaker).ok_or(Undelivered::Open)?;
        let _in_flight = Counted::new(&metrics.in_flight);
        let left = deadline.saturating_duration_since(Instant::now());
        match timeout_at(deadline, (self.exchange)(request, left, self.limits.max_reply)).await {
            Ok(Ok(response)) => Ok((response, permit)),
            Ok(Err(backend::Error::Timeout(_))) | Err(_) => {
                // What waited most of its time for a slot says more about our queue than about the backend.
                if left >= self.limits.timeout / 2 {
                    permit.failed(&Failure::Timeout);
                }
                Err(Undelivered::Timeout(self.limits.timeout))
            }
            Ok(Err(error)) => {
                if let Some(failure) = failure(&error) {
                    permit.failed(&failure);
                }
                Err(Undelivered::Backend(error))
            }
        }
    }

    async fn slot(&self, deadline: Instant, asker: Asker, metrics: &Metrics) -> Result<Slot, Undelivered> {
        let _waiting = Counted::new(&metrics.waiting);
        let turn = timeout_at(deadline, self.destination.turns.turn(asker, self.limits.max_in_flight)).await;
        turn.map_err(|_| Undelivered::Busy(self.limits.timeout))?.map_err(|Full| Undelivered::Full)
    }
}

/// What an error says about the backend; nothing where it is our own limit.
fn failure(error: &backend::Error) -> Option<Failure> {
    use backend::Error;
    match error {
        Error::Connect(_) | Error::ConnectTimeout(_) => Some(Failure::Unreachable(error.to_string())),
        Error::Broken(_) => Some(Failure::Broken(error.to_string())),
        Error::TooLarge { .. } => Some(Failure::Garbage(error.to_string())),
        Error::Timeout(_) => Some(Failure::Timeout),
        Error::Busy { .. } | Error::SenderSilent(_) | Error::SenderLeft(_) | Error::BadUrl(_) => None,
    }
}

impl Undelivered {
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Open => Outcome::Open,
            Self::Busy(_) | Self::Full => Outcome::Busy,
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
