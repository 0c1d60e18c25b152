//! Who is in a channel, as its subscribers know it: the list when they come, and who comes and goes from then on. A list
//! read at some moment and every change after it add up to the truth, whatever else is heard twice: the last word about
//! a user counts.

mod crowd;
mod hearing;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Hub;
use super::inbox::Order;
use super::rules::Attendance;
use crate::channel::{ChannelName, ConnectionId, Member};
use crate::engine::{Error, Members};

pub(super) use crowd::{Crowds, Way};
pub(super) use hearing::{Hear, Hearing};

/// A client's presence in a channel: as a member where it has a user id, and as somebody who hears of members. Dropping
/// it leaves.
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
    /// Lets a client be present in a channel that it follows, and says who is there. Once the client was told,
    /// [`Present::go_on`] tells it what has changed since and from then on.
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
        match present.enter(member, attendance).await {
            Ok(roll) => Ok((present, roll)),
            Err(error) => {
                present.end();
                Err(error)
            }
        }
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
            // Held already, so that the client always hears of its own coming rather than only when it is told late.
            self.hear(Hear::Hold);
            // Before it is so: whoever stops waiting leaves all the same.
            self.is_member = true;
            self.hub.presence.join(&self.channel, self.connection, member).await?;
        }
        self.roll(attendance).await
    }

    /// Who is there. What changes after it is held until [`Present::go_on`].
    pub async fn roll(&self, attendance: Attendance) -> Result<Roll, Error> {
        // First held, then read: what happens between the two is heard after the list, and takes nothing from its truth.
        self.hear(Hear::Hold);
        let Members { members, total } = self.hub.members(&self.channel, attendance.max_members).await?;
        match self.hub.fan_out.crowds.is_large(&self.channel, total) {
            true => Ok(Roll::Number(total)),
            false => Ok(Roll::Everybody(members)),
        }
    }

    /// The client was told the list: from here on it hears who comes and goes.
    pub fn go_on(&self) {
        self.hear(Hear::Tell);
    }

    /// Leaves, and hears of nobody any more, not even of its own leaving. For a client that goes on to follow; else it is
    /// enough to drop this.
    pub fn end(self) {
        self.hear(Hear::Nothing);
    }

    fn hear(&self, what: Hear) {
        let order = Order::Hear { channel: self.channel.clone(), id: self.connection, what };
        self.hub.inbox_of(self.connection).push(order);
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        if self.is_member {
            let (presence, channel, connection) = (self.hub.presence.clone(), self.channel.clone(), self.connection);
            let mut leaving: Leaving = Box::pin(async move {
                if let Err(error) = presence.leave(&channel, connection).await {
                    tracing::debug!(%channel, %connection, %error, "a leave was not taken; the lease ends it");
                }
            });
            // The order of leaving and coming back is that of the first polls.
            if leaving.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
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
