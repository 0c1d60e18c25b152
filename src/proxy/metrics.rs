//! What the proxy counts.

use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Debug)]
pub struct Metrics {
    pub(super) in_flight: Gauge,
    pub(super) tunnels: Gauge,
    /// By the first digit of the status.
    by_class: [Counter; 5],
    client_left: Counter,
    incomplete: Counter,
    duration: Histogram,
    failures: Family<Reason, Counter>,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let requests = Family::<Status, Counter>::default();
        let class = |status| requests.get_or_create_owned(&Status { status });
        let metrics = Self {
            in_flight: Gauge::default(),
            tunnels: Gauge::default(),
            by_class: ["1xx", "2xx", "3xx", "4xx", "5xx"].map(class),
            client_left: class("client_left"),
            incomplete: Counter::default(),
            // 1 ms to 65 s.
            duration: Histogram::new(exponential_buckets(0.001, 2.0, 17)),
            failures: Family::default(),
        };
        registry.register("proxy_requests_in_flight", "Requests being passed through", metrics.in_flight.clone());
        registry.register("proxy_tunnels", "Upgraded connections of the backend's own", metrics.tunnels.clone());
        registry.register("proxy_requests", "Requests passed through, by class of status", requests);
        registry.register("proxy_incomplete", "Answers that did not reach their end", metrics.incomplete.clone());
        registry.register("proxy_duration_seconds", "From the head to the last byte", metrics.duration.clone());
        registry.register("proxy_failures", "Requests the backend did not answer", metrics.failures.clone());
        metrics
    }

    /// Requests being passed through.
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.in_flight.get()).unwrap_or(0)
    }

    /// Upgraded connections of the backend's own.
    pub fn tunnels(&self) -> usize {
        usize::try_from(self.tunnels.get()).unwrap_or(0)
    }

    pub(super) fn failed(&self, reason: &'static str) {
        self.failures.get_or_create(&Reason { reason }).inc();
    }

    pub(super) fn answered(&self, status: Option<StatusCode>, is_complete: bool, elapsed: Duration) {
        let class = status.and_then(|status| self.by_class.get(usize::from(status.as_u16() / 100 - 1)));
        class.unwrap_or(&self.client_left).inc();
        if status.is_some() && !is_complete {
            self.incomplete.inc();
        }
        self.duration.observe(elapsed.as_secs_f64());
    }
}
