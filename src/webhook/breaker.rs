//! Stops asking a backend that fails again and again: after so many failures in a row nothing is sent for a while, then
//! one question or notice tries whether it is back. What a backend decides, it answers; only what keeps it from
//! answering counts.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::StatusCode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::Instant;
use tracing::{info, warn};

/// When it opens and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row.
    pub failures: u32,
    /// How long nothing is sent before one tries again.
    pub open: Duration,
}

/// What counts as a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Timeout,
    Status(StatusCode),
    /// No connection.
    Unreachable(String),
    /// The connection broke off, or what came was no HTTP.
    Broken(String),
    /// An answer that cannot be read.
    Garbage(String),
}

/// One destination's breaker. Survives reloads that keep the URL.
#[derive(Debug)]
pub(super) struct Breaker {
    inner: Mutex<Inner>,
    /// Told whenever it opens, closes or wants to be tried.
    changed: Arc<Notify>,
    metrics: Metrics,
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// Since when the destination has been failing; none while it is closed.
    failing_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
    },
    /// One is on its way to find out.
    Probing,
}

/// Whether something may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Closed,
    /// One may try, from then on.
    Until(Instant),
    /// One is trying.
    Probing,
}

/// How breakers stand, for `/metrics`.
#[derive(Clone, Debug, Default)]
pub(super) struct Metrics {
    pub(super) state: Gauge,
    pub(super) opened: Counter,
}

/// Leave to send. What becomes of it is reported; dropped without a report, it says nothing about the backend.
#[derive(Debug)]
pub(super) struct Permit {
    breaker: Arc<Breaker>,
    settings: BreakerSettings,
    is_probe: bool,
    is_reported: bool,
}

impl Breaker {
    pub(super) fn new(metrics: Metrics) -> Arc<Self> {
        let inner = Inner { state: State::Closed { failures: 0 }, failing_since: None };
        Arc::new(Self { inner: Mutex::new(inner), changed: Arc::default(), metrics })
    }

    /// Leave to send now; none while it is open.
    pub(super) fn admit(self: &Arc<Self>, settings: BreakerSettings) -> Option<Permit> {
        let mut inner = self.lock();
        let is_probe = match inner.state {
            State::Closed { .. } => {
                // Also where another URL's breaker left it open.
                self.metrics.state.set(0);
                false
            }
            State::Open { until } if until <= Instant::now() => {
                inner.state = State::Probing;
                self.metrics.state.set(1);
                true
            }
            State::Open { .. } | State::Probing => return None,
        };
        Some(Permit { breaker: self.clone(), settings, is_probe, is_reported: false })
    }

    pub(super) fn standing(&self) -> Standing {
        match self.lock().state {
            State::Closed { .. } => Standing::Closed,
            State::Open { until } => Standing::Until(until),
            State::Probing => Standing::Probing,
        }
    }

    /// Whether it would be of no use to wait for a turn.
    pub(super) fn is_open(&self) -> bool {
        match self.standing() {
            Standing::Closed => false,
            Standing::Until(until) => until > Instant::now(),
            Standing::Probing => true,
        }
    }

    pub(super) fn failing_since(&self) -> Option<Instant> {
        self.lock().failing_since
    }

    /// Resolves at the next change after this call.
    pub(super) fn changed(&self) -> OwnedNotified {
        self.changed.clone().notified_owned()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics under this lock")
    }
}

impl Permit {
    /// The backend answered.
    pub(super) fn succeeded(mut self) {
        self.is_reported = true;
        let mut inner = self.breaker.lock();
        match inner.state {
            State::Closed { .. } => inner.state = State::Closed { failures: 0 },
            State::Probing if self.is_probe => {
                *inner = Inner { state: State::Closed { failures: 0 }, failing_since: None };
                self.breaker.metrics.state.set(0);
                self.breaker.changed.notify_waiters();
                info!("the webhook backend answers again");
            }
            // An answer to something sent before it opened.
            State::Open { .. } | State::Probing => {}
        }
    }

    pub(super) fn failed(mut self, failure: &Failure) {
        self.is_reported = true;
        let mut inner = self.breaker.lock();
        let failures = match inner.state {
            State::Closed { failures } => failures + 1,
            State::Probing if self.is_probe => self.settings.failures,
            State::Open { .. } | State::Probing => return,
        };
        if failures < self.settings.failures {
            inner.state = State::Closed { failures };
            return;
        }
        let now = Instant::now();
        inner.state = State::Open { until: now + self.settings.open };
        inner.failing_since.get_or_insert(now);
        self.breaker.changed.notify_waiters();
        self.breaker.metrics.state.set(2);
        if !self.is_probe {
            self.breaker.metrics.opened.inc();
            let pause = self.settings.open;
            warn!(failures, last = %failure, ?pause, "the webhook backend fails, nothing is sent to it for a while");
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_probe && !self.is_reported {
            // Nothing was learnt: the next one may try at once.
            self.breaker.lock().state = State::Open { until: Instant::now() };
            self.breaker.metrics.state.set(2);
            self.breaker.changed.notify_waiters();
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no answer in time"),
            Self::Status(status) => write!(f, "it answered {status}"),
            Self::Unreachable(why) | Self::Broken(why) | Self::Garbage(why) => f.write_str(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: BreakerSettings = BreakerSettings { failures: 3, open: Duration::from_secs(5) };

    fn fail(breaker: &Arc<Breaker>) {
        breaker.admit(SETTINGS).expect("it is not open").failed(&Failure::Timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_open_it_and_one_probe_at_a_time_closes_it() {
        let breaker = Breaker::new(Metrics::default());
        fail(&breaker);
        fail(&breaker);
        breaker.admit(SETTINGS).unwrap().succeeded();
        fail(&breaker);
        fail(&breaker);
        assert!(!breaker.is_open(), "a success between them began the row anew");
        fail(&breaker);
        assert!(breaker.is_open() && breaker.admit(SETTINGS).is_none());
        assert_eq!((breaker.metrics.state.get(), breaker.metrics.opened.get()), (2, 1));
        tokio::time::advance(SETTINGS.open).await;
        let probe = breaker.admit(SETTINGS).expect("one may try");
        assert!(breaker.admit(SETTINGS).is_none(), "one, and no more");
        assert_eq!(breaker.metrics.state.get(), 1);
        probe.failed(&Failure::Timeout);
        assert!(breaker.admit(SETTINGS).is_none(), "one failure of the probe is enough");
        tokio::time::advance(SETTINGS.open).await;
        breaker.admit(SETTINGS).unwrap().succeeded();
        assert_eq!(breaker.standing(), Standing::Closed);
        assert_eq!((breaker.metrics.state.get(), breaker.metrics.opened.get()), (0, 1));
        fail(&breaker);
        assert!(!breaker.is_open(), "it begins to count anew");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_from_before_it_opened_change_nothing() {
        let breaker = Breaker::new(Metrics::default());
        let (early, late) = (breaker.admit(SETTINGS).unwrap(), breaker.admit(SETTINGS).unwrap());
        (0..3).for_each(|_| fail(&breaker));
        early.succeeded();
        assert!(breaker.is_open());
        tokio::time::advance(SETTINGS.open).await;
        let _probe = breaker.admit(SETTINGS).unwrap();
        late.failed(&Failure::Timeout);
        assert_eq!(breaker.standing(), Standing::Probing);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_learnt_nothing_lets_the_next_one_try() {
        let breaker = Breaker::new(Metrics::default());
        (0..3).for_each(|_| fail(&breaker));
        tokio::time::advance(SETTINGS.open).await;
        drop(breaker.admit(SETTINGS).unwrap());
        assert!(breaker.admit(SETTINGS).is_some());
    }
}
