//! The reference engine: everything in this process, gone with it. One short lock per channel's shard makes store,
//! number and deliver one step, so every subscriber sees one order.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::{BoxFuture, Broker, Deliver, Error, Page, Receipt, Settings};
use crate::channel::{ChannelName, Draft, Epoch, Position, Publication, Retention};

/// More locks than any machine has cores that publish at once.
const SHARDS: usize = 64;
/// How often one shard is looked through for what has expired; all of them take `SHARDS` times as long.
const SWEEP: Duration = Duration::from_secs(1);

/// All channels of a node that stands alone.
pub struct Memory {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    deliver: Arc<dyn Deliver>,
    settings: Settings,
}

type Shard = HashMap<ChannelName, Log>;

/// What is known of one channel.
struct Log {
    epoch: Epoch,
    head: u64,
    last_id: Option<Arc<str>>,
    kept: VecDeque<Kept>,
    /// The id of the publication before the first one kept: whoever has that one misses nothing.
    let_go: Option<Arc<str>>,
    retention: Retention,
    /// Ids given by publishers, oldest first, for as long as a repetition is recognised.
    given: VecDeque<(Instant, Arc<str>)>,
    taken: HashMap<Arc<str>, u64>,
    used: Instant,
    /// This node's clients follow it: its numbering must not begin anew under them.
    is_followed: bool,
}

struct Kept {
    publication: Arc<Publication>,
    at: Instant,
}

impl Memory {
    pub fn new(settings: Settings, deliver: Arc<dyn Deliver>) -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new(), deliver, settings }
    }

    /// Drops what has outlived its time, one shard after the other, for ever. The owner aborts it.
    pub async fn sweep(self: Arc<Self>) {
        let mut every = tokio::time::interval(SWEEP);
        for at in (0..SHARDS).cycle() {
            every.tick().await;
            self.sweep_shard(at, Instant::now());
        }
    }

    fn sweep_shard(&self, at: usize, now: Instant) {
        let positions = self.settings.positions;
        let mut shard = lock(&self.shards[at]);
        shard.retain(|_, log| {
            log.expire(now, self.settings.idempotency);
            log.is_followed || now.duration_since(log.used) < positions
        });
        shard.shrink_to_fit();
    }

    /// As if it had been too old.
    #[cfg(test)]
    pub fn forget(&self, channel: &ChannelName) {
        self.shard(channel).remove(channel);
    }

    fn shard(&self, channel: &ChannelName) -> MutexGuard<'_, Shard> {
        let hash = self.hasher.hash_one(channel);
        lock(&self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or(0)])
    }

    /// The channel's log, made on first use. Where a shard is full, the eighth of it that was used longest ago goes.
    fn log<'a>(&self, shard: &'a mut Shard, channel: &ChannelName, now: Instant) -> &'a mut Log {
        let most = self.settings.channels.div_ceil(SHARDS);
        if shard.len() >= most && !shard.contains_key(channel) {
            forget_oldest(shard, (most / 8).max(1));
        }
        let log = shard.entry(channel.clone()).or_insert_with(|| Log::new(now));
        log.used = now;
        log
    }

    fn publish_now(&self, draft: Draft, retention: Retention) -> Receipt {
        let now = Instant::now();
        let mut shard = self.shard(&draft.channel);
        let log = self.log(&mut shard, &draft.channel, now);
        log.expire(now, self.settings.idempotency);
        if let Some((id, seq)) = log.taken.get_key_value(&draft.id) {
            let position = Position { epoch: log.epoch, seq: *seq, id: Some(id.clone()) };
            return Receipt { position, id: id.clone(), duplicate: true, durable: "memory" };
        }
        let id = draft.id;
        log.head += 1;
        log.last_id = Some(id.clone());
        if draft.is_idempotent {
            log.given.push_back((now, id.clone()));
            log.taken.insert(id.clone(), log.head);
        }
        let publication = Arc::new(Publication {
            channel: draft.channel,
            epoch: log.epoch,
            seq: log.head,
            prev: None,
            id: id.clone(),
            event: draft.event,
            user: draft.user,
            subject: draft.subject,
            data: draft.data,
            timestamp: crate::channel::now(),
            exclude: draft.exclude,
        });
        log.keep(&publication, retention, now);
        let position = publication.position();
        // Under the lock: the next number is not given before this one is on its way.
        self.deliver.publication(publication);
        Receipt { position, id, duplicate: false, durable: "memory" }
    }

    fn read(&self, channel: &ChannelName, since: Option<Position>, limit: usize, retention: Retention) -> Page {
        let now = Instant::now();
        let mut shard = self.shard(channel);
        let log = self.log(&mut shard, channel, now);
        // A rule that keeps less than before is obeyed at once.
        log.retention = retention;
        log.expire(now, self.settings.idempotency);
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
}

impl Log {
    fn new(now: Instant) -> Self {
        Self {
            // Never 0: that stands for an epoch nobody gave.
            epoch: Epoch(fastrand::u64(1..)),
            head: 0,
            last_id: None,
            kept: VecDeque::new(),
            let_go: None,
            retention: Retention::NONE,
            given: VecDeque::new(),
            taken: HashMap::new(),
            used: now,
            is_followed: false,
        }
    }

    fn position(&self) -> Position {
        Position { epoch: self.epoch, seq: self.head, id: self.last_id.clone() }
    }

    fn keep(&mut self, publication: &Arc<Publication>, retention: Retention, now: Instant) {
        self.retention = retention;
        if retention.size > 0 {
            self.kept.push_back(Kept { publication: publication.clone(), at: now });
        } else {
            self.let_go = Some(publication.id.clone());
        }
        self.trim();
    }

    fn trim(&mut self) {
        while self.kept.len() > self.retention.size {
            self.let_go_first();
        }
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
    }

    fn let_go_first(&mut self) {
        self.let_go = self.kept.pop_front().map(|it| it.publication.id.clone());
    }

    fn expire(&mut self, now: Instant, idempotency: Duration) {
        let ttl = self.retention.ttl;
        while self.kept.front().is_some_and(|it| now.duration_since(it.at) >= ttl) {
            self.let_go_first();
        }
        self.trim();
        while let Some((_, id)) = self.given.pop_front_if(|(at, _)| now.duration_since(*at) >= idempotency) {
            self.taken.remove(&id);
        }
    }

    /// Whether everything after `since` is still here, and `since` itself is of this log's past.
    fn continues(&self, since: &Position) -> bool {
        if since.epoch != self.epoch || since.seq > self.head {
            return false;
        }
        let first_kept = self.kept.front().map_or(self.head + 1, |it| it.publication.seq);
        if since.seq + 1 < first_kept {
            return false;
        }
        let named = match since.seq {
            it if it == self.head => self.last_id.as_ref(),
            it if it + 1 == first_kept => self.let_go.as_ref(),
            _ => self.kept.iter().map(|it| &it.publication).find(|it| it.seq == since.seq).map(|it| &it.id),
        };
        match (&since.id, named) {
            (Some(theirs), Some(ours)) => theirs == ours,
            _ => true,
        }
    }
}

fn forget_oldest(shard: &mut Shard, count: usize) {
    let mut ages: Vec<Instant> = shard.values().filter(|log| !log.is_followed).map(|log| log.used).collect();
    let Some(at) = count.min(ages.len()).checked_sub(1) else { return };
    let (_, newest_to_go, _) = ages.select_nth_unstable(at);
    let newest_to_go = *newest_to_go;
    let mut left = count;
    shard.retain(|_, log| {
        let goes = left > 0 && !log.is_followed && log.used <= newest_to_go;
        left -= usize::from(goes);
        !goes
    });
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
        let mut shard = self.shard(channel);
        self.log(&mut shard, channel, Instant::now()).is_followed = true;
        Box::pin(std::future::ready(Ok(())))
    }

    fn unfollow(&self, channel: &ChannelName) {
        if let Some(log) = self.shard(channel).get_mut(channel) {
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
            let mut shard = self.shard(channel);
            self.log(&mut shard, channel, Instant::now()).position()
        };
        Box::pin(std::future::ready(Ok(channels.iter().map(head).collect())))
    }

    fn delete_history(&self, channel: &ChannelName) -> BoxFuture<'_, Result<(), Error>> {
        if let Some(log) = self.shard(channel).get_mut(channel) {
            log.kept = VecDeque::new();
            log.let_go = log.last_id.clone();
        }
        Box::pin(std::future::ready(Ok(())))
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::channel::Data;

    #[derive(Default)]
    struct Heard(Mutex<Vec<(ChannelName, u64)>>);

    impl Deliver for Heard {
        fn room(&self) -> BoxFuture<'_, ()> {
            Box::pin(std::future::ready(()))
        }
        fn publication(&self, it: Arc<Publication>) {
            self.0.lock().unwrap().push((it.channel.clone(), it.seq));
        }
    }

    const KEEP_3: Retention = Retention { size: 3, ttl: Duration::from_secs(60) };

    fn engine(channels: usize) -> (Memory, Arc<Heard>) {
        let heard = Arc::new(Heard::default());
        let settings =
            Settings { positions: Duration::from_secs(3600), channels, idempotency: Duration::from_secs(600) };
        (Memory::new(settings, heard.clone()), heard)
    }

    fn name(text: &str) -> ChannelName {
        ChannelName::parse(text).unwrap()
    }

    fn draft(channel: &str, id: Option<&str>) -> Draft {
        Draft::new(name(channel), Data::Json(Bytes::from_static(b"1")), id.map(Arc::from))
    }

    fn seqs(page: &Page) -> Vec<u64> {
        page.publications.iter().map(|it| it.seq).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn two_channels_are_numbered_each_on_its_own_and_delivered_in_order() {
        let (engine, heard) = engine(1000);
        for _ in 0..2 {
            engine.publish(draft("a", None), KEEP_3).await.unwrap();
            engine.publish(draft("b", None), KEEP_3).await.unwrap();
        }
        let expected = [("a", 1), ("b", 1), ("a", 2), ("b", 2)].map(|(channel, seq)| (name(channel), seq));
        assert_eq!(*heard.0.lock().unwrap(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_repeated_id_answers_the_first_receipt_and_is_not_delivered_again() {
        let (engine, heard) = engine(1000);
        let first = engine.publish(draft("a", Some("x")), KEEP_3).await.unwrap();
        engine.publish(draft("a", None), KEEP_3).await.unwrap();
        let again = engine.publish(draft("a", Some("x")), KEEP_3).await.unwrap();
        assert_eq!((again.position, again.duplicate), (first.position, true));
        assert!(!engine.publish(draft("b", Some("x")), KEEP_3).await.unwrap().duplicate, "ids are per channel");
        assert_eq!(heard.0.lock().unwrap().len(), 3);
        tokio::time::advance(Duration::from_secs(600)).await;
        assert!(!engine.publish(draft("a", Some("x")), KEEP_3).await.unwrap().duplicate, "the window is over");
    }

    #[tokio::test(start_paused = true)]
    async fn history_gives_the_whole_gap_or_says_that_it_cannot() {
        let (engine, _) = engine(1000);
        let mut last = None;
        for _ in 0..5 {
            last = Some(engine.publish(draft("a", None), KEEP_3).await.unwrap().position);
        }
        let at = |seq| Position { seq, id: None, ..last.clone().unwrap() };
        let read = async |since| engine.history(&name("a"), since, 10, KEEP_3).await.unwrap();
        let page = read(Some(at(2))).await;
        assert_eq!((seqs(&page), page.unbroken), (vec![3, 4, 5], true));
        assert!(!read(Some(at(1))).await.unbroken, "2 is gone");
        assert!(!read(Some(at(6))).await.unbroken, "beyond the head");
        assert!(!read(Some(Position { epoch: Epoch(7), ..at(4) })).await.unbroken, "another epoch");
        assert!(!read(Some(Position { id: Some("no".into()), ..at(4) })).await.unbroken, "another publication");
        assert!(read(last.clone()).await.unbroken);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!read(Some(at(4))).await.unbroken, "expired");
        assert!(read(last).await.unbroken, "who is at the head misses nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_forgotten_channel_starts_a_new_epoch() {
        let (engine, _) = engine(SHARDS);
        let first = engine.publish(draft("a", None), KEEP_3).await.unwrap().position;
        for at in 0..1000 {
            tokio::time::advance(Duration::from_millis(1)).await;
            engine.publish(draft(&format!("other.{at}"), None), KEEP_3).await.unwrap();
        }
        let page = engine.history(&name("a"), Some(first.clone()), 10, KEEP_3).await.unwrap();
        assert!(!page.unbroken);
        assert_ne!(page.head.epoch, first.epoch);
        assert!(engine.channels("", 10_000).await.unwrap().len() <= SHARDS);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_channel_is_forgotten_after_its_time() {
        let (engine, _) = engine(1000);
        let first = engine.publish(draft("a", None), KEEP_3).await.unwrap().position;
        tokio::time::advance(Duration::from_secs(3600)).await;
        (0..SHARDS).for_each(|at| engine.sweep_shard(at, Instant::now()));
        let page = engine.history(&name("a"), Some(first.clone()), 10, KEEP_3).await.unwrap();
        assert!(!page.unbroken && page.head.epoch != first.epoch);
    }
}
