//! Publications as bytes on the way to clients: encoded, framed and deflated at most once for everybody who hears them
//! in the same format. Reading frames is the transport's.

use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};
use serde::Serialize;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data as DataCode, OpCode};

use super::{Codec, Reply, cursor, msgpack};
use crate::channel::{ChannelName, Data, Publication};

/// What one client's stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    WebSocketJson,
    /// With permessage-deflate, no context takeover (RFC 7692): the same bytes serve every client.
    WebSocketJsonDeflate,
    WebSocketMsgpack,
    /// An event stream that follows one channel: each event carries the cursor as its `id:`, shared by all.
    EventStream,
    /// An event stream that follows several: the outbox adds a cursor of the client's own after each write.
    EventStreamMany,
    /// The bare JSON of each message, for the list a poll answers.
    Poll,
}

pub(super) const FORMATS: usize = 6;

impl Format {
    pub fn codec(self) -> Codec {
        if self == Self::WebSocketMsgpack { Codec::Msgpack } else { Codec::Json }
    }

    /// Frames what is said to one client alone.
    pub fn reply(self, reply: &Reply) -> Bytes {
        let message = self.codec().encode(reply);
        match self {
            Self::WebSocketJson | Self::WebSocketJsonDeflate => text_frame(&message),
            Self::WebSocketMsgpack => frame(DataCode::Binary, false, &message),
            Self::EventStream | Self::EventStreamMany => event(event_name(reply), None, &message),
            Self::Poll => message,
        }
    }

    /// Frames what is said to one client with a cursor that covers it.
    pub fn reply_at(self, reply: &Reply, cursor: &str) -> Bytes {
        match self {
            Self::EventStream | Self::EventStreamMany => {
                event(event_name(reply), Some(cursor), &self.codec().encode(reply))
            }
            _ => self.reply(reply),
        }
    }
}

/// How broadcasts are compressed for clients that negotiated it. Part of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    /// Shorter messages are not worth it, in bytes.
    pub threshold: usize,
    /// 0 to 9, as zlib has it.
    pub level: u32,
}

impl Default for Deflate {
    fn default() -> Self {
        Self { threshold: 1024, level: 3 }
    }
}

/// A publication on its way to this node's clients, with every encoding somebody needed so far.
#[derive(Debug)]
pub struct Push {
    pub publication: Arc<Publication>,
    deflate: Deflate,
    json: OnceLock<Bytes>,
    frames: [OnceLock<Bytes>; FORMATS],
}

impl Push {
    pub fn new(publication: Arc<Publication>, deflate: Deflate) -> Self {
        Self { publication, deflate, json: OnceLock::new(), frames: Default::default() }
    }

    /// The bytes for a client of this format.
    pub fn wire(&self, format: Format) -> &Bytes {
        self.frames[format as usize].get_or_init(|| self.encode(format))
    }

    fn encode(&self, format: Format) -> Bytes {
        let it = &self.publication;
        match format {
            Format::WebSocketJson => text_frame(self.json()),
            Format::WebSocketJsonDeflate if self.json().len() >= self.deflate.threshold => {
                frame(DataCode::Text, true, &deflate(self.json(), self.deflate.level))
            }
            Format::WebSocketJsonDeflate => self.wire(Format::WebSocketJson).clone(),
            Format::WebSocketMsgpack => frame(DataCode::Binary, false, &encode_msgpack(&Message::of(it), &it.data)),
            Format::EventStream => {
                let cursor = cursor::encode([(&it.channel, it.epoch, it.seq)].into_iter());
                event("message", Some(&cursor), self.json())
            }
            Format::EventStreamMany => event("message", None, self.json()),
            Format::Poll => self.json().clone(),
        }
    }

    /// The message as JSON, the same bytes for every JSON client.
    pub fn json(&self) -> &Bytes {
        self.json.get_or_init(|| encode_json(&Message::of(&self.publication), &self.publication.data).into())
    }
}

/// A message to one user or connection: at most once, so it has no channel, no number and no history.
#[derive(Debug)]
pub struct Direct {
    pub id: Arc<str>,
    pub event: Option<Arc<str>>,
    pub data: Data,
    pub timestamp: u64,
}

impl Direct {
    pub fn wire(&self, format: Format) -> Bytes {
        let message =
            Message { id: &self.id, event: self.event.as_deref(), timestamp: self.timestamp, ..Message::default() };
        match format {
            Format::WebSocketMsgpack => frame(DataCode::Binary, false, &encode_msgpack(&message, &self.data)),
            Format::WebSocketJson | Format::WebSocketJsonDeflate => text_frame(&encode_json(&message, &self.data)),
            Format::EventStream | Format::EventStreamMany => event("message", None, &encode_json(&message, &self.data)),
            Format::Poll => encode_json(&message, &self.data).into(),
        }
    }
}

/// The fields of `message` beside its data, in the order they are written.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a ChannelName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    erased: Option<bool>,
    timestamp: u64,
}

impl<'a> Message<'a> {
    fn of(it: &'a Publication) -> Self {
        Self {
            channel: Some(&it.channel),
            event: it.event.as_deref(),
            user_id: it.user.as_deref(),
            id: &it.id,
            seq: Some(it.seq),
            prev: it.prev,
            erased: it.erased.then_some(true),
            timestamp: it.timestamp,
        }
    }
}

fn encode_json(message: &Message, data: &Data) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 160);
    out.extend_from_slice(br#"{"type":"message","data":"#);
    match data {
        Data::Json(json) => out.extend_from_slice(json),
        Data::Binary(bytes) => {
            out.extend_from_slice(br#"null,"data_base64":""#);
            out.extend_from_slice(base64::engine::general_purpose::STANDARD.encode(bytes).as_bytes());
            out.push(b'"');
        }
    }
    let start = out.len();
    serde_json::to_writer(&mut out, message).expect("a Vec takes every byte");
    // The fields continue the object that data opened.
    out[start] = b',';
    out
}

fn encode_msgpack(message: &Message, data: &Data) -> Vec<u8> {
    let fields = serde_json::to_vec(message).expect("a Vec takes every byte");
    let mut fields: rmpv::Value = serde_json::from_slice(&fields).unwrap_or(rmpv::Value::Nil);
    if let rmpv::Value::Map(fields) = &mut fields {
        let data = match data {
            // Always readable: nothing is taken that is deeper than `channel::MAX_DEPTH`.
            Data::Json(json) => serde_json::from_slice(json).unwrap_or(rmpv::Value::Nil),
            Data::Binary(bytes) => rmpv::Value::Binary(bytes.to_vec()),
        };
        fields.insert(0, ("type".into(), "message".into()));
        fields.insert(1, ("data".into(), data));
    }
    msgpack::pack(&fields)
}

/// One unmasked, whole WebSocket frame.
fn frame(code: DataCode, compressed: bool, payload: &[u8]) -> Bytes {
    framed(OpCode::Data(code), compressed, payload)
}

fn text_frame(payload: &[u8]) -> Bytes {
    frame(DataCode::Text, false, payload)
}

/// A ping, pong or close frame; the payload is at most 125 bytes.
pub fn control_frame(code: Control, payload: &[u8]) -> Bytes {
    framed(OpCode::Control(code), false, &payload[..payload.len().min(125)])
}

/// A whole data frame around a payload that may already be deflated. For answers that are not messages of the protocol.
pub fn data_frame(code: DataCode, compressed: bool, payload: &[u8]) -> Bytes {
    frame(code, compressed, payload)
}

fn framed(opcode: OpCode, compressed: bool, payload: &[u8]) -> Bytes {
    let header = FrameHeader { is_final: true, rsv1: compressed, rsv2: false, rsv3: false, opcode, mask: None };
    let mut out = Vec::with_capacity(payload.len() + 10);
    header.format(payload.len() as u64, &mut out).expect("a Vec takes every byte");
    out.extend_from_slice(payload);
    out.into()
}

/// One event of an event stream. `data` is a single line: JSON without line breaks.
pub fn event(name: &str, id: Option<&str>, data: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(data.len() + name.len() + id.map_or(0, str::len) + 26);
    if let Some(id) = id {
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(id.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\n\n");
    out.into()
}

/// The event type an event stream gives a reply: its own `type`, so that a native EventSource can listen for it. An
/// `error` is called `failure` there: the name `error` is EventSource's own for a broken connection.
fn event_name(reply: &Reply) -> &'static str {
    match reply {
        Reply::Connected(_) => "connected",
        Reply::Subscribed(_) => "subscribed",
        Reply::Unsubscribed { .. } => "unsubscribed",
        Reply::Gap { .. } => "gap",
        Reply::Skipped { .. } => "skipped",
        Reply::Degraded { .. } => "degraded",
        Reply::Restored { .. } => "restored",
        Reply::Joined(_) => "joined",
        Reply::Left(_) => "left",
        Reply::Members { .. } => "members",
        Reply::Presence { .. } => "presence",
        Reply::Ack { .. } => "ack",
        Reply::History { .. } => "history",
        Reply::Error(_) => "failure",
        Reply::Pong { .. } => "pong",
        Reply::Expiring { .. } => "expiring",
        Reply::Refreshed { .. } => "refreshed",
        Reply::Reconnect { .. } => "reconnect",
        Reply::Closed { .. } => "closed",
        Reply::Resumed { .. } => "resumed",
    }
}

thread_local! {
    /// One compressor per worker thread, reset for every message: without context takeover no connection needs its own.
    static COMPRESS: RefCell<Option<(u32, u8, Compress)>> = const { RefCell::new(None) };
}

/// The largest window there is: 32 KiB.
const WINDOW_BITS: u8 = 15;

/// The payload of a compressed frame: deflated, flushed to a byte, without the four bytes RFC 7692 (7.2.1) leaves off.
pub fn deflate(payload: &[u8], level: u32) -> Vec<u8> {
    deflate_within(payload, level, WINDOW_BITS)
}

/// The same for a client that remembers less: a window of `bits`, 9 to 15.
pub fn deflate_within(payload: &[u8], level: u32, bits: u8) -> Vec<u8> {
    COMPRESS.with_borrow_mut(|slot| {
        let (.., compress) = match slot {
            Some(it) if (it.0, it.1) == (level, bits) => it,
            _ => slot.insert((
                level,
                bits,
                Compress::new_with_window_bits(Compression::new(level.min(9)), false, bits.clamp(9, WINDOW_BITS)),
            )),
        };
        compress.reset();
        let mut out = Vec::with_capacity(payload.len() / 2 + 64);
        let mut taken = 0;
        loop {
            let before = compress.total_in();
            let status = compress.compress_vec(&payload[taken..], &mut out, FlushCompress::Sync);
            taken += usize::try_from(compress.total_in() - before).unwrap_or(0);
            // Room left over means the flush is complete.
            if !matches!(status, Ok(Status::Ok)) || (taken == payload.len() && out.len() < out.capacity()) {
                break;
            }
            out.reserve(out.capacity().max(256));
        }
        if out.ends_with(&[0, 0, 0xff, 0xff]) {
            out.truncate(out.len() - 4);
        }
        if out.is_empty() {
            // An empty message is one empty block (RFC 7692, 7.2.3.6).
            out.push(0);
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Epoch;

    fn push(data: Data) -> Push {
        let publication = Publication {
            channel: ChannelName::parse("room.5").unwrap(),
            epoch: Epoch(1),
            seq: 3,
            prev: None,
            id: "m1".into(),
            event: Some("said".into()),
            user: None,
            subject: None,
            data,
            timestamp: 1_767_225_600_123,
            exclude: Vec::new(),
            erased: false,
        };
        Push::new(Arc::new(publication), Deflate { threshold: 1, level: 3 })
    }

    #[test]
    fn a_message_is_the_same_json_in_every_json_format() {
        let push = push(Data::Json(Bytes::from_static(br#"{"text":"hi"}"#)));
        let json = br#"{"type":"message","data":{"text":"hi"},"channel":"room.5","event":"said","id":"m1","seq":3,"timestamp":1767225600123}"#;
        assert_eq!(&push.wire(Format::Poll)[..], json);
        assert!(push.wire(Format::WebSocketJson).ends_with(json));
        let stream = String::from_utf8(push.wire(Format::EventStream).to_vec()).unwrap();
        assert!(stream.starts_with("id: ") && stream.ends_with("\n\n"), "{stream:?}");
        assert!(stream.contains("\nevent: message\ndata: {\"type\":\"message\""), "{stream:?}");
    }

    #[test]
    fn an_erased_message_keeps_its_place_and_says_so() {
        let whole = push(Data::Binary(Bytes::from_static(b"secret")));
        let push = Push::new(Arc::new(whole.publication.emptied()), Deflate { threshold: 1, level: 3 });
        let json = br#"{"type":"message","data":null,"channel":"room.5","id":"m1","seq":3,"erased":true,"timestamp":1767225600123}"#;
        assert_eq!(&push.json()[..], json);
        let frame = push.wire(Format::WebSocketMsgpack);
        let value = rmpv::decode::read_value(&mut &frame[2..]).unwrap();
        assert_eq!((&value["data"], &value["erased"]), (&rmpv::Value::Nil, &rmpv::Value::Boolean(true)));
    }

    #[test]
    fn binary_data_is_base64_for_json_clients_and_bytes_for_msgpack_ones() {
        let push = push(Data::Binary(Bytes::from_static(&[0, 1, 255])));
        assert!(push.json().starts_with(br#"{"type":"message","data":null,"data_base64":"AAH/","#));
        let frame = push.wire(Format::WebSocketMsgpack);
        let value = rmpv::decode::read_value(&mut &frame[2..]).unwrap();
        assert_eq!(value["data"], rmpv::Value::Binary(vec![0, 1, 255]));
    }

    #[test]
    fn a_deflated_frame_inflates_to_the_plain_one() {
        let push = push(Data::Json(format!("\"{}\"", "ab".repeat(4000)).into()));
        let frame = push.wire(Format::WebSocketJsonDeflate);
        assert_eq!(frame[0], 0xc1, "FIN, RSV1, text");
        assert!(frame.len() < 300);
        let mut payload = frame[2..].to_vec();
        if frame[1] == 126 {
            payload.drain(..2);
        }
        payload.extend_from_slice(&[0, 0, 0xff, 0xff]);
        let mut out = Vec::with_capacity(20_000);
        flate2::Decompress::new(false).decompress_vec(&payload, &mut out, flate2::FlushDecompress::Sync).unwrap();
        assert_eq!(out, &push.json()[..]);
    }
}
