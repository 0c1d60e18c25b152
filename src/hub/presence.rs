//! Who is in a channel, as its subscribers know it: the list when they come, and who comes and goes from then on. A list
//! read at some moment and every change after it add up to the truth, whatever else is heard twice: the last word about
//! a user counts.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Hub;
use super::inbox::Order;
use super::rules::Attendance;
use crate::channel::{ChannelName, ConnectionId, Member};
use crate::engine::{Error, Members};

/// A client's presence in a channel: as a member where it has a user id, and as somebody who hears of members. Dropping
/// it leaves; held beside the client's subscription, so that it is older than no `joined` the client hears.
pub struct Present {
    channel: ChannelName,
    connection: ConnectionId,
    is_member: bool,
    hub: Arc<Hub>,
}

/// The members of a channel as a subscriber is told them.
#[derive(Clone, Debug)]
pub enum Roll {
    Everybody(Vec<Arc<Member>>),
    /// More than the rule lists.
    Number(usize),
}

/// A leave that the engine has not confirmed yet.
pub(super) type Leaving = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Hub {
    /// Lets a client be present in a channel that it follows, and says who is there. Call it after the subscription was
    /// made, so that the client hears of every change to that list.
    pub async fn attend(
        self: &Arc<Self>,
        channel: &ChannelName,
        connection: ConnectionId,
        member: Option<Member>,
        attendance: Attendance,
    ) -> Result<(Box<Present>, Roll), Error> {
        self.fan_out.crowds.watch(channel, attendance.max_members);
        let hub = self.clone();
        let mut present = Box::new(Present { channel: channel.clone(), connection, is_member: false, hub });
        let roll = present.enter(member, attendance).await?;
        Ok((present, roll))
    }

    /// Who is there, of all nodes: at most `limit`, and how many in all.
    pub async fn members(&self, channel: &ChannelName, limit: usize) -> Result<Members, Error> {
        self.presence.members(channel, limit).await
    }
}

impl Present {
    /// The same client under rules or with a token that may be others by now.
    pub async fn renew(&mut self, member: Option<Member>, attendance: Attendance) -> Result<Roll, Error> {
        self.bound(attendance);
        self.enter(member, attendance).await
    }

    /// The rule may say something else by now.
    pub fn bound(&self, attendance: Attendance) {
        self.hub.fan_out.crowds.bound(&self.channel, attendance.max_members);
    }

    async fn enter(&mut self, member: Option<Member>, attendance: Attendance) -> Result<Roll, Error> {
        if let Some(member) = member {
            // Before it is so: whoever stops waiting leaves all the same.
            self.is_member = true;
            self.hub.presence.join(&self.channel, self.connection, member).await?;
        }
        self.roll(attendance).await
    }

    /// Who is there.
    pub async fn roll(&self, attendance: Attendance) -> Result<Roll, Error> {
        let Members { members, total } = self.hub.members(&self.channel, attendance.max_members).await?;
        match self.hub.fan_out.crowds.is_large(&self.channel, total) {
            true => Ok(Roll::Number(total)),
            false => Ok(Roll::Everybody(members)),
        }
    }

    /// From here on the client hears of members.
    pub fn hear(&self) {
        self.order_to_hear(true);
    }

    /// The rule no longer has presence.
    pub fn end(self: Box<Self>) {
        self.order_to_hear(false);
    }

    fn order_to_hear(&self, hears_presence: bool) {
        let order = Order::Hear { channel: self.channel.clone(), id: self.connection, hears_presence };
        self.hub.inbox_of(self.connection).push(order);
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        if self.is_member {
            let (presence, channel, connection) = (self.hub.presence.clone(), self.channel.clone(), self.connection);
            let mut leaving: Leaving = Box::pin(async move {
                if let Err(error) = presence.leave(&channel, connection).await {
                    tracing::warn!(%channel, %connection, %error, "a member's leave was not taken; its lease ends it");
                }
            });
            // The order of leaving and coming back is that of the first polls.
            if let Poll::Pending = leaving.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                // Nobody is left to wait for it once the hub is gone.
                let _ = self.hub.leaving.send(leaving);
            }
        }
        self.hub.fan_out.crowds.unwatch(&self.channel);
    }
}

/// Sees leaves through. As many wait as there are connections that end.
pub(super) async fn see_through(mut leaving: mpsc::UnboundedReceiver<Leaving>) {
    let mut under_way = JoinSet::new();
    while let Some(one) = leaving.recv().await {
        under_way.spawn(one);
        while under_way.try_join_next().is_some() {}
    }
}

impl std::fmt::Debug for Present {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Present({} in {})", self.connection, self.channel)
    }
}
