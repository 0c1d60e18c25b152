use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

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
    pub proof: Proof,
}

/// By what a client was let in, as far as that can be taken back.
#[derive(Clone, Debug, Default)]
pub struct Proof {
    pub issued_at: Option<SystemTime>,
    /// Its own name, if it has one.
    pub id: Option<Arc<str>>,
}

impl Owner {
    /// Somebody who was let in just now.
    pub fn new(user: Option<Arc<str>>, ip: IpAddr, grants: Option<Arc<[Grant]>>) -> Self {
        Self { user, ip, since: now(), grants, proof: Proof::default() }
    }

    pub fn proven(self, proof: Proof) -> Self {
        Self { proof, ..self }
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
        let mut inner = self.lock();
        if let (Some(trail), Some(user)) = (&mut inner.trail, &owner.user) {
            trail.belongs_to(user);
        }
        inner.owner = Some(owner);
    }

    /// By what its client is let in, from now on.
    pub fn prove(&self, proof: Proof) {
        if let Some(owner) = &mut self.lock().owner {
            owner.proof = proof;
        }
    }

    /// Its client may do other things from now on.
    pub fn grant(&self, grants: Option<Arc<[Grant]>>) {
        if let Some(owner) = &mut self.lock().owner {
            owner.grants = grants;
        }
    }
}
