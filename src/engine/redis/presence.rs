//! Who is in a channel, on any node. Each channel's members stand on its slot, and who comes and goes is announced on its
//! topic, among its publications. A node knows what is true of its own connections, and makes Redis agree after every
//! return; what a dead node left is cleared up by another.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::sync::{mpsc, oneshot};

use super::resp::{self, Value};
use super::script::{self, Call, Script};
use super::{Core, nodes};
use crate::channel::{Change, ChannelName, ConnectionId, Member};
use crate::engine::{BoxFuture, Error, Members, Presence};

/// What waits to be asked, and what is asked at once.
const QUEUE: usize = 4096;
const AT_ONCE: usize = 256;
/// What could not be made true is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// The members of this installation's channels.
pub(super) struct RedisPresence {
    core: Arc<Core>,
    mine: Mine,
    asked: mpsc::Sender<Asked>,
    /// Redis may have forgotten what this node's record names.
    is_forgotten: Arc<AtomicBool>,
}

/// What is true of this node's own connections, whatever Redis says.
#[derive(Clone, Default)]
struct Mine(Arc<Mutex<HashMap<ChannelName, HashMap<ConnectionId, Member>>>>);

struct Asked {
    channel: ChannelName,
    what: What,
    /// None for what nobody waits for.
    answer: Option<oneshot::Sender<Result<(), Error>>>,
}

enum What {
    Join(ConnectionId, Member),
    Leave(ConnectionId),
    /// Makes Redis agree with what is true of the channel.
    Settle,
    /// Clears up after a node that is dead.
    Clear(Arc<str>),
}

/// What became of one question.
struct Outcome {
    asked: Asked,
    result: Result<Moves, Error>,
}

/// Who came to a channel and who is gone from it.
#[derive(Default)]
struct Moves {
    came: Vec<Arc<str>>,
    gone: Vec<Arc<str>>,
}

impl RedisPresence {
    /// What works for it is to be spawned.
    pub(super) fn new(core: Arc<Core>) -> (Arc<Self>, impl Future<Output = ()> + use<>) {
        let (asked, queue) = mpsc::channel(QUEUE);
        let (mine, is_forgotten) = (Mine::default(), Arc::<AtomicBool>::default());
        let desk = Desk {
            core: core.clone(),
            mine: mine.clone(),
            queue,
            listed: HashSet::new(),
            is_forgotten: is_forgotten.clone(),
            unsettled: HashSet::new(),
        };
        (Arc::new(Self { core, mine, asked, is_forgotten }), desk.work())
    }

    async fn ask(&self, channel: ChannelName, what: What) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        let asked = Asked { channel, what, answer: Some(answer) };
        self.asked.send(asked).await.map_err(|_| Error::Unavailable)?;
        answered.await.unwrap_or(Err(Error::Unknown))
    }

    /// Makes Redis agree with what is true here: it may have forgotten, or others may have thought this node dead.
    pub(super) async fn settle(&self) {
        self.is_forgotten.store(true, Ordering::Release);
        for channel in self.mine.channels() {
            // Nobody is left to ask once the engine ends.
            let _ = self.asked.send(Asked { channel, what: What::Settle, answer: None }).await;
        }
    }

    /// Takes a dead node's connections out of a channel.
    pub(super) async fn clear(&self, channel: ChannelName, node: Arc<str>) -> Result<(), Error> {
        self.ask(channel, What::Clear(node)).await
    }
}

impl Presence for RedisPresence {
    fn join(
        &self,
        channel: &ChannelName,
        connection: ConnectionId,
        member: Member,
    ) -> BoxFuture<'_, Result<(), Error>> {
        let channel = channel.clone();
        Box::pin(async move {
            self.mine.lock().entry(channel.clone()).or_default().insert(connection, member.clone());
            self.ask(channel, What::Join(connection, member)).await
        })
    }

    fn leave(&self, channel: &ChannelName, connection: ConnectionId) -> BoxFuture<'_, Result<(), Error>> {
        let channel = channel.clone();
        Box::pin(async move {
            self.mine.remove(&channel, connection);
            self.ask(channel, What::Leave(connection)).await
        })
    }

    fn members(&self, channel: &ChannelName, limit: usize) -> BoxFuture<'_, Result<Members, Error>> {
        let channel = channel.clone();
        Box::pin(async move { self.core.members(&channel, limit).await })
    }
}

impl Mine {
    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelName, HashMap<ConnectionId, Member>>> {
        self.0.lock().expect("nothing panics under this lock")
    }

    fn remove(&self, channel: &ChannelName, connection: ConnectionId) {
        let mut mine = self.lock();
        if let Some(connections) = mine.get_mut(channel) {
            connections.remove(&connection);
            if connections.is_empty() {
                mine.remove(channel);
            }
        }
    }

    fn channels(&self) -> Vec<ChannelName> {
        self.lock().keys().cloned().collect()
    }

    fn has(&self, channel: &ChannelName) -> bool {
        self.lock().contains_key(channel)
    }

    fn of(&self, channel: &ChannelName) -> Vec<(ConnectionId, Member)> {
        let mine = self.lock();
        mine.get(channel).into_iter().flatten().map(|(id, member)| (*id, member.clone())).collect()
    }
}

/// Where all questions go in their order, and the answers come in theirs, which is that in which things happened.
struct Desk {
    core: Arc<Core>,
    mine: Mine,
    queue: mpsc::Receiver<Asked>,
    /// Channels that this node's record names: where to clear up, should it die.
    listed: HashSet<ChannelName>,
    is_forgotten: Arc<AtomicBool>,
    /// Channels of which Redis may not know what is true.
    unsettled: HashSet<ChannelName>,
}

impl Desk {
    async fn work(mut self) {
        let mut under_way: FuturesOrdered<BoxFuture<'static, Outcome>> = FuturesOrdered::new();
        let mut batch = Vec::new();
        let mut again = tokio::time::interval(AGAIN);
        loop {
            tokio::select! {
                Some(outcome) = under_way.next() => self.came_to(outcome),
                count = self.queue.recv_many(&mut batch, AT_ONCE), if under_way.len() < AT_ONCE => {
                    if count == 0 {
                        return;
                    }
                }
                _ = again.tick(), if self.core.is_in_reach() => {
                    let settle = |channel| Asked { channel, what: What::Settle, answer: None };
                    batch.extend(self.unsettled.drain().map(settle));
                }
            }
            if !batch.is_empty() {
                self.list(&batch).await;
                for asked in batch.drain(..) {
                    under_way.push_back(self.run(asked));
                }
            }
        }
    }

    /// Before this node has members in a channel its record names the channel. What it names too much costs a look.
    async fn list(&mut self, batch: &[Asked]) {
        let key = self.core.names.node(&self.core.node);
        if self.is_forgotten.swap(false, Ordering::AcqRel) {
            self.listed.clear();
        }
        let gone: Vec<_> = self.listed.iter().filter(|it| !self.mine.has(it)).cloned().collect();
        if gone.len() > AT_ONCE {
            let words = gone.iter().map(ChannelName::as_str);
            if self.core.ask_words(&self.core.node, "SREM", &key, words).await.is_ok() {
                self.listed.retain(|it| !gone.contains(it));
            }
        }
        let new: HashSet<_> = batch.iter().map(|it| &it.channel).filter(|it| !self.listed.contains(*it)).collect();
        let new: Vec<_> = new.into_iter().filter(|it| self.mine.has(it)).cloned().collect();
        if new.is_empty() {
            return;
        }
        if nodes::begin(&self.core).await.is_err() {
            return;
        }
        let words = new.iter().map(ChannelName::as_str);
        if self.core.ask_words(&self.core.node, "SADD", &key, words).await.is_ok() {
            self.listed.extend(new);
        }
    }

    fn run(&self, asked: Asked) -> BoxFuture<'static, Outcome> {
        let core = self.core.clone();
        let is_listed = self.listed.contains(&asked.channel);
        // As it is now: whatever comes later is asked later.
        let listed = match asked.what {
            What::Settle => self.mine.of(&asked.channel),
            _ => Vec::new(),
        };
        Box::pin(async move {
            let result = match &asked.what {
                What::Join(..) if !is_listed => Err(Error::Unavailable),
                What::Join(connection, member) => core.enter(&asked.channel, *connection, member).await,
                What::Leave(connection) => core.leave(&asked.channel, *connection).await,
                What::Settle => core.settle(&asked.channel, &core.node, listed).await,
                What::Clear(node) => core.settle(&asked.channel, node, Vec::new()).await,
            };
            Outcome { asked, result }
        })
    }

    fn came_to(&mut self, Outcome { asked, result }: Outcome) {
        let Asked { channel, what, answer } = asked;
        if result.is_err() && !matches!(what, What::Clear(_)) {
            self.unsettled.insert(channel.clone());
        }
        let result = result.map(|Moves { came, gone }| {
            for user in gone {
                self.core.deliver.caused(Change::Left { channel: channel.clone(), user });
            }
            for user in came {
                self.core.deliver.caused(Change::Joined { channel: channel.clone(), user });
            }
        });
        if let Some(answer) = answer {
            // Whoever asked may have stopped waiting.
            let _ = answer.send(result);
        }
    }
}

impl Core {
    async fn enter(&self, channel: &ChannelName, connection: ConnectionId, member: &Member) -> Result<Moves, Error> {
        let field = self.field(&self.node, connection);
        let words = [field.as_str(), &member.user, member.info.as_deref().unwrap_or_default()];
        self.move_members(channel, &script::ENTER, &words).await
    }

    async fn leave(&self, channel: &ChannelName, connection: ConnectionId) -> Result<Moves, Error> {
        self.move_members(channel, &script::LEAVE, &[&self.field(&self.node, connection)]).await
    }

    async fn settle(
        &self,
        channel: &ChannelName,
        node: &str,
        connections: Vec<(ConnectionId, Member)>,
    ) -> Result<Moves, Error> {
        let fields: Vec<_> = connections.iter().map(|(id, _)| self.field(node, *id)).collect();
        let mut words = vec![node];
        for (field, (_, member)) in fields.iter().zip(&connections) {
            words.extend([field.as_str(), &member.user, member.info.as_deref().unwrap_or_default()]);
        }
        self.move_members(channel, &script::SETTLE, &words).await
    }

    async fn move_members(
        &self,
        channel: &ChannelName,
        script: &'static Script,
        words: &[&str],
    ) -> Result<Moves, Error> {
        let (keys, topic) = (self.names.roll(channel), self.names.topic(channel));
        let mut arguments = vec![topic.as_bytes(), self.announcing()];
        arguments.extend(words.iter().map(|it| it.as_bytes()));
        let keys: Vec<_> = keys.iter().map(|it| it.as_bytes()).collect();
        let answer = self.call(channel, &Call { script, keys: &keys, arguments: &arguments }).await?;
        let [came, gone] = &answer.list().unwrap_or_default()[..] else { return Err(Error::Unknown) };
        Ok(Moves { came: users(came), gone: users(gone) })
    }

    async fn members(&self, channel: &ChannelName, limit: usize) -> Result<Members, Error> {
        let (keys, limit) = (self.names.roll(channel), limit.to_string());
        let keys: Vec<_> = keys.iter().map(|it| it.as_bytes()).collect();
        let call = Call { script: &script::MEMBERS, keys: &keys, arguments: &[limit.as_bytes()] };
        let mut answer = self.call(channel, &call).await?.list().unwrap_or_default().into_iter();
        let total = answer.next().and_then(|it| it.number()).ok_or(Error::Unknown)?;
        let member = |it: Value| match &it.list()?[..] {
            [user, info] => Some(Arc::new(member(user.text()?, info.text()?))),
            _ => None,
        };
        Ok(Members { members: answer.filter_map(member).collect(), total: usize::try_from(total).unwrap_or(0) })
    }

    fn field(&self, node: &str, connection: ConnectionId) -> String {
        format!("{node}/{connection}")
    }

    /// One command with many words.
    pub(super) async fn ask_words<'a>(
        &self,
        tag: &str,
        command: &'a str,
        key: &'a str,
        words: impl Iterator<Item = &'a str>,
    ) -> Result<Value, Error> {
        let words: Vec<_> = [command, key].into_iter().chain(words).map(str::as_bytes).collect();
        self.ask(tag, resp::command(&words)).await
    }
}

fn users(value: &Value) -> Vec<Arc<str>> {
    let Value::List(users) = value else { return Vec::new() };
    users.iter().filter_map(|it| it.text().map(Arc::from)).collect()
}

fn member(user: &str, info: &str) -> Member {
    Member { user: user.into(), info: (!info.is_empty()).then(|| info.into()) }
}

/// Who came or went, as a script announces it among the publications: `+` or `-`, how many are there, the user's length.
pub(super) struct News {
    pub(super) has_come: bool,
    pub(super) member: Arc<Member>,
    pub(super) members: usize,
}

/// None for what is no such news.
pub(super) fn read_news(message: &[u8]) -> Option<News> {
    let (sign, rest) = message.split_first()?;
    let has_come = match sign {
        b'+' => true,
        b'-' => false,
        _ => return None,
    };
    let (head, rest) = std::str::from_utf8(rest).ok()?.split_once('\n')?;
    let (members, len) = head.split_once(' ')?;
    let (user, info) = rest.split_at_checked(len.parse().ok()?)?;
    Some(News { has_come, member: Arc::new(member(user, info)), members: members.parse().ok()? })
}
