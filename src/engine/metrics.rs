use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What the engine forgot early, and how its store does.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub(super) ids_forgotten: Counter,
    pub(super) commits: Counter,
    pub(super) stored: Counter,
    pub(super) failures: Counter,
    pub(super) failing: Gauge,
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
        registry.register("store_failing", "1 while the data folder takes nothing", it.failing.clone());
        it
    }
}
