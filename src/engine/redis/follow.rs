//! The link that publications come over: subscribes to what this node follows, delivers in order, fills holes from the
//! store before going on, and reads no further while the node has no room.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tracing::warn;

use super::following::{Question, Todo};
use super::presence::{self, News};
use super::record;
use super::resp::{self, Value};
use super::server::{Errand, Pause, Server};
use super::slots::slot_of;
use super::socket::{Error as Broken, Socket};
use super::track::Answer;
use super::{Core, announce};
use crate::channel::ChannelName;
use crate::engine::BoxFuture;

/// Channels in one SUBSCRIBE.
const BATCH: usize = 256;
/// Questions to the store at once.
const QUESTIONS: usize = 64;
/// Bytes of subscriptions that wait to be written; until they are, no more are made.
const MAX_UNWRITTEN: usize = 256 * 1024;

/// Follows for ever, over one connection after the other.
pub(super) async fn follow(core: Arc<Core>, server: Arc<Server>) {
    let mut pause = Pause::default();
    let canary = core.names.canary(&server.tag, &core.node);
    loop {
        let why = match server.open(&core.dialer).await {
            Ok(socket) => {
                server.connected("publications");
                core.metrics.connects.inc();
                pause = Pause::default();
                let mut ear = Ear::new(&core, &server, canary.clone());
                tokio::select! {
                    why = ear.listen(socket) => why,
                    () = server.given_up.notified() => Broken::Elsewhere("the link was given up"),
                }
            }
            Err(why) => why,
        };
        server.is_listening.store(false, Ordering::Release);
        core.following.link_ended(&server);
        server.lost("publications", &why);
        pause.wait().await;
    }
}

/// One connection's worth of listening.
struct Ear<'a> {
    core: &'a Arc<Core>,
    server: &'a Arc<Server>,
    canary: String,
    /// SUBSCRIBEs without a confirmation, by channel: only the last one counts.
    unconfirmed: HashMap<ChannelName, u32>,
    wanted: VecDeque<ChannelName>,
    has_subscribed_all: bool,
    unwritten: BytesMut,
    asking: FuturesUnordered<BoxFuture<'static, (ChannelName, u64, Answer)>>,
    to_ask: VecDeque<Question>,
}

impl<'a> Ear<'a> {
    fn new(core: &'a Arc<Core>, server: &'a Arc<Server>, canary: String) -> Self {
        Self {
            core,
            server,
            canary,
            unconfirmed: HashMap::new(),
            wanted: VecDeque::new(),
            has_subscribed_all: false,
            unwritten: BytesMut::new(),
            asking: FuturesUnordered::new(),
            to_ask: VecDeque::new(),
        }
    }

    async fn listen(&mut self, socket: Socket) -> Broken {
        let Socket { stream, mut input } = socket;
        let (mut reading, mut writing) = tokio::io::split(stream);
        self.wanted = self.core.following.of(self.server).into();
        let mut clock = ticks();
        let mut last_heard = Instant::now();
        loop {
            self.subscribe();
            self.ask();
            input.reserve(16 * 1024);
            tokio::select! {
                read = reading.read_buf(&mut input) => match read {
                    Ok(0) => return std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into(),
                    Ok(_) => {
                        last_heard = Instant::now();
                        if let Err(broken) = self.hear(&mut input).await {
                            return broken;
                        }
                    }
                    Err(error) => return error.into(),
                },
                written = writing.write(&self.unwritten), if !self.unwritten.is_empty() => match written {
                    Ok(count) => drop(self.unwritten.split_to(count)),
                    Err(error) => return error.into(),
                },
                errands = self.server.errands.take() => errands.into_iter().for_each(|it| self.see_to(it)),
                Some((channel, serial, answer)) = self.asking.next() => {
                    let todo = self.core.following.answered(&channel, serial, answer);
                    self.carry_out(todo).await;
                }
                _ = clock.tick() => {
                    if !self.unconfirmed.is_empty() && last_heard.elapsed() > self.core.timeout {
                        return Broken::Timeout(self.core.timeout);
                    }
                }
            }
        }
    }

    fn see_to(&mut self, errand: Errand) {
        match errand {
            Errand::Subscription(channel) => self.wanted.push_back(channel),
            Errand::Comparison(channel) => self.to_ask.extend(self.core.following.compare(&channel, self.server)),
        }
    }

    /// Turns what is wanted into SUBSCRIBEs and UNSUBSCRIBEs, and the canary's last of all.
    fn subscribe(&mut self) {
        while !self.wanted.is_empty() && self.unwritten.len() < MAX_UNWRITTEN {
            let count = self.wanted.len().min(if self.core.is_sharded { 1 } else { BATCH });
            let (mut begin, mut end) = (Vec::new(), Vec::new());
            for channel in self.wanted.drain(..count) {
                let topic = Bytes::from(self.core.names.topic(&channel));
                if self.core.following.is_wanted(&channel, self.server) {
                    *self.unconfirmed.entry(channel).or_insert(0) += 1;
                    begin.push(topic);
                } else {
                    end.push(topic);
                }
            }
            let (subscribe, unsubscribe): (&[u8], &[u8]) = match self.core.is_sharded {
                true => (b"SSUBSCRIBE", b"SUNSUBSCRIBE"),
                false => (b"SUBSCRIBE", b"UNSUBSCRIBE"),
            };
            self.say(unsubscribe, &end);
            self.say(subscribe, &begin);
        }
        if self.wanted.is_empty() && !self.has_subscribed_all {
            self.has_subscribed_all = true;
            let how: &[u8] = if self.core.is_sharded { b"SSUBSCRIBE" } else { b"SUBSCRIBE" };
            self.say(how, &[Bytes::from(self.canary.clone())]);
        }
    }

    fn say(&mut self, how: &[u8], topics: &[Bytes]) {
        if !topics.is_empty() {
            let words: Vec<&[u8]> = std::iter::once(how).chain(topics.iter().map(|it| &it[..])).collect();
            self.unwritten.extend_from_slice(&resp::command(&words));
        }
    }

    async fn hear(&mut self, input: &mut BytesMut) -> Result<(), Broken> {
        while let Some(value) = resp::take(input)? {
            match value {
                Value::Push(words) => self.heard(&words).await,
                // The slot has moved: whoever knows where to will move the channels.
                Value::Refusal(why) if why.starts_with("MOVED") => self.moved(&why),
                Value::Refusal(why) => return Err(Broken::Refused(why)),
                _ => {}
            }
        }
        Ok(())
    }

    async fn heard(&mut self, words: &[Value]) {
        let mut words = words.iter();
        let kind = words.next().and_then(Value::text).unwrap_or_default();
        let Some(topic) = words.next().and_then(Value::text) else { return };
        let what = words.next();
        match kind {
            "message" | "smessage" if topic == self.canary => {
                if let Some(number) = what.and_then(Value::number) {
                    self.server.returned.send_replace(number);
                }
            }
            "message" | "smessage" => {
                if let (Some(name), Some(message)) = (self.core.names.channel_of(topic), what.and_then(Value::bytes)) {
                    self.publication(name, message).await;
                }
            }
            "subscribe" | "ssubscribe" if topic == self.canary => {
                self.server.is_listening.store(true, Ordering::Release);
                // Who came and went meanwhile has no numbers by which it could be asked for.
                self.core.deliver.returned();
                self.server.doubted.notify_one();
            }
            "subscribe" | "ssubscribe" => {
                if let Some(name) = self.core.names.channel_of(topic) {
                    self.confirmed(name);
                }
            }
            // Nobody asked for it: the slot went to another server.
            "sunsubscribe" => self.core.slots_moved.notify_one(),
            _ => {}
        }
    }

    /// `MOVED slot address`: whatever was asked for on that slot is not confirmed here any more.
    fn moved(&mut self, why: &str) {
        let slot = why.split(' ').nth(1).and_then(|it| it.parse().ok());
        self.unconfirmed.retain(|channel, _| Some(slot_of(channel.as_str())) != slot);
        self.core.slots_moved.notify_one();
    }

    fn confirmed(&mut self, channel: &str) {
        if let Some(count) = self.unconfirmed.get_mut(channel) {
            *count -= 1;
            if *count > 0 {
                return;
            }
            self.unconfirmed.remove(channel);
        }
        self.to_ask.extend(self.core.following.confirmed(channel, self.server));
    }

    async fn publication(&mut self, name: &str, message: &Bytes) {
        // Late ones of a channel that was let go are nobody's.
        let Some(channel) = self.core.following.name(name, self.server) else { return };
        if let Some(News { has_come, member, members }) = presence::read_news(message) {
            match has_come {
                true => self.core.deliver.joined(&channel, member, members),
                false => self.core.deliver.left(&channel, member, members),
            }
            return;
        }
        let Some(link) = record::read_announced(&channel, message) else {
            warn!(%channel, "somebody else publishes where this installation does; ignored");
            return;
        };
        let todo = self.core.following.arrived(&channel, self.server, link);
        self.carry_out(todo).await;
    }

    async fn carry_out(&mut self, todo: Option<Todo>) {
        let Some(Todo { channel, serial, step }) = todo else { return };
        if let Some((from, why)) = step.gap {
            self.core.metrics.gaps.inc();
            match channel.is_reserved() {
                true => announce::complain(&channel, from.seq),
                false => self.core.deliver.gap(&channel, from, why),
            }
        }
        for publication in step.deliver {
            if channel.is_reserved() {
                self.core.hear(&publication);
                continue;
            }
            room(self.core, self.server).await;
            self.core.deliver.publication(publication);
        }
        self.to_ask.extend(step.ask.map(|since| Question { channel, serial, since }));
    }

    fn ask(&mut self) {
        while self.asking.len() < QUESTIONS
            && let Some(question) = self.to_ask.pop_front()
        {
            let core = self.core.clone();
            self.asking.push(Box::pin(async move {
                let Question { channel, serial, since } = question;
                let answer = core.compare(&channel, since).await;
                (channel, serial, answer)
            }));
        }
    }
}

async fn room(core: &Core, server: &Server) {
    server.is_held_up.store(true, Ordering::Release);
    core.deliver.room().await;
    server.is_held_up.store(false, Ordering::Release);
}

fn ticks() -> Interval {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
