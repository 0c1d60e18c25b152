//! What the listeners count.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Version {
    version: &'static str,
}

#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) open: Gauge,
    pub(super) accepted: Counter,
    pub(super) accept_errors: Counter,
    pub(super) refused_full: Counter,
    pub(super) refused_address: Counter,
    pub(super) failed_proxy_header: Counter,
    pub(super) failed_tls: Counter,
    pub(super) failed_timeout: Counter,
    pub(super) requests_http1: Counter,
    pub(super) requests_http2: Counter,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let refused = Family::<Reason, Counter>::default();
        let failed = Family::<Reason, Counter>::default();
        let requests = Family::<Version, Counter>::default();
        let reason = |family: &Family<Reason, Counter>, reason| family.get_or_create_owned(&Reason { reason });
        let version = |version| requests.get_or_create_owned(&Version { version });
        let metrics = Self {
            open: Gauge::default(),
            accepted: Counter::default(),
            accept_errors: Counter::default(),
            refused_full: reason(&refused, "full"),
            refused_address: reason(&refused, "address"),
            failed_proxy_header: reason(&failed, "proxy_header"),
            failed_tls: reason(&failed, "tls"),
            failed_timeout: reason(&failed, "timeout"),
            requests_http1: version("1"),
            requests_http2: version("2"),
        };
        registry.register("server_connections", "Connections that are open", metrics.open.clone());
        registry.register("server_connections_accepted", "Connections accepted", metrics.accepted.clone());
        registry.register("server_accept_errors", "Times that accepting had to pause", metrics.accept_errors.clone());
        registry.register("server_connections_refused", "Connections closed because of a limit", refused);
        registry.register("server_handshakes_failed", "Connections that never spoke HTTP", failed);
        registry.register("server_requests", "Requests by HTTP version", requests);
        metrics
    }
}
