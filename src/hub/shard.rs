//! Fan-out. One task per core owns the lists of who follows what; it takes all that is queued, joins each channel's
//! publications once, and offers them to each outbox, which writes at once where it can.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::inbox::{Inbox, Order};
use super::lane::{Follower, Lane, Number, Outcome};
use super::ledger::Ledger;
use super::run::{Published, Run, runs};
use crate::channel::{ChannelName, ConnectionId, Position};

/// A core's share of this node's subscriptions.
pub(super) struct Shard {
    inbox: Arc<Inbox>,
    ledger: Arc<Ledger>,
    channels: HashMap<ChannelName, Lane>,
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
        for run in runs(published) {
            self.fan_out(&run).await;
            self.inbox.done(run.pushes());
        }
    }

    async fn fan_out(&mut self, run: &Run) {
        let mut outcome = Outcome::default();
        if let Some(lane) = self.channels.get_mut(run.channel()) {
            outcome = lane.deliver(run, &self.ledger).await;
        }
        let count = u64::from(run.len());
        self.ledger.expected(count * u64::from(outcome.matched - outcome.held));
        self.ledger.flushed_many(count * u64::from(outcome.written), outcome.bytes);
        for tally in run.tallies() {
            tally.add(outcome.matched);
        }
    }

    fn follow(&mut self, order: Order, orders: &mut VecDeque<Order>) {
        match order {
            Order::Publish { .. } => {}
            Order::Join { channel, outbox, number, when_slow } => {
                self.channels.entry(channel).or_default().join(Follower { outbox, number, when_slow });
            }
            Order::Live { channel, place, is_whole } => {
                if let Some(lane) = self.channels.get_mut(&channel) {
                    lane.go_live(&channel, &place, is_whole, &self.ledger);
                }
            }
            Order::Leave { channel, id, number, done } => self.leave(channel, (id, number), done, orders),
            Order::Compare { heads, answer } => {
                let elsewhere = |(channel, head): &(ChannelName, Position)| {
                    let stands = self.channels.get(channel)?.last().filter(|it| !it.is_place_of(head))?;
                    Some((channel.clone(), stands.clone()))
                };
                // Whoever asked may have stopped waiting.
                let _ = answer.send(heads.iter().filter_map(elsewhere).collect());
            }
            Order::Heal { channel, stood, head } => {
                if let Some(lane) = self.channels.get_mut(&channel).filter(|it| it.last() == Some(&stood)) {
                    lane.heal(&channel, head, &self.ledger);
                }
            }
            Order::Tell { channel, answer } => {
                let followers = self.channels.get(&channel).into_iter().flat_map(Lane::followers);
                // Whoever asked may have stopped waiting.
                let _ = answer.send(followers.map(|it| it.outbox.id).collect());
            }
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
        if let Some(lane) = self.channels.get_mut(&channel) {
            lane.leave(&leaving);
            if lane.is_empty() {
                self.channels.remove(&channel);
            }
        }
        for done in told.into_iter().flatten() {
            // Nobody waits any more when the connection is gone.
            let _ = done.send(());
        }
    }
}
