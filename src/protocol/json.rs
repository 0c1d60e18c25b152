//! The JSON protocol `outrigger.v1.json`.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Code, Command, Misread, Reference, Reply};
use crate::channel::{self, ChannelName, Data, Epoch, MAX_DEPTH, Position};

/// The longest `ref`, message id and event name a client may send, in bytes.
const MAX_WORD: usize = 200;
/// The most publications one `history` answer holds.
const MAX_HISTORY: usize = 1000;
const DEFAULT_HISTORY: usize = 100;

/// Every field any command has; which are needed depends on `type`. Fields we do not know are left alone.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    channel: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    since: Option<Since<'a>>,
    #[serde(default)]
    limit: Option<usize>,
    #[serde(borrow, default)]
    token: Option<Cow<'a, str>>,
    #[serde(rename = "ref", borrow, default)]
    reference: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Since<'a> {
    #[serde(borrow)]
    epoch: Cow<'a, str>,
    seq: u64,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
}

/// One message. `binary` is its `data` where that travelled beside the JSON (MessagePack).
pub(super) fn decode(text: &[u8], binary: Option<Bytes>) -> Result<Command, Misread> {
    let unreadable = |message: String| Misread { code: Code::BadMessage, message, channel: None, reference: None };
    // The reader would take a list for the fields in their order.
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err(unreadable("a message is a JSON object".into()));
    }
    let message: Message =
        serde_json::from_slice(text).map_err(|error| unreadable(format!("not a message: {error}")))?;
    let reference = message.reference.map(reference).transpose()?;
    let misread = |code, text: String| Misread {
        code,
        message: text,
        channel: message.channel.as_ref().map(|it| it.chars().take(MAX_WORD).collect()),
        reference: reference.clone(),
    };
    let channel = || {
        let name =
            message.channel.as_deref().ok_or_else(|| misread(Code::BadMessage, "`channel` is missing".into()))?;
        ChannelName::parse(name).map_err(|error| misread(Code::BadChannel, error.to_string()))
    };
    let token = || match &message.token {
        Some(token) => Ok(token.to_string()),
        None => Err(misread(Code::BadMessage, "`token` is missing".into())),
    };
    let Some(kind) = message.kind.as_deref() else {
        return Err(misread(Code::BadMessage, "`type` is missing".into()));
    };
    let since = message.since.as_ref().map(Since::position);
    let command = match kind {
        "subscribe" => Command::Subscribe { channel: channel()?, since, reference: reference.clone() },
        "unsubscribe" => Command::Unsubscribe { channel: channel()?, reference: reference.clone() },
        "publish" => Command::Publish {
            channel: channel()?,
            data: match (binary, message.data) {
                (Some(bytes), _) => Data::Binary(bytes),
                (None, Some(raw)) if channel::depth(raw.get()) > MAX_DEPTH => {
                    return Err(misread(Code::BadMessage, format!("`data` is nested deeper than {MAX_DEPTH}")));
                }
                (None, Some(raw)) => Data::Json(compact(raw.get())),
                (None, None) => return Err(misread(Code::BadMessage, "`data` is missing".into())),
            },
            id: message.id.map(word).transpose().map_err(|text| misread(Code::BadMessage, format!("`id` {text}")))?,
            event: match message.event.as_deref() {
                Some(name) if name.len() > MAX_WORD || name.chars().any(char::is_control) => {
                    return Err(misread(
                        Code::BadMessage,
                        format!("`event` is longer than {MAX_WORD} bytes or has control characters"),
                    ));
                }
                name => name.map(Arc::from),
            },
            reference: reference.clone(),
        },
        "history" => Command::History {
            channel: channel()?,
            since,
            limit: message.limit.unwrap_or(DEFAULT_HISTORY).min(MAX_HISTORY),
            reference: reference.clone(),
        },
        "refresh" => Command::Refresh { token: token()?, reference: reference.clone() },
        "auth" => Command::Auth { token: token()? },
        "ping" => Command::Ping,
        other => {
            let other: String = other.chars().take(MAX_WORD).collect();
            return Err(misread(Code::UnknownType, format!("`type` {other:?} is not known")));
        }
    };
    Ok(command)
}

impl Since<'_> {
    /// An epoch we cannot read is one we never gave: it matches none.
    fn position(&self) -> Position {
        Position { epoch: self.epoch.parse().unwrap_or(Epoch(0)), seq: self.seq, id: self.id.as_deref().map(Arc::from) }
    }
}

fn reference(raw: &RawValue) -> Result<Reference, Misread> {
    let text = raw.get();
    let is_word = text.starts_with(['"', '-']) || text.starts_with(|it: char| it.is_ascii_digit());
    if is_word && text.len() <= MAX_WORD {
        return Ok(Reference(text.into()));
    }
    Err(Misread {
        code: Code::BadMessage,
        message: format!("`ref` must be a string or number of at most {MAX_WORD} bytes"),
        channel: None,
        reference: None,
    })
}

/// A string or number as text.
fn word(raw: &RawValue) -> Result<Arc<str>, String> {
    let text = raw.get();
    let word: Cow<'_, str> = if text.starts_with('"') {
        serde_json::from_str(text).map_err(|error| error.to_string())?
    } else if text.starts_with(|it: char| it == '-' || it.is_ascii_digit()) {
        text.into()
    } else {
        return Err("must be a string or a number".into());
    };
    if word.is_empty() || word.len() > MAX_WORD || word.chars().any(char::is_control) {
        return Err(format!("must be 1 to {MAX_WORD} bytes without control characters"));
    }
    Ok(Arc::from(&*word))
}

pub(super) fn encode(reply: &Reply) -> Vec<u8> {
    serde_json::to_vec(reply).expect("replies hold nothing that JSON cannot")
}

/// Valid JSON without insignificant white space, so that it is one line of an event stream. Borrows nothing from its
/// input: what is stored must not keep a read buffer alive.
pub fn compact(json: &str) -> Bytes {
    let mut out = Vec::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if byte.is_ascii_whitespace() {
            continue;
        } else {
            in_string = byte == b'"';
        }
        out.push(byte);
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Command, Misread> {
        decode(text.as_bytes(), None)
    }

    #[test]
    fn the_small_hand_written_protocol_is_understood() {
        let channel = ChannelName::parse("room.5").unwrap();
        assert_eq!(
            read(r#"{"type":"subscribe","channel":"room.5"}"#),
            Ok(Command::Subscribe { channel: channel.clone(), since: None, reference: None })
        );
        assert_eq!(
            read(r#"{"type":"publish","channel":"room.5","data":{"text": "a b"},"id":7,"ref":"x"}"#),
            Ok(Command::Publish {
                channel,
                data: Data::Json(Bytes::from_static(br#"{"text":"a b"}"#)),
                id: Some("7".into()),
                event: None,
                reference: Some(Reference(r#""x""#.into())),
            })
        );
        assert_eq!(read(r#"{"type":"ping"}"#), Ok(Command::Ping));
    }

    #[test]
    fn what_cannot_be_read_is_answered_with_its_reference() {
        let misread = read(r#"{"type":"subscribe","channel":"a b","ref":9}"#).unwrap_err();
        assert_eq!(misread.code, Code::BadChannel);
        assert_eq!(misread.channel.as_deref(), Some("a b"));
        assert_eq!(misread.reference, Some(Reference("9".into())));
        assert_eq!(read("{").unwrap_err().code, Code::BadMessage);
        assert_eq!(read("[]").unwrap_err().code, Code::BadMessage);
        assert_eq!(read(r#"{"type":"dance"}"#).unwrap_err().code, Code::UnknownType);
        assert_eq!(read(r#"{"type":"ping","ref":{}}"#).unwrap_err().code, Code::BadMessage);
    }

    #[test]
    fn data_that_other_readers_would_choke_on_is_refused() {
        let nested = |depth: usize| format!("{}\"[[\\\"[\"{}", "[".repeat(depth), "]".repeat(depth));
        let publish = |data: String| read(&format!(r#"{{"type":"publish","channel":"a","data":{data}}}"#));
        assert!(publish(nested(MAX_DEPTH)).is_ok());
        let misread = publish(nested(MAX_DEPTH + 1)).unwrap_err();
        assert_eq!(misread.code, Code::BadMessage);
    }

    #[test]
    fn compacting_leaves_strings_alone() {
        assert_eq!(&compact("{ \"a\\\" b\" :\n[1, 2] }")[..], br#"{"a\" b":[1,2]}"#);
    }
}
