//! Redis under many nodes: a script numbers, stores and announces each publication in one step on one slot; what is kept
//! is a stream, what is live is Pub/Sub. While a canary does not come back nothing is published; after every return the
//! heads of followed channels are compared, and what was missed is filled in or told.

mod announce;
mod canary;
mod cluster;
mod erase;
mod find;
mod follow;
mod following;
mod link;
mod names;
mod nodes;
mod presence;
mod publish;
mod read;
mod record;
mod resp;
mod script;
mod server;
mod settings;
mod slots;
mod socket;
mod track;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::warn;

use super::{BoxFuture, Broker, Deliver, Erased, Error, Metrics, Page, Presence, Receipt};
use crate::channel::{ChannelName, Draft, Epoch, Position, Retention};
use find::Finder;
use following::Following;
use names::Names;
use presence::RedisPresence;
use resp::Value;
use script::Call;
use server::{Errand, Server};
pub use settings::{InvalidUrl, Login, Place, Settings, Shape, Url};
use slots::Table;
use socket::Dialer;
pub use socket::{TlsError, trust};

/// All channels of an installation, shared by its nodes.
pub struct Redis {
    core: Arc<Core>,
    presence: Arc<RedisPresence>,
}

/// What the engine's calls and its links have in common.
struct Core {
    dialer: Dialer,
    names: Names,
    /// This process, told apart from every other and from its own past.
    node: Arc<str>,
    timeout: Duration,
    lease: Duration,
    /// Redis knows that this node lives.
    is_leased: AtomicBool,
    engine: super::Settings,
    deliver: Arc<dyn Deliver>,
    following: Following,
    /// Who has which channel; in a cluster that changes.
    table: ArcSwap<Table>,
    /// Counts the changes, for whoever waits for one.
    table_changed: watch::Sender<u64>,
    /// Topics live on slots, as keys do.
    is_sharded: bool,
    slots_moved: Notify,
    /// Whether the engine is in reach, as it was last told.
    told: watch::Sender<bool>,
    /// What others announced in the last day is done here too.
    is_attending: watch::Sender<bool>,
    metrics: Metrics,
}

impl Redis {
    /// Begins to connect, in the background and for ever. What works for it is spawned into `work`.
    pub fn open(
        settings: &Settings,
        engine: super::Settings,
        metrics: Metrics,
        deliver: Arc<dyn Deliver>,
        work: &mut JoinSet<()>,
    ) -> Arc<Self> {
        let node: Arc<str> = format!("{:016x}", fastrand::u64(..)).into();
        let dialer = Dialer {
            login: settings.login.clone(),
            database: settings.database,
            name: format!("outrigger-{node}").into(),
            timeout: settings.connect_timeout,
            tls: settings.tls.clone(),
        };
        let core = Arc::new(Core {
            names: Names::new(&settings.prefix),
            node,
            timeout: settings.timeout,
            lease: settings.lease,
            is_leased: AtomicBool::new(false),
            engine,
            deliver,
            following: Following::default(),
            table: ArcSwap::default(),
            table_changed: watch::Sender::new(0),
            is_sharded: matches!(settings.shape, Shape::Cluster),
            slots_moved: Notify::new(),
            told: watch::Sender::new(false),
            is_attending: watch::Sender::new(false),
            metrics,
            dialer,
        });
        // Until a canary says otherwise.
        core.metrics.in_reach.set(0);
        core.deliver.reach(false);
        match finder(settings, &core.dialer) {
            None => drop(work.spawn(cluster::keep(core.clone(), settings.places.clone()))),
            Some(finder) => {
                let server = core.meet(finder, "0".into(), work);
                core.table.store(Arc::new(Table::single(server)));
            }
        }
        let (presence, desk) = RedisPresence::new(core.clone());
        work.spawn(desk);
        work.spawn(nodes::live(core.clone(), presence.clone()));
        work.spawn(announce::attend(core.clone()));
        Arc::new(Self { core, presence })
    }

    /// Resolves once Redis is in reach, and what other nodes announced was heard.
    pub async fn reached(&self) {
        for said in [&self.core.told, &self.core.is_attending] {
            // The sender lives as long as the engine.
            let _ = said.subscribe().wait_for(|it| *it).await;
        }
    }
}

/// How the one server is found; a cluster has many.
fn finder(settings: &Settings, dialer: &Dialer) -> Option<Finder> {
    let places: Arc<[Place]> = settings.places.clone().into();
    match &settings.shape {
        Shape::Cluster => None,
        Shape::Single => Some(Finder::Any(places)),
        Shape::Sentinel { master, login } => Some(Finder::Sentinel {
            sentinels: places,
            master: master.as_str().into(),
            asker: Arc::new(Dialer { login: login.clone(), database: 0, ..dialer.clone() }),
        }),
    }
}

impl Core {
    /// Begins to connect to a server. What works for it is spawned into `work`.
    fn meet(self: &Arc<Self>, finder: Finder, tag: String, work: &mut JoinSet<()>) -> Arc<Server> {
        let (server, exchange) = Server::new(finder, tag, self.timeout);
        work.spawn(server.clone().exchange(self.dialer.clone(), exchange));
        work.spawn(follow::follow(self.clone(), server.clone()));
        work.spawn(canary::fly(self.clone(), server.clone()));
        server
    }

    fn server_of(&self, tag: &str) -> Result<Arc<Server>, Error> {
        let table = self.table.load();
        table.server_of(tag).filter(|it| it.is_up()).cloned().ok_or(Error::Unavailable)
    }

    fn servers(&self) -> Vec<Arc<Server>> {
        self.table.load().servers().to_vec()
    }

    fn announcing(&self) -> &'static [u8] {
        if self.is_sharded { b"SPUBLISH" } else { b"PUBLISH" }
    }

    /// Runs a script on the server that has the channel, or whatever keys have this tag.
    async fn call(&self, tag: impl AsRef<str>, call: &Call<'_>) -> Result<Value, Error> {
        let (server, answer) = self.route(tag.as_ref(), call.by_digest()).await?;
        let (server, answer) = match answer {
            Value::Refusal(why) if why.starts_with("NOSCRIPT") => self.route(tag.as_ref(), call.by_text()).await?,
            other => (server, other),
        };
        self.accept(&server, answer)
    }

    /// Asks the server that has the channel.
    async fn ask(&self, tag: impl AsRef<str>, command: Bytes) -> Result<Value, Error> {
        let (server, answer) = self.route(tag.as_ref(), command).await?;
        self.accept(&server, answer)
    }

    fn accept(&self, server: &Server, answer: Value) -> Result<Value, Error> {
        let Value::Refusal(why) = answer else { return Ok(answer) };
        self.metrics.refusals.inc();
        warn!(server = %server.finder, why, "Redis refused");
        match NOTHING_DONE.iter().any(|it| why.starts_with(it)) {
            true => Err(Error::Unavailable),
            false => Err(Error::Unknown),
        }
    }

    /// Asks the server that has the channel, wherever its slot moves meanwhile. A server that says where to go instead has
    /// done nothing.
    async fn route(&self, tag: &str, command: Bytes) -> Result<(Arc<Server>, Value), Error> {
        let until = Instant::now() + self.timeout;
        loop {
            let mut changed = self.table_changed.subscribe();
            let server = self.server_of(tag)?;
            let mut answer = server.link.ask(command.clone()).await?;
            if let Some(other) = self.asked_to(&answer) {
                answer = other.link.ask_there(command.clone()).await?;
            }
            if !is_moving(&answer) || Instant::now() >= until {
                return Ok((server, answer));
            }
            self.slots_moved.notify_one();
            // A slot on its way has no new home yet: then the same one is asked again.
            let _ = tokio::time::timeout(TRY_AGAIN, changed.changed()).await;
        }
    }

    /// The server that has a slot's newest keys while the slot is on its way there.
    fn asked_to(&self, answer: &Value) -> Option<Arc<Server>> {
        let Value::Refusal(why) = answer else { return None };
        let address = why.strip_prefix("ASK ")?.split_once(' ')?.1;
        self.servers().into_iter().find(|it| it.finder.to_string() == address)
    }

    /// Tells the node when the first server goes out of reach or the last one comes back.
    fn reach_changed(&self) {
        self.told.send_if_modified(|told| {
            let is_in_reach = self.is_in_reach();
            let has_changed = std::mem::replace(told, is_in_reach) != is_in_reach;
            if has_changed {
                // Under the channel's lock: told in the order it happens.
                self.metrics.in_reach.set(i64::from(is_in_reach));
                self.deliver.reach(is_in_reach);
            }
            has_changed
        });
    }

    fn is_in_reach(&self) -> bool {
        let servers = self.servers();
        !servers.is_empty() && servers.iter().all(|it| it.is_up())
    }
}

/// Publications of one channel in one call: a server does nothing else meanwhile.
const AT_ONCE: usize = 32;

/// While a slot is on its way from one server to another.
const TRY_AGAIN: Duration = Duration::from_millis(50);

fn is_moving(answer: &Value) -> bool {
    let words = ["MOVED ", "ASK ", "TRYAGAIN", "CLUSTERDOWN"];
    matches!(answer, Value::Refusal(why) if words.iter().any(|it| why.starts_with(it)))
}

/// Refusals that come before a script has changed anything.
const NOTHING_DONE: [&str; 12] = [
    "OOM",
    "MISCONF",
    "READONLY",
    "LOADING",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "NOREPLICAS",
    "NOAUTH",
    "BUSY",
    "MOVED",
    "ASK",
    "TRYAGAIN",
];

fn millis(time: Duration) -> String {
    // Lua's numbers are exact up to here, which is some 285,000 years.
    time.as_millis().min(1 << 53).to_string()
}

/// Never 0: that stands for an epoch nobody gave.
fn new_epoch() -> String {
    Epoch(fastrand::u64(1..)).to_string()
}

impl Broker for Redis {
    fn publish(&self, draft: Draft, retention: Retention) -> BoxFuture<'_, Result<Receipt, Error>> {
        Box::pin(self.core.publish(draft, retention))
    }

    fn publish_all(&self, drafts: Vec<Draft>, retention: Retention) -> BoxFuture<'_, Vec<Result<Receipt, Error>>> {
        Box::pin(self.core.publish_all(drafts, retention))
    }

    fn at_once(&self) -> usize {
        AT_ONCE
    }

    fn follow(&self, channel: &ChannelName) -> BoxFuture<'_, Result<(), Error>> {
        let channel = channel.clone();
        Box::pin(async move { self.core.follow(&channel).await })
    }

    fn unfollow(&self, channel: &ChannelName) {
        if let Some(server) = self.core.following.remove(channel) {
            server.errands.add(Errand::Subscription(channel.clone()));
        }
    }

    fn history(
        &self,
        channel: &ChannelName,
        since: Option<Position>,
        limit: usize,
        retention: Retention,
    ) -> BoxFuture<'_, Result<Page, Error>> {
        let channel = channel.clone();
        Box::pin(async move { self.core.page(&channel, since, limit, retention).await })
    }

    fn heads<'a>(&'a self, channels: &'a [ChannelName]) -> BoxFuture<'a, Result<Vec<Position>, Error>> {
        Box::pin(self.core.heads(channels))
    }

    fn delete_history(&self, channel: &ChannelName) -> BoxFuture<'_, Result<(), Error>> {
        let channel = channel.clone();
        Box::pin(async move { self.core.forget(&channel).await })
    }

    fn channels(&self, prefix: &str, limit: usize) -> BoxFuture<'_, Result<Vec<ChannelName>, Error>> {
        let prefix = prefix.to_owned();
        Box::pin(async move { self.core.all_channels(&prefix, limit).await })
    }

    fn erase(&self, user: &str) -> BoxFuture<'_, Result<Erased, Error>> {
        let user = user.to_owned();
        Box::pin(async move { self.core.erase(&user).await })
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn announce(&self, notice: Bytes, is_lasting: bool) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move { self.core.announce(&notice, is_lasting).await })
    }

    fn presence(&self) -> Option<Arc<dyn Presence>> {
        Some(self.presence.clone())
    }

    fn is_available(&self) -> bool {
        self.core.is_in_reach() && *self.core.is_attending.borrow()
    }
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").field("node", &self.core.node).finish_non_exhaustive()
    }
}
