use std::net::IpAddr;
use std::sync::Arc;

use super::Outbox;
use crate::channel::{Grant, now};

/// Whose outbox it is, for whoever looks at a connection from outside.
#[derive(Clone, Debug)]
pub struct Owner {
    pub user: Option<Arc<str>>,
    pub ip: IpAddr,
    /// When it came, in milliseconds since the Unix epoch.
    pub since: u64,
    pub grants: Option<Arc<[Grant]>>,
}

impl Owner {
    /// Somebody who was let in just now.
    pub fn new(user: Option<Arc<str>>, ip: IpAddr, grants: Option<Arc<[Grant]>>) -> Self {
        Self { user, ip, since: now(), grants }
    }
}

impl Outbox {
    /// None before its client was let in.
    pub fn owner(&self) -> Option<Owner> {
        self.lock().owner.clone()
    }

    pub fn user(&self) -> Option<Arc<str>> {
        self.lock().owner.as_ref()?.user.clone()
    }

    pub(in crate::hub) fn belongs_to(&self, owner: Owner) {
        self.lock().owner = Some(owner);
    }

    /// Its client may do other things from now on.
    pub fn grant(&self, grants: Option<Arc<[Grant]>>) {
        if let Some(owner) = &mut self.lock().owner {
            owner.grants = grants;
        }
    }
}
