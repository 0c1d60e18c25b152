use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::receipt::Status;

/// What the API counts.
#[derive(Clone, Debug)]
pub struct Metrics {
    pushes: Family<ByStatus, Counter>,
    requests: Family<ByStatus, Counter>,
    announced: Family<ByOutcome, Counter>,
    publishing: Gauge,
    delivered_after: Histogram,
}

/// Counts a call or a reply whose messages are being published, for as long as that takes.
#[derive(Debug)]
pub(super) struct Publishing(Gauge);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStatus {
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let (pushes, requests, announced) = (Family::default(), Family::default(), Family::default());
        registry.register("pushes", "Messages of POST /push, by status and target", pushes.clone());
        registry.register("api_requests", "Calls to the internal API, by status class", requests.clone());
        registry.register("announced", "Outrigger-Push headers of the backend, by outcome", announced.clone());
        let publishing = Gauge::default();
        registry.register("pushes_in_flight", "Pushes and announcements being published", publishing.clone());
        let delivered_after = Histogram::new(BUCKETS);
        let help = "From a call of POST /push until this node had offered it to its clients";
        registry.register("push_duration_seconds", help, delivered_after.clone());
        Self { pushes, requests, announced, publishing, delivered_after }
    }

    /// Calls and replies whose messages are being published.
    pub fn publishing(&self) -> usize {
        usize::try_from(self.publishing.get()).unwrap_or(0)
    }

    pub(super) fn publish(&self) -> Publishing {
        self.publishing.inc();
        Publishing(self.publishing.clone())
    }

    /// A call's messages are through on this node.
    pub(super) fn delivered(&self, after: Duration) {
        self.delivered_after.observe(after.as_secs_f64());
    }

    pub(super) fn pushed(&self, status: Status) {
        let status = match status {
            Status::Taken => "taken",
            Status::Refused => "refused",
            Status::Unknown => "unknown",
            Status::NotSent => "not_sent",
        };
        self.pushes.get_or_create_owned(&ByStatus { status }).inc();
    }

    pub(super) fn answered(&self, status: StatusCode) {
        let status = match status.as_u16() {
            200..300 => "2xx",
            400..500 => "4xx",
            _ => "5xx",
        };
        self.requests.get_or_create_owned(&ByStatus { status }).inc();
    }

    pub(super) fn announced(&self, outcome: &'static str) {
        self.announced.get_or_create_owned(&ByOutcome { outcome }).inc();
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Seconds: from memory alone to a node whose queues are full.
const BUCKETS: [f64; 12] = [0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
