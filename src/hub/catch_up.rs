//! A client joins a channel: register first, then read the history, then join the two by position, so that nothing
//! published in between is lost or heard twice. A long gap is written at the socket's pace, outside the outbox's limit.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Hub;
use super::inbox::{Inbox, Order};
use super::outbox::Outbox;
use super::rules::Rule;
use super::run::Run;
use crate::channel::{ChannelName, Position, Publication, Retention};
use crate::engine::{Error, Page};

/// Publications read from the engine at once.
const PAGE: usize = 128;
/// Bytes put into an outbox at once. The next helping waits until most of it is gone.
const HELPING: usize = 128 * 1024;

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
    has_left: bool,
}

/// A gap being written to a client.
pub struct CatchUp {
    channel: ChannelName,
    retention: Retention,
    /// Up to where it was written.
    position: Position,
    pending: VecDeque<Arc<Publication>>,
    /// The engine has nothing after what is pending.
    is_last_page: bool,
}

/// How a catch-up goes on.
#[derive(Debug, PartialEq, Eq)]
pub enum Fed {
    /// There is more; offer again once the outbox has room.
    More,
    /// Everything is written up to here: the subscription can go live.
    Done(Position),
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
        let inbox = self.inbox_of(outbox.id).clone();
        inbox.push(Order::Join { channel: channel.clone(), outbox: outbox.clone(), when_slow: rule.when_slow });
        let subscription = Subscription {
            channel: channel.clone(),
            outbox: outbox.clone(),
            inbox,
            hub: self.clone(),
            has_left: false,
        };
        // History after the join: a publication between the two is held, one before is in the page.
        let limit = if since.is_some() { PAGE } else { 0 };
        let page = self.broker.history(channel, since.clone(), limit, rule.history).await?;
        let Some(since) = since else {
            return Ok(Subscribed { subscription, position: page.head, recovered: None, catch_up: None });
        };
        if !page.unbroken {
            return Ok(Subscribed { subscription, position: page.head, recovered: Some(false), catch_up: None });
        }
        if page.publications.is_empty() {
            return Ok(Subscribed { subscription, position: page.head, recovered: Some(true), catch_up: None });
        }
        let mut catch_up = CatchUp::new(channel.clone(), rule.history, since.clone());
        catch_up.take(page);
        Ok(Subscribed { subscription, position: since, recovered: Some(true), catch_up: Some(catch_up) })
    }
}

impl Subscription {
    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// From here on publications newer than `from` are written to the client as they come.
    pub fn go_live(&self, from: u64) {
        self.inbox.push(Order::Live { channel: self.channel.clone(), id: self.outbox.id, from });
    }

    /// Leaves, and resolves once nothing of the channel can reach the client any more.
    pub async fn leave(mut self) {
        let (done, left) = oneshot::channel();
        self.has_left = true;
        self.inbox.push(Order::Leave { channel: self.channel.clone(), id: self.outbox.id, done: Some(done) });
        // A dropped sender means the shard is gone, and with it every offer.
        let _ = left.await;
        self.outbox.purge(&self.channel);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if !self.has_left {
            self.inbox.push(Order::Leave { channel: self.channel.clone(), id: self.outbox.id, done: None });
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
    /// From a position on; what there is to write is still to be read.
    pub fn new(channel: ChannelName, retention: Retention, position: Position) -> Self {
        Self { channel, retention, position, pending: VecDeque::new(), is_last_page: false }
    }

    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// Reads the next page, if there is nothing left to write. An answer of `false` means the history ran out from under
    /// it: the client missed something and is to be told.
    pub async fn read_on(&mut self, hub: &Hub) -> Result<bool, Error> {
        if !self.pending.is_empty() || self.is_last_page {
            return Ok(true);
        }
        let since = Some(self.position.clone());
        let page = hub.broker.history(&self.channel, since, PAGE, self.retention).await?;
        if page.unbroken {
            self.take(page);
            return Ok(true);
        }
        self.position = page.head;
        self.is_last_page = true;
        Ok(false)
    }

    fn take(&mut self, page: Page) {
        let end = page.publications.last().map_or(self.position.seq, |it| it.seq);
        self.is_last_page = end >= page.head.seq;
        self.pending = page.publications.into();
    }

    /// Puts one helping into the outbox.
    pub fn feed(&mut self, hub: &Hub, outbox: &Outbox) -> Fed {
        let mut helping = 0;
        while helping < HELPING
            && let Some(publication) = self.pending.pop_front()
        {
            helping += publication.data.len();
            self.position = publication.position();
            let push = Arc::new(hub.push_of(publication));
            outbox.catch_up(&mut Run::new(vec![push], Vec::new()));
        }
        match self.pending.is_empty() && self.is_last_page {
            true => Fed::Done(self.position.clone()),
            false => Fed::More,
        }
    }

    pub fn position(&self) -> &Position {
        &self.position
    }
}

impl std::fmt::Debug for CatchUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CatchUp({} at {})", self.channel, self.position.seq)
    }
}
