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
mod reads;
mod rules;
mod run;
mod shard;
#[cfg(test)]
mod tests;
mod trail;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use arc_swap::access::DynAccess;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

pub use catch_up::{CatchUp, Caught, Fed, Subscribed, Subscription};
pub use checkpoints::Checkpoints;
pub use directory::{Directory, Known, Listed};
pub use fan_out::Delivery;
pub use ledger::{Count, Ledger, Loss, Sums};
pub use outbox::{Handed, Outbox};
pub use rules::{Access, Publish, Rule, Rules, WhenSlow};
pub use trail::Trail;
pub use wire::{Hole, Signal, Wire};

use crate::channel::{ChannelName, ConnectionId, Draft, Position, Publication, Retention};
use crate::engine::{self, Broker, Deliver, Error, Page, Receipt};
use crate::protocol::Push;
use crate::protocol::wire::Deflate;
use audit::Audit;
use fan_out::FanOut;
use follows::Follows;
use inbox::{Inbox, Order};
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

/// All that is real-time on this node.
pub struct Hub {
    node: u32,
    broker: Arc<dyn Broker>,
    fan_out: Arc<FanOut>,
    follows: Arc<Follows>,
    directory: Arc<Directory>,
    checkpoints: Arc<Checkpoints>,
    ledger: Arc<Ledger>,
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
    /// Opens the engine and starts the shards. Needs a running tokio runtime.
    pub fn open(settings: Settings, deflate: CurrentDeflate) -> Arc<Self> {
        Self::open_over(settings.shards, deflate, |deliver, work| {
            let memory = engine::open(settings.engine, deliver);
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
        let fan_out = FanOut::new(inboxes.clone(), reads, returned.clone(), deflate);
        let broker = engine(fan_out.clone(), &mut work);
        let follows = Arc::new(Follows::new(broker.clone(), fan_out.reads.clone()));
        let audit = Audit { broker: broker.clone(), follows: follows.clone(), inboxes, returned };
        work.spawn(audit.work());
        Arc::new(Self {
            node: fastrand::u32(..),
            follows,
            broker,
            fan_out,
            directory: Arc::default(),
            checkpoints: Arc::default(),
            ledger,
            subscriptions: AtomicU32::default(),
            _work: work,
        })
    }

    /// Takes a draft. An answer means the engine acknowledged it.
    pub async fn publish(&self, draft: Draft, retention: Retention) -> Result<Receipt, Error> {
        self.broker.publish(draft, retention).await
    }

    /// The same, and counts what becomes of it on this node.
    pub async fn publish_counted(&self, draft: Draft, retention: Retention) -> Result<Published, Error> {
        let delivery = self.fan_out.count(&draft);
        let receipt = self.broker.publish(draft, retention).await?;
        let delivery = (!receipt.duplicate).then_some(delivery);
        Ok(Published { receipt, delivery })
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
