//! The channels of this node: who follows what, and how a publication reaches them. Sees no HTTP request, no socket and
//! no token; what it writes goes through a [`Wire`] that somebody else implements.

mod audit;
mod catch_up;
mod checkpoints;
mod direct;
mod directory;
mod fan_out;
mod follows;
mod inbox;
mod lane;
mod ledger;
mod outbox;
mod paced;
mod presence;
mod reach;
mod reads;
mod rules;
mod run;
mod shard;
#[cfg(test)]
mod tests;
mod trail;
mod wire;

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, OnceLock};

use arc_swap::access::DynAccess;
use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;

pub use catch_up::{CatchUp, Caught, Fed, Subscribed, Subscription};
pub use checkpoints::Checkpoints;
pub use directory::{Directory, Listed};
pub use fan_out::Delivery;
pub use ledger::{Count, Ledger, Loss, Sums};
pub use outbox::{Handed, Outbox, Owner, Proof, Seen, Sent};
pub use presence::{Present, Roll};
pub use rules::{Access, Attendance, Publish, Rule, Rules, WhenSlow};
pub use trail::Trail;
pub use wire::{Hole, Signal, Wire};

use crate::channel::{Change, ChannelName, ConnectionId, Draft, Position, Publication, Retention};
use crate::engine::{self, Broker, Deliver, Erased, Error, Memory, MemoryPresence, Page, Presence, Receipt};
use crate::protocol::Push;
use crate::protocol::wire::Deflate;
use audit::Audit;
use fan_out::FanOut;
use follows::Follows;
use inbox::{Inbox, Order};
use presence::Crowds;
use reads::Reads;
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

/// Hears what another node announces.
pub type HearNotice = Box<dyn Fn(Bytes) + Send + Sync>;

/// Where changes go, once somebody wants them.
type Changes = Arc<OnceLock<TellChange>>;

/// All that is real-time on this node.
pub struct Hub {
    node: u32,
    broker: Arc<dyn Broker>,
    presence: Arc<dyn Presence>,
    fan_out: Arc<FanOut>,
    follows: Arc<Follows>,
    directory: Arc<Directory>,
    checkpoints: Arc<Checkpoints>,
    ledger: Arc<Ledger>,
    leaving: mpsc::UnboundedSender<presence::Leaving>,
    /// Numbers them.
    subscriptions: AtomicU32,
    /// The shards and the engine's own work; they end with the hub.
    _work: JoinSet<()>,
}

/// What publishing came to.
#[derive(Debug)]
pub struct Published {
    pub receipt: Receipt,
    /// What becomes of it on this node; none for a repetition, which is not delivered.
    pub delivery: Option<Delivery>,
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
        let reads = Arc::new(Reads::default());
        work.spawn(reads.clone().tidy());
        let returned = Arc::new(Notify::new());
        let crowds = Arc::new(Crowds::new(inboxes.clone()));
        let changes = Changes::default();
        let fan_out =
            FanOut::new(inboxes.clone(), reads.clone(), returned.clone(), deflate, crowds.clone(), changes.clone());
        let directory = Arc::<Directory>::default();
        work.spawn(reach::tell(fan_out.reach.subscribe(), directory.clone()));
        let broker = engine(fan_out.clone(), &mut work)?;
        let presence = broker.presence().unwrap_or_else(|| Arc::new(MemoryPresence::new(fan_out.clone())));
        work.spawn(crowds.work(presence.clone()));
        let (leaving, left) = mpsc::unbounded_channel();
        work.spawn(presence::see_through(left));
        let follows = Arc::new(Follows::new(broker.clone(), reads, changes));
        let audit = Audit { broker: broker.clone(), follows: follows.clone(), inboxes, returned };
        work.spawn(audit.work());
        Ok(Arc::new(Self {
            node: fastrand::u32(..),
            follows,
            broker,
            presence,
            leaving,
            fan_out,
            directory,
            checkpoints: Arc::default(),
            ledger,
            subscriptions: AtomicU32::default(),
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
        let delivery = self.fan_out.count(&draft);
        let channel = draft.channel.clone();
        let receipt = self.broker.publish(draft, retention).await?;
        Ok(self.published(&channel, receipt, delivery))
    }

    /// A repetition is not delivered, and an engine that nodes share does not bring what nobody here follows.
    fn published(&self, channel: &ChannelName, receipt: Receipt, delivery: Delivery) -> Published {
        let delivery = if self.follows.count(channel) == 0 { Delivery::to_nobody() } else { delivery };
        Published { delivery: (!receipt.duplicate).then_some(delivery), receipt }
    }

    /// The same for several of one channel with ids of their own, in order, up to the first that is not taken.
    pub async fn publish_all_counted(&self, drafts: Vec<Draft>, retention: Retention) -> Vec<Result<Published, Error>> {
        let deliveries: Vec<_> = drafts.iter().map(|it| (it.channel.clone(), self.fan_out.count(it))).collect();
        let receipts = self.broker.publish_all(drafts, retention).await;
        let published = receipts
            .into_iter()
            .zip(deliveries)
            .map(|(receipt, (channel, delivery))| receipt.map(|receipt| self.published(&channel, receipt, delivery)));
        published.collect()
    }

    /// How many of one channel the engine likes to be given at once.
    pub fn at_once(&self) -> usize {
        self.broker.at_once()
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
        let deleted = self.broker.delete_history(channel).await;
        self.fan_out.reads.forget(channel);
        deleted
    }

    /// Takes a user's publications out of every history.
    pub async fn erase(&self, user: &str) -> Result<Erased, Error> {
        let erased = self.broker.erase(user).await;
        // What was read for others before must not be given to anybody after.
        self.fan_out.reads.forget_all();
        erased
    }

    /// Whether publications can be taken just now.
    pub fn is_available(&self) -> bool {
        self.broker.is_available()
    }

    /// Whether there may be other nodes to announce things to.
    pub fn is_shared(&self) -> bool {
        self.broker.is_shared()
    }

    /// Says something to every other node; see [`Broker::announce`].
    pub async fn announce(&self, notice: Bytes, is_lasting: bool) -> Result<(), Error> {
        self.broker.announce(notice, is_lasting).await
    }

    /// Who hears what other nodes announce. Set once; it must not block.
    pub fn on_notice(&self, hear: HearNotice) {
        // A second one would hear only what the first did not.
        assert!(self.fan_out.hear.set(hear).is_ok(), "who hears other nodes is set once");
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

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("node", &self.node).finish_non_exhaustive()
    }
}
