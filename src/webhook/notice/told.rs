//! What the backend believes of channels: which are occupied and who is in them. Noted where it was told so, so that a
//! process that comes after a crash takes it back.

use std::sync::Arc;

use super::super::{Event, Webhooks};
use super::Notices;
use super::letter::event_of;
use crate::channel::{Change, ChannelName};
use crate::records::Shelf;

/// Between a channel's name and a user's id: no name has one.
const BETWEEN: char = ' ';

impl Notices {
    /// Notes what is to be taken back one day, or that it was.
    pub(super) fn believes(&self, change: &Change, webhooks: &Webhooks) {
        let (key, event, is_there) = match change {
            Change::Occupied { channel } => (channel.to_string(), Event::Vacated, true),
            Change::Vacated { channel } => (channel.to_string(), Event::Vacated, false),
            Change::Joined { channel, user } => (format!("{channel}{BETWEEN}{user}"), Event::Left, true),
            Change::Left { channel, user } => (format!("{channel}{BETWEEN}{user}"), Event::Left, false),
        };
        if !is_there {
            self.records.remove(Shelf::Believed, &key);
        } else if webhooks.asks(event) {
            self.records.put(Shelf::Believed, &key, Vec::new());
        }
    }

    /// Nobody has been anywhere since the process before this one ended: whoever is back within the grace was never gone.
    pub(super) fn take_back_what_is_believed(&self) {
        for (key, _) in self.records.all(Shelf::Believed) {
            match change(&key).filter(|it| self.webhooks_for(event_of(it)).is_some()) {
                Some(change) => self.change(change),
                // Nobody wants to hear it, or it cannot be read.
                None => self.records.remove(Shelf::Believed, &key),
            }
        }
    }
}

/// The end of what a record says.
fn change(key: &str) -> Option<Change> {
    let Some((channel, user)) = key.split_once(BETWEEN) else {
        return Some(Change::Vacated { channel: ChannelName::parse(key).ok()? });
    };
    Some(Change::Left { channel: ChannelName::parse(channel).ok()?, user: Arc::from(user) })
}
