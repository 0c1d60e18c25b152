//! Where publications are kept and shared between nodes. The ports are small: a [`Broker`] takes drafts and gives
//! history; it calls back through [`Deliver`], so an engine never knows who subscribes.

mod changes;
mod disk;
mod ids;
mod log;
mod memory;
mod metrics;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::channel::{ChannelName, Draft, Position, Publication, Retention};
pub use disk::{Data, Disk, Fsync, OpenError, Store};
pub use memory::Memory;
pub use metrics::Metrics;

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

    /// Forgets the stored publications; the numbers go on.
    fn delete_history(&self, channel: &ChannelName) -> BoxFuture<'_, Result<(), Error>>;

    /// Takes a user's stored publications out of the histories, those they published and those about them: what is left is
    /// their numbers.
    fn erase(&self, user: &str) -> BoxFuture<'_, Result<Erased, Error>>;

    /// Whether drafts can be taken just now.
    fn is_available(&self) -> bool {
        true
    }

    /// The channels remembered whose names start with `prefix`, at most `limit`.
    fn channels(&self, prefix: &str, limit: usize) -> BoxFuture<'_, Result<Vec<ChannelName>, Error>>;
}

/// What an engine calls on its node: in order per channel, never blocking.
pub trait Deliver: Send + Sync {
    /// Resolves once there is room; awaited before reading a link further or taking a draft.
    fn room(&self) -> BoxFuture<'_, ()>;
    fn publication(&self, publication: Arc<Publication>);
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
