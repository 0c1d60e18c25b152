//! `outrigger.v1.msgpack`: the same messages as JSON, in MessagePack, where `data` may be bytes.

use bytes::Bytes;
use rmpv::Value;

use super::{Code, Command, Misread, json};

/// Deeper nesting than any real message; serde_json's own limit is 128.
const MAX_DEPTH: usize = 100;

/// A client's message. Its map becomes JSON text and takes the JSON road; `data` as bytes travels beside it.
pub(super) fn decode(message: &[u8]) -> Result<Command, Misread> {
    let bad = |text: &str| Misread { code: Code::BadMessage, message: text.into(), channel: None, reference: None };
    let value = rmpv::decode::read_value_with_max_depth(&mut &*message, MAX_DEPTH)
        .map_err(|error| bad(&format!("not MessagePack: {error}")))?;
    let Value::Map(mut fields) = value else {
        return Err(bad("a message is a map"));
    };
    let data = fields.iter().position(|(name, value)| name.as_str() == Some("data") && value.is_bin());
    let binary = data.and_then(|at| match fields.swap_remove(at).1 {
        Value::Binary(bytes) => Some(Bytes::from(bytes)),
        _ => None,
    });
    let mut text = Vec::with_capacity(message.len() * 2);
    write_json(&Value::Map(fields), &mut text).map_err(bad)?;
    json::decode(&text, binary)
}

/// The MessagePack twin of valid JSON.
pub(super) fn from_json(json: &[u8]) -> Vec<u8> {
    pack(&serde_json::from_slice(json).unwrap_or(Value::Nil))
}

pub(super) fn pack(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    rmpv::encode::write_value(&mut out, value).expect("a Vec takes every byte");
    out
}

/// Writes a value as JSON. What JSON cannot say is refused by name rather than bent.
fn write_json(value: &Value, out: &mut Vec<u8>) -> Result<(), &'static str> {
    match value {
        Value::Nil => out.extend_from_slice(b"null"),
        Value::Boolean(it) => out.extend_from_slice(if *it { b"true" } else { b"false" }),
        Value::Integer(it) => out.extend_from_slice(it.to_string().as_bytes()),
        Value::F32(it) => write_number(f64::from(*it), out)?,
        Value::F64(it) => write_number(*it, out)?,
        Value::String(it) => write_string(it.as_str().ok_or("a string is not UTF-8")?, out),
        Value::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                separate(at, out);
                write_json(item, out)?;
            }
            out.push(b']');
        }
        Value::Map(fields) => {
            out.push(b'{');
            for (at, (name, value)) in fields.iter().enumerate() {
                separate(at, out);
                write_string(name.as_str().ok_or("a map's keys must be strings")?, out);
                out.push(b':');
                write_json(value, out)?;
            }
            out.push(b'}');
        }
        Value::Binary(_) => return Err("bytes can only be `data` itself, not a part of it"),
        Value::Ext(..) => return Err("extension types are not known"),
    }
    Ok(())
}

fn separate(at: usize, out: &mut Vec<u8>) {
    if at > 0 {
        out.push(b',');
    }
}

fn write_number(number: f64, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let number = serde_json::Number::from_f64(number).ok_or("a number is not finite")?;
    out.extend_from_slice(number.to_string().as_bytes());
    Ok(())
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a Vec takes every byte");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{ChannelName, Data};

    #[test]
    fn data_may_be_bytes_and_maps_become_json() {
        let message = |data: Value| {
            Value::Map(vec![("type".into(), "publish".into()), ("channel".into(), "a".into()), ("data".into(), data)])
        };
        let Ok(Command::Publish { data, channel, .. }) = decode(&pack(&message(Value::Binary(vec![0, 255])))) else {
            panic!("not a publish");
        };
        assert_eq!((data, channel), (Data::Binary(Bytes::from_static(&[0, 255])), ChannelName::parse("a").unwrap()));

        let map = Value::Map(vec![("n".into(), 1.into()), ("s".into(), "x\n".into())]);
        let Ok(Command::Publish { data, .. }) = decode(&pack(&message(map))) else { panic!("not a publish") };
        assert_eq!(data, Data::Json(Bytes::from_static(br#"{"n":1,"s":"x\n"}"#)));
    }

    #[test]
    fn garbage_and_depth_are_refused() {
        assert_eq!(decode(&[0xc1]).unwrap_err().code, Code::BadMessage);
        assert_eq!(decode(&[0x91; 5000]).unwrap_err().code, Code::BadMessage);
        assert_eq!(decode(&[0xdd, 0xff, 0xff, 0xff, 0xff]).unwrap_err().code, Code::BadMessage);
    }
}
