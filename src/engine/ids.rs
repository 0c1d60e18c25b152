//! How many publication ids are recognised, in all and by shard, so that the bound is the node's and whoever fills it pays.

use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Debug)]
pub(super) struct Ids {
    most: usize,
    total: AtomicUsize,
    by_shard: Box<[AtomicUsize]>,
}

impl Ids {
    pub(super) fn new(most: usize, shards: usize) -> Self {
        Self { most, total: AtomicUsize::new(0), by_shard: (0..shards).map(|_| AtomicUsize::new(0)).collect() }
    }

    /// Under the shard's lock, so that its own count is never below zero.
    pub(super) fn count(&self, shard: usize, new: usize, gone: usize) {
        if new != gone {
            // Wrapping makes one addition of both.
            let change = new.wrapping_sub(gone);
            self.total.fetch_add(change, Ordering::Relaxed);
            self.by_shard[shard].fetch_add(change, Ordering::Relaxed);
        }
    }

    pub(super) fn are_too_many(&self) -> bool {
        self.total.load(Ordering::Relaxed) > self.most
    }

    /// The shard with the most of them.
    pub(super) fn fullest(&self) -> usize {
        let counts = self.by_shard.iter().map(|it| it.load(Ordering::Relaxed)).enumerate();
        counts.max_by_key(|(_, count)| *count).map_or(0, |(at, _)| at)
    }

    #[cfg(test)]
    pub(super) fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }
}
