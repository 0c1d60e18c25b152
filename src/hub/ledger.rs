//! The books: what was owed to this node's subscribers and what became of it. `expected = flushed + queued +
//! dropped{reason}` holds at every moment nothing is being moved. A [`Tally`] is the page of one publication.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::sync::Notify;

/// Why a delivery did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The client did not read fast enough.
    Slow,
    /// A newer publication took its place (`latest_only`).
    Conflated,
    /// The connection ended before it was written.
    Closed,
    /// The client left the channel before it was written.
    Left,
}

impl Loss {
    pub(super) const COUNT: usize = 4;
    pub const ALL: [Self; Self::COUNT] = [Self::Slow, Self::Conflated, Self::Closed, Self::Left];

    pub fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Conflated => "conflated",
            Self::Closed => "closed",
            Self::Left => "left",
        }
    }
}

/// Deliveries of this node since it started.
#[derive(Debug, Default)]
pub struct Ledger {
    expected: AtomicU64,
    flushed: AtomicU64,
    dropped: [AtomicU64; Loss::COUNT],
    /// Bytes offered to clients, frames included.
    bytes: AtomicU64,
    /// Times a channel's subscribers were sent back to its history.
    holes: AtomicU64,
}

impl Ledger {
    pub(super) fn expected(&self, count: u64) {
        self.expected.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn flushed(&self, count: u32) {
        self.flushed.fetch_add(u64::from(count), Ordering::Relaxed);
    }

    pub(super) fn flushed_many(&self, count: u64, bytes: usize) {
        self.flushed.fetch_add(count, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn offered(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self, why: Loss, count: u32) {
        self.dropped[why as usize].fetch_add(u64::from(count), Ordering::Relaxed);
    }

    pub(super) fn hole(&self) {
        self.holes.fetch_add(1, Ordering::Relaxed);
    }

    pub fn read(&self) -> Sums {
        // Outcomes before what was expected, so that `queued` is never negative.
        let dropped = Loss::ALL.map(|it| (it, self.dropped[it as usize].load(Ordering::SeqCst)));
        let flushed = self.flushed.load(Ordering::SeqCst);
        let expected = self.expected.load(Ordering::SeqCst);
        let settled = flushed + dropped.iter().map(|(_, count)| count).sum::<u64>();
        Sums {
            expected,
            flushed,
            queued: expected.saturating_sub(settled),
            dropped,
            bytes: self.bytes.load(Ordering::Relaxed),
            holes: self.holes.load(Ordering::Relaxed),
        }
    }
}

/// One reading of the ledger.
#[derive(Clone, Copy, Debug)]
pub struct Sums {
    pub expected: u64,
    pub flushed: u64,
    pub queued: u64,
    pub dropped: [(Loss, u64); Loss::COUNT],
    pub bytes: u64,
    pub holes: u64,
}

/// What became of one publication on this node.
#[derive(Debug, Default)]
pub(super) struct Tally {
    shards_left: AtomicU32,
    matched: AtomicU32,
    dropped: [AtomicU32; Loss::COUNT],
    /// Taken but neither with the kernel nor dropped yet.
    waiting: AtomicU32,
    changed: Notify,
}

/// The tallies of a run, shared by everybody who queued it.
pub(super) type Tallies = Arc<[Arc<Tally>]>;

/// A tally, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    pub matched: u32,
    pub queued: u32,
    /// In the order of [`Loss::ALL`].
    pub dropped: [u32; Loss::COUNT],
    /// Of those queued, how many the kernel does not have yet.
    pub waiting: u32,
}

impl Tally {
    pub(super) fn over(shards: usize) -> Arc<Self> {
        let shards_left = AtomicU32::new(u32::try_from(shards).unwrap_or(u32::MAX));
        Arc::new(Self { shards_left, ..Self::default() })
    }

    /// A shard is through with it. What waits or was dropped was counted before.
    pub(super) fn add(&self, matched: u32) {
        self.matched(matched);
        if self.shards_left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.changed.notify_waiters();
        }
    }

    /// Followers it goes to later than the shard is through with it.
    pub(super) fn matched(&self, count: u32) {
        self.matched.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn dropped_many(&self, why: Loss, count: u32) {
        self.dropped[why as usize].fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn queued(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn flushed(&self) {
        if self.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.changed.notify_waiters();
        }
    }

    /// The same as flushed to whoever waits, and counted.
    pub(super) fn dropped(&self, why: Loss) {
        self.dropped_many(why, 1);
        self.flushed();
    }

    /// Resolves once every shard has offered it to its clients.
    pub(super) async fn delivered(&self) {
        self.until(|it| it.shards_left.load(Ordering::Acquire) == 0).await;
    }

    /// Resolves once the kernel has every byte, or what it does not have was dropped.
    pub(super) async fn flushed_all(&self) {
        self.delivered().await;
        self.until(|it| it.waiting.load(Ordering::Acquire) == 0).await;
    }

    async fn until(&self, done: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            if done(self) {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn read(&self) -> Count {
        let matched = self.matched.load(Ordering::Relaxed);
        let dropped = Loss::ALL.map(|it| self.dropped[it as usize].load(Ordering::Relaxed));
        let waiting = self.waiting.load(Ordering::Relaxed);
        Count { matched, queued: matched.saturating_sub(dropped.iter().sum()), dropped, waiting }
    }
}
