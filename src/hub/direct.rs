use std::sync::Arc;

use bytes::Bytes;

use super::Hub;
use super::fan_out::Delivery;
use super::ledger::{Tallies, Tally};
use super::outbox::{Offer, Outbox};
use crate::protocol::wire::{Direct, Format};

/// A message to certain connections on its way, encoded once per format.
pub(super) struct Letter<'a> {
    message: &'a Direct,
    encoded: [Option<Bytes>; 6],
    pub(super) tallies: Tallies,
}

impl Hub {
    /// Tells some of this node's connections something that is of no channel: at most once, and counted like everything.
    pub fn tell(&self, outboxes: impl IntoIterator<Item = Arc<Outbox>>, message: &Direct) -> Delivery {
        let tally = Tally::over(1);
        let mut letter = Letter { message, encoded: Default::default(), tallies: Arc::new([tally.clone()]) };
        let told = outboxes.into_iter().filter(|it| it.message(&mut letter) != Offer::Gone).count();
        tally.add(u32::try_from(told).unwrap_or(u32::MAX));
        Delivery::direct(tally)
    }
}

impl Letter<'_> {
    pub(super) fn bytes(&mut self, format: Format) -> Bytes {
        self.encoded[format as usize].get_or_insert_with(|| self.message.wire(format)).clone()
    }
}
