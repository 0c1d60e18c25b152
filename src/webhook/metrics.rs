use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::breaker;

/// How long the backend takes and what comes of it. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    duration: Family<Labels, Histogram, fn() -> Histogram>,
    pub(super) remembered: Counter,
    pub(super) coalesced: Counter,
    pub(super) in_flight: Gauge,
    pub(super) waiting: Gauge,
    pub(super) breaker: breaker::Metrics,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    event: &'static str,
    outcome: &'static str,
}

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Allow,
    Drop,
    Reject,
    /// A notice the backend took.
    Delivered,
    Later,
    Timeout,
    /// There was no room to ask in time.
    Busy,
    /// The breaker was open, so nobody asked.
    Open,
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
            coalesced: Counter::default(),
            in_flight: Gauge::default(),
            waiting: Gauge::default(),
            breaker: breaker::Metrics::default(),
        };
        registry.register(
            "webhook_duration_seconds",
            "Time from a question or notice to the backend until its answer, waiting included",
            metrics.duration.clone(),
        );
        let help = "Questions answered from a remembered verdict";
        registry.register("webhook_remembered", help, metrics.remembered.clone());
        let help = "Connect questions answered together with another of the same words";
        registry.register("webhook_coalesced", help, metrics.coalesced.clone());
        registry.register(
            "webhook_in_flight",
            "Questions and notices the backend is answering",
            metrics.in_flight.clone(),
        );
        registry.register(
            "webhook_waiting",
            "Questions and notices waiting for max_in_flight",
            metrics.waiting.clone(),
        );
        let help = "Circuit breaker of the webhook backend: 0 closed, 1 half open (one is trying), 2 open";
        registry.register("webhook_breaker_state", help, metrics.breaker.state.clone());
        registry.register("webhook_breaker_opened", "Times the breaker opened", metrics.breaker.opened.clone());
        metrics
    }

    /// `event` as the header names it; several notices at once are a `batch`.
    pub(super) fn answered(&self, event: &'static str, outcome: Outcome, after: Duration) {
        let labels = Labels { event, outcome: outcome.name() };
        self.duration.get_or_create(&labels).observe(after.as_secs_f64());
    }
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Delivered => "delivered",
            Self::Later => "later",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::Open => "open",
            Self::Unreachable => "unreachable",
            Self::Status => "status",
            Self::Invalid => "invalid",
        }
    }
}

/// Seconds: from a backend in the same rack to one that is about to time out.
const BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

#[cfg(test)]
mod tests {
    use super::super::Event;
    use super::*;

    #[test]
    fn answers_are_counted_by_event_and_outcome() {
        let mut registry = Registry::with_prefix("outrigger");
        Metrics::register(&mut registry).answered(Event::Publish.name(), Outcome::Allow, Duration::from_millis(3));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let expected = r#"outrigger_webhook_duration_seconds_count{event="publish",outcome="allow"} 1"#;
        assert!(text.contains(expected), "{text}");
    }
}
