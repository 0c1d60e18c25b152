//! Fan-out. One task per core owns the lists of who follows what; it takes all that is queued, joins each channel's
//! publications once, and offers them to each outbox, which writes at once where it can.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::inbox::{Inbox, Order};
use super::ledger::{Ledger, Tally};
use super::outbox::{Offer, Outbox};
use super::presence::Hearing;
use super::rules::WhenSlow;
use super::run::Run;
use super::wire::Signal;
use crate::channel::{ChannelName, ConnectionId};
use crate::protocol::{Format, Push, Shared};

/// After so many offers, or so many bytes, the shard lets others run.
const OFFERS_PER_TURN: usize = 512;
const BYTES_PER_TURN: usize = 1024 * 1024;
/// The most that is joined into one write.
const MAX_RUN: usize = 128 * 1024;
/// What is held for one client while it catches up; beyond that it reads on from the history.
const MAX_HELD: usize = 256 * 1024;

/// A core's share of this node's subscriptions.
pub(super) struct Shard {
    inbox: Arc<Inbox>,
    ledger: Arc<Ledger>,
    channels: Channels,
}

type Channels = HashMap<ChannelName, Vec<Follower>>;

struct Follower {
    outbox: Arc<Outbox>,
    held: Option<Box<Held>>,
    when_slow: WhenSlow,
    /// Where the channel has presence.
    hearing: Option<Box<Hearing>>,
}

/// What was published between a client's join and the end of its catch-up.
#[derive(Default)]
struct Held {
    pushes: Vec<Arc<Push>>,
    bytes: usize,
    overflowed: bool,
}

/// What a run's offers came to.
#[derive(Default)]
struct Outcome {
    matched: u32,
    /// In nobody's books before it is released; until then the client's catch-up owes it.
    held: u32,
    written: u32,
    dropped: u32,
    bytes: usize,
    gone: bool,
}

impl Shard {
    pub(super) fn new(inbox: Arc<Inbox>, ledger: Arc<Ledger>) -> Self {
        Self { inbox, ledger, channels: HashMap::new() }
    }

    /// Works for ever; the hub aborts it. Run it unconstrained: tokio's budget of 128 operations would make half of a
    /// large fan-out look like a full socket.
    pub(super) async fn work(mut self) {
        loop {
            let mut orders = self.inbox.take().await;
            let mut published = Vec::new();
            while let Some(order) = orders.pop_front() {
                match order {
                    Order::Publish { push, tally } => published.push((push, tally)),
                    Order::News { channel, news } => {
                        // Whoever said something before it left is heard before it left.
                        self.publish(std::mem::take(&mut published)).await;
                        self.tell(&channel, &news).await;
                    }
                    other => {
                        // Whoever joins or leaves does so after what was published before.
                        self.publish(std::mem::take(&mut published)).await;
                        self.follow(other, &mut orders);
                    }
                }
            }
            self.publish(published).await;
        }
    }

    /// Channels side by side, each in its own order.
    async fn publish(&mut self, published: Vec<Published>) {
        for mut run in runs(published) {
            self.fan_out(&mut run).await;
            self.inbox.done(run.pushes());
        }
    }

    async fn fan_out(&mut self, run: &mut Run) {
        let mut outcome = Outcome::default();
        if let Some(followers) = self.channels.get_mut(run.channel()) {
            let per_turn = OFFERS_PER_TURN.min(BYTES_PER_TURN / run.pushes()[0].json().len().max(1)).max(1);
            let mut turns = followers.chunks_mut(per_turn).peekable();
            while let Some(turn) = turns.next() {
                turn.iter_mut().for_each(|it| it.offer(run, &mut outcome));
                if turns.peek().is_some() {
                    tokio::task::yield_now().await;
                }
            }
            if outcome.gone {
                followers.retain(|it| it.outbox.is_open());
            }
        }
        let count = u64::from(run.len());
        self.ledger.expected(count * u64::from(outcome.matched - outcome.held));
        self.ledger.flushed_many(count * u64::from(outcome.written), outcome.bytes);
        for tally in run.tallies() {
            tally.add(outcome.matched, outcome.dropped);
        }
    }

    fn follow(&mut self, order: Order, orders: &mut VecDeque<Order>) {
        match order {
            Order::Publish { .. } | Order::News { .. } => {}
            Order::Join { channel, outbox, when_slow } => {
                let held = Some(Box::default());
                let follower = Follower { outbox, held, when_slow, hearing: None };
                self.channels.entry(channel).or_default().push(follower);
            }
            Order::Hear { channel, id, what } => {
                if let Some(Follower { outbox, when_slow, hearing, .. }) = follower(&mut self.channels, &channel, id) {
                    Hearing::hear(hearing, what, &channel, outbox, *when_slow);
                }
            }
            Order::Live { channel, id, from } => {
                if let Some(follower) = follower(&mut self.channels, &channel, id) {
                    follower.go_live(&channel, from, &self.ledger);
                }
            }
            Order::Leave { channel, id, done } => self.leave(channel, id, done, orders),
            Order::Tell { channel, answer } => {
                let followers = self.channels.get(&channel).map(Vec::as_slice).unwrap_or_default();
                // Whoever asked may have stopped waiting.
                let _ = answer.send(followers.iter().map(|it| it.outbox.id).collect());
            }
            Order::TellFollowed { outbox, answer } => {
                let _ = answer.send(self.followed(&outbox));
            }
        }
    }

    /// Looks through every list of this shard, comparing pointers alone: nobody asks for it often.
    fn followed(&self, outbox: &Arc<Outbox>) -> Vec<(ChannelName, bool)> {
        let place = |followers: &[Follower]| {
            followers.iter().find(|it| Arc::ptr_eq(&it.outbox, outbox)).map(|it| it.held.is_some())
        };
        self.channels.iter().filter_map(|(channel, followers)| Some((channel.clone(), place(followers)?))).collect()
    }

    /// Tells a channel's followers who came and who went.
    async fn tell(&mut self, channel: &ChannelName, news: &Arc<Shared>) {
        let Some(followers) = self.channels.get_mut(channel) else { return };
        let per_turn = OFFERS_PER_TURN.min(BYTES_PER_TURN / news.wire(Format::Poll).len().max(1)).max(1);
        let mut turns = followers.chunks_mut(per_turn).peekable();
        while let Some(turn) = turns.next() {
            turn.iter_mut().for_each(|it| it.tell(channel, news));
            if turns.peek().is_some() {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Takes all leaves of the channel that stand next in one pass: after a restart of a page ten thousand come at once.
    fn leave(
        &mut self,
        channel: ChannelName,
        id: ConnectionId,
        done: Option<oneshot::Sender<()>>,
        orders: &mut VecDeque<Order>,
    ) {
        let mut leaving = vec![id];
        let mut told = vec![done];
        while let Some(Order::Leave { channel: next, .. }) = orders.front()
            && *next == channel
            && let Some(Order::Leave { id, done, .. }) = orders.pop_front()
        {
            leaving.push(id);
            told.push(done);
        }
        if let Some(followers) = self.channels.get_mut(&channel) {
            if let [only] = leaving[..] {
                if let Some(at) = followers.iter().position(|it| it.outbox.id == only) {
                    followers.swap_remove(at);
                }
            } else {
                leaving.sort_unstable();
                followers.retain(|it| leaving.binary_search(&it.outbox.id).is_err());
            }
            if followers.is_empty() {
                self.channels.remove(&channel);
            } else if followers.capacity() > 64 && followers.len() < followers.capacity() / 4 {
                followers.shrink_to(followers.len() * 2);
            }
        }
        for done in told.into_iter().flatten() {
            // Nobody waits any more when the connection is gone.
            let _ = done.send(());
        }
    }
}

fn follower<'a>(channels: &'a mut Channels, channel: &ChannelName, id: ConnectionId) -> Option<&'a mut Follower> {
    channels.get_mut(channel)?.iter_mut().rfind(|it| it.outbox.id == id)
}

impl Follower {
    fn offer(&mut self, run: &mut Run, outcome: &mut Outcome) {
        if let Some(held) = &mut self.held {
            outcome.matched += 1;
            outcome.held += 1;
            return held.keep(run);
        }
        match self.outbox.offer(run, self.when_slow) {
            Offer::Written(bytes) => {
                outcome.matched += 1;
                outcome.written += 1;
                outcome.bytes += bytes;
            }
            Offer::Queued(bytes) => {
                outcome.matched += 1;
                outcome.bytes += bytes;
            }
            Offer::Dropped => {
                outcome.matched += 1;
                outcome.dropped += 1;
            }
            Offer::Gone => outcome.gone = true,
        }
    }

    fn tell(&mut self, channel: &ChannelName, news: &Arc<Shared>) {
        if let Some(hearing) = &mut self.hearing {
            hearing.tell(news, channel, &self.outbox, self.when_slow);
        }
    }

    fn go_live(&mut self, channel: &ChannelName, from: u64, ledger: &Ledger) {
        let Some(mut held) = self.held.take() else { return };
        if held.overflowed {
            self.held = Some(Box::default());
            return self.outbox.signal(Signal::CatchUpAgain(channel.clone()));
        }
        held.pushes.retain(|it| it.publication.seq > from);
        let published = held.pushes.into_iter().map(|push| (push, None)).collect();
        for mut run in runs(published) {
            let count = u64::from(run.len());
            match self.outbox.offer(&mut run, self.when_slow) {
                Offer::Written(bytes) => {
                    ledger.expected(count);
                    ledger.flushed_many(count, bytes);
                }
                Offer::Queued(_) | Offer::Dropped => ledger.expected(count),
                Offer::Gone => return,
            }
        }
    }
}

impl Held {
    fn keep(&mut self, run: &Run) {
        if self.overflowed {
            return;
        }
        self.bytes += run.pushes().iter().map(|it| it.publication.data.len()).sum::<usize>();
        self.pushes.extend(run.pushes().iter().cloned());
        if self.bytes > MAX_HELD {
            self.pushes = Vec::new();
            self.overflowed = true;
        }
    }
}

/// A publication, and whether somebody counts what becomes of it.
type Published = (Arc<Push>, Option<Arc<Tally>>);

/// A run that may still grow.
#[derive(Default)]
struct Open {
    bytes: usize,
    pushes: Vec<Arc<Push>>,
    tallies: Vec<Arc<Tally>>,
}

/// Splits what was published into runs: per channel, in order, bounded in bytes. One with exclusions stands alone.
fn runs(published: Vec<Published>) -> impl Iterator<Item = Run> {
    let mut latest: HashMap<ChannelName, usize> = HashMap::new();
    let mut runs: Vec<Open> = Vec::new();
    for (push, tally) in published {
        let it = &push.publication;
        let size = it.data.len();
        let is_alone = !it.exclude.is_empty();
        let at = latest.get(&it.channel).copied().filter(|at| !is_alone && runs[*at].bytes + size <= MAX_RUN);
        let at = at.unwrap_or_else(|| {
            runs.push(Open::default());
            runs.len() - 1
        });
        if is_alone {
            latest.remove(&it.channel);
        } else {
            latest.insert(it.channel.clone(), at);
        }
        runs[at].bytes += size;
        runs[at].pushes.push(push);
        runs[at].tallies.extend(tally);
    }
    runs.into_iter().map(|it| Run::new(it.pushes, it.tallies))
}
