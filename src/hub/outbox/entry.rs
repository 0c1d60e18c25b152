use bytes::Bytes;

use crate::channel::{ChannelName, Epoch};
use crate::hub::ledger::{Ledger, Loss, Tallies};

/// The unit of queueing and dropping: the joined frames of one channel, or the note that some were dropped.
pub(in crate::hub) struct Entry {
    pub(in crate::hub) serial: u64,
    pub(in crate::hub) bytes: Bytes,
    pub(in crate::hub) channel: Option<ChannelName>,
    pub(in crate::hub) epoch: Epoch,
    pub(in crate::hub) seq: u64,
    pub(in crate::hub) accounted: Accounted,
    /// Says who came to this channel and who left it; then it is of no other `channel`, and in nobody's books.
    pub(in crate::hub) news_of: Option<ChannelName>,
}

/// Whose books an entry stands in until it is flushed or dropped.
#[derive(Clone, Default)]
pub(in crate::hub) struct Accounted {
    /// Publications; 0 marks a gap notice.
    pub(in crate::hub) count: u32,
    pub(in crate::hub) tallies: Option<Tallies>,
}

impl Entry {
    /// Of no channel and in nobody's books.
    pub(super) fn alone(bytes: Bytes) -> Self {
        Self {
            serial: 0,
            bytes,
            channel: None,
            epoch: Epoch(0),
            seq: 0,
            accounted: Accounted::default(),
            news_of: None,
        }
    }

    pub(super) fn news(channel: &ChannelName, bytes: Bytes) -> Self {
        Self { news_of: Some(channel.clone()), ..Self::alone(bytes) }
    }

    pub(super) fn is_gap(&self) -> bool {
        self.channel.is_some() && self.accounted.count == 0
    }
}

impl Accounted {
    /// Waiting, in the tallies of so many publications.
    pub(in crate::hub) fn in_tallies(count: u32, tallies: &Tallies) -> Self {
        tallies.iter().for_each(|it| it.queued());
        Self { count, tallies: Some(tallies.clone()) }
    }

    pub(super) fn flushed(&self, ledger: &Ledger) {
        ledger.flushed(self.count);
        if let Some(tallies) = &self.tallies {
            tallies.iter().for_each(|it| it.flushed());
        }
    }

    pub(super) fn dropped(&self, why: Loss, ledger: &Ledger) {
        ledger.dropped(why, self.count);
        if let Some(tallies) = &self.tallies {
            tallies.iter().for_each(|it| it.dropped(why));
        }
    }
}
