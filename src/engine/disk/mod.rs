//! A journal under the memory engine, for a single node that must survive a restart. Reads are the memory's; what is
//! published goes through one writer, which stores it before anybody sees it, so that no client can ever hold a position
//! that the store does not have. At the start everything is read back.

mod folder;
mod health;
mod queue;
mod restore;
mod tables;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{BoxFuture, Broker, Deliver, Erased, Error, Memory, Metrics, Page, Receipt, Settings};
use crate::channel::{ChannelName, Draft, Position, Retention};
use crate::records::{Records, Shelf};
pub use folder::OpenError;
use health::Health;
use queue::{Order, Queue, Waiting};
pub use restore::Store;
use writer::Writer;

/// Where a node's data lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    pub path: PathBuf,
    pub fsync: Fsync,
}

impl Data {
    /// Whether the folder could be used, without making or opening anything.
    pub fn check(&self) -> Result<(), OpenError> {
        folder::check(&self.path)
    }
}

/// When what was written is made safe from a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Every second. A receipt says `written`.
    EachSecond,
    /// Before a publication is delivered and acknowledged. A receipt says `fsync`.
    Always,
}

impl Fsync {
    fn word(self) -> &'static str {
        match self {
            Self::EachSecond => "written",
            Self::Always => "fsync",
        }
    }
}

/// Drafts of one channel that share a commit.
const TOGETHER: usize = 256;
/// The end of a process waits no longer than this for its last words to be written.
const CLOSED_WITHIN: Duration = Duration::from_secs(20);

/// Records by shelf, in the order of their keys.
type Shelves = HashMap<Shelf, Vec<(String, Vec<u8>)>>;

/// The memory engine over a data folder.
pub struct Disk {
    memory: Arc<Memory>,
    queue: Arc<Queue>,
    health: Arc<Health>,
    /// What an earlier process left behind, until its owner asks for it.
    left_behind: Mutex<Shelves>,
}

impl Disk {
    /// Goes on from what the store holds.
    pub fn start(
        store: Store,
        settings: Settings,
        metrics: Metrics,
        deliver: Arc<dyn Deliver>,
    ) -> Result<Arc<Self>, OpenError> {
        let path = store.folder.path().to_owned();
        let unusable = |error| OpenError::Unusable { path: path.clone(), error };
        let queue = Arc::new(Queue::default());
        let memory = Memory::new(settings, deliver).counting(metrics.clone());
        let memory = Arc::new(memory.restored(store.logs, store.next_channel, queue.clone()));
        let health = Arc::new(Health::default());
        if store.fsync == Fsync::EachSecond {
            let log = std::fs::File::open(store.folder.log()).map_err(unusable)?;
            let (queue, health) = (queue.clone(), health.clone());
            thread("outrigger-sync", move || health::sync_each_second(&log, &health, &queue)).map_err(unusable)?;
        }
        let writer = Writer {
            queue: queue.clone(),
            memory: memory.clone(),
            folder: store.folder,
            tables: store.tables,
            fsync: store.fsync,
            metrics,
            health: health.clone(),
            owed: store.owed,
            retry_at: None,
            is_unmarked: store.is_unmarked,
            tidied_at: 0,
            looked_at: None,
        };
        thread("outrigger-store", move || writer.work()).map_err(unusable)?;
        Ok(Arc::new(Self { memory, queue, health, left_behind: Mutex::new(store.records) }))
    }

    /// Drops what has outlived its time, for ever.
    pub fn sweep(&self) -> impl Future<Output = ()> + Send + use<> {
        self.memory.clone().sweep()
    }

    /// Writes what is left and marks the folder as left clean. Nothing is taken from here on.
    pub async fn close(&self) -> bool {
        let is_clean = self.answered(Order::Close).await;
        self.queue.close();
        is_clean
    }

    /// One order, so that all of them are taken or none.
    async fn publish_together(&self, drafts: Vec<Draft>, retention: Retention) -> Vec<Result<Receipt, Error>> {
        let count = drafts.len();
        let refused = || vec![Err(Error::Storage); count];
        self.memory.room().await;
        let Some(room) = self.queue.room(&drafts).await else { return refused() };
        let at = Instant::now();
        let (waiting, answers): (Vec<_>, Vec<_>) = drafts
            .into_iter()
            .map(|draft| {
                let (answer, answered) = oneshot::channel();
                (Waiting { draft, retention, at, answer }, answered)
            })
            .unzip();
        if !self.queue.push(Order::Publish { drafts: waiting, room }) {
            return refused();
        }
        let mut outcomes = Vec::with_capacity(count);
        for answered in answers {
            // Without an answer the writer ended in the middle of it.
            outcomes.push(answered.await.unwrap_or(Err(Error::Unknown)));
        }
        outcomes
    }

    async fn answered(&self, order: impl FnOnce(oneshot::Sender<bool>) -> Order) -> bool {
        let (answer, answered) = oneshot::channel();
        if !self.queue.push(order(answer)) {
            return false;
        }
        matches!(tokio::time::timeout(CLOSED_WITHIN, answered).await, Ok(Ok(true)))
    }

    async fn stored(&self) -> Result<(), Error> {
        if self.answered(Order::Settle).await { Ok(()) } else { Err(Error::Storage) }
    }
}

/// Ends by itself once the queue is closed.
fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Broker for Disk {
    fn publish(&self, draft: Draft, retention: Retention) -> BoxFuture<'_, Result<Receipt, Error>> {
        Box::pin(async move {
            let mut outcomes = self.publish_together(vec![draft], retention).await;
            outcomes.pop().unwrap_or(Err(Error::Storage))
        })
    }

    fn publish_all(&self, drafts: Vec<Draft>, retention: Retention) -> BoxFuture<'_, Vec<Result<Receipt, Error>>> {
        Box::pin(self.publish_together(drafts, retention))
    }

    /// They share a commit, and with `fsync: always` the wait for the disk.
    fn at_once(&self) -> usize {
        TOGETHER
    }

    fn follow(&self, channel: &ChannelName) -> BoxFuture<'_, Result<(), Error>> {
        self.memory.follow(channel)
    }

    fn unfollow(&self, channel: &ChannelName) {
        self.memory.unfollow(channel);
    }

    fn history(
        &self,
        channel: &ChannelName,
        since: Option<Position>,
        limit: usize,
        retention: Retention,
    ) -> BoxFuture<'_, Result<Page, Error>> {
        self.memory.history(channel, since, limit, retention)
    }

    fn heads<'a>(&'a self, channels: &'a [ChannelName]) -> BoxFuture<'a, Result<Vec<Position>, Error>> {
        self.memory.heads(channels)
    }

    fn delete_history(&self, channel: &ChannelName) -> BoxFuture<'_, Result<(), Error>> {
        let channel = channel.clone();
        Box::pin(async move {
            // What is on its way is deleted too.
            self.stored().await?;
            self.memory.delete_history(&channel).await?;
            self.stored().await
        })
    }

    fn erase(&self, user: &str) -> BoxFuture<'_, Result<Erased, Error>> {
        let user = user.to_owned();
        Box::pin(async move {
            self.stored().await?;
            let erased = self.memory.erase(&user).await?;
            if self.answered(Order::Purge).await { Ok(erased) } else { Err(Error::Storage) }
        })
    }

    fn is_available(&self) -> bool {
        self.health.is_sound()
    }

    fn channels(&self, prefix: &str, limit: usize) -> BoxFuture<'_, Result<Vec<ChannelName>, Error>> {
        self.memory.channels(prefix, limit)
    }
}

impl Records for Disk {
    fn is_lasting(&self) -> bool {
        true
    }

    fn put(&self, shelf: Shelf, key: &str, value: Vec<u8>) {
        self.queue.record(shelf, key, Some(value));
    }

    fn remove(&self, shelf: Shelf, key: &str) {
        self.queue.record(shelf, key, None);
    }

    /// Answers once: after that the owner has them.
    fn all(&self, shelf: Shelf) -> Vec<(String, Vec<u8>)> {
        self.left_behind.lock().expect("nothing panics under this lock").remove(&shelf).unwrap_or_default()
    }

    fn settled(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(self.answered(Order::Settle))
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("memory", &self.memory).finish_non_exhaustive()
    }
}
