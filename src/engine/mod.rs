//! Where publications and members are kept and shared between nodes. The ports are small: a [`Broker`] takes drafts and
//! gives history, [`Presence`] knows who is where; both call back through [`Deliver`], so an engine never knows who
//! subscribes.

mod changes;
mod disk;
mod ids;
mod log;
mod members;
mod memory;
mod metrics;
pub mod redis;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::channel::{Change, ChannelName, ConnectionId, Draft, Member, Position, Publication, Retention};
pub use disk::{Data, Disk, Fsync, OpenError, Store};
pub use members::MemoryPresence;
pub use memory::Memory;
pub use metrics::Metrics;
pub use redis::Redis;

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What an engine is opened with.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long an idle channel's position is remembered.
    pub positions: Duration,
    /// How many channels are remembered, oldest forgotten first.
    pub channels: usize,
    /// How long a repeated publication id is recognised.
    pub idempotency: Duration,
    /// How many ids are recognised at most, oldest forgotten first.
    pub idempotency_ids: usize,
}

/// Takes publications: stores and numbers each in one step.
pub trait Broker: Send + Sync {
    /// Stores, numbers and delivers. A repeated id answers the first receipt and delivers nothing.
    fn publish(&self, draft: Draft, retention: Retention) -> BoxFuture<'_, Result<Receipt, Error>>;

    /// Several of one channel in their order, up to the first that is not taken.
    fn publish_all(&self, drafts: Vec<Draft>, retention: Retention) -> BoxFuture<'_, Vec<Result<Receipt, Error>>> {
        Box::pin(async move {
            let mut outcomes = Vec::with_capacity(drafts.len());
            for draft in drafts {
                outcomes.push(self.publish(draft, retention).await);
                if outcomes.last().is_some_and(Result::is_err) {
                    break;
                }
            }
            outcomes
        })
    }

    /// How many it likes to be given at once: 1 where that saves nothing.
    fn at_once(&self) -> usize {
        1
    }

    /// From now on this node is delivered the channel's publications.
    fn follow(&self, channel: &ChannelName) -> BoxFuture<'_, Result<(), Error>>;

    /// The node no longer needs them.
    fn unfollow(&self, channel: &ChannelName);

    /// What came after a position. Without one, the newest `limit`.
    fn history(
        &self,
        channel: &ChannelName,
        since: Option<Position>,
        limit: usize,
        retention: Retention,
    ) -> BoxFuture<'_, Result<Page, Error>>;

    /// Where channels that are followed stand, in the order they are named.
    fn heads<'a>(&'a self, channels: &'a [ChannelName]) -> BoxFuture<'a, Result<Vec<Position>, Error>>;

    /// Forgets the stored publications; the numbers go on.
    fn delete_history(&self, channel: &ChannelName) -> BoxFuture<'_, Result<(), Error>>;

    /// Takes a user's stored publications out of the histories, those they published and those about them: what is left is
    /// their numbers.
    fn erase(&self, user: &str) -> BoxFuture<'_, Result<Erased, Error>>;

    /// Whether drafts can be taken just now.
    fn is_available(&self) -> bool {
        true
    }

    /// Who is where, for an engine that nodes share; without one a node knows its own members alone.
    fn presence(&self) -> Option<Arc<dyn Presence>> {
        None
    }

    /// Whether other nodes may be there.
    fn is_shared(&self) -> bool {
        false
    }

    /// Says something to every other node: what is `lasting` also to those that are cut off, when they return, and to those
    /// that start within a day; anything else at most once.
    fn announce(&self, _notice: Bytes, _is_lasting: bool) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// The channels remembered whose names start with `prefix`, at most `limit`.
    fn channels(&self, prefix: &str, limit: usize) -> BoxFuture<'_, Result<Vec<ChannelName>, Error>>;
}

/// Knows who is in a channel: users, from their first connection to their last, wherever those are.
///
/// A member is there on the lease of the node that joined it. An engine shared by nodes keeps one leased record per node
/// *incarnation* (a node that restarts is another), on the engine's own clock, and a node renews that record alone, not one
/// per member. Members whose node's lease ran out are gone: `members` leaves them out at once, and whichever node finds them
/// takes them away, which tells `left`. So a node killed by SIGKILL leaves no ghosts past its lease. For the memory engine
/// the process is the lease.
///
/// The calls of one node take effect in the order in which their futures are first polled, so that a connection that
/// leaves and comes back is there.
pub trait Presence: Send + Sync {
    /// A connection of a user is there. Repeating it changes nothing but the info, of which the newest counts.
    fn join(&self, channel: &ChannelName, connection: ConnectionId, member: Member)
    -> BoxFuture<'_, Result<(), Error>>;

    /// It no longer is. One that never was changes nothing.
    fn leave(&self, channel: &ChannelName, connection: ConnectionId) -> BoxFuture<'_, Result<(), Error>>;

    /// Who is there: at most `limit`, in order of their ids, and how many in all.
    fn members(&self, channel: &ChannelName, limit: usize) -> BoxFuture<'_, Result<Members, Error>>;
}

/// What an engine calls on its node: in order per channel, never blocking. What is only for [`Presence`] may be left out by
/// whoever hears publications alone.
pub trait Deliver: Send + Sync {
    /// Resolves once there is room; awaited before reading a link further or taking a draft.
    fn room(&self) -> BoxFuture<'_, ()>;
    fn publication(&self, publication: Arc<Publication>);
    /// Publications of a followed channel were lost to this node; it goes on from here. Told in its place among them.
    fn gap(&self, _channel: &ChannelName, _from: Position, _why: Gap) {}
    /// The engine went out of reach, or is back.
    fn reach(&self, _is_in_reach: bool) {}
    /// Another node announced something.
    fn control(&self, _notice: Bytes) {}
    /// A user came to a channel that this node follows, or has other info now. `members` are there after it.
    fn joined(&self, _channel: &ChannelName, _member: Arc<Member>, _members: usize) {}
    /// A user's last connection left a channel that this node follows, or its lease ran out.
    fn left(&self, _channel: &ChannelName, _member: Arc<Member>, _members: usize) {}
    /// What this node caused, followed or not, in the order in which it took effect: of all nodes exactly one hears it.
    fn caused(&self, _change: Change) {}
    /// The link is back after it was lost: what was published meanwhile may not have been delivered.
    fn returned(&self) {}
}

/// Why publications were lost to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// The link to the engine failed, and the engine does not keep them.
    Engine,
    /// The engine lost its past.
    Epoch,
}

impl Gap {
    pub fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Epoch => "epoch",
        }
    }
}

/// The engine's word that it took a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub position: Position,
    /// The publication's id: the draft's, or the one that was made for it.
    pub id: Arc<str>,
    pub duplicate: bool,
    /// How safe it is: `memory`, `written` (the operating system has it), `fsync` or `engine`.
    pub durable: &'static str,
}

/// What an erasure came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    pub publications: usize,
    pub channels: usize,
}

/// A stretch of history, in order.
#[derive(Clone, Debug)]
pub struct Page {
    pub publications: Vec<Arc<Publication>>,
    /// Where the channel stood when this was read.
    pub head: Position,
    /// Whether nothing is missing between the position asked for and the first publication here.
    pub unbroken: bool,
}

/// Who is in a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Perhaps not all of them.
    pub members: Vec<Arc<Member>>,
    pub total: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing was taken.
    #[error("the engine is out of reach")]
    Unavailable,
    /// Nothing was taken, nor will be before the data folder can be written again.
    #[error("the data folder is full or failing; nothing was taken")]
    Storage,
    /// It may or may not have been taken.
    #[error("the engine did not answer in time")]
    Unknown,
}
