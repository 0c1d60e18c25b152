//! Which channels this node follows, where each stands, and who waits for a subscription to be confirmed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;

use super::record::Link;
use super::server::Server;
use super::track::{Answer, Step, Track};
use crate::channel::{ChannelName, Position};

/// All channels of this node, whatever server they are on.
#[derive(Default)]
pub(super) struct Following {
    /// Shared by those who follow and by the links that bring publications; held for a few lines each.
    channels: Mutex<Channels>,
}

#[derive(Default)]
struct Channels {
    by_name: HashMap<ChannelName, Followed>,
    /// Told apart from an earlier time the same channel was followed.
    serials: u64,
}

struct Followed {
    serial: u64,
    /// The server whose link brings it. What comes over another is late.
    home: Arc<Server>,
    is_confirmed: bool,
    waiting: Vec<oneshot::Sender<()>>,
    track: Track,
}

/// A question to the store, and whose it is.
pub(super) struct Question {
    pub(super) channel: ChannelName,
    pub(super) serial: u64,
    pub(super) since: Position,
}

/// What is to be done about a channel.
pub(super) struct Todo {
    pub(super) channel: ChannelName,
    pub(super) serial: u64,
    pub(super) step: Step,
}

impl Following {
    /// Enters the channel. The answer resolves once its subscription is confirmed; none means that it is already.
    pub(super) fn add(&self, channel: &ChannelName, home: &Arc<Server>) -> Option<oneshot::Receiver<()>> {
        let mut channels = self.lock();
        channels.serials += 1;
        let serial = channels.serials;
        let followed = channels.by_name.entry(channel.clone()).or_insert_with(|| Followed {
            serial,
            home: home.clone(),
            is_confirmed: false,
            waiting: Vec::new(),
            track: Track::default(),
        });
        if followed.is_confirmed {
            return None;
        }
        let (confirm, confirmed) = oneshot::channel();
        followed.waiting.push(confirm);
        Some(confirmed)
    }

    /// Takes it out; the answer is the server that is to be told.
    pub(super) fn remove(&self, channel: &ChannelName) -> Option<Arc<Server>> {
        self.lock().by_name.remove(channel).map(|it| it.home)
    }

    pub(super) fn is_wanted(&self, channel: &ChannelName, home: &Arc<Server>) -> bool {
        self.lock().by_name.get(channel).is_some_and(|it| Arc::ptr_eq(&it.home, home))
    }

    /// The channels that a server's link is to bring.
    pub(super) fn of(&self, home: &Arc<Server>) -> Vec<ChannelName> {
        let channels = self.lock();
        channels.by_name.iter().filter(|(_, it)| Arc::ptr_eq(&it.home, home)).map(|(name, _)| name.clone()).collect()
    }

    /// The channel stands at this head, if nothing came of it yet.
    pub(super) fn begins(&self, channel: &ChannelName, head: Position) {
        if let Some(followed) = self.lock().by_name.get_mut(channel) {
            followed.track.begins(head);
        }
    }

    /// The subscription is there: whoever waited can go on, and what an earlier link did not bring is asked for.
    pub(super) fn confirmed(&self, channel: &str, home: &Arc<Server>) -> Option<Question> {
        let mut channels = self.lock();
        let (channel, followed) = channels.find(channel, home)?;
        followed.is_confirmed = true;
        for waiting in followed.waiting.drain(..) {
            // Whoever asked may have stopped waiting.
            let _ = waiting.send(());
        }
        let since = followed.track.compare()?;
        Some(Question { channel, serial: followed.serial, since })
    }

    /// The server whose link is to compare the channel, which stands elsewhere here.
    pub(super) fn suspects(&self, channel: &ChannelName, head: &Position) -> Option<Arc<Server>> {
        let channels = self.lock();
        let followed = channels.by_name.get(channel).filter(|it| it.is_confirmed && !it.track.is_at(head))?;
        Some(followed.home.clone())
    }

    /// What is asked of a channel because the store says it stands elsewhere.
    pub(super) fn compare(&self, channel: &ChannelName, home: &Arc<Server>) -> Option<Question> {
        let mut channels = self.lock();
        let (channel, followed) = channels.find(channel.as_str(), home)?;
        let since = followed.is_confirmed.then(|| followed.track.compare())??;
        Some(Question { channel, serial: followed.serial, since })
    }

    /// Nothing comes over this server's link any more, and nobody answers what was asked for it.
    pub(super) fn link_ended(&self, home: &Arc<Server>) {
        for followed in self.lock().by_name.values_mut().filter(|it| Arc::ptr_eq(&it.home, home)) {
            followed.is_confirmed = false;
            followed.track.link_ended();
        }
    }

    /// The channel's name as everybody shares it, if this server's link is to bring it.
    pub(super) fn name(&self, channel: &str, home: &Arc<Server>) -> Option<ChannelName> {
        self.lock().find(channel, home).map(|(name, _)| name)
    }

    pub(super) fn arrived(&self, channel: &ChannelName, home: &Arc<Server>, link: Link) -> Option<Todo> {
        let mut channels = self.lock();
        let (channel, followed) = channels.find(channel.as_str(), home)?;
        let step = followed.track.arrived(link);
        Some(Todo { channel, serial: followed.serial, step })
    }

    pub(super) fn answered(&self, channel: &ChannelName, serial: u64, answer: Answer) -> Option<Todo> {
        let mut channels = self.lock();
        let followed = channels.by_name.get_mut(channel).filter(|it| it.serial == serial)?;
        Some(Todo { channel: channel.clone(), serial, step: followed.track.answered(answer) })
    }

    /// Moves channels whose slot another server has now. The answer names each with its old and its new home.
    pub(super) fn move_homes(
        &self,
        home_of: impl Fn(&ChannelName) -> Option<Arc<Server>>,
    ) -> Vec<(ChannelName, Arc<Server>, Arc<Server>)> {
        let mut moved = Vec::new();
        let mut channels = self.lock();
        let Channels { by_name, serials } = &mut *channels;
        for (name, followed) in by_name {
            let Some(new) = home_of(name).filter(|it| !Arc::ptr_eq(it, &followed.home)) else { continue };
            let old = std::mem::replace(&mut followed.home, new.clone());
            followed.is_confirmed = false;
            followed.track.link_ended();
            // What the old home's link still asks about is answered to nobody.
            *serials += 1;
            followed.serial = *serials;
            moved.push((name.clone(), old, new));
        }
        moved
    }

    fn lock(&self) -> MutexGuard<'_, Channels> {
        self.channels.lock().expect("nothing panics under this lock")
    }
}

impl Channels {
    fn find(&mut self, channel: &str, home: &Arc<Server>) -> Option<(ChannelName, &mut Followed)> {
        let name = self.by_name.get_key_value(channel)?.0.clone();
        let followed = self.by_name.get_mut(channel).filter(|it| Arc::ptr_eq(&it.home, home))?;
        Some((name, followed))
    }
}
