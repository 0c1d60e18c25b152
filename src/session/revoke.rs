//! Who is no longer let in, at once and from then on: revoked users and tokens, and users who are erased.

use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use tracing::warn;

use super::{Identity, Policy, Sessions, TurnedAway};
use crate::auth::{NoRoom, Refused};
use crate::hub::{Owner, Proof, Signal};
use crate::protocol::Close;

/// What an erasure came to, by kind.
#[derive(Debug)]
pub struct Erasure {
    pub connections: usize,
    pub tickets: usize,
    pub verdicts: usize,
    pub checkpoints: usize,
    /// Emptied in the engine, and in how many channels.
    pub publications: usize,
    pub channels: usize,
    pub dead_letters: usize,
}

/// Why a user is not erased, or not in full.
#[derive(Debug, thiserror::Error)]
pub enum NotErased {
    #[error("nothing was done: {0}")]
    NoRoom(#[from] NoRoom),
    #[error("connections are closed and tokens revoked, but {0}: repeat the call")]
    Stored(String),
}

impl Sessions {
    /// From now on a user's tokens of before this moment are refused; who is here by one of them is sent away, and so is who
    /// is here because the backend said so before. How many those are.
    pub fn revoke_user(&self, user: &str, before: SystemTime) -> Result<usize, NoRoom> {
        // First, so that nobody slips in behind the search.
        self.revocations.revoke_user(user, before, self.policy().revocations)?;
        self.forget_verdicts(user);
        self.tickets.forget(|it| self.revocations.is_revoked(&it.who));
        let is_revoked = |it: &Owner| self.revocations.concern(Some(user), it.proof.issued_at, None);
        Ok(self.close(|it| it.user.as_deref() == Some(user) && is_revoked(it)))
    }

    /// From now on this token is refused. How many connections were here by it.
    pub fn revoke_token(&self, jti: &str) -> Result<usize, NoRoom> {
        self.revocations.revoke_token(jti, self.policy().revocations)?;
        self.tickets.forget(|it| it.who.jti.as_deref() == Some(jti));
        Ok(self.close(|it| it.proof.id.as_deref() == Some(jti)))
    }

    /// Revokes a user and removes what this node and its engine keep of it. What others already have stays with them.
    pub async fn erase(&self, user: &str) -> Result<Erasure, NotErased> {
        let is_theirs = |it: &Identity| it.user.as_deref() == Some(user);
        let tickets = self.tickets.forget(|it| is_theirs(&it.who));
        let verdicts = self.forget_verdicts(user);
        let connections = self.revoke_user(user, SystemTime::now())?;
        let checkpoints = self.hub.checkpoints().forget(user);
        let dead_letters = self.notices.forget(user);
        let erased = self.hub.erase(user).await.map_err(|it| NotErased::Stored(it.to_string()))?;
        let (publications, channels) = (erased.publications, erased.channels);
        Ok(Erasure { connections, tickets, verdicts, checkpoints, publications, channels, dead_letters })
    }

    /// Whether what was revoked so far outlives this process, as far as anything here does.
    pub async fn is_settled(&self) -> bool {
        self.revocations.settled().await
    }

    pub(super) fn trust(&self, who: &Identity) -> Result<(), TurnedAway> {
        match self.revocations.is_revoked(who) {
            true => Err(TurnedAway::InvalidToken(Refused::Revoked)),
            false => Ok(()),
        }
    }

    /// A revocation that is over before its token is lets somebody in again. Said once: the next token is like this one.
    pub(super) fn complain_of_lasting(&self, policy: &Policy, who: &Identity) {
        let keep = policy.revocations.time;
        let outlives =
            who.expires_at.and_then(|it| it.duration_since(SystemTime::now()).ok()).is_some_and(|it| it > keep);
        if outlives && !self.has_complained.swap(true, Relaxed) {
            warn!(
                ?keep,
                "a token is valid for longer than `auth.revocations.keep`: revoked, it could be forgotten first"
            );
        }
    }

    fn forget_verdicts(&self, user: &str) -> usize {
        self.policy().webhooks.as_ref().map_or(0, |it| it.forget(user))
    }

    fn close(&self, is_meant: impl Fn(&Owner) -> bool) -> usize {
        self.metrics.revocations(self.revocations.len());
        let outboxes = self.hub.directory().find(is_meant);
        outboxes.iter().for_each(|it| it.signal(Signal::Close(Close::REVOKED)));
        outboxes.len()
    }
}

/// By what somebody was let in.
pub(super) fn proof_of(who: &Identity) -> Proof {
    Proof { issued_at: who.issued_at, id: who.jti.clone() }
}
