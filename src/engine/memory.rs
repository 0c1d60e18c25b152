//! The reference engine: everything in this process, gone with it unless a journal hears of it. One short lock per
//! channel's shard makes store, number and deliver one step, so every subscriber sees one order.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::changes::{Change, Changes, Journal};
use super::ids::Ids;
use super::log::{Log, Terms};
use super::{BoxFuture, Broker, Deliver, Erased, Error, Metrics, Page, Receipt, Settings};
use crate::channel::{ChannelName, Draft, Position, Publication, Retention};

/// More locks than any machine has cores that publish at once.
pub(super) const SHARDS: usize = 64;
/// How often one shard is looked through for what has expired; all of them take `SHARDS` times as long.
const SWEEP: Duration = Duration::from_secs(1);

/// All channels of a node that stands alone.
pub struct Memory {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    deliver: Arc<dyn Deliver>,
    settings: Settings,
    metrics: Metrics,
    ids: Ids,
    journal: Option<Arc<dyn Journal>>,
    /// What the journal calls the next channel.
    next_channel: AtomicI64,
}

type Shard = HashMap<ChannelName, Log>;

/// What becomes of a draft on its way to a store.
pub(super) enum Numbered {
    /// A repetition of what is stored.
    Known(Receipt),
    /// A repetition of what is on its way there itself.
    Again(Receipt),
    /// With the number its channel has in the store.
    New { publication: Arc<Publication>, channel: i64 },
}

impl Memory {
    pub fn new(settings: Settings, deliver: Arc<dyn Deliver>) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            deliver,
            ids: Ids::new(settings.idempotency_ids, SHARDS),
            settings,
            metrics: Metrics::default(),
            journal: None,
            next_channel: AtomicI64::new(1),
        }
    }

    pub fn counting(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// With what a store remembers, and from now on telling it what changes.
    pub(super) fn restored(self, logs: Vec<Log>, next_channel: i64, journal: Arc<dyn Journal>) -> Self {
        let now = Instant::now();
        let memory = Self { journal: Some(journal), next_channel: AtomicI64::new(next_channel), ..self };
        for mut log in logs {
            let name = log.name().clone();
            let (mut shard, mut changes) = memory.enter(&name);
            changes.ids_new = log.ids_given().count();
            log.expire(now, memory.settings.idempotency, &mut changes);
            memory.tell(changes);
            shard.insert(name, log);
        }
        memory
    }

    /// Drops what has outlived its time, one shard after the other, for ever. The owner aborts it.
    pub async fn sweep(self: Arc<Self>) {
        let mut every = tokio::time::interval(SWEEP);
        for at in (0..SHARDS).cycle() {
            every.tick().await;
            self.sweep_shard(at, Instant::now());
        }
    }

    pub(super) fn sweep_shard(&self, at: usize, now: Instant) {
        let Settings { positions, idempotency, .. } = self.settings;
        let mut changes = Changes::of(at);
        let mut shard = lock(&self.shards[at]);
        shard.retain(|_, log| {
            log.expire(now, idempotency, &mut changes);
            let stays = !log.may_be_forgotten() || now.saturating_duration_since(log.used) < positions;
            if !stays {
                log.forget(&mut changes);
            }
            stays
        });
        shard.shrink_to_fit();
        self.tell(changes);
    }

    /// As if it had been too old.
    #[cfg(test)]
    pub fn forget(&self, channel: &ChannelName) {
        self.enter(channel).0.remove(channel);
    }

    /// The channel's shard, and where what changes there is noted.
    fn enter(&self, channel: &ChannelName) -> (MutexGuard<'_, Shard>, Changes) {
        let hash = self.hasher.hash_one(channel);
        let at = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
        (lock(&self.shards[at]), Changes::of(at))
    }

    /// The channel's log, made on first use. Where a shard is full, the eighth of it that was used longest ago goes.
    fn log<'a>(&self, shard: &'a mut Shard, channel: &ChannelName, now: Instant, changes: &mut Changes) -> &'a mut Log {
        let most = self.settings.channels.div_ceil(SHARDS);
        if shard.len() >= most && !shard.contains_key(channel) {
            forget_oldest(shard, (most / 8).max(1), changes);
        }
        let log = shard.entry(channel.clone()).or_insert_with(|| {
            let number = self.journal.as_ref().map_or(0, |_| self.next_channel.fetch_add(1, Ordering::Relaxed));
            let log = Log::new(channel.clone(), number, now);
            if number != 0 {
                changes.list.push(Change::Channel(log.row()));
            }
            log
        });
        log.used = now;
        log
    }

    /// Under the shard's lock, so that the journal hears of a channel's changes in their order.
    fn tell(&self, changes: Changes) {
        self.ids.count(changes.shard, changes.ids_new, changes.ids_gone);
        if let Some(journal) = self.journal.as_ref().filter(|_| !changes.list.is_empty()) {
            journal.changed(changes.list);
        }
    }

    /// Where there are too many ids, the eighth of the fullest shard's that was given longest ago goes. Under no lock.
    fn forget_ids(&self) {
        while self.ids.are_too_many() {
            let at = self.ids.fullest();
            let mut changes = Changes::of(at);
            let mut shard = lock(&self.shards[at]);
            let forgotten = forget_oldest_ids(&mut shard, &mut changes);
            self.tell(changes);
            self.metrics.ids_forgotten.inc_by(forgotten as u64);
            if forgotten == 0 {
                return;
            }
        }
    }

    fn publish_now(&self, draft: Draft, retention: Retention) -> Receipt {
        let now = Instant::now();
        let (mut shard, mut changes) = self.enter(&draft.channel);
        let log = self.log(&mut shard, &draft.channel, now, &mut changes);
        log.expire(now, self.settings.idempotency, &mut changes);
        let id = draft.id.clone();
        let receipt = if let Some((position, _)) = log.find(&id) {
            Receipt { position, id, duplicate: true, durable: "memory" }
        } else {
            let is_idempotent = draft.is_idempotent;
            let publication = Arc::new(log.next(draft));
            log.take(&publication, Terms { retention, is_idempotent, at: now, row: 0 }, &mut changes);
            let position = publication.position();
            // Under the lock: the next number is not given before this one is on its way.
            self.deliver.publication(publication);
            Receipt { position, id, duplicate: false, durable: "memory" }
        };
        self.tell(changes);
        drop(shard);
        self.forget_ids();
        receipt
    }

    #[cfg(test)]
    pub(super) fn ids(&self) -> usize {
        self.ids.total()
    }

    pub(super) async fn room(&self) {
        self.deliver.room().await;
    }

    /// Numbers a draft for a store. Nobody sees the publication before [`Memory::take`]; [`Memory::fall_back`] takes the
    /// number back. Only one task may do this.
    pub(super) fn number(&self, draft: Draft, retention: Retention, now: Instant) -> Numbered {
        let (mut shard, mut changes) = self.enter(&draft.channel);
        let log = self.log(&mut shard, &draft.channel, now, &mut changes);
        // Before the publication: a store that knew it alone would trim it by what was kept before.
        log.keeps(retention, &mut changes);
        log.expire(now, self.settings.idempotency, &mut changes);
        let numbered = match log.find(&draft.id) {
            Some((position, is_waiting)) => {
                let receipt = Receipt { position, id: draft.id, duplicate: true, durable: "memory" };
                if is_waiting { Numbered::Again(receipt) } else { Numbered::Known(receipt) }
            }
            None => {
                let is_idempotent = draft.is_idempotent;
                let publication = log.next(draft);
                log.goes_ahead(&publication, is_idempotent);
                Numbered::New { publication: Arc::new(publication), channel: log.number() }
            }
        };
        self.tell(changes);
        numbered
    }

    /// The store has it: from here on it is history, and delivered.
    pub(super) fn take(&self, publication: Arc<Publication>, terms: Terms) {
        let (mut shard, mut changes) = self.enter(&publication.channel);
        let log = self.log(&mut shard, &publication.channel, terms.at, &mut changes);
        log.take(&publication, terms, &mut changes);
        self.deliver.publication(publication);
        self.tell(changes);
        drop(shard);
        self.forget_ids();
    }

    /// The store did not take what was numbered last in this channel.
    pub(super) fn fall_back(&self, channel: &ChannelName) {
        if let Some(log) = self.enter(channel).0.get_mut(channel) {
            log.fall_back();
        }
    }

    fn read(&self, channel: &ChannelName, since: Option<Position>, limit: usize, retention: Retention) -> Page {
        let now = Instant::now();
        let (mut shard, mut changes) = self.enter(channel);
        let log = self.log(&mut shard, channel, now, &mut changes);
        log.keeps(retention, &mut changes);
        log.expire(now, self.settings.idempotency, &mut changes);
        self.tell(changes);
        let head = log.position();
        let Some(since) = since else {
            let newest = log.kept.len().saturating_sub(limit);
            let publications = log.kept.iter().skip(newest).map(|it| it.publication.clone()).collect();
            return Page { publications, head, unbroken: true };
        };
        if !log.continues(&since) {
            return Page { publications: Vec::new(), head, unbroken: false };
        }
        let after = log.kept.iter().map(|it| &it.publication).skip_while(|it| it.seq <= since.seq);
        Page { publications: after.take(limit).cloned().collect(), head, unbroken: true }
    }

    fn erase_now(&self, user: &str) -> Erased {
        let mut erased = Erased::default();
        for (at, shard) in self.shards.iter().enumerate() {
            let mut changes = Changes::of(at);
            let mut shard = lock(shard);
            for log in shard.values_mut() {
                let count = log.erase(user, &mut changes);
                erased.publications += count;
                erased.channels += usize::from(count > 0);
            }
            self.tell(changes);
        }
        erased
    }
}

fn forget_oldest(shard: &mut Shard, count: usize, changes: &mut Changes) {
    let mut ages: Vec<Instant> = shard.values().filter(|log| log.may_be_forgotten()).map(|log| log.used).collect();
    let Some(at) = count.min(ages.len()).checked_sub(1) else { return };
    let (_, newest_to_go, _) = ages.select_nth_unstable(at);
    let newest_to_go = *newest_to_go;
    let mut left = count;
    shard.retain(|_, log| {
        let goes = left > 0 && log.may_be_forgotten() && log.used <= newest_to_go;
        left -= usize::from(goes);
        if goes {
            log.forget(changes);
        }
        !goes
    });
}

/// Many at once, so that looking for the oldest is paid for once in a while. Answers how many went.
fn forget_oldest_ids(shard: &mut Shard, changes: &mut Changes) -> usize {
    let mut given: Vec<Instant> = shard.values().flat_map(Log::ids_given).collect();
    let count = given.len().div_ceil(8);
    let Some(at) = count.checked_sub(1) else { return 0 };
    let (_, newest_to_go, _) = given.select_nth_unstable(at);
    let newest_to_go = *newest_to_go;
    let mut left = count;
    for log in shard.values_mut() {
        left -= log.forget_ids_until(newest_to_go, left, changes);
    }
    count - left
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics under an engine lock")
}

impl Broker for Memory {
    fn publish(&self, draft: Draft, retention: Retention) -> BoxFuture<'_, Result<Receipt, Error>> {
        Box::pin(async move {
            self.deliver.room().await;
            Ok(self.publish_now(draft, retention))
        })
    }

    /// Every publication of this process is delivered here anyway; it is only kept from being forgotten.
    fn follow(&self, channel: &ChannelName) -> BoxFuture<'_, Result<(), Error>> {
        let (mut shard, mut changes) = self.enter(channel);
        self.log(&mut shard, channel, Instant::now(), &mut changes).is_followed = true;
        self.tell(changes);
        Box::pin(std::future::ready(Ok(())))
    }

    fn unfollow(&self, channel: &ChannelName) {
        if let Some(log) = self.enter(channel).0.get_mut(channel) {
            log.is_followed = false;
            log.used = Instant::now();
        }
    }

    fn history(
        &self,
        channel: &ChannelName,
        since: Option<Position>,
        limit: usize,
        retention: Retention,
    ) -> BoxFuture<'_, Result<Page, Error>> {
        Box::pin(std::future::ready(Ok(self.read(channel, since, limit, retention))))
    }

    fn heads<'a>(&'a self, channels: &'a [ChannelName]) -> BoxFuture<'a, Result<Vec<Position>, Error>> {
        let head = |channel| {
            let (mut shard, mut changes) = self.enter(channel);
            let head = self.log(&mut shard, channel, Instant::now(), &mut changes).position();
            self.tell(changes);
            head
        };
        Box::pin(std::future::ready(Ok(channels.iter().map(head).collect())))
    }

    fn delete_history(&self, channel: &ChannelName) -> BoxFuture<'_, Result<(), Error>> {
        let (mut shard, mut changes) = self.enter(channel);
        if let Some(log) = shard.get_mut(channel) {
            log.forget_history(&mut changes);
        }
        self.tell(changes);
        Box::pin(std::future::ready(Ok(())))
    }

    fn erase(&self, user: &str) -> BoxFuture<'_, Result<Erased, Error>> {
        Box::pin(std::future::ready(Ok(self.erase_now(user))))
    }

    fn channels(&self, prefix: &str, limit: usize) -> BoxFuture<'_, Result<Vec<ChannelName>, Error>> {
        let mut names = Vec::new();
        for shard in &self.shards {
            names.extend(lock(shard).keys().filter(|it| it.as_str().starts_with(prefix)).cloned());
        }
        names.sort_unstable();
        names.truncate(limit);
        Box::pin(std::future::ready(Ok(names)))
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("settings", &self.settings).finish_non_exhaustive()
    }
}
