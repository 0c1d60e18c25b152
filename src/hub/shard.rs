//! Fan-out. One task per core owns the lists of who follows what; it takes all that is queued, joins each channel's
//! publications once, and offers them to each outbox, which writes at once where it can.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::inbox::{Inbox, Order};
use super::lane::{Follower, Lane, Number, Outcome};
use super::ledger::Ledger;
use super::outbox::Outbox;
use super::paced::Paced;
use super::presence::Hearing;
use super::run::{Published, Run, runs};
use crate::channel::{ChannelName, ConnectionId, Position};
use crate::protocol::Shared;

/// A core's share of this node's subscriptions.
pub(super) struct Shard {
    inbox: Arc<Inbox>,
    ledger: Arc<Ledger>,
    channels: HashMap<ChannelName, Followers>,
    /// When something that waits for the end of an interval is to be sent, the next first.
    due: BinaryHeap<Reverse<(Instant, ChannelName)>>,
    /// How many channels have paced followers: mostly none, which spares the others a look.
    paced: usize,
}

/// Those who get everything, and those who get the newest of each interval.
#[derive(Default)]
struct Followers {
    lane: Lane,
    paced: Option<Box<Paced>>,
}

impl Shard {
    pub(super) fn new(inbox: Arc<Inbox>, ledger: Arc<Ledger>) -> Self {
        Self { inbox, ledger, channels: HashMap::new(), due: BinaryHeap::new(), paced: 0 }
    }

    /// Works for ever; the hub aborts it. Run it unconstrained: tokio's budget of 128 operations would make half of a
    /// large fan-out look like a full socket.
    pub(super) async fn work(mut self) {
        loop {
            let mut orders = match self.due.peek() {
                None => self.inbox.take().await,
                Some(Reverse((at, _))) => timeout_at(*at, self.inbox.take()).await.unwrap_or_default(),
            };
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
            self.send_what_is_due().await;
        }
    }

    /// Channels side by side, each in its own order.
    async fn publish(&mut self, published: Vec<Published>) {
        if self.paced > 0 {
            self.pace(&published);
        }
        for run in runs(published) {
            self.fan_out(&run).await;
            self.inbox.done(run.pushes());
        }
    }

    fn pace(&mut self, published: &[Published]) {
        for it in published {
            let channel = &it.0.publication.channel;
            let paced = self.channels.get_mut(channel).and_then(|it| it.paced.as_mut());
            if let Some(at) = paced.and_then(|paced| paced.take(it, &self.ledger)) {
                self.due.push(Reverse((at, channel.clone())));
            }
        }
    }

    async fn send_what_is_due(&mut self) {
        while let Some(next) = self.due.peek_mut()
            && next.0.0 <= Instant::now()
        {
            let Reverse((_, channel)) = PeekMut::pop(next);
            if let Some(paced) = self.channels.get_mut(&channel).and_then(|it| it.paced.as_mut()) {
                paced.send(&self.ledger).await;
            }
        }
    }

    async fn fan_out(&mut self, run: &Run) {
        let mut outcome = Outcome::default();
        if let Some(followers) = self.channels.get_mut(run.channel()) {
            outcome = followers.lane.deliver(run, &self.ledger).await;
        }
        outcome.enter(run, &self.ledger);
        for tally in run.tallies() {
            tally.add(outcome.matched);
        }
    }

    fn follow(&mut self, order: Order, orders: &mut VecDeque<Order>) {
        match order {
            Order::Publish { .. } | Order::News { .. } => {}
            Order::Join { channel, outbox, number, when_slow, min_interval } => {
                let followers = self.channels.entry(channel).or_default();
                let follower = Follower { outbox, number, when_slow, hearing: None };
                let Some(interval) = min_interval else { return followers.lane.join(follower) };
                self.paced += usize::from(followers.paced.is_none());
                let paced = followers.paced.get_or_insert_with(|| Box::new(Paced::new(interval)));
                paced.interval = interval;
                paced.lane.join(follower);
            }
            Order::Hear { channel, id, what } => {
                let lanes = self.channels.get_mut(&channel).into_iter().flat_map(Followers::lanes);
                if let Some(Follower { outbox, when_slow, hearing, .. }) = lanes.filter_map(|it| it.find(id)).next() {
                    Hearing::hear(hearing, what, &channel, outbox, *when_slow);
                }
            }
            Order::Live { channel, place, is_whole } => {
                for lane in self.channels.get_mut(&channel).into_iter().flat_map(Followers::lanes) {
                    lane.go_live(&channel, &place, is_whole, &self.ledger);
                }
            }
            Order::Leave { channel, id, number, done } => self.leave(channel, (id, number), done, orders),
            Order::Compare { heads, answer } => {
                let elsewhere = |(channel, head): &(ChannelName, Position)| {
                    let places = self.channels.get(channel).map(Followers::places)?;
                    let elsewhere = places.into_iter().flatten().find(|it| !it.is_place_of(head))?;
                    Some((channel.clone(), elsewhere))
                };
                // Whoever asked may have stopped waiting.
                let _ = answer.send(heads.iter().filter_map(elsewhere).collect());
            }
            Order::Heal { channel, stood, head } => {
                if let Some(followers) = self.channels.get_mut(&channel) {
                    followers.heal(&channel, &stood, head, &self.ledger);
                }
            }
            Order::Tell { channel, answer } => {
                let lanes = self.channels.get_mut(&channel).into_iter().flat_map(Followers::lanes);
                let ids = lanes.flat_map(|it| it.followers().map(|it| it.outbox.id).collect::<Vec<_>>());
                // Whoever asked may have stopped waiting.
                let _ = answer.send(ids.collect());
            }
            Order::TellFollowed { outbox, answer } => {
                let _ = answer.send(self.followed(&outbox));
            }
        }
    }

    /// Looks through every list of this shard, comparing pointers alone: nobody asks for it often.
    fn followed(&mut self, outbox: &Arc<Outbox>) -> Vec<(ChannelName, bool)> {
        let place = |followers: &mut Followers| followers.lanes().find_map(|it| it.is_catching_up(outbox));
        self.channels.iter_mut().filter_map(|(channel, it)| Some((channel.clone(), place(it)?))).collect()
    }

    /// Tells a channel's followers who came and who went.
    async fn tell(&mut self, channel: &ChannelName, news: &Arc<Shared>) {
        for lane in self.channels.get_mut(channel).into_iter().flat_map(Followers::lanes) {
            lane.tell(channel, news).await;
        }
    }

    /// Takes all leaves of the channel that stand next in one pass: after a restart of a page ten thousand come at once.
    fn leave(
        &mut self,
        channel: ChannelName,
        who: (ConnectionId, Number),
        done: Option<oneshot::Sender<()>>,
        orders: &mut VecDeque<Order>,
    ) {
        let mut leaving = vec![who];
        let mut told = vec![done];
        while let Some(Order::Leave { channel: next, .. }) = orders.front()
            && *next == channel
            && let Some(Order::Leave { id, number, done, .. }) = orders.pop_front()
        {
            leaving.push((id, number));
            told.push(done);
        }
        leaving.sort_unstable();
        if let Some(followers) = self.channels.get_mut(&channel) {
            followers.lanes().for_each(|it| it.leave(&leaving));
            if followers.paced.take_if(|it| it.lane.is_empty()).is_some() {
                self.paced -= 1;
            }
            if followers.lane.is_empty() && followers.paced.is_none() {
                self.channels.remove(&channel);
            }
        }
        for done in told.into_iter().flatten() {
            // Nobody waits any more when the connection is gone.
            let _ = done.send(());
        }
    }
}

impl Followers {
    fn lanes(&mut self) -> impl Iterator<Item = &mut Lane> {
        std::iter::once(&mut self.lane).chain(self.paced.as_mut().map(|it| &mut it.lane))
    }

    /// Where they stand.
    fn places(&self) -> [Option<Position>; 2] {
        [self.lane.last().cloned(), self.paced.as_ref().and_then(|it| it.stands())]
    }

    fn heal(&mut self, channel: &ChannelName, stood: &Position, head: Position, ledger: &Ledger) {
        if let Some(paced) = self.paced.as_mut().filter(|it| it.stands().as_ref() == Some(stood)) {
            paced.heal(channel, head.clone(), ledger);
        }
        if self.lane.last() == Some(stood) {
            self.lane.heal(channel, head, ledger);
        }
    }
}
