use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::super::object::Object;
use super::super::question::{digest, since_epoch};
use super::super::{Connection, Event, Lane};
use crate::channel::{Change, ChannelName, ConnectionId};

/// What the backend is told. It has no say in it.
#[derive(Clone, Copy, Debug)]
pub enum Notice<'a> {
    /// The session is over.
    Disconnect { connection: &'a Connection<'a>, code: u16, reason: &'a str, lasted: Duration },
    /// The session goes on without the channel.
    Unsubscribe { connection: &'a Connection<'a>, channel: &'a ChannelName, reason: &'a str, lasted: Duration },
}

/// A notice as it will be sent, with what is needed to send it. Also its form on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Letter {
    /// Numbers letters over restarts: their order, and the key of their record.
    #[serde(skip)]
    pub(super) serial: u64,
    /// The `webhook-id`: the same over retries, replays and crashes.
    pub(super) id: Box<str>,
    pub(super) event: Event,
    /// Letters of a lane are sent one after the other.
    pub(super) lane: u64,
    /// Milliseconds since the Unix epoch.
    pub(super) told_at: u64,
    pub(super) body: Box<RawValue>,
    /// Since when this process has been trying to deliver it.
    #[serde(skip, default = "Instant::now")]
    pub(super) since: Instant,
}

/// What a letter costs beside its body, about.
const OVERHEAD: usize = 200;

impl Notice<'_> {
    pub(super) fn event(&self) -> Event {
        match self {
            Self::Disconnect { .. } => Event::Disconnect,
            Self::Unsubscribe { .. } => Event::Unsubscribe,
        }
    }

    pub(super) fn letter(&self, lane: &Lane) -> Letter {
        match *self {
            Self::Disconnect { connection, code, reason, lasted } => {
                let id = disconnect_id(connection.id, connection.generation);
                Letter::write(id, Event::Disconnect, lane.id(), |json| {
                    connection.write(&mut json.object("connection"));
                    lane.write(json);
                    end(json, Some(code), reason, Some(lasted));
                })
            }
            Self::Unsubscribe { connection, channel, reason, lasted } => {
                let (generation, n) = (connection.generation.to_string(), lane.n().to_string());
                let id = id(&["unsubscribe", &connection.id.to_string(), &generation, &n]);
                Letter::write(id, Event::Unsubscribe, lane.id(), |json| {
                    connection.write(&mut json.object("connection"));
                    lane.write(json);
                    json.text("channel", channel.as_str());
                    end(json, None, reason, Some(lasted));
                })
            }
        }
    }
}

pub(super) fn end(json: &mut Object, code: Option<u16>, reason: &str, lasted: Option<Duration>) {
    match code {
        Some(code) => json.raw("code", code),
        None => json.raw("code", "null"),
    }
    json.text("reason", reason);
    match lasted {
        Some(lasted) => json.raw("durationMs", lasted.as_millis()),
        None => json.raw("durationMs", "null"),
    }
}

/// The same for whoever tells of this end, be it after a crash.
pub(super) fn disconnect_id(connection: ConnectionId, generation: u64) -> Box<str> {
    id(&["disconnect", &connection.to_string(), &generation.to_string()])
}

fn id(parts: &[&str]) -> Box<str> {
    let parts: Vec<&[u8]> = parts.iter().map(|it| it.as_bytes()).collect();
    format!("msg_{:032x}", u128::from_be_bytes(digest(&parts))).into()
}

/// The id of several notices in one request, which is the same for the same ones.
pub(super) fn batch_id<'a>(ids: impl Iterator<Item = &'a str>) -> Box<str> {
    id(&std::iter::once("batch").chain(ids).collect::<Vec<_>>())
}

pub(super) fn event_of(change: &Change) -> Event {
    match change {
        Change::Occupied { .. } => Event::Occupied,
        Change::Vacated { .. } => Event::Vacated,
        Change::Joined { .. } => Event::Joined,
        Change::Left { .. } => Event::Left,
    }
}

/// What of a letter's body says whom it speaks of.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(borrow)]
    user_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    connection: Option<Of<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Of<'a> {
    #[serde(borrow)]
    user_id: Option<Cow<'a, str>>,
}

impl Letter {
    /// The user it speaks of, if any.
    pub(super) fn user(&self) -> Option<Cow<'_, str>> {
        let Body { user_id, connection } = serde_json::from_str(self.body.get()).ok()?;
        user_id.or_else(|| connection.and_then(|it| it.user_id))
    }

    /// Of a channel's change. Its order is that of the channel's name, which outlives any one count of `lane`.
    pub(super) fn of_change(change: &Change, node: &str, lane: &Lane) -> Self {
        let event = event_of(change);
        let (channel, user) = match change {
            Change::Occupied { channel } | Change::Vacated { channel } => (channel, None),
            Change::Joined { channel, user } | Change::Left { channel, user } => (channel, Some(user)),
        };
        let (of_lane, n) = (lane.id().to_string(), lane.n().to_string());
        let id = id(&[event.name(), node, channel.as_str(), &of_lane, &n]);
        let order = digest(&[b"channel", channel.as_str().as_bytes()]);
        let [a, b, c, d, e, f, g, h, ..] = order;
        Self::write(id, event, u64::from_be_bytes([a, b, c, d, e, f, g, h]), |json| {
            json.text("node", node);
            lane.write(json);
            json.text("channel", channel.as_str());
            if let Some(user) = user {
                json.text("userId", user);
            }
        })
    }

    pub(super) fn write(id: Box<str>, event: Event, lane: u64, rest: impl FnOnce(&mut Object)) -> Self {
        let now = since_epoch();
        let told_at = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let mut body = Vec::with_capacity(512);
        let mut json = Object::open(&mut body);
        json.text("type", event.name());
        json.text("id", &id);
        json.raw("timestamp", told_at);
        rest(&mut json);
        drop(json);
        let body = String::from_utf8(body).expect("what is written from texts is text");
        let body = RawValue::from_string(body).expect("what is written as JSON is JSON");
        Self { serial: 0, id, event, lane, told_at, body, since: Instant::now() }
    }

    pub(super) fn size(&self) -> usize {
        self.body.get().len() + OVERHEAD
    }

    pub(super) fn key(&self) -> String {
        format!("{:016x}", self.serial)
    }

    pub(super) fn record(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a letter is text and numbers")
    }

    /// None for a record that cannot be read.
    pub(super) fn of_record(key: &str, record: &[u8]) -> Option<Self> {
        let serial = u64::from_str_radix(key, 16).ok()?;
        let letter: Self = serde_json::from_slice(record).ok()?;
        Some(Self { serial, ..letter })
    }
}
