//! Where publications are kept and shared between nodes. The ports are small: a [`Broker`] takes drafts and gives
//! history; it calls back through [`Deliver`], so an engine never knows who subscribes.

mod memory;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::channel::{ChannelName, Draft, Position, Publication, Retention};
pub use memory::Memory;

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
}

/// Takes publications: stores and numbers each in one step.
pub trait Broker: Send + Sync {
    /// Stores, numbers and delivers. A repeated id answers the first receipt and delivers nothing.
    fn publish(&self, draft: Draft, retention: Retention) -> BoxFuture<'_, Result<Receipt, Error>>;

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

    /// The channels remembered whose names start with `prefix`, at most `limit`.
    fn channels(&self, prefix: &str, limit: usize) -> BoxFuture<'_, Result<Vec<ChannelName>, Error>>;
}

/// What an engine calls on its node: in order per channel, never blocking.
pub trait Deliver: Send + Sync {
    /// Resolves once there is room; awaited before reading a link further or taking a draft.
    fn room(&self) -> BoxFuture<'_, ()>;
    fn publication(&self, publication: Arc<Publication>);
    /// The link is back after it was lost: what was published meanwhile may not have been delivered.
    fn returned(&self) {}
}

/// The engine's word that it took a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub position: Position,
    /// The publication's id: the draft's, or the one that was made for it.
    pub id: Arc<str>,
    pub duplicate: bool,
    /// How safe it is: `memory`, `fsync` or `engine`.
    pub durable: &'static str,
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
    /// It may or may not have been taken.
    #[error("the engine did not answer in time")]
    Unknown,
}

/// Opens the engine that delivers into this node.
pub fn open(settings: Settings, deliver: Arc<dyn Deliver>) -> Arc<Memory> {
    Arc::new(Memory::new(settings, deliver))
}
