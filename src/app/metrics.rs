use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What became of reloads.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    reloads: Family<ByOutcome, Counter>,
    generation: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let (reloads, generation) = (Family::default(), Gauge::default());
        registry.register("reloads", "Configurations read again, by outcome", reloads.clone());
        registry.register("config_generation", "Counts the configurations that were taken", generation.clone());
        generation.set(1);
        Self { reloads, generation }
    }

    pub(super) fn reloaded(&self, is_taken: bool) {
        let outcome = if is_taken { "taken" } else { "refused" };
        self.reloads.get_or_create_owned(&ByOutcome { outcome }).inc();
    }

    pub(super) fn generation(&self, number: u64) {
        self.generation.set(i64::try_from(number).unwrap_or(i64::MAX));
    }
}
