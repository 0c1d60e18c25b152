//! An engine like those across a network: it answers late, delivers late and only what is followed, and can be told to lose
//! things. The publications themselves are kept by the one in memory.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::*;
use crate::engine::Memory;

pub(super) struct Unsteady {
    pub memory: Arc<Memory>,
    pub link: Arc<Link>,
    /// Reads so far, under way, and the most that were at the same time.
    pub reads: AtomicUsize,
    pub under_way: AtomicUsize,
    pub most_at_once: AtomicUsize,
    /// A history was read before its channel was followed.
    pub read_too_early: AtomicBool,
    /// How late anything may be, in milliseconds, with the dice for it.
    late: u64,
    dice: Mutex<fastrand::Rng>,
}

/// What the engine delivers through.
pub(super) struct Link {
    hub: Arc<dyn Deliver>,
    followed: Mutex<HashSet<ChannelName>>,
    /// Sees what the engine took, before anything can happen to it.
    witness: Witness,
    on_its_way: Option<mpsc::UnboundedSender<Arc<Publication>>>,
    /// Nothing is delivered, and nobody is told.
    pub swallows: AtomicBool,
}

pub(super) type Witness = Box<dyn Fn(&Arc<Publication>) + Send + Sync>;

impl Deliver for Link {
    fn room(&self) -> BoxFuture<'_, ()> {
        self.hub.room()
    }

    fn publication(&self, publication: Arc<Publication>) {
        (self.witness)(&publication);
        match &self.on_its_way {
            Some(way) => way.send(publication).unwrap(),
            None => self.arrive(publication),
        }
    }
}

impl Link {
    fn arrive(&self, publication: Arc<Publication>) {
        let is_followed = self.followed.lock().unwrap().contains(&publication.channel);
        if is_followed && !self.swallows.load(Ordering::SeqCst) {
            self.hub.publication(publication);
        }
    }

    pub fn follows(&self, channel: &ChannelName) -> bool {
        self.followed.lock().unwrap().contains(channel)
    }

    pub fn return_to_hub(&self) {
        self.hub.returned();
    }
}

/// A hub over such an engine; with `late` 0 it answers at once.
pub(super) fn unsteady(shards: usize, late: u64, seed: u64) -> (Arc<Hub>, Arc<Unsteady>) {
    unsteady_and(shards, late, seed, Box::new(|_| ()))
}

/// The same, watched.
pub(super) fn unsteady_and(shards: usize, late: u64, seed: u64, witness: Witness) -> (Arc<Hub>, Arc<Unsteady>) {
    let settings = engine::Settings {
        positions: Duration::from_secs(3600),
        channels: 100_000,
        idempotency: Duration::from_secs(600),
        idempotency_ids: 100_000,
    };
    let mut opened = None;
    let deflate = Arc::new(ArcSwap::from_pointee(Deflate::default()));
    let hub = Hub::open_over(shards, Box::new(Map::new(deflate, |it: &Deflate| it)), |hub, work| {
        let (way, mut coming) = mpsc::unbounded_channel();
        let link = Arc::new(Link {
            hub,
            followed: Mutex::default(),
            witness,
            on_its_way: (late > 0).then_some(way),
            swallows: AtomicBool::default(),
        });
        let delivering = link.clone();
        work.spawn(async move {
            let mut dice = fastrand::Rng::with_seed(seed);
            while let Some(publication) = coming.recv().await {
                // Now and then: the next ones wait behind it.
                if dice.u8(..3) == 0 {
                    tokio::time::sleep(Duration::from_millis(dice.u64(..=late))).await;
                }
                delivering.arrive(publication);
            }
        });
        let memory = Arc::new(Memory::new(settings, link.clone()));
        let engine = Arc::new(Unsteady {
            memory,
            link,
            reads: AtomicUsize::default(),
            under_way: AtomicUsize::default(),
            most_at_once: AtomicUsize::default(),
            read_too_early: AtomicBool::default(),
            late,
            dice: Mutex::new(fastrand::Rng::with_seed(!seed)),
        });
        opened = Some(engine.clone());
        engine
    });
    (hub, opened.unwrap())
}

impl Unsteady {
    async fn dawdle(&self) {
        let late = self.dice.lock().unwrap().u64(..=self.late);
        if late > 0 {
            tokio::time::sleep(Duration::from_millis(late)).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
}

impl Broker for Unsteady {
    fn publish(&self, draft: Draft, retention: Retention) -> BoxFuture<'_, Result<Receipt, Error>> {
        self.memory.publish(draft, retention)
    }

    fn follow(&self, channel: &ChannelName) -> BoxFuture<'_, Result<(), Error>> {
        let channel = channel.clone();
        Box::pin(async move {
            self.dawdle().await;
            self.link.followed.lock().unwrap().insert(channel.clone());
            self.memory.follow(&channel).await
        })
    }

    fn unfollow(&self, channel: &ChannelName) {
        self.link.followed.lock().unwrap().remove(channel);
        self.memory.unfollow(channel);
    }

    fn history(
        &self,
        channel: &ChannelName,
        since: Option<Position>,
        limit: usize,
        retention: Retention,
    ) -> BoxFuture<'_, Result<Page, Error>> {
        let channel = channel.clone();
        Box::pin(async move {
            self.reads.fetch_add(1, Ordering::SeqCst);
            self.read_too_early.fetch_or(!self.link.follows(&channel), Ordering::SeqCst);
            let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_at_once.fetch_max(under_way, Ordering::SeqCst);
            self.dawdle().await;
            let page = self.memory.history(&channel, since, limit, retention).await;
            // The answer is old by the time it arrives.
            self.dawdle().await;
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            page
        })
    }

    fn erase(&self, user: &str) -> BoxFuture<'_, Result<Erased, Error>> {
        self.memory.erase(user)
    }

    fn heads<'a>(&'a self, channels: &'a [ChannelName]) -> BoxFuture<'a, Result<Vec<Position>, Error>> {
        Box::pin(async move {
            self.dawdle().await;
            self.memory.heads(channels).await
        })
    }

    fn delete_history(&self, channel: &ChannelName) -> BoxFuture<'_, Result<(), Error>> {
        self.memory.delete_history(channel)
    }

    fn channels(&self, prefix: &str, limit: usize) -> BoxFuture<'_, Result<Vec<ChannelName>, Error>> {
        self.memory.channels(prefix, limit)
    }
}

/// A client that catches up again whenever it is told to, as a session does. It reads all it is sent.
pub(super) struct Client {
    pub pipe: Arc<Mutex<Pipe>>,
    task: tokio::task::JoinHandle<()>,
}

impl Client {
    pub async fn join(hub: &Arc<Hub>, name: &str, since: Option<Position>) -> Self {
        Self::join_by(hub, name, since, &rule(WhenSlow::Disconnect)).await
    }

    /// Joins and stays.
    pub async fn join_by(hub: &Arc<Hub>, name: &str, since: Option<Position>, rule: &Rule) -> Self {
        let pipe = Arc::new(Mutex::new(Pipe { room: usize::MAX, ..Pipe::default() }));
        let wire = ChokedWire { pipe: pipe.clone(), is_tls: false };
        let outbox = Outbox::new(hub, Format::WebSocketJson, Some(Box::new(wire)), 64 << 20);
        let subscription = join_by(hub, name, since, &outbox, rule).await;
        let (hub, driven) = (hub.clone(), outbox.clone());
        let task = tokio::spawn(async move {
            loop {
                let next = std::future::poll_fn(|cx| match driven.drive(cx) {
                    Ok(None) => Poll::Pending,
                    Ok(signal) => Poll::Ready(signal),
                    Err(_) => Poll::Ready(None),
                });
                let Some(Signal::CatchUpAgain(hole)) = next.await else { return };
                let Some(mut catch_up) = hub.catch_up_again(&subscription, *hole, KEEP) else { continue };
                loop {
                    if let Fed::Done(caught) = catch_up.feed(&hub, &driven).await {
                        subscription.go_on(caught);
                        break;
                    }
                }
            }
        });
        Self { pipe, task }
    }

    pub fn heard(&self) -> Vec<Value> {
        messages(&self.pipe.lock().unwrap().received)
    }

    /// Type and number of all it heard.
    pub fn story(&self) -> Vec<(String, u64)> {
        self.heard().iter().map(|it| (it["type"].as_str().unwrap().to_owned(), it["seq"].as_u64().unwrap())).collect()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}
