//! Reading the history for many at once. Ten thousand clients that come back to a channel want the same few stretches of
//! it: an equal read that is under way is shared, what it brought is encoded once per format and kept for a moment, and
//! only so many reads trouble the engine at a time.
//!
//! What makes a shared stretch safe is that its publications are always what follows the position that was asked for,
//! whoever asks and whenever; only its word that nothing comes after it grows old. So each stretch knows when its read
//! began and whether the channel was published to since, and [`Stretch::covers`] says for whom the word holds:
//!
//! - A client joins its shard first, and everything delivered after that is held for it.
//! - A read that began after the join has everything that was delivered before the join: engines store, then deliver.
//! - A read that began earlier has it too, if nothing was delivered since. [`Reads::heard`] is called before a publication
//!   goes to the shards: what is not marked yet when a client finds it after its join, will be held for that client.
//!
//! Whom a stretch does not cover takes its publications all the same and reads on from its end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Shared, WeakShared};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::run::{Run, runs};
use crate::channel::{ChannelName, Position, Publication, Retention};
use crate::engine::{BoxFuture, Broker, Error};
use crate::protocol::Push;
use crate::protocol::wire::Deflate;

/// Reads the engine answers at the same time.
const AT_ONCE: usize = 16;
/// An engine that takes longer is away.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// How long a stretch is kept after it was read: a storm of returning clients asks again within that.
const KEPT_FOR: Duration = Duration::from_millis(500);
/// All that is kept, in bytes of data.
const MAX_KEPT: usize = 8 * 1024 * 1024;
/// The most bytes of data in a stretch, unless its first publication alone is larger: one helping for an outbox.
const HELPING: usize = 128 * 1024;

/// What the reads of a moment are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    /// Without one, the newest.
    pub(super) since: Option<Position>,
    pub(super) limit: usize,
    pub(super) retention: Retention,
}

/// A moment in the order of joins and reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

/// A piece of history, encoded for all who read it.
pub(super) struct Stretch {
    pub(super) runs: Vec<Run>,
    /// The last publication in it.
    pub(super) end: Option<Position>,
    pub(super) head: Position,
    pub(super) unbroken: bool,
    bytes: usize,
    read: Arc<Read>,
}

/// When a stretch was read, and when its channel was last published to.
struct Read {
    /// 0 until it has begun.
    began: AtomicU64,
    heard: Arc<AtomicU64>,
}

/// All reads under way, and what the last ones brought.
pub(super) struct Reads {
    table: Mutex<Table>,
    /// How many channels the table has: mostly none, which spares publishers the lock.
    channels: AtomicUsize,
    moments: AtomicU64,
    under_way: Semaphore,
    filled: Notify,
}

#[derive(Default)]
struct Table {
    channels: HashMap<ChannelName, Known>,
    bytes: usize,
}

#[derive(Default)]
struct Known {
    heard: Arc<AtomicU64>,
    entries: HashMap<Wanted, Entry>,
}

struct Entry {
    read: Arc<Read>,
    /// While it is under way; who waits for it keeps it alive.
    pending: WeakShared<Reading>,
    done: Option<(Arc<Stretch>, Instant)>,
}

type Reading = BoxFuture<'static, Result<Arc<Stretch>, Error>>;

impl Stretch {
    /// Whether a client that joined at a moment misses nothing that came after the stretch.
    pub(super) fn covers(&self, joined: Moment) -> bool {
        self.read.covers(joined)
    }

    /// Whether the channel ended here when it was read.
    pub(super) fn reaches_head(&self) -> bool {
        self.end.as_ref().is_none_or(|end| end.epoch == self.head.epoch && end.seq >= self.head.seq)
    }

    /// Whether it is of use without its word on the head: for the publications that follow on what was asked for.
    fn leads_on(&self, wanted: &Wanted) -> bool {
        wanted.since.is_some() && self.unbroken && self.end.is_some()
    }
}

impl Read {
    fn covers(&self, joined: Moment) -> bool {
        let began = self.began.load(Ordering::SeqCst);
        began == 0 || began > joined.0 || began > self.heard.load(Ordering::SeqCst)
    }
}

impl Default for Reads {
    fn default() -> Self {
        Self {
            table: Mutex::default(),
            channels: AtomicUsize::new(0),
            moments: AtomicU64::new(1),
            under_way: Semaphore::new(AT_ONCE),
            filled: Notify::new(),
        }
    }
}

impl Reads {
    /// Now. A client takes it after its join is in its shard's queue.
    pub(super) fn moment(&self) -> Moment {
        Moment(self.moments.fetch_add(1, Ordering::SeqCst))
    }

    /// A publication of the channel is about to go to the shards.
    pub(super) fn heard(&self, channel: &ChannelName) {
        if self.channels.load(Ordering::SeqCst) == 0 {
            return;
        }
        if let Some(known) = self.lock().channels.get(channel) {
            known.heard.store(self.moment().0, Ordering::SeqCst);
        }
    }

    /// What was read is no longer what the engine has, or it was not heard what came after it.
    pub(super) fn forget(&self, channel: &ChannelName) {
        if self.channels.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut table = self.lock();
        let gone = table.channels.remove(channel).unwrap_or_default();
        table.bytes -= gone.entries.values().map(Entry::bytes).sum::<usize>();
        self.count(&table);
    }

    /// The same for every channel.
    pub(super) fn forget_all(&self) {
        let mut table = self.lock();
        *table = Table::default();
        self.count(&table);
    }

    /// Reads what a client wants that joined at a moment. With publications in it the stretch may end before what it
    /// needs; without, it covers the client.
    pub(super) async fn read(
        self: &Arc<Self>,
        broker: &Arc<dyn Broker>,
        channel: &ChannelName,
        wanted: &Wanted,
        joined: Moment,
        deflate: Deflate,
    ) -> Result<Arc<Stretch>, Error> {
        loop {
            let reading = match self.find(channel, wanted, joined) {
                Found::Stretch(stretch) => return Ok(stretch),
                Found::UnderWay(reading) => reading,
                Found::Nothing => self.begin(broker, channel, wanted, deflate),
            };
            let stretch = reading.await?;
            if stretch.covers(joined) || stretch.leads_on(wanted) {
                return Ok(stretch);
            }
        }
    }

    fn find(&self, channel: &ChannelName, wanted: &Wanted, joined: Moment) -> Found {
        let table = self.lock();
        let known = table.channels.get(channel);
        let Some(entry) = known.and_then(|it| it.entries.get(wanted)) else { return Found::Nothing };
        match &entry.done {
            Some((stretch, _)) if stretch.covers(joined) || stretch.leads_on(wanted) => Found::Stretch(stretch.clone()),
            Some(_) => Found::Nothing,
            None => entry.pending.upgrade().map_or(Found::Nothing, Found::UnderWay),
        }
    }

    /// Starts a read that others can share, in place of one that is no longer of use.
    fn begin(
        self: &Arc<Self>,
        broker: &Arc<dyn Broker>,
        channel: &ChannelName,
        wanted: &Wanted,
        deflate: Deflate,
    ) -> Shared<Reading> {
        let mut table = self.lock();
        let known = table.channels.entry(channel.clone()).or_default();
        let read = Arc::new(Read { began: AtomicU64::new(0), heard: known.heard.clone() });
        let (reads, broker, of, what, its) =
            (self.clone(), broker.clone(), channel.clone(), wanted.clone(), read.clone());
        let reading: Reading = Box::pin(async move {
            let asked = reads.ask(&*broker, &of, &what, &its, deflate);
            let answer = tokio::time::timeout(ANSWERED_WITHIN, asked).await.unwrap_or(Err(Error::Unavailable));
            reads.keep(&of, &what, &its, answer.as_ref().ok());
            answer
        });
        let reading = reading.shared();
        let pending = reading.downgrade().expect("nobody has polled it to its end yet");
        let old = known.entries.insert(wanted.clone(), Entry { read, pending, done: None });
        table.bytes -= old.as_ref().map_or(0, Entry::bytes);
        self.count(&table);
        self.filled.notify_one();
        reading
    }

    async fn ask(
        &self,
        broker: &dyn Broker,
        channel: &ChannelName,
        wanted: &Wanted,
        read: &Arc<Read>,
        deflate: Deflate,
    ) -> Result<Arc<Stretch>, Error> {
        let _place = self.under_way.acquire().await.map_err(|_| Error::Unavailable)?;
        read.began.store(self.moment().0, Ordering::SeqCst);
        let Wanted { since, limit, retention } = wanted.clone();
        let page = broker.history(channel, since, limit, retention).await?;
        let publications = helping(page.publications);
        let bytes = publications.iter().map(|it| it.data.len()).sum();
        let end = publications.last().map(|it| it.position());
        let pushes = publications.into_iter().map(|it| (Arc::new(Push::new(it, deflate)), None));
        let runs = runs(pushes.collect()).collect();
        Ok(Arc::new(Stretch { runs, end, head: page.head, unbroken: page.unbroken, bytes, read: read.clone() }))
    }

    /// Keeps what a read brought, if there is room and nobody replaced it meanwhile.
    fn keep(&self, channel: &ChannelName, wanted: &Wanted, read: &Arc<Read>, brought: Option<&Arc<Stretch>>) {
        let mut table = self.lock();
        let Table { channels, bytes } = &mut *table;
        let Some(known) = channels.get_mut(channel) else { return };
        let Some(entry) = known.entries.get_mut(wanted).filter(|it| Arc::ptr_eq(&it.read, read)) else { return };
        match brought {
            Some(stretch) if *bytes + stretch.bytes <= MAX_KEPT => {
                *bytes += stretch.bytes;
                entry.done = Some((stretch.clone(), Instant::now()));
            }
            _ => drop(known.entries.remove(wanted)),
        }
    }

    /// Lets go what was kept for its time, for ever. The hub aborts it.
    pub(super) async fn tidy(self: Arc<Self>) {
        loop {
            self.filled.notified().await;
            while self.channels.load(Ordering::SeqCst) > 0 {
                tokio::time::sleep(KEPT_FOR).await;
                self.let_go_old();
            }
        }
    }

    fn let_go_old(&self) {
        let mut table = self.lock();
        let Table { channels, bytes } = &mut *table;
        channels.retain(|_, known| {
            known.entries.retain(|_, it| {
                let stays = match &it.done {
                    Some((_, at)) => at.elapsed() < KEPT_FOR,
                    None => it.pending.upgrade().is_some(),
                };
                *bytes -= if stays { 0 } else { it.bytes() };
                stays
            });
            !known.entries.is_empty()
        });
        channels.shrink_to_fit();
        self.count(&table);
    }

    fn count(&self, table: &Table) {
        self.channels.store(table.channels.len(), Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("nothing panics under this lock")
    }
}

enum Found {
    Stretch(Arc<Stretch>),
    UnderWay(Shared<Reading>),
    Nothing,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.done.as_ref().map_or(0, |(stretch, _)| stretch.bytes)
    }
}

/// As many as fit into an outbox at once; the rest is read again when there is room.
fn helping(mut publications: Vec<Arc<Publication>>) -> Vec<Arc<Publication>> {
    let mut bytes = 0;
    let fits = |it: &&Arc<Publication>| {
        bytes += it.data.len();
        bytes <= HELPING
    };
    let count = publications.iter().take_while(fits).count().max(1);
    publications.truncate(count);
    publications
}
