use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::Event;

/// How long the backend takes and what comes of it. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    duration: Family<Labels, Histogram, fn() -> Histogram>,
    pub(super) remembered: Counter,
    pub(super) in_flight: Gauge,
    pub(super) waiting: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    event: Event,
    outcome: Outcome,
}

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum Outcome {
    Allow,
    Drop,
    Reject,
    Later,
    /// No answer in time, or no room to ask in time.
    Timeout,
    Busy,
    Unreachable,
    /// An answer with a status that means nothing here.
    Status,
    /// An answer that is no verdict.
    Invalid,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            duration: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            remembered: Counter::default(),
            in_flight: Gauge::default(),
            waiting: Gauge::default(),
        };
        registry.register(
            "webhook_duration_seconds",
            "Time from a question to the backend until its answer, waiting included",
            metrics.duration.clone(),
        );
        let help = "Subscribe questions answered from a remembered verdict";
        registry.register("webhook_remembered", help, metrics.remembered.clone());
        registry.register("webhook_in_flight", "Questions the backend is answering", metrics.in_flight.clone());
        registry.register("webhook_waiting", "Questions waiting for max_in_flight", metrics.waiting.clone());
        metrics
    }

    pub(super) fn answered(&self, event: Event, outcome: Outcome, after: Duration) {
        self.duration.get_or_create(&Labels { event, outcome }).observe(after.as_secs_f64());
    }
}

/// Seconds: from a backend in the same rack to one that is about to time out.
const BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];
