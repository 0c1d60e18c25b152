//! Who is connected to this node: by connection and by user. For messages, disconnects and commands that name one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use super::outbox::Outbox;
use crate::channel::ConnectionId;

/// All connections of this node.
#[derive(Debug, Default)]
pub struct Directory(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    connections: HashMap<ConnectionId, Known>,
    users: HashMap<Arc<str>, Vec<ConnectionId>>,
}

/// What is known of a connection from outside.
#[derive(Clone, Debug)]
pub struct Known {
    pub outbox: Arc<Outbox>,
    pub user: Option<Arc<str>>,
    /// When it came, in milliseconds since the Unix epoch.
    pub since: u64,
    pub proof: Proof,
}

/// By what a client was let in, as far as that can be taken back.
#[derive(Clone, Debug, Default)]
pub struct Proof {
    pub issued_at: Option<SystemTime>,
    /// Its own name, if it has one.
    pub id: Option<Arc<str>>,
}

/// A connection's place in the directory; dropping it takes the connection out.
#[derive(Debug)]
pub struct Listed {
    directory: Arc<Directory>,
    id: ConnectionId,
    user: Option<Arc<str>>,
}

impl Directory {
    pub fn list(self: &Arc<Self>, outbox: &Arc<Outbox>, user: Option<Arc<str>>) -> Listed {
        if let Some(user) = &user {
            outbox.belongs_to(user);
        }
        let mut entries = self.lock();
        let proof = Proof::default();
        let known = Known { outbox: outbox.clone(), user: user.clone(), since: crate::channel::now(), proof };
        entries.connections.insert(outbox.id, known);
        if let Some(user) = &user {
            entries.users.entry(user.clone()).or_default().push(outbox.id);
        }
        drop(entries);
        Listed { directory: self.clone(), id: outbox.id, user }
    }

    pub fn connection(&self, id: ConnectionId) -> Option<Arc<Outbox>> {
        self.lock().connections.get(&id).map(|it| it.outbox.clone())
    }

    /// Every connection of a user.
    pub fn user(&self, user: &str) -> Vec<Arc<Outbox>> {
        let entries = self.lock();
        let ids = entries.users.get(user).map(Vec::as_slice).unwrap_or_default();
        ids.iter().filter_map(|id| entries.connections.get(id).map(|it| it.outbox.clone())).collect()
    }

    /// The same, and who it is.
    pub fn known(&self, id: ConnectionId) -> Option<Known> {
        self.lock().connections.get(&id).cloned()
    }

    /// Every connection that is meant.
    pub fn find(&self, is_meant: impl Fn(&Known) -> bool) -> Vec<Arc<Outbox>> {
        self.lock().connections.values().filter(|it| is_meant(it)).map(|it| it.outbox.clone()).collect()
    }

    pub fn all(&self) -> Vec<Arc<Outbox>> {
        self.lock().connections.values().map(|it| it.outbox.clone()).collect()
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

impl Listed {
    /// By what it was let in, from now on.
    pub fn prove(&self, proof: Proof) {
        if let Some(known) = self.directory.lock().connections.get_mut(&self.id) {
            known.proof = proof;
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut entries = self.directory.lock();
        entries.connections.remove(&self.id);
        let Some(user) = &self.user else { return };
        if let Some(ids) = entries.users.get_mut(user) {
            ids.retain(|it| *it != self.id);
            if ids.is_empty() {
                entries.users.remove(user);
            }
        }
    }
}
