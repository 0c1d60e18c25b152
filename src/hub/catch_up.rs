//! A client joins a channel: register first, then read the history, then join the two by position, so that nothing
//! published in between is lost or heard twice. A long gap is written at the socket's pace, outside the outbox's limit.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::Hub;
use super::inbox::{Inbox, Order};
use super::lane::{Number, Place, SLOW};
use super::outbox::Outbox;
use super::reads::{Moment, Stretch, Wanted};
use super::rules::Rule;
use super::wire::Hole;
use crate::channel::{ChannelName, Position, Retention};
use crate::engine::Error;

/// Publications read from the engine at once.
const PAGE: usize = 128;

/// What a client's subscribe came to.
#[derive(Debug)]
pub struct Subscribed {
    pub subscription: Subscription,
    /// What the client has, and from where messages go on.
    pub position: Position,
    /// Whether nothing is missing since the position it named, if it named one.
    pub recovered: Option<bool>,
    /// Present while there is something to write before live publications; none means [`Subscription::go_live`] comes next.
    pub catch_up: Option<CatchUp>,
}

/// A client's place among a channel's followers. Dropping it leaves the channel.
pub struct Subscription {
    channel: ChannelName,
    outbox: Arc<Outbox>,
    inbox: Arc<Inbox>,
    hub: Arc<Hub>,
    number: Number,
    is_paced: bool,
    has_left: bool,
}

/// A gap being written to a client.
pub struct CatchUp {
    channel: ChannelName,
    retention: Retention,
    /// Since when what is published is held for the client.
    joined: Moment,
    /// Up to where it was written.
    position: Position,
    /// What comes next, once it is read.
    next: Option<Arc<Stretch>>,
    /// What a gap is called.
    reason: &'static str,
    /// Of all there is, only the newest is written.
    is_paced: bool,
}

/// How a catch-up goes on.
#[derive(Debug, PartialEq, Eq)]
pub enum Fed {
    /// There is more; offer again once the outbox has room.
    More,
    /// Everything is written that there was: the subscription can go live.
    Done(Caught),
}

/// Where a catch-up ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caught {
    position: Position,
    /// The engine gave all it had after what the client had.
    is_whole: bool,
}

impl Hub {
    /// Joins a channel, from a position or from now. Nothing is written to the client before it goes live or is fed.
    pub async fn subscribe(
        self: &Arc<Self>,
        channel: &ChannelName,
        since: Option<Position>,
        outbox: &Arc<Outbox>,
        rule: &Rule,
    ) -> Result<Subscribed, Error> {
        self.follows.add(channel).await?;
        let subscription = self.join(channel, outbox, rule);
        // History after the join: a publication between the two is held, one before is in the page.
        let joined = self.fan_out.reads.moment();
        let (is_paced, retention) = (subscription.is_paced, rule.history);
        let limit = match since {
            None => 0,
            // To learn whether anything is missing.
            Some(_) if is_paced => 1,
            Some(_) => PAGE,
        };
        let stretch = self.read(channel, Wanted { since: since.clone(), limit, retention }, joined).await?;
        let Some(since) = since else {
            return Ok(Subscribed { subscription, position: stretch.head.clone(), recovered: None, catch_up: None });
        };
        if stretch.end.is_none() || !stretch.unbroken {
            let (position, recovered) = (stretch.head.clone(), Some(stretch.unbroken));
            return Ok(Subscribed { subscription, position, recovered, catch_up: None });
        }
        let (channel, position, next) = (channel.clone(), since.clone(), (!is_paced).then_some(stretch));
        let catch_up = CatchUp { channel, retention, joined, position, next, reason: SLOW, is_paced };
        Ok(Subscribed { subscription, position: since, recovered: Some(true), catch_up: Some(catch_up) })
    }

    async fn read(&self, channel: &ChannelName, wanted: Wanted, joined: Moment) -> Result<Arc<Stretch>, Error> {
        self.fan_out.reads.read(&self.broker, channel, &wanted, joined, self.deflate()).await
    }

    fn join(self: &Arc<Self>, channel: &ChannelName, outbox: &Arc<Outbox>, rule: &Rule) -> Subscription {
        let number = self.subscriptions.fetch_add(1, Ordering::Relaxed);
        let inbox = self.inbox_of(outbox.id).clone();
        let (channel, outbox) = (channel.clone(), outbox.clone());
        let Rule { when_slow, min_interval, .. } = *rule;
        inbox.push(Order::Join { channel: channel.clone(), outbox: outbox.clone(), number, when_slow, min_interval });
        let is_paced = min_interval.is_some();
        Subscription { channel, outbox, inbox, hub: self.clone(), number, is_paced, has_left: false }
    }

    /// The catch-up of a subscription that fell back, unless the hole is an earlier subscription's.
    pub fn catch_up_again(&self, subscription: &Subscription, hole: Hole, retention: Retention) -> Option<CatchUp> {
        let Hole { channel, number, from: position, reason } = hole;
        let (joined, is_paced) = (self.fan_out.reads.moment(), subscription.is_paced);
        let catch_up = CatchUp { channel, retention, joined, position, next: None, reason, is_paced };
        (number == subscription.number).then_some(catch_up)
    }
}

impl Subscription {
    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// From here on publications newer than the position are written to the client as they come.
    pub fn go_live(&self, from: Position) {
        self.go_on(Caught { position: from, is_whole: true });
    }

    /// The same from where a catch-up ended. Where the engine gave out before, the client is told the gap.
    pub fn go_on(&self, caught: Caught) {
        let Caught { position: from, is_whole } = caught;
        let place = Place { id: self.outbox.id, number: self.number, from };
        self.inbox.push(Order::Live { channel: self.channel.clone(), place, is_whole });
    }

    /// Leaves, and resolves once nothing of the channel can reach the client any more.
    pub async fn leave(mut self) {
        let (done, left) = oneshot::channel();
        self.has_left = true;
        self.inbox.push(self.order_to_leave(Some(done)));
        // A dropped sender means the shard is gone, and with it every offer.
        let _ = left.await;
        self.outbox.purge(&self.channel);
    }

    fn order_to_leave(&self, done: Option<oneshot::Sender<()>>) -> Order {
        Order::Leave { channel: self.channel.clone(), id: self.outbox.id, number: self.number, done }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if !self.has_left {
            self.inbox.push(self.order_to_leave(None));
        }
        self.hub.follows.remove(&self.channel);
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Subscription({} of {})", self.outbox.id, self.channel)
    }
}

impl CatchUp {
    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// Puts the next helping into the outbox. A history that ran out from under it is a gap, told in its place.
    pub async fn feed(&mut self, hub: &Hub, outbox: &Outbox) -> Fed {
        let stretch = match self.next.take() {
            Some(stretch) => stretch,
            None => match hub.read(&self.channel, self.wanted(), self.joined).await {
                Ok(stretch) => stretch,
                // The engine is away: where it goes on, the shard knows.
                Err(_) => return self.done(false),
            },
        };
        if self.is_paced {
            return self.feed_newest(&stretch, outbox);
        }
        if !stretch.unbroken {
            return self.tell_gap(&stretch, outbox);
        }
        stretch.runs.iter().for_each(|run| outbox.catch_up(run));
        if let Some(end) = &stretch.end {
            self.position = end.clone();
        }
        match stretch.reaches_head() && stretch.covers(self.joined) {
            true => self.done(true),
            false => Fed::More,
        }
    }

    /// Older ones than the newest are not missed, so only one that is no longer there, or another epoch, is a gap.
    fn feed_newest(&mut self, stretch: &Stretch, outbox: &Outbox) -> Fed {
        let head = &stretch.head;
        if head.is_place_of(&self.position) {
            return self.done(true);
        }
        let goes_on = head.epoch == self.position.epoch && head.seq > self.position.seq;
        if !goes_on || stretch.end.is_none() || !stretch.reaches_head() {
            return self.tell_gap(stretch, outbox);
        }
        stretch.runs.iter().for_each(|run| outbox.catch_up(run));
        self.position = head.clone();
        self.done(true)
    }

    fn tell_gap(&mut self, stretch: &Stretch, outbox: &Outbox) -> Fed {
        let reason = if stretch.head.epoch == self.position.epoch { self.reason } else { "epoch" };
        outbox.tell_gap(&self.channel, &stretch.head, reason);
        self.position = stretch.head.clone();
        self.done(true)
    }

    fn done(&self, is_whole: bool) -> Fed {
        Fed::Done(Caught { position: self.position.clone(), is_whole })
    }

    fn wanted(&self) -> Wanted {
        let (since, limit) = if self.is_paced { (None, 1) } else { (Some(self.position.clone()), PAGE) };
        Wanted { since, limit, retention: self.retention }
    }
}

impl std::fmt::Debug for CatchUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CatchUp({} at {})", self.channel, self.position.seq)
    }
}
