use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::lane::{Number, Place};
use super::ledger::Tally;
use super::outbox::Outbox;
use super::presence::Hear;
use super::rules::WhenSlow;
use crate::channel::{ChannelName, ConnectionId, Position};
use crate::protocol::{Push, Shared};

/// What a shard is told, in one queue: joins and leaves stand in order with the publications.
pub(super) enum Order {
    Publish {
        push: Arc<Push>,
        tally: Option<Arc<Tally>>,
    },
    /// From here on the channel's publications are held for the client.
    Join {
        channel: ChannelName,
        outbox: Arc<Outbox>,
        number: Number,
        when_slow: WhenSlow,
        min_interval: Option<Duration>,
    },
    /// What is held and newer than the place is released; from here on the client is written to directly. Unless
    /// `is_whole`, the history gave out before the client had all of it.
    Live {
        channel: ChannelName,
        place: Place,
        is_whole: bool,
    },
    /// Whether and when a follower is told who comes and goes.
    Hear {
        channel: ChannelName,
        id: ConnectionId,
        what: Hear,
    },
    /// Who came and who went, for all of the channel's followers that hear it.
    News {
        channel: ChannelName,
        news: Arc<Shared>,
    },
    /// `done` is told once nothing more will be offered.
    Leave {
        channel: ChannelName,
        id: ConnectionId,
        number: Number,
        done: Option<oneshot::Sender<()>>,
    },
    /// Which of these channels stand elsewhere here, and where.
    Compare {
        heads: Arc<[(ChannelName, Position)]>,
        answer: oneshot::Sender<Vec<(ChannelName, Position)>>,
    },
    /// If the channel still stands where it stood, what lies between there and the engine's head was missed.
    Heal {
        channel: ChannelName,
        stood: Position,
        head: Position,
    },
    /// Somebody wants to know who follows the channel.
    Tell {
        channel: ChannelName,
        answer: oneshot::Sender<Vec<ConnectionId>>,
    },
    /// Somebody wants to know what a connection follows, and where it is still catching up.
    TellFollowed {
        outbox: Arc<Outbox>,
        answer: oneshot::Sender<Vec<(ChannelName, bool)>>,
    },
}

/// The queue of one shard. Bounded in bytes by whoever publishes waiting for [`Inbox::room`]; joins and leaves are as
/// many as the clients' commands, which their limits bound.
#[derive(Default)]
pub(super) struct Inbox {
    orders: Mutex<VecDeque<Order>>,
    bytes: AtomicUsize,
    work: Notify,
    room: Notify,
}

/// A shard this far behind makes publishers wait.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// A publication costs at least its bookkeeping.
const OVERHEAD: usize = 256;

impl Inbox {
    pub(super) fn push(&self, order: Order) {
        if let Order::Publish { push, .. } = &order {
            self.bytes.fetch_add(cost(push), Ordering::Relaxed);
        }
        let mut orders = self.lock();
        orders.push_back(order);
        if orders.len() == 1 {
            drop(orders);
            self.work.notify_one();
        }
    }

    /// Waits for work and takes all of it.
    pub(super) async fn take(&self) -> VecDeque<Order> {
        loop {
            let taken = std::mem::take(&mut *self.lock());
            if !taken.is_empty() {
                return taken;
            }
            self.work.notified().await;
        }
    }

    /// Publications the shard is through with.
    pub(super) fn done(&self, pushes: &[Arc<Push>]) {
        let cost: usize = pushes.iter().map(|it| cost(it)).sum();
        let before = self.bytes.fetch_sub(cost, Ordering::AcqRel);
        if before >= MAX_BYTES && before - cost < MAX_BYTES {
            self.room.notify_waiters();
        }
    }

    pub(super) async fn room(&self) {
        loop {
            let room = self.room.notified();
            if self.bytes.load(Ordering::Acquire) < MAX_BYTES {
                return;
            }
            room.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Order>> {
        self.orders.lock().expect("nothing panics under an inbox lock")
    }
}

/// Bytes a publication counts for wherever it is kept.
pub(super) fn cost(push: &Push) -> usize {
    push.publication.data.len() + OVERHEAD
}
