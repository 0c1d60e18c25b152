//! Bytes ⇄ what clients say and hear. JSON and MessagePack carry the same messages; `wire` frames them for a WebSocket,
//! an event stream or a poll. Knows no socket, no session and no rule.

pub mod close;
pub mod cursor;
mod json;
mod msgpack;
pub mod query;
mod shared;
pub mod wire;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use crate::channel::{ChannelName, ConnectionId, Data, Epoch, Member, Position};
pub use close::{Close, Code};
pub use json::compact;
pub use shared::Shared;
pub use wire::{Format, Push};

/// How a client's messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    Json,
    Msgpack,
}

impl Codec {
    /// The subprotocol that asks for it.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "outrigger.v1.json",
            Self::Msgpack => "outrigger.v1.msgpack",
        }
    }

    /// Picks among the subprotocols a client offers: the first we speak, JSON when it offers none of ours.
    pub fn negotiate<'a>(offered: impl Iterator<Item = &'a str>) -> Option<Self> {
        offered
            .into_iter()
            .find_map(|it| [Self::Json, Self::Msgpack].into_iter().find(|codec| codec.subprotocol() == it))
    }

    /// One message from a client.
    pub fn decode(self, message: &[u8]) -> Result<Command, Misread> {
        match self {
            Self::Json => json::decode(message, None),
            Self::Msgpack => msgpack::decode(message),
        }
    }

    /// One message to a client, unframed.
    pub fn encode(self, reply: &Reply) -> Bytes {
        let json = json::encode(reply);
        match self {
            Self::Json => json.into(),
            Self::Msgpack => msgpack::from_json(&json).into(),
        }
    }
}

/// What a client asks for.
#[derive(Debug, PartialEq)]
pub enum Command {
    Subscribe {
        channel: ChannelName,
        since: Option<Position>,
        reference: Option<Reference>,
    },
    Unsubscribe {
        channel: ChannelName,
        reference: Option<Reference>,
    },
    Publish {
        channel: ChannelName,
        data: Data,
        id: Option<Arc<str>>,
        event: Option<Arc<str>>,
        reference: Option<Reference>,
    },
    History {
        channel: ChannelName,
        since: Option<Position>,
        limit: usize,
        reference: Option<Reference>,
    },
    /// Who is in a channel.
    Presence {
        channel: ChannelName,
        limit: usize,
        reference: Option<Reference>,
    },
    /// A new token for the running session.
    Refresh {
        token: String,
        reference: Option<Reference>,
    },
    /// The first message of a client whose URL carried no token.
    Auth {
        token: String,
    },
    Ping,
}

impl Command {
    /// What an answer to it names: its channel and its `ref`.
    pub fn names(&self) -> (Option<&ChannelName>, Option<Reference>) {
        match self {
            Self::Subscribe { channel, reference, .. }
            | Self::Unsubscribe { channel, reference }
            | Self::Publish { channel, reference, .. }
            | Self::History { channel, reference, .. }
            | Self::Presence { channel, reference, .. } => (Some(channel), reference.clone()),
            Self::Refresh { reference, .. } => (None, reference.clone()),
            Self::Auth { .. } | Self::Ping => (None, None),
        }
    }
}

/// A client's own `ref`: any string or number, kept as the JSON text it came as and echoed in the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference(pub Box<str>);

impl Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serde_json::value::RawValue::from_string(self.0.to_string()) {
            Ok(raw) => raw.serialize(serializer),
            Err(_) => serializer.serialize_none(),
        }
    }
}

/// A message that could not be read: what is told to the client.
#[derive(Debug, PartialEq)]
pub struct Misread {
    pub code: Code,
    pub message: String,
    pub channel: Option<String>,
    pub reference: Option<Reference>,
}

impl From<Misread> for Reply {
    fn from(it: Misread) -> Self {
        Self::Error(ErrorReply {
            code: it.code.name().into(),
            message: it.message,
            channel: it.channel,
            reference: it.reference,
            retryable: it.code.is_retryable(),
        })
    }
}

/// What one client hears, apart from publications. `timestamp` is milliseconds since the Unix epoch.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum Reply {
    Connected(Connected),
    Subscribed(Subscribed),
    Unsubscribed {
        channel: ChannelName,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'static str>,
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<Reference>,
        timestamp: u64,
    },
    Gap {
        channel: ChannelName,
        epoch: String,
        seq: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Arc<str>>,
        reason: &'static str,
    },
    Skipped {
        channel: ChannelName,
        seq: u64,
    },
    /// The engine is out of reach: nothing is published meanwhile.
    Degraded {
        timestamp: u64,
    },
    /// It is back; what was lost meanwhile is told by gaps.
    Restored {
        timestamp: u64,
    },
    /// A user came, or has other info now.
    Joined(Moved),
    Left(Moved),
    /// Who is there, in place of what was said before; or only how many, where that is more than the rule lists.
    Members {
        channel: ChannelName,
        #[serde(skip_serializing_if = "Option::is_none")]
        members: Option<Vec<Present>>,
        total: usize,
    },
    /// Who is there, to whoever asked: perhaps not all of the `total`.
    Presence {
        channel: ChannelName,
        members: Vec<Present>,
        total: usize,
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<Reference>,
    },
    Ack {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<Reference>,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Arc<str>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reply: Option<Raw>,
        timestamp: u64,
    },
    History {
        channel: ChannelName,
        epoch: String,
        seq: u64,
        messages: Vec<Raw>,
        /// Whether `messages` is everything since the position asked for.
        complete: bool,
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<Reference>,
    },
    Error(ErrorReply),
    Pong {
        timestamp: u64,
    },
    Expiring {
        expires_at: u64,
    },
    Refreshed {
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_at: Option<u64>,
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<Reference>,
    },
    Reconnect {
        after_ms: u64,
        reason: &'static str,
    },
    /// Event stream and poll: the end, with what a WebSocket's close frame says.
    Closed {
        code: u16,
        reason: std::borrow::Cow<'static, str>,
    },
    /// Event stream and poll: whether each channel of a cursor was resumed without loss.
    Resumed {
        channels: Vec<ResumedChannel>,
        complete: bool,
    },
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Connected {
    pub connection_id: String,
    pub user_id: Option<Arc<str>>,
    pub timestamp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    pub heartbeat: Heartbeat,
    /// Event stream and poll: authorises `POST /realtime/connections/{id}/…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Heartbeat {
    pub interval: u64,
    pub timeout: u64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscribed {
    pub channel: ChannelName,
    pub epoch: String,
    pub seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovered: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflated: Option<bool>,
    /// Where the rule has presence.
    #[serde(flatten)]
    pub roll: Option<Box<Roll>>,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    pub timestamp: u64,
}

/// Who is there when a client comes: everybody, or only how many, where that is more than the rule lists.
#[derive(Clone, Debug, Serialize)]
pub enum Roll {
    #[serde(rename = "members")]
    Everybody(Vec<Present>),
    #[serde(rename = "membersTotal")]
    Number(usize),
}

/// A member of a channel, in a list.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Present {
    pub user_id: Arc<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<RawText>,
}

/// A member who came or went.
#[derive(Clone, Debug, Serialize)]
pub struct Moved {
    pub channel: ChannelName,
    #[serde(flatten)]
    pub member: Present,
}

#[derive(Clone, Debug, Serialize)]
pub struct ErrorReply {
    pub code: Box<str>,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    pub retryable: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct ResumedChannel {
    pub channel: ChannelName,
    pub recovered: bool,
}

/// The same, of a text that others hold too.
#[derive(Clone, Debug)]
pub struct RawText(pub Arc<str>);

impl Serialize for RawText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serde_json::from_str::<&serde_json::value::RawValue>(&self.0) {
            Ok(raw) => raw.serialize(serializer),
            Err(_) => serializer.serialize_none(),
        }
    }
}

/// Valid JSON, written as it is.
#[derive(Clone, Debug)]
pub struct Raw(pub Bytes);

impl Serialize for Raw {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serde_json::from_slice::<&serde_json::value::RawValue>(&self.0) {
            Ok(raw) => raw.serialize(serializer),
            Err(_) => serializer.serialize_none(),
        }
    }
}

impl From<&Member> for Present {
    fn from(it: &Member) -> Self {
        Self { user_id: it.user.clone(), info: it.info.clone().map(RawText) }
    }
}

impl Reply {
    /// An error as the client reads it.
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self::Error(ErrorReply {
            code: code.name().into(),
            message: message.into(),
            channel: None,
            reference: None,
            retryable: code.is_retryable(),
        })
    }

    /// The same reply, said of a channel and in answer to a client's `ref`. Only errors need it added afterwards.
    pub fn about(mut self, about: Option<&ChannelName>, to: Option<Reference>) -> Self {
        if let Self::Error(error) = &mut self {
            error.channel = about.map(ToString::to_string);
            error.reference = to;
        }
        self
    }

    /// The connection is about to end, and coming back after this is welcome.
    pub fn reconnect(after: Duration, reason: &'static str) -> Self {
        Self::Reconnect { after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX), reason }
    }

    /// Publications were lost to this client; its position goes on from `epoch` and `seq`.
    pub fn gap(channel: ChannelName, epoch: Epoch, seq: u64, id: Option<Arc<str>>, reason: &'static str) -> Self {
        Self::Gap { channel, epoch: epoch.to_string(), seq, id, reason }
    }
}

/// The text a connection id has on the wire.
pub fn connection_id(text: &str) -> Option<ConnectionId> {
    (text.len() == 32).then(|| text.parse().ok()).flatten()
}
