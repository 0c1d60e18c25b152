//! What one node has the others do too: tell or end the connections they have of a user, refuse what was revoked. Whatever
//! came of it there is theirs to log; each does it once.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tracing::{debug, error};

use super::{Identity, Sessions};
use crate::channel::{ConnectionId, Data};
use crate::hub::{Hub, Outbox, Signal};
use crate::protocol::Close;
use crate::protocol::wire::Direct;

/// One thing to be done.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Word {
    Tell {
        whom: Whom,
        message: Message,
        exclude: Vec<String>,
    },
    Close {
        whom: Whom,
        code: u16,
        reason: String,
    },
    /// Tokens of before this, in milliseconds since the Unix epoch.
    RevokeUser {
        user: String,
        before: u64,
    },
    RevokeToken {
        jti: String,
    },
    /// What the engine keeps is erased by whoever says it.
    Erase {
        user: String,
        before: u64,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whom {
    User(String),
    Connection(String),
}

/// Done here, and perhaps nowhere else.
#[derive(Debug, thiserror::Error)]
#[error("the other nodes were not told: {0}")]
pub struct NotSpread(String);

/// A [`Direct`] between nodes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message {
    id: Arc<str>,
    event: Option<Arc<str>>,
    /// JSON as it is, or bytes in base64.
    json: Option<String>,
    base64: Option<String>,
    timestamp: u64,
}

impl Word {
    pub fn tell(whom: Whom, message: &Direct, exclude: &[ConnectionId]) -> Self {
        Self::Tell { whom, message: message.into(), exclude: exclude.iter().map(ToString::to_string).collect() }
    }

    pub fn close(whom: Whom, close: &Close) -> Self {
        Self::Close { whom, code: close.code, reason: close.reason.to_string() }
    }

    /// Whether a node that was cut off is to do it when it returns.
    fn is_lasting(&self) -> bool {
        !matches!(self, Self::Tell { .. })
    }

    /// Has all other nodes do it. An answer means that they will, as far as they live.
    pub async fn spread(&self, hub: &Hub) -> Result<(), NotSpread> {
        if !hub.is_shared() {
            return Ok(());
        }
        let notice = serde_json::to_vec(self).expect("words are texts and numbers");
        hub.announce(notice.into(), self.is_lasting()).await.map_err(|it| NotSpread(it.to_string()))
    }
}

impl Whom {
    pub fn connection(id: ConnectionId) -> Self {
        Self::Connection(id.to_string())
    }

    fn here(&self, hub: &Hub) -> Vec<Arc<Outbox>> {
        match self {
            Self::User(user) => hub.directory().user(user),
            Self::Connection(id) => id.parse().ok().and_then(|id| hub.directory().connection(id)).into_iter().collect(),
        }
    }
}

impl Sessions {
    /// Does what another node has all do. Never blocks.
    pub fn hear(&self, notice: &Bytes) {
        match serde_json::from_slice(notice) {
            Ok(word) => self.obey_other(word),
            // A newer version's word.
            Err(error) => debug!(%error, "another node said what this one does not understand"),
        }
    }

    fn obey_other(&self, word: Word) {
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        let done = match word {
            Word::Tell { whom, message, exclude } => {
                let exclude: Vec<ConnectionId> = exclude.iter().filter_map(|it| it.parse().ok()).collect();
                let outboxes = whom.here(&self.hub).into_iter().filter(|it| !exclude.contains(&it.id));
                if let Some(message) = message.read() {
                    self.hub.tell(outboxes, &message);
                }
                Ok(())
            }
            Word::Close { whom, code, reason } => {
                let close = Close::custom(code, &reason);
                whom.here(&self.hub).iter().for_each(|it| it.signal(Signal::Close(close.clone())));
                Ok(())
            }
            Word::RevokeUser { user, before } => self.revoke_user(&user, at(before)).map(drop),
            Word::RevokeToken { jti } => self.revoke_token(&jti).map(drop),
            Word::Erase { user, before } => {
                let is_theirs = |it: &Identity| it.user.as_deref() == Some(&user);
                self.tickets.forget(|it| is_theirs(&it.who));
                self.hub.checkpoints().forget(&user);
                self.notices.forget(&user);
                self.revoke_user(&user, at(before)).map(drop)
            }
        };
        if let Err(no_room) = done {
            error!(%no_room, "what another node revoked is not refused here: raise `auth.revocations.most`");
        }
    }
}

impl From<&Direct> for Message {
    fn from(it: &Direct) -> Self {
        let (json, base64) = match &it.data {
            Data::Json(json) => (Some(String::from_utf8_lossy(json).into_owned()), None),
            Data::Binary(bytes) => (None, Some(STANDARD.encode(bytes))),
        };
        Self { id: it.id.clone(), event: it.event.clone(), json, base64, timestamp: it.timestamp }
    }
}

impl Message {
    fn read(self) -> Option<Direct> {
        let data = match (self.json, self.base64) {
            (Some(json), _) => Data::Json(json.into()),
            (None, Some(base64)) => Data::Binary(STANDARD.decode(base64).ok()?.into()),
            (None, None) => return None,
        };
        Some(Direct { id: self.id, event: self.event, data, timestamp: self.timestamp })
    }
}
