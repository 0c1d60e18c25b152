//! What waits for the writer: drafts, bounded in bytes, whose publishers wait for room; and what else is owed to the
//! store, folded, so that it needs no bound of its own.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use crate::channel::{Draft, Retention};
use crate::engine::changes::{Change, Journal, Owed};
use crate::engine::{Error, Receipt};
use crate::records::Shelf;

/// Drafts wait for the writer up to this many bytes; beyond it their publishers wait.
const MAX_WAITING: usize = 16 * 1024 * 1024;
/// What a draft costs beside its data.
const OVERHEAD: usize = 512;
/// The unit in which room is given.
const UNIT: usize = 256;
/// No more orders are added to a group that has so many drafts.
const MAX_GROUP: usize = 512;
/// What nobody waits for is written after this, or with the next group.
const LINGER: Duration = Duration::from_millis(200);

/// Something to be done in its order.
pub(super) enum Order {
    /// Drafts of one channel, taken together or not at all. The room is given back once they are looked at.
    Publish { drafts: Vec<Waiting>, room: OwnedSemaphorePermit },
    /// Answered once all before it is stored, or cannot be.
    Settle(oneshot::Sender<bool>),
    /// The same, and what was erased is to be nowhere.
    Purge(oneshot::Sender<bool>),
    /// The last one: the store is left clean.
    Close(oneshot::Sender<bool>),
}

/// A draft and who waits for its receipt.
pub(super) struct Waiting {
    pub(super) draft: Draft,
    pub(super) retention: Retention,
    pub(super) at: Instant,
    pub(super) answer: oneshot::Sender<Result<Receipt, Error>>,
}

impl Order {
    fn drafts(&self) -> usize {
        if let Self::Publish { drafts, .. } = self { drafts.len() } else { 0 }
    }
}

pub(super) struct Queue {
    waiting: Mutex<State>,
    work: Condvar,
    closed: Condvar,
    room: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    orders: VecDeque<Order>,
    owed: Owed,
    /// Something of what is owed should not linger.
    is_urgent: bool,
    is_closed: bool,
}

impl Default for Queue {
    fn default() -> Self {
        let room = Arc::new(Semaphore::new(MAX_WAITING / UNIT));
        Self { waiting: Mutex::default(), work: Condvar::new(), closed: Condvar::new(), room }
    }
}

impl Queue {
    /// Resolves once there is room for the drafts; none once the queue is closed.
    pub(super) async fn room(&self, drafts: &[Draft]) -> Option<OwnedSemaphorePermit> {
        let bytes: usize = drafts.iter().map(|it| it.data.len() + OVERHEAD).sum();
        let units = bytes.min(MAX_WAITING) / UNIT;
        self.room.clone().acquire_many_owned(u32::try_from(units).unwrap_or(u32::MAX)).await.ok()
    }

    /// Whether it will be looked at.
    pub(super) fn push(&self, order: Order) -> bool {
        let mut state = self.lock();
        if state.is_closed {
            return false;
        }
        state.orders.push_back(order);
        drop(state);
        self.work.notify_one();
        true
    }

    pub(super) fn record(&self, shelf: Shelf, key: &str, value: Option<Vec<u8>>) {
        let mut state = self.lock();
        state.owed.records.insert((shelf, key.to_owned()), value);
        state.is_urgent = true;
        drop(state);
        self.work.notify_one();
    }

    /// Waits for work, at most for `patience`; takes a group of orders. None once all is done and no more will come.
    pub(super) fn take(&self, patience: Duration) -> Option<Vec<Order>> {
        let mut state = self.lock();
        let idle = |it: &mut State| it.orders.is_empty() && !it.is_urgent && !it.is_closed;
        let wait = if state.owed.is_empty() { patience } else { patience.min(LINGER) };
        if idle(&mut state) {
            (state, _) = self.work.wait_timeout_while(state, wait, idle).expect("nothing panics under this lock");
        }
        if state.is_closed && state.orders.is_empty() && state.owed.is_empty() {
            return None;
        }
        let mut drafts = 0;
        let is_full = |it: &Order| {
            drafts += it.drafts();
            drafts >= MAX_GROUP
        };
        let count = state.orders.iter().position(is_full).map_or(state.orders.len(), |at| at + 1);
        Some(state.orders.drain(..count).collect())
    }

    /// Everything owed so far. Taken after a group is numbered, it holds the channels that the group made.
    pub(super) fn owed(&self) -> Owed {
        let mut state = self.lock();
        state.is_urgent = false;
        std::mem::take(&mut state.owed)
    }

    /// Takes nothing more; what waits is still done.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.room.close();
        self.work.notify_all();
        self.closed.notify_all();
    }

    pub(super) fn is_closed_within(&self, patience: Duration) -> bool {
        let wait = self.closed.wait_timeout_while(self.lock(), patience, |it| !it.is_closed);
        wait.expect("nothing panics under this lock").0.is_closed
    }

    /// The writer is gone: whoever still waits is told by the end of their channel.
    pub(super) fn abandon(&self) {
        self.close();
        self.lock().orders.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.waiting.lock().expect("nothing panics under this lock")
    }
}

impl Journal for Queue {
    fn changed(&self, changes: Vec<Change>) {
        let mut state = self.lock();
        // An epoch that clients hear of is to be known after a restart; what is trimmed can wait.
        let is_urgent = changes.iter().any(|it| matches!(it, Change::Channel(_)));
        changes.into_iter().for_each(|it| state.owed.add(it));
        state.is_urgent |= is_urgent;
        drop(state);
        if is_urgent {
            self.work.notify_one();
        }
    }
}
