//! Who is connected to this node: by connection and by user. For messages, disconnects and commands that name one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::outbox::{Outbox, Owner};
use crate::channel::ConnectionId;

/// All connections of this node.
#[derive(Debug, Default)]
pub struct Directory(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    connections: HashMap<ConnectionId, Arc<Outbox>>,
    users: HashMap<Arc<str>, Vec<ConnectionId>>,
}

/// A connection's place in the directory; dropping it takes the connection out.
#[derive(Debug)]
pub struct Listed {
    directory: Arc<Directory>,
    outbox: Arc<Outbox>,
}

impl Directory {
    pub fn list(self: &Arc<Self>, outbox: &Arc<Outbox>, owner: Owner) -> Listed {
        let user = owner.user.clone();
        outbox.belongs_to(owner);
        let mut entries = self.lock();
        entries.connections.insert(outbox.id, outbox.clone());
        if let Some(user) = user {
            entries.users.entry(user).or_default().push(outbox.id);
        }
        drop(entries);
        Listed { directory: self.clone(), outbox: outbox.clone() }
    }

    pub fn connection(&self, id: ConnectionId) -> Option<Arc<Outbox>> {
        self.lock().connections.get(&id).cloned()
    }

    /// Every connection of a user.
    pub fn user(&self, user: &str) -> Vec<Arc<Outbox>> {
        let entries = self.lock();
        let ids = entries.users.get(user).map(Vec::as_slice).unwrap_or_default();
        ids.iter().filter_map(|id| entries.connections.get(id).cloned()).collect()
    }

    /// Every connection whose owner is meant.
    pub fn find(&self, is_meant: impl Fn(&Owner) -> bool) -> Vec<Arc<Outbox>> {
        let mut found = self.all();
        found.retain(|it| it.owner().is_some_and(|it| is_meant(&it)));
        found
    }

    pub fn all(&self) -> Vec<Arc<Outbox>> {
        self.lock().connections.values().cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.lock().connections.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().expect("nothing panics under the directory's lock")
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let user = self.outbox.user();
        let mut entries = self.directory.lock();
        entries.connections.remove(&self.outbox.id);
        let Some(user) = user else { return };
        if let Some(ids) = entries.users.get_mut(&user) {
            ids.retain(|it| *it != self.outbox.id);
            if ids.is_empty() {
                entries.users.remove(&user);
            }
        }
    }
}
