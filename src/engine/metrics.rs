use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// What the engine forgot early, how its store does, and its links to other machines.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub(super) ids_forgotten: Counter,
    pub(super) commits: Counter,
    pub(super) stored: Counter,
    pub(super) failures: Counter,
    pub(super) failing: Gauge,
    pub(super) in_reach: Gauge,
    pub(super) round_trip: Gauge<f64, AtomicU64>,
    pub(super) connects: Counter,
    pub(super) gaps: Counter,
    pub(super) refusals: Counter,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let it = Self::default();
        let mut counter = |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        counter(
            "ids_forgotten",
            "Publication ids forgotten before `api.idempotency` was over, for there were more than `limits.idempotency_ids`",
            &it.ids_forgotten,
        );
        counter("store_commits", "Groups the data folder took", &it.commits);
        counter("store_publications", "Publications the data folder took", &it.stored);
        counter("store_failures", "Groups the data folder did not take: full, or failing", &it.failures);
        counter("engine_connects", "Connections made to the engine that nodes share", &it.connects);
        counter("engine_gaps", "Times publications of a followed channel were lost to this node", &it.gaps);
        counter("engine_refusals", "Commands the engine answered with an error", &it.refusals);
        registry.register("store_failing", "1 while the data folder takes nothing", it.failing.clone());
        let help = "1 while publications can be taken: every canary comes back from its round";
        registry.register("engine_in_reach", help, it.in_reach.clone());
        it.in_reach.set(1);
        let help = "How long the last canary took for its round";
        registry.register_with_unit("engine_round_trip", help, Unit::Seconds, it.round_trip.clone());
        it
    }
}
