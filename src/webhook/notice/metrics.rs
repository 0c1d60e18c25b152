use std::sync::{Arc, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::super::Event;
use super::Notices;

/// What became of notices, by event.
#[derive(Clone, Debug, Default)]
pub(super) struct Metrics {
    delivered: Family<ByEvent, Counter>,
    retried: Family<ByEvent, Counter>,
    dead: Family<ByEvent, Counter>,
    pub(super) forgotten: Counter,
    pub(super) replayed: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByEvent {
    event: &'static str,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("notices_delivered", "Notices the backend took", metrics.delivered.clone());
        registry.register("notices_retried", "Tries that failed and are repeated", metrics.retried.clone());
        registry.register("notices_dead", "Notices given up and kept as dead letters", metrics.dead.clone());
        let help = "Dead letters that had to make room for newer ones";
        registry.register("dead_letters_forgotten", help, metrics.forgotten.clone());
        registry.register("dead_letters_replayed", "Dead letters sent again", metrics.replayed.clone());
        metrics
    }

    pub(super) fn delivered(&self, event: &'static str) {
        self.delivered.get_or_create(&ByEvent { event }).inc();
    }

    pub(super) fn retried(&self, event: &'static str) {
        self.retried.get_or_create(&ByEvent { event }).inc();
    }

    pub(super) fn dead(&self, event: &'static str) {
        self.dead.get_or_create(&ByEvent { event }).inc();
    }
}

/// Registers what is read when it is asked for: how many wait, and for how long.
pub(super) fn collect(registry: &mut Registry, notices: &Arc<Notices>) {
    registry.register_collector(Box::new(Live(Arc::downgrade(notices))));
}

#[derive(Debug)]
struct Live(Weak<Notices>);

const NOTICES: [Event; 6] =
    [Event::Disconnect, Event::Unsubscribe, Event::Occupied, Event::Vacated, Event::Joined, Event::Left];

impl Collector for Live {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(notices) = self.0.upgrade() else { return Ok(()) };
        let state = notices.state();
        let counts = NOTICES.map(|event| (event, state.queue.count(event)));
        let (oldest, dead) = (state.queue.oldest(), state.graveyard.len());
        drop(state);
        let gauge = |value: usize| ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        let of_event = gauge(0);
        let mut family =
            encoder.encode_descriptor("notices_queued", "Notices not delivered yet", None, of_event.metric_type())?;
        for (event, count) in counts {
            gauge(count).encode(family.encode_family(&[("event", event.name())])?)?;
        }
        let age = oldest.map_or(0.0, |it| crate::channel::now().saturating_sub(it) as f64 / 1000.0);
        let age = ConstGauge::new(age);
        let help = "Age of the oldest notice that is not delivered";
        age.encode(encoder.encode_descriptor("notices_oldest_age", help, Some(&Unit::Seconds), age.metric_type())?)?;
        let dead = gauge(dead);
        dead.encode(encoder.encode_descriptor("dead_letters", "Notices given up", None, dead.metric_type())?)
    }
}
