//! `min_interval`: followers who get at most one publication in an interval, the newest. All of a channel's share one
//! clock, so that what they get is still encoded once for all of them.

use std::time::Duration;

use tokio::time::Instant;

use super::lane::Lane;
use super::ledger::{Ledger, Loss};
use super::run::{Published, Run};
use crate::channel::{ChannelName, Position};

/// A core's share of a channel's paced followers.
pub(super) struct Paced {
    pub(super) lane: Lane,
    /// As the last of them found it in the rule.
    pub(super) interval: Duration,
    /// The newest publication, until the interval is over.
    waiting: Option<Published>,
    /// Before it nothing more is sent.
    not_before: Instant,
}

impl Paced {
    pub(super) fn new(interval: Duration) -> Self {
        Self { lane: Lane::sparse(), interval, waiting: None, not_before: Instant::now() }
    }

    /// Takes a publication in place of the one that waits. If none did, the answer is when it is due.
    pub(super) fn take(&mut self, (push, tally): &Published, ledger: &Ledger) -> Option<Instant> {
        if let Some(tally) = tally {
            tally.matched(self.lane.len());
            tally.queued();
        }
        match self.waiting.replace((push.clone(), tally.clone())) {
            Some((_, older)) => {
                let live = self.lane.live();
                ledger.expected(u64::from(live));
                ledger.dropped(Loss::Conflated, live);
                if let Some(older) = older {
                    older.dropped_many(Loss::Conflated, live);
                    older.flushed();
                }
                None
            }
            None => Some(self.not_before.max(Instant::now())),
        }
    }

    /// Sends what waits: its interval is over.
    pub(super) async fn send(&mut self, ledger: &Ledger) {
        let now = Instant::now();
        // Whom everybody left and somebody joined again may be called too early.
        let Some((push, tally)) = self.waiting.take_if(|_| self.not_before <= now) else { return };
        self.not_before = now + self.interval;
        let run = Run::new(vec![push], tally.iter().cloned().collect());
        self.lane.deliver(&run, ledger).await.enter(&run, ledger);
        if let Some(tally) = tally {
            tally.flushed();
        }
    }

    /// Where its followers stand, or will when the interval is over.
    pub(super) fn stands(&self) -> Option<Position> {
        match &self.waiting {
            Some((push, _)) => Some(push.publication.position()),
            None => self.lane.last().cloned(),
        }
    }

    pub(super) fn heal(&mut self, channel: &ChannelName, head: Position, ledger: &Ledger) {
        // What waits is older than the head, which the history has.
        if let Some((_, Some(tally))) = self.waiting.take() {
            tally.flushed();
        }
        self.lane.heal(channel, head, ledger);
    }
}

/// A publication that never left is no longer waited for.
impl Drop for Paced {
    fn drop(&mut self) {
        if let Some((_, Some(tally))) = self.waiting.take() {
            tally.flushed();
        }
    }
}
