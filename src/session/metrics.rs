use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Transport;
use crate::protocol::Code;

/// What this node's sessions count.
#[derive(Clone, Debug)]
pub struct Metrics {
    connections: [Gauge; 3],
    opened: [Counter; 3],
    rejected: Family<Rejected, Counter>,
    received: Counter,
    received_bytes: Counter,
    published: Counter,
    revocations: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByTransport {
    transport: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rejected {
    reason: &'static str,
}

/// Counts a connection for as long as it lives.
#[derive(Debug)]
pub(super) struct Connected(Gauge);

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let connections = Family::<ByTransport, Gauge>::default();
        let opened = Family::<ByTransport, Counter>::default();
        let rejected = Family::default();
        let (received, received_bytes, published) = (Counter::default(), Counter::default(), Counter::default());
        registry.register("connections", "Sessions open now, by transport", connections.clone());
        registry.register("connections_opened", "Sessions opened, by transport", opened.clone());
        registry.register("rejected", "What clients were refused, by reason", rejected.clone());
        registry.register("messages_received", "Messages from clients", received.clone());
        registry.register("received_bytes", "Bytes of messages from clients", received_bytes.clone());
        registry.register("messages_published", "Client publications taken", published.clone());
        let revocations = Gauge::default();
        registry.register(
            "revocations",
            "Users and tokens that are not let in, kept until none of theirs is valid",
            revocations.clone(),
        );
        let label = |it: Transport| ByTransport { transport: it.name() };
        Self {
            connections: Transport::ALL.map(|it| connections.get_or_create_owned(&label(it))),
            opened: Transport::ALL.map(|it| opened.get_or_create_owned(&label(it))),
            rejected,
            received,
            received_bytes,
            published,
            revocations,
        }
    }

    pub(super) fn connected(&self, transport: Transport) -> Connected {
        self.opened[transport as usize].inc();
        let gauge = self.connections[transport as usize].clone();
        gauge.inc();
        Connected(gauge)
    }

    /// Something a client asked for was refused.
    pub fn rejected(&self, code: Code) {
        self.rejected.get_or_create_owned(&Rejected { reason: code.name() }).inc();
    }

    pub fn received(&self, bytes: usize) {
        self.received.inc();
        self.received_bytes.inc_by(bytes as u64);
    }

    pub(super) fn revocations(&self, kept: usize) {
        self.revocations.set(i64::try_from(kept).unwrap_or(i64::MAX));
    }

    pub(super) fn published(&self) {
        self.published.inc();
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}
