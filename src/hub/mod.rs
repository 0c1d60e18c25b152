//! The channels of this node: who follows what, and how a publication reaches them. Sees no HTTP request, no socket and
//! no token; what it writes goes through a [`Wire`] that somebody else implements.

mod catch_up;
mod checkpoints;
mod directory;
mod follows;
mod inbox;
mod ledger;
mod outbox;
mod presence;
mod reach;
mod rules;
mod run;
mod shard;
#[cfg(test)]
mod tests;
mod trail;
mod wire;

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arc_swap::access::DynAccess;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

pub use catch_up::{CatchUp, Fed, Subscribed, Subscription};
pub use checkpoints::Checkpoints;
pub use directory::{Directory, Listed};
pub use ledger::{Count, Ledger, Loss, Sums, Tally};
pub use outbox::{Handed, Outbox, Owner, Seen, Sent};
pub use presence::{Present, Roll};
pub use rules::{Access, Attendance, Publish, Rule, Rules, WhenSlow};
pub use trail::Trail;
pub use wire::{Signal, Wire};

use crate::channel::{Change, ChannelName, ConnectionId, Draft, Member, Position, Publication, Retention};
use crate::engine::{self, BoxFuture, Broker, Deliver, Erased, Error, Memory, MemoryPresence, Page, Presence, Receipt};
use crate::protocol::Push;
use crate::protocol::wire::Deflate;
use inbox::{Inbox, Order};
use presence::{Crowds, Way};
use shard::Shard;

/// What a hub is opened with.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Fan-out tasks: one per core.
    pub shards: usize,
    pub engine: engine::Settings,
}

/// The current way to compress broadcasts.
pub type CurrentDeflate = Box<dyn DynAccess<Deflate> + Send + Sync>;

/// Hears what happens to channels.
pub type TellChange = Box<dyn Fn(Change) + Send + Sync>;

/// Where changes go, once somebody wants them.
type Changes = Arc<OnceLock<TellChange>>;

/// A receipt answers at the latest after this, even if this node is not through with its own delivery.
const COUNTED_WITHIN: Duration = Duration::from_secs(1);

/// All that is real-time on this node.
pub struct Hub {
    node: u32,
    broker: Arc<dyn Broker>,
    presence: Arc<dyn Presence>,
    fan_out: Arc<FanOut>,
    follows: follows::Follows,
    directory: Arc<Directory>,
    checkpoints: Arc<Checkpoints>,
    ledger: Arc<Ledger>,
    leaving: mpsc::UnboundedSender<presence::Leaving>,
    /// The shards and the engine's own work; they end with the hub.
    _work: JoinSet<()>,
}

/// What publishing came to.
#[derive(Debug)]
pub struct Published {
    pub receipt: Receipt,
    /// What became of it on this node; none for a repetition, which is not delivered.
    pub tally: Option<Arc<Tally>>,
    /// It may still be on its way back from the engine.
    _awaited: Awaited,
}

impl Hub {
    /// Starts the shards over an engine of its own, which is gone with the process. Needs a running tokio runtime.
    pub fn open(settings: Settings, deflate: CurrentDeflate) -> Arc<Self> {
        Self::open_over(settings.shards, deflate, |deliver, work| {
            let memory = Arc::new(Memory::new(settings.engine, deliver));
            work.spawn(memory.clone().sweep());
            memory
        })
    }

    /// The same over an engine that the caller opens. What it spawns into the set ends with the hub.
    pub fn open_over(
        shards: usize,
        deflate: CurrentDeflate,
        engine: impl FnOnce(Arc<dyn Deliver>, &mut JoinSet<()>) -> Arc<dyn Broker>,
    ) -> Arc<Self> {
        let Ok(hub) = Self::try_open_over(shards, deflate, |deliver, work| Ok::<_, Infallible>(engine(deliver, work)));
        hub
    }

    /// The same over an engine that may not open.
    pub fn try_open_over<E>(
        shards: usize,
        deflate: CurrentDeflate,
        engine: impl FnOnce(Arc<dyn Deliver>, &mut JoinSet<()>) -> Result<Arc<dyn Broker>, E>,
    ) -> Result<Arc<Self>, E> {
        let ledger = Arc::new(Ledger::default());
        let inboxes: Arc<[_]> = (0..shards.max(1)).map(|_| Arc::new(Inbox::default())).collect();
        let mut work = JoinSet::new();
        for inbox in inboxes.iter() {
            let shard = Shard::new(inbox.clone(), ledger.clone());
            work.spawn(tokio::task::unconstrained(shard.work()));
        }
        let crowds = Arc::new(Crowds::new(inboxes.clone()));
        let changes = Changes::default();
        let directory = Arc::<Directory>::default();
        let reach = watch::Sender::new(true);
        work.spawn(reach::tell(reach.subscribe(), directory.clone()));
        let fan_out = Arc::new(FanOut {
            inboxes,
            awaited: Mutex::default(),
            deflate,
            crowds: crowds.clone(),
            changes: changes.clone(),
            reach,
        });
        let broker = engine(fan_out.clone(), &mut work)?;
        let presence: Arc<dyn Presence> = Arc::new(MemoryPresence::new(fan_out.clone()));
        work.spawn(crowds.work(presence.clone()));
        let (leaving, left) = mpsc::unbounded_channel();
        work.spawn(presence::see_through(left));
        Ok(Arc::new(Self {
            node: fastrand::u32(..),
            follows: follows::Follows::new(broker.clone(), changes),
            broker,
            presence,
            leaving,
            fan_out,
            directory,
            checkpoints: Arc::default(),
            ledger,
            _work: work,
        }))
    }

    /// Whom to tell what happens to channels here: subscribers and members, as this node causes it. Set once; it is called
    /// under locks, so it must not block.
    pub fn on_change(&self, tell: TellChange) {
        // A second one would split what happened between two that each believe they hear all of it.
        assert!(self.fan_out.changes.set(tell).is_ok(), "whom to tell is set once");
    }

    /// Takes a draft. An answer means the engine acknowledged it.
    pub async fn publish(&self, draft: Draft, retention: Retention) -> Result<Receipt, Error> {
        self.broker.publish(draft, retention).await
    }

    /// The same, and counts what becomes of it on this node.
    pub async fn publish_counted(&self, draft: Draft, retention: Retention) -> Result<Published, Error> {
        let tally = Tally::over(self.fan_out.inboxes.len());
        let awaited = Awaited::new(&self.fan_out, &draft, tally.clone());
        let channel = draft.channel.clone();
        let receipt = self.broker.publish(draft, retention).await?;
        // An engine that nodes share does not bring what nobody here follows.
        let tally = if self.follows.count(&channel) == 0 { Tally::over(0) } else { tally };
        let tally = (!receipt.duplicate).then_some(tally);
        Ok(Published { receipt, tally, _awaited: awaited })
    }

    pub async fn history(
        &self,
        channel: &ChannelName,
        since: Option<Position>,
        limit: usize,
        retention: Retention,
    ) -> Result<Page, Error> {
        self.broker.history(channel, since, limit, retention).await
    }

    pub async fn delete_history(&self, channel: &ChannelName) -> Result<(), Error> {
        self.broker.delete_history(channel).await
    }

    /// Takes a user's publications out of every history.
    pub async fn erase(&self, user: &str) -> Result<Erased, Error> {
        self.broker.erase(user).await
    }

    /// Whether publications can be taken just now.
    pub fn is_available(&self) -> bool {
        self.broker.is_available()
    }

    /// What a client is told that comes while the engine is out of reach.
    pub fn tell_reach(&self, outbox: &Outbox) {
        if !*self.fan_out.reach.borrow() {
            outbox.reply(&reach::reply(false));
        }
    }

    /// A name for a new connection of this node.
    pub fn connection_id(&self) -> ConnectionId {
        ConnectionId::new(self.node)
    }

    /// The node as others call it: what its connections' ids begin with.
    pub fn node(&self) -> String {
        format!("{:08x}", self.node)
    }

    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    pub fn checkpoints(&self) -> &Arc<Checkpoints> {
        &self.checkpoints
    }

    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Clients of this node that follow the channel.
    pub fn subscribers(&self, channel: &ChannelName) -> u32 {
        self.follows.count(channel)
    }

    /// Channels with clients on this node.
    pub fn channels(&self, prefix: &str, limit: usize) -> Vec<(ChannelName, u32)> {
        self.follows.names(prefix, limit)
    }

    /// The connections of this node that follow the channel.
    pub async fn followers(&self, channel: &ChannelName) -> Vec<ConnectionId> {
        let mut followers = Vec::new();
        for inbox in self.fan_out.inboxes.iter() {
            let (answer, answered) = oneshot::channel();
            inbox.push(Order::Tell { channel: channel.clone(), answer });
            // A dropped sender means the shard is gone, and its followers with it.
            followers.extend(answered.await.unwrap_or_default());
        }
        followers
    }

    /// What a connection of this node follows, in order of the names, and whether it is still catching up there.
    pub async fn followed(&self, outbox: &Arc<Outbox>) -> Vec<(ChannelName, bool)> {
        let (answer, answered) = oneshot::channel();
        self.inbox_of(outbox.id).push(Order::TellFollowed { outbox: outbox.clone(), answer });
        // A dropped sender means the shard is gone, and nothing is followed.
        let mut followed = answered.await.unwrap_or_default();
        followed.sort_unstable();
        followed
    }

    /// Channels the engine remembers, whoever follows them.
    pub async fn remembered(&self, prefix: &str, limit: usize) -> Result<Vec<ChannelName>, Error> {
        self.broker.channels(prefix, limit).await
    }

    /// A stored publication, ready to be encoded.
    pub fn push_of(&self, publication: Arc<Publication>) -> Push {
        Push::new(publication, self.deflate())
    }

    fn deflate(&self) -> Deflate {
        *self.fan_out.deflate.load()
    }

    fn inbox_of(&self, id: ConnectionId) -> &Arc<Inbox> {
        let inboxes = &self.fan_out.inboxes;
        let at = id.0 % u128::try_from(inboxes.len()).expect("a few shards");
        &inboxes[usize::try_from(at).expect("smaller than a usize")]
    }
}

impl Published {
    /// The counts of this node, once it is through with its own delivery; none if that takes too long.
    pub async fn counted(&self) -> Option<Count> {
        let tally = self.tally.as_ref()?;
        tokio::time::timeout(COUNTED_WITHIN, tally.delivered()).await.ok().map(|()| tally.read())
    }

    /// The counts once the kernel has every byte, and whether that came within `patience`.
    pub async fn flushed(&self, patience: Duration) -> Option<(Count, bool)> {
        let tally = self.tally.as_ref()?;
        let in_time = tokio::time::timeout(patience, tally.flushed_all()).await.is_ok();
        Some((tally.read(), in_time))
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("node", &self.node).finish_non_exhaustive()
    }
}

/// A publication's name: its channel and its id.
type Name = (ChannelName, Arc<str>);

/// The engine's way in: every publication goes to every shard's queue, in order.
struct FanOut {
    inboxes: Arc<[Arc<Inbox>]>,
    /// Tallies of publications on their way through the engine.
    awaited: Mutex<HashMap<Name, Arc<Tally>>>,
    deflate: CurrentDeflate,
    crowds: Arc<Crowds>,
    changes: Changes,
    reach: watch::Sender<bool>,
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
        let push = Arc::new(Push::new(publication, *self.deflate.load()));
        for inbox in self.inboxes.iter() {
            inbox.push(Order::Publish { push: push.clone(), tally: tally.clone() });
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

/// Takes the tally back when the publication never came.
struct Awaited {
    fan_out: Arc<FanOut>,
    key: Name,
}

impl Awaited {
    fn new(fan_out: &Arc<FanOut>, draft: &Draft, tally: Arc<Tally>) -> Self {
        let key = (draft.channel.clone(), draft.id.clone());
        fan_out.awaited.lock().expect("nothing panics under this lock").insert(key.clone(), tally);
        Self { fan_out: fan_out.clone(), key }
    }
}

impl fmt::Debug for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Awaited({})", self.key.0)
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.fan_out.awaited.lock().expect("nothing panics under this lock").remove(&self.key);
    }
}
