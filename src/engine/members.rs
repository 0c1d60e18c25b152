//! The members of a node that stands alone, in memory: they end with the process, which is their lease.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{BoxFuture, Deliver, Error, Members, Presence};
use crate::channel::{Change, ChannelName, ConnectionId, Member};

/// Who is in which channel.
pub struct MemoryPresence {
    /// Held while a change is handed on, so that changes are told in the order they happened.
    rolls: Mutex<HashMap<ChannelName, Roll>>,
    deliver: Arc<dyn Deliver>,
}

/// The members of one channel.
#[derive(Default)]
struct Roll {
    connections: HashMap<ConnectionId, Arc<str>>,
    /// In order of their ids, with how many connections each has.
    users: BTreeMap<Arc<str>, (Arc<Member>, u32)>,
}

/// What a call came to.
enum Came {
    New(Arc<Member>),
    /// With other info than before.
    Again(Arc<Member>),
    Unchanged,
}

impl MemoryPresence {
    pub fn new(deliver: Arc<dyn Deliver>) -> Self {
        Self { rolls: Mutex::default(), deliver }
    }

    fn join_now(&self, channel: &ChannelName, connection: ConnectionId, member: Member) {
        let mut rolls = self.lock();
        let roll = rolls.entry(channel.clone()).or_default();
        if roll.connections.get(&connection).is_some_and(|user| *user != member.user) {
            // Nobody becomes somebody else on a live connection; if one did, the old user is not there any more.
            self.part(channel, roll, connection);
        }
        match roll.enter(connection, member) {
            Came::New(member) => {
                let change = Change::Joined { channel: channel.clone(), user: member.user.clone() };
                self.deliver.joined(channel, member, roll.users.len());
                self.deliver.caused(change);
            }
            Came::Again(member) => self.deliver.joined(channel, member, roll.users.len()),
            Came::Unchanged => {}
        }
    }

    fn leave_now(&self, channel: &ChannelName, connection: ConnectionId) {
        let mut rolls = self.lock();
        let Some(roll) = rolls.get_mut(channel) else { return };
        self.part(channel, roll, connection);
        if roll.connections.is_empty() {
            rolls.remove(channel);
        }
    }

    fn part(&self, channel: &ChannelName, roll: &mut Roll, connection: ConnectionId) {
        if let Some(member) = roll.exit(connection) {
            let change = Change::Left { channel: channel.clone(), user: member.user.clone() };
            self.deliver.left(channel, member, roll.users.len());
            self.deliver.caused(change);
        }
    }

    fn read(&self, channel: &ChannelName, limit: usize) -> Members {
        let rolls = self.lock();
        let Some(roll) = rolls.get(channel) else { return Members::default() };
        let members = roll.users.values().take(limit).map(|(member, _)| member.clone()).collect();
        Members { members, total: roll.users.len() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelName, Roll>> {
        self.rolls.lock().expect("nothing panics under this lock")
    }
}

impl Roll {
    fn enter(&mut self, connection: ConnectionId, member: Member) -> Came {
        let is_new_connection = self.connections.insert(connection, member.user.clone()).is_none();
        let Some((known, connections)) = self.users.get_mut(&member.user) else {
            let member = Arc::new(member);
            self.users.insert(member.user.clone(), (member.clone(), 1));
            return Came::New(member);
        };
        *connections += u32::from(is_new_connection);
        if known.info == member.info {
            return Came::Unchanged;
        }
        *known = Arc::new(member);
        Came::Again(known.clone())
    }

    /// The member who is gone with it.
    fn exit(&mut self, connection: ConnectionId) -> Option<Arc<Member>> {
        let user = self.connections.remove(&connection)?;
        let (_, connections) = self.users.get_mut(&user)?;
        *connections -= 1;
        if *connections > 0 {
            return None;
        }
        self.users.remove(&user).map(|(member, _)| member)
    }
}

impl Presence for MemoryPresence {
    fn join(
        &self,
        channel: &ChannelName,
        connection: ConnectionId,
        member: Member,
    ) -> BoxFuture<'_, Result<(), Error>> {
        self.join_now(channel, connection, member);
        Box::pin(std::future::ready(Ok(())))
    }

    fn leave(&self, channel: &ChannelName, connection: ConnectionId) -> BoxFuture<'_, Result<(), Error>> {
        self.leave_now(channel, connection);
        Box::pin(std::future::ready(Ok(())))
    }

    fn members(&self, channel: &ChannelName, limit: usize) -> BoxFuture<'_, Result<Members, Error>> {
        Box::pin(std::future::ready(Ok(self.read(channel, limit))))
    }
}

impl std::fmt::Debug for MemoryPresence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemoryPresence")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Publication;

    /// What was told, in words: `+ada 1` is Ada's coming as the first.
    #[derive(Default)]
    struct Heard {
        told: Mutex<Vec<String>>,
        caused: Mutex<Vec<Change>>,
    }

    impl Deliver for Heard {
        fn room(&self) -> BoxFuture<'_, ()> {
            Box::pin(std::future::ready(()))
        }
        fn publication(&self, _: Arc<Publication>) {}
        fn joined(&self, _: &ChannelName, member: Arc<Member>, members: usize) {
            self.told.lock().unwrap().push(format!("+{} {members}", member.user));
        }
        fn left(&self, _: &ChannelName, member: Arc<Member>, members: usize) {
            self.told.lock().unwrap().push(format!("-{} {members}", member.user));
        }
        fn caused(&self, change: Change) {
            self.caused.lock().unwrap().push(change);
        }
    }

    fn presence() -> (MemoryPresence, Arc<Heard>) {
        let heard = Arc::new(Heard::default());
        (MemoryPresence::new(heard.clone()), heard)
    }

    fn member(user: &str, info: Option<&str>) -> Member {
        Member { user: user.into(), info: info.map(Into::into) }
    }

    fn room() -> ChannelName {
        ChannelName::parse("room").unwrap()
    }

    fn tab(number: u128) -> ConnectionId {
        ConnectionId(number)
    }

    #[tokio::test]
    async fn a_user_comes_with_the_first_connection_and_goes_with_the_last() {
        let (presence, heard) = presence();
        for number in [1, 2, 2] {
            presence.join(&room(), tab(number), member("ada", None)).await.unwrap();
        }
        presence.join(&room(), tab(3), member("bob", None)).await.unwrap();
        for number in [1, 1, 9, 2] {
            presence.leave(&room(), tab(number)).await.unwrap();
        }
        assert_eq!(*heard.told.lock().unwrap(), ["+ada 1", "+bob 2", "-ada 1"]);
        let joined = |user: &str| Change::Joined { channel: room(), user: user.into() };
        let left = Change::Left { channel: room(), user: "ada".into() };
        assert_eq!(*heard.caused.lock().unwrap(), [joined("ada"), joined("bob"), left]);
    }

    #[tokio::test]
    async fn the_newest_info_counts_and_is_told_without_anybody_coming_anew() {
        let (presence, heard) = presence();
        presence.join(&room(), tab(1), member("ada", None)).await.unwrap();
        presence.join(&room(), tab(2), member("ada", Some("1"))).await.unwrap();
        presence.leave(&room(), tab(2)).await.unwrap();
        assert_eq!(*heard.told.lock().unwrap(), ["+ada 1", "+ada 1"]);
        assert_eq!(heard.caused.lock().unwrap().len(), 1);
        let members = presence.members(&room(), 10).await.unwrap();
        assert_eq!(members.members, [Arc::new(member("ada", Some("1")))]);
    }

    #[tokio::test]
    async fn a_list_is_cut_to_its_limit_and_says_how_many_there_are() {
        let (presence, _) = presence();
        for number in 0..5 {
            presence.join(&room(), tab(number), member(&format!("u{number}"), None)).await.unwrap();
        }
        let members = presence.members(&room(), 2).await.unwrap();
        let users: Vec<_> = members.members.iter().map(|it| &*it.user).collect();
        assert_eq!((users, members.total), (vec!["u0", "u1"], 5));
        assert_eq!(presence.members(&ChannelName::parse("b").unwrap(), 2).await.unwrap(), Members::default());
    }

    #[tokio::test]
    async fn an_empty_channel_leaves_nothing_behind() {
        let (presence, _) = presence();
        presence.join(&room(), tab(1), member("ada", None)).await.unwrap();
        presence.leave(&room(), tab(1)).await.unwrap();
        assert!(presence.lock().is_empty());
    }
}
