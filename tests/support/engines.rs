//! Engines as the contract suite opens them: a node hears what its engine delivers, and can be asked what it heard.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use outrigger::channel::{
    Change, ChannelName, ConnectionId, Data, Draft, Epoch, Member, Position, Publication, Retention,
};
use outrigger::engine::redis::{Redis, Settings as RedisSettings, Shape};
use outrigger::engine::{self, BoxFuture, Broker, Deliver, Gap, Memory, MemoryPresence, Page, Presence, Receipt};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::Gate;
use super::redis_cluster::RedisCluster;
use super::service::RedisServer;
use super::soon;

pub const KEEP: Retention = Retention { size: 100, ttl: Duration::from_secs(600) };

/// What an engine under test is opened with.
pub const SETTINGS: engine::Settings = engine::Settings {
    positions: Duration::from_secs(3600),
    channels: 100_000,
    idempotency: Duration::from_secs(600),
    idempotency_ids: 100_000,
};

/// Where nodes can be opened that share one engine.
pub trait Installation: Sized {
    async fn start() -> Self;
    async fn open(&self, settings: engine::Settings) -> Node;

    async fn node(&self) -> Node {
        self.open(SETTINGS).await
    }
}

/// The reference: its nodes share nothing.
pub struct InMemory;

impl Installation for InMemory {
    async fn start() -> Self {
        Self
    }

    async fn open(&self, settings: engine::Settings) -> Node {
        let heard = Arc::new(Heard::default());
        let mut work = JoinSet::new();
        let memory = Arc::new(Memory::new(settings, heard.clone()));
        work.spawn(memory.clone().sweep());
        let presence = Arc::new(MemoryPresence::new(heard.clone()));
        Node { broker: memory, presence, heard, _work: work }
    }
}

/// One redis-server.
pub struct OnRedis {
    pub server: RedisServer,
}

impl Installation for OnRedis {
    async fn start() -> Self {
        Self { server: RedisServer::start().await }
    }

    async fn open(&self, settings: engine::Settings) -> Node {
        redis_node(&redis_at(&self.server.url()), settings).await
    }
}

/// Two servers of a Redis Cluster.
pub struct OnCluster {
    pub cluster: RedisCluster,
}

impl Installation for OnCluster {
    async fn start() -> Self {
        Self { cluster: RedisCluster::start().await }
    }

    async fn open(&self, settings: engine::Settings) -> Node {
        let redis = RedisSettings { shape: Shape::Cluster, ..redis_at(&self.cluster.servers[0].url()) };
        redis_node(&redis, settings).await
    }
}

/// Settings for a server at this URL.
pub fn redis_at(url: &str) -> RedisSettings {
    let url = outrigger::engine::redis::Url::parse(url).unwrap();
    RedisSettings {
        places: vec![url.place],
        shape: Shape::Single,
        login: url.login,
        database: url.database,
        tls: outrigger::engine::redis::trust(None).unwrap(),
        prefix: "outrigger".into(),
        connect_timeout: Duration::from_secs(2),
        timeout: Duration::from_secs(2),
        lease: Duration::from_secs(2),
    }
}

/// A node over Redis, once that is in reach.
pub async fn redis_node(redis: &RedisSettings, settings: engine::Settings) -> Node {
    let heard = Arc::new(Heard::default());
    let mut work = JoinSet::new();
    let broker = Redis::open(redis, settings, engine::Metrics::default(), heard.clone(), &mut work);
    soon("Redis is in reach", broker.reached()).await;
    let presence = broker.presence().expect("nodes share their members over Redis");
    let node = Node { broker, presence, heard, _work: work };
    node.heard.until("the engine is in reach", |it| it.contains(&Event::Reach(true))).await;
    node.heard.forget_reach();
    node
}

/// One node over an engine.
pub struct Node {
    pub broker: Arc<dyn Broker>,
    pub presence: Arc<dyn Presence>,
    pub heard: Arc<Heard>,
    _work: JoinSet<()>,
}

/// What an engine told its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Publication { channel: String, seq: u64, id: String },
    Gap { channel: String, epoch: Epoch, seq: u64, why: Gap },
    Reach(bool),
    Joined { channel: String, user: String, members: usize },
    Left { channel: String, user: String, members: usize },
    Caused(Change),
    Control(Bytes),
}

/// Keeps all of it.
#[derive(Default)]
pub struct Heard {
    events: Mutex<Vec<Event>>,
    publications: Mutex<Vec<Arc<Publication>>>,
    changed: Notify,
    gate: Mutex<Option<Gate>>,
}

impl Deliver for Heard {
    fn room(&self) -> BoxFuture<'_, ()> {
        let gate = self.gate.lock().unwrap().clone();
        Box::pin(async move {
            if let Some(gate) = gate {
                gate.pass().await;
            }
        })
    }

    fn publication(&self, it: Arc<Publication>) {
        self.publications.lock().unwrap().push(it.clone());
        self.add(Event::Publication { channel: it.channel.to_string(), seq: it.seq, id: it.id.to_string() });
    }

    fn gap(&self, channel: &ChannelName, from: Position, why: Gap) {
        self.add(Event::Gap { channel: channel.to_string(), epoch: from.epoch, seq: from.seq, why });
    }

    fn joined(&self, channel: &ChannelName, member: Arc<Member>, members: usize) {
        self.add(Event::Joined { channel: channel.to_string(), user: member.user.to_string(), members });
    }

    fn left(&self, channel: &ChannelName, member: Arc<Member>, members: usize) {
        self.add(Event::Left { channel: channel.to_string(), user: member.user.to_string(), members });
    }

    fn caused(&self, change: Change) {
        self.add(Event::Caused(change));
    }

    fn control(&self, notice: Bytes) {
        self.add(Event::Control(notice));
    }

    fn reach(&self, is_in_reach: bool) {
        self.add(Event::Reach(is_in_reach));
    }
}

impl Heard {
    fn add(&self, event: Event) {
        self.events.lock().unwrap().push(event);
        self.changed.notify_waiters();
    }

    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    pub fn publications(&self) -> Vec<Arc<Publication>> {
        self.publications.lock().unwrap().clone()
    }

    pub fn forget(&self) {
        self.events.lock().unwrap().clear();
        self.publications.lock().unwrap().clear();
    }

    /// That the engine came is no news to a test.
    fn forget_reach(&self) {
        self.events.lock().unwrap().retain(|it| !matches!(it, Event::Reach(_)));
    }

    /// The numbers heard of a channel, in the order they came.
    pub fn seqs(&self, channel: &str) -> Vec<u64> {
        let of = |it: &Event| match it {
            Event::Publication { channel: name, seq, .. } if name == channel => Some(*seq),
            _ => None,
        };
        self.events().iter().filter_map(of).collect()
    }

    /// Waits until what was heard is as it should be.
    pub async fn until(&self, what: &str, is_so: impl Fn(&[Event]) -> bool) {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                if is_so(&self.events()) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(super::PATIENCE, waiting).await.is_err() {
            panic!("{what}: did not happen; heard {:#?}", self.events());
        }
    }

    /// Waits for exactly these numbers of a channel.
    pub async fn hears(&self, channel: &str, seqs: impl IntoIterator<Item = u64>) {
        let expected: Vec<_> = seqs.into_iter().collect();
        self.until(&format!("{channel} brings {expected:?}"), |_| self.seqs(channel).len() >= expected.len()).await;
        assert_eq!(self.seqs(channel), expected);
    }

    /// From now on there is no room until the gate is opened.
    pub fn fill_up(&self) -> Gate {
        let gate = Gate::closed();
        *self.gate.lock().unwrap() = Some(gate.clone());
        gate
    }
}

impl Node {
    pub async fn follow(&self, channel: &str) {
        soon("the channel is followed", self.broker.follow(&name(channel))).await.unwrap();
    }

    pub async fn publish(&self, channel: &str) -> Receipt {
        self.try_publish(draft(channel, None)).await.unwrap()
    }

    /// Publishes under one id until it is taken, as a backend does while the engine comes back.
    pub async fn publish_at_last(&self, channel: &str) -> Receipt {
        let draft = draft(channel, Some(&outrigger::channel::unique_id()));
        soon("it is taken", async {
            loop {
                match self.broker.publish(draft.clone(), KEEP).await {
                    Ok(receipt) => return receipt,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        })
        .await
    }

    pub async fn publish_as(&self, channel: &str, id: &str) -> Receipt {
        self.try_publish(draft(channel, Some(id))).await.unwrap()
    }

    pub async fn try_publish(&self, draft: Draft) -> Result<Receipt, engine::Error> {
        soon("the engine answers", self.broker.publish(draft, KEEP)).await
    }

    pub async fn since(&self, channel: &str, since: &Position) -> Page {
        self.page(channel, Some(since.clone()), KEEP).await
    }

    pub async fn join(&self, channel: &str, connection: u128, user: &str, info: Option<&str>) {
        let member = Member { user: user.into(), info: info.map(Arc::from) };
        soon("the join", self.presence.join(&name(channel), ConnectionId(connection), member)).await.unwrap();
    }

    pub async fn leave(&self, channel: &str, connection: u128) {
        soon("the leave", self.presence.leave(&name(channel), ConnectionId(connection))).await.unwrap();
    }

    /// Who is there, in words: `ada=1` with her info.
    pub async fn roll(&self, channel: &str) -> Vec<String> {
        let members = soon("the list", self.presence.members(&name(channel), 100)).await.unwrap();
        assert_eq!(members.total, members.members.len());
        let word = |it: &Arc<Member>| match &it.info {
            Some(info) => format!("{}={info}", it.user),
            None => it.user.to_string(),
        };
        members.members.iter().map(word).collect()
    }

    pub async fn newest(&self, channel: &str, limit: usize) -> Page {
        soon("the history", self.broker.history(&name(channel), None, limit, KEEP)).await.unwrap()
    }

    pub async fn page(&self, channel: &str, since: Option<Position>, retention: Retention) -> Page {
        soon("the history", self.broker.history(&name(channel), since, 50, retention)).await.unwrap()
    }
}

pub fn name(text: &str) -> ChannelName {
    ChannelName::parse(text).unwrap()
}

pub fn draft(channel: &str, id: Option<&str>) -> Draft {
    Draft::new(name(channel), Data::Json(Bytes::from_static(b"{\"text\":\"hi\"}")), id.map(Arc::from))
}

pub fn seqs(page: &Page) -> Vec<u64> {
    page.publications.iter().map(|it| it.seq).collect()
}

/// Each promise, once for each engine.
macro_rules! promised_by_every_engine {
    ($($promise:ident)*) => {
        mod memory {
            use $crate::support::engines::{Installation as _, InMemory};

            $(#[tokio::test]
            async fn $promise() {
                super::$promise(InMemory::start().await).await;
            })*
        }
        mod redis_cluster {
            use $crate::support::engines::{Installation as _, OnCluster};

            $(#[tokio::test]
            async fn $promise() {
                super::$promise(OnCluster::start().await).await;
            })*
        }
        mod redis {
            use $crate::support::engines::{Installation as _, OnRedis};

            $(#[tokio::test]
            async fn $promise() {
                super::$promise(OnRedis::start().await).await;
            })*
        }
    };
}

pub(crate) use promised_by_every_engine;
