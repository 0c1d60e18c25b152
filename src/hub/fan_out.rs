//! The engine's way into the shards, and the counting of what becomes of a publication on this node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::inbox::{Inbox, Order};
use super::ledger::{Count, Tally};
use super::presence::{Crowds, Way};
use super::reads::Reads;
use super::{Changes, CurrentDeflate, HearNotice};
use crate::channel::{Change, ChannelName, Draft, Member, Position, Publication};
use crate::engine::{BoxFuture, Deliver, Gap};
use crate::protocol::Push;

/// A receipt answers at the latest after this, even if this node is not through with its own delivery.
const COUNTED_WITHIN: Duration = Duration::from_secs(1);

/// A publication's name: its channel and its id.
type Name = (ChannelName, Arc<str>);

/// The engine's way in: every publication goes to every shard's queue, in order.
pub(super) struct FanOut {
    pub(super) inboxes: Arc<[Arc<Inbox>]>,
    pub(super) reads: Arc<Reads>,
    returned: Arc<Notify>,
    /// Tallies of publications on their way through the engine.
    awaited: Mutex<HashMap<Name, Arc<Tally>>>,
    pub(super) deflate: CurrentDeflate,
    pub(super) crowds: Arc<Crowds>,
    pub(super) changes: Changes,
    /// Hears what other nodes announce.
    pub(super) hear: OnceLock<HearNotice>,
    /// Whether the engine is, as it said last.
    pub(super) reach: watch::Sender<bool>,
}

impl FanOut {
    pub(super) fn new(
        inboxes: Arc<[Arc<Inbox>]>,
        reads: Arc<Reads>,
        returned: Arc<Notify>,
        deflate: CurrentDeflate,
        crowds: Arc<Crowds>,
        changes: Changes,
    ) -> Arc<Self> {
        let (awaited, reach) = (Mutex::default(), watch::Sender::new(true));
        let hear = OnceLock::new();
        Arc::new(Self { inboxes, reads, returned, awaited, deflate, crowds, changes, hear, reach })
    }

    /// Counts what becomes of a draft once it comes back from the engine, which may be after it was acknowledged.
    pub(super) fn count(self: &Arc<Self>, draft: &Draft) -> Delivery {
        let tally = Tally::over(self.inboxes.len());
        let name = (draft.channel.clone(), draft.id.clone());
        self.awaited.lock().expect("nothing panics under this lock").insert(name.clone(), tally.clone());
        Delivery { tally, _awaited: Some(Awaited { fan_out: self.clone(), name }) }
    }
}

impl Deliver for FanOut {
    fn room(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            for inbox in self.inboxes.iter() {
                inbox.room().await;
            }
        })
    }

    fn publication(&self, publication: Arc<Publication>) {
        let tally = {
            let mut awaited = self.awaited.lock().expect("nothing panics under this lock");
            match awaited.is_empty() {
                true => None,
                false => awaited.remove(&(publication.channel.clone(), publication.id.clone())),
            }
        };
        // Before the shards have it: see there.
        self.reads.heard(&publication.channel);
        let push = Arc::new(Push::new(publication, *self.deflate.load()));
        for inbox in self.inboxes.iter() {
            inbox.push(Order::Publish { push: push.clone(), tally: tally.clone() });
        }
    }

    fn returned(&self) {
        self.crowds.missed();
        self.returned.notify_one();
    }

    /// What came before it is in the shards' queues: the audit finds who stands elsewhere. A publication that follows on the
    /// gap finds it first.
    fn gap(&self, channel: &ChannelName, from: Position, why: Gap) {
        tracing::warn!(%channel, seq = from.seq, reason = why.name(), "publications did not reach this node");
        self.returned.notify_one();
    }

    fn control(&self, notice: Bytes) {
        if let Some(hear) = self.hear.get() {
            hear(notice);
        }
    }

    fn reach(&self, is_in_reach: bool) {
        self.reach.send_replace(is_in_reach);
    }

    fn joined(&self, channel: &ChannelName, member: Arc<Member>, members: usize) {
        self.crowds.changed(channel, member, Way::In, members);
    }

    fn left(&self, channel: &ChannelName, member: Arc<Member>, members: usize) {
        self.crowds.changed(channel, member, Way::Out, members);
    }

    fn caused(&self, change: Change) {
        if let Some(tell) = self.changes.get() {
            tell(change);
        }
    }
}

/// What becomes of a publication, or of a message to some connections, on this node. Counted for as long as it lives.
pub struct Delivery {
    tally: Arc<Tally>,
    _awaited: Option<Awaited>,
}

/// Takes the tally back when the publication did not come.
struct Awaited {
    fan_out: Arc<FanOut>,
    name: Name,
}

impl Delivery {
    /// Of what goes to its connections without the engine.
    pub(super) fn direct(tally: Arc<Tally>) -> Self {
        Self { tally, _awaited: None }
    }

    /// Of what nobody here follows.
    pub(super) fn to_nobody() -> Self {
        Self::direct(Tally::over(0))
    }

    /// The counts, once this node is through with its own delivery; none if that takes too long.
    pub async fn counted(&self) -> Option<Count> {
        timeout(COUNTED_WITHIN, self.tally.delivered()).await.ok().map(|()| self.tally.read())
    }

    /// The counts once the kernel has every byte, and whether that came within `patience`.
    pub async fn flushed(&self, patience: Duration) -> (Count, bool) {
        let in_time = timeout(patience, self.tally.flushed_all()).await.is_ok();
        (self.tally.read(), in_time)
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Delivery({:?})", self.tally.read())
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.fan_out.awaited.lock().expect("nothing panics under this lock").remove(&self.name);
    }
}
