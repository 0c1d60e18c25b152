//! Whether the store takes what it is given; and under `fsync: 1s` the thread that syncs what was written, beside the
//! writer, so that a slow disk delays no delivery.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::{error, info};

use super::queue::Queue;

/// How often what was written is synced.
const SYNC: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Health {
    pub(super) is_failing: AtomicBool,
    cannot_sync: AtomicBool,
    /// Something was written that is not synced yet.
    is_dirty: AtomicBool,
}

impl Health {
    pub(super) fn is_sound(&self) -> bool {
        !self.is_failing.load(Ordering::Acquire) && !self.cannot_sync.load(Ordering::Acquire)
    }

    pub(super) fn written(&self) {
        self.is_dirty.store(true, Ordering::Release);
    }
}

pub(super) fn sync_each_second(log: &File, health: &Health, queue: &Queue) {
    while !queue.is_closed_within(SYNC) {
        if health.is_dirty.swap(false, Ordering::AcqRel) {
            sync(log, health);
        }
    }
}

fn sync(log: &File, health: &Health) {
    match log.sync_data() {
        Ok(()) => {
            if health.cannot_sync.swap(false, Ordering::AcqRel) {
                info!("the data folder can be synced again");
            }
        }
        Err(error) => {
            health.written();
            if !health.cannot_sync.swap(true, Ordering::AcqRel) {
                error!(%error, "the data folder cannot be synced: what is published may not survive a power cut");
            }
        }
    }
}
