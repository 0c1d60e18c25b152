//! The protocol Redis speaks (RESP3): commands out, replies in, over plain bytes. Knows no socket and no command.

use bytes::{Buf, Bytes, BytesMut};

/// One reply, or one message a server pushes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Integer(i64),
    Text(Bytes),
    /// Also sets, and maps as their keys and values in turn.
    List(Vec<Self>),
    /// Not an answer to anything: a message of a subscription.
    Push(Vec<Self>),
    Refusal(String),
}

/// The bytes are no RESP, or more than anybody here asks for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's answer makes no sense")]
pub(super) struct Malformed;

/// A reply longer than this is none to a question of ours.
const MAX_REPLY: usize = 256 * 1024 * 1024;
/// Replies to scripts are three deep.
const MAX_DEPTH: usize = 16;

/// One command as it goes over the wire.
pub(super) fn command(words: &[&[u8]]) -> Bytes {
    let size: usize = words.iter().map(|it| it.len() + 16).sum();
    let mut out = Vec::with_capacity(size + 16);
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out.into()
}

/// Takes the first whole value off the buffer; none while it is not all there.
pub(super) fn take(buffer: &mut BytesMut) -> Result<Option<Value>, Malformed> {
    // Measured first: a large reply comes in many pieces, and its texts are to be copied once.
    let Some(end) = end_of(buffer, 0, 0)? else { return Ok(None) };
    let mut rest = &buffer[..end];
    let value = parse(&mut rest)?;
    buffer.advance(end);
    Ok(Some(value))
}

/// Where the value that begins at `at` ends.
fn end_of(buffer: &[u8], at: usize, depth: usize) -> Result<Option<usize>, Malformed> {
    if depth > MAX_DEPTH || at > MAX_REPLY {
        return Err(Malformed);
    }
    let Some((kind, line, mut at)) = line_at(buffer, at)? else { return Ok(None) };
    let count = match kind {
        b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => return Ok(Some(at)),
        b'$' | b'=' | b'!' => {
            let Some(len) = length(line)? else { return Ok(Some(at)) };
            let end = at + len + 2;
            return match end > MAX_REPLY {
                true => Err(Malformed),
                false => Ok((end <= buffer.len()).then_some(end)),
            };
        }
        b'*' | b'~' | b'>' => length(line)?.unwrap_or(0),
        b'%' => length(line)?.unwrap_or(0) * 2,
        // Attributes stand before the value they speak of.
        b'|' => length(line)?.unwrap_or(0) * 2 + 1,
        _ => return Err(Malformed),
    };
    for _ in 0..count {
        let Some(end) = end_of(buffer, at, depth + 1)? else { return Ok(None) };
        at = end;
    }
    Ok(Some(at))
}

type Line<'a> = (u8, &'a [u8], usize);

/// The kind, the rest of the line, and where the next one begins.
fn line_at(buffer: &[u8], at: usize) -> Result<Option<Line<'_>>, Malformed> {
    let Some((kind, rest)) = buffer.get(at..).and_then(<[u8]>::split_first) else { return Ok(None) };
    let Some(len) = rest.iter().position(|it| *it == b'\n') else {
        return if rest.len() > MAX_REPLY { Err(Malformed) } else { Ok(None) };
    };
    let line = rest[..len].strip_suffix(b"\r").ok_or(Malformed)?;
    Ok(Some((*kind, line, at + len + 2)))
}

fn length(line: &[u8]) -> Result<Option<usize>, Malformed> {
    match number(line)? {
        -1 => Ok(None),
        len => usize::try_from(len).ok().filter(|it| *it <= MAX_REPLY).map(Some).ok_or(Malformed),
    }
}

fn number(line: &[u8]) -> Result<i64, Malformed> {
    std::str::from_utf8(line).ok().and_then(|it| it.parse().ok()).ok_or(Malformed)
}

/// Reads one value that is known to be all there.
fn parse(rest: &mut &[u8]) -> Result<Value, Malformed> {
    let (kind, line, next) = line_at(rest, 0)?.ok_or(Malformed)?;
    *rest = &rest[next..];
    let text = |line: &[u8]| Value::Text(Bytes::copy_from_slice(line));
    Ok(match kind {
        b'_' => Value::Null,
        b'+' | b',' | b'(' => text(line),
        b':' => Value::Integer(number(line)?),
        b'#' => Value::Integer(i64::from(line == b"t")),
        b'-' => Value::Refusal(String::from_utf8_lossy(line).into_owned()),
        b'$' | b'=' | b'!' => match length(line)? {
            None => Value::Null,
            Some(len) => {
                let (body, after) = rest.split_at_checked(len).ok_or(Malformed)?;
                *rest = after.get(2..).ok_or(Malformed)?;
                match kind {
                    b'!' => Value::Refusal(String::from_utf8_lossy(body).into_owned()),
                    // `txt:` before a verbatim text.
                    b'=' => text(body.get(4..).unwrap_or(body)),
                    _ => text(body),
                }
            }
        },
        b'*' | b'~' => match length(line)? {
            None => Value::Null,
            Some(count) => Value::List(several(rest, count)?),
        },
        b'%' => Value::List(several(rest, length(line)?.unwrap_or(0) * 2)?),
        b'>' => Value::Push(several(rest, length(line)?.unwrap_or(0))?),
        b'|' => {
            several(rest, length(line)?.unwrap_or(0) * 2)?;
            parse(rest)?
        }
        _ => return Err(Malformed),
    })
}

fn several(rest: &mut &[u8], count: usize) -> Result<Vec<Value>, Malformed> {
    (0..count).map(|_| parse(rest)).collect()
}

impl Value {
    pub(super) fn list(self) -> Option<Vec<Self>> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Text(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        self.bytes().and_then(|it| std::str::from_utf8(it).ok())
    }

    /// A number, as such or in digits.
    pub(super) fn number(&self) -> Option<u64> {
        match self {
            Self::Integer(number) => u64::try_from(*number).ok(),
            other => other.text()?.parse().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Vec<Value> {
        let mut buffer = BytesMut::from(bytes);
        let values = std::iter::from_fn(|| take(&mut buffer).unwrap()).collect();
        assert!(buffer.is_empty());
        values
    }

    fn text(it: &str) -> Value {
        Value::Text(Bytes::copy_from_slice(it.as_bytes()))
    }

    #[test]
    fn every_kind_of_reply_is_read() {
        let values = all(b"+OK\r\n:-7\r\n$3\r\na\r\n\r\n$-1\r\n_\r\n#t\r\n,1.5\r\n=5\r\ntxt:x\r\n-ERR no\r\n*2\r\n:1\r\n*0\r\n%1\r\n+k\r\n:1\r\n>2\r\n+message\r\n+x\r\n|1\r\n+ttl\r\n:9\r\n+after\r\n");
        let expected = [
            text("OK"),
            Value::Integer(-7),
            text("a\r\n"),
            Value::Null,
            Value::Null,
            Value::Integer(1),
            text("1.5"),
            text("x"),
            Value::Refusal("ERR no".into()),
            Value::List(vec![Value::Integer(1), Value::List(vec![])]),
            Value::List(vec![text("k"), Value::Integer(1)]),
            Value::Push(vec![text("message"), text("x")]),
            text("after"),
        ];
        assert_eq!(values, expected);
    }

    #[test]
    fn a_reply_may_come_byte_by_byte() {
        let whole = b"*3\r\n$5\r\nhello\r\n*1\r\n:42\r\n$0\r\n\r\n";
        let mut buffer = BytesMut::new();
        for byte in &whole[..whole.len() - 1] {
            buffer.extend_from_slice(&[*byte]);
            assert_eq!(take(&mut buffer).unwrap(), None);
        }
        buffer.extend_from_slice(b"\n");
        let expected = Value::List(vec![text("hello"), Value::List(vec![Value::Integer(42)]), text("")]);
        assert_eq!(take(&mut buffer).unwrap(), Some(expected));
    }

    #[test]
    fn nonsense_is_refused_rather_than_waited_for() {
        for bad in [&b"hello\r\n"[..], b"$x\r\n", b"$-2\r\n", b"*99999999999\r\n", b"$300000000\r\n", b":1\n", b"+a\n"]
        {
            assert_eq!(take(&mut BytesMut::from(bad)), Err(Malformed), "{:?}", String::from_utf8_lossy(bad));
        }
        let deep = b"*1\r\n".repeat(100);
        assert_eq!(take(&mut BytesMut::from(&deep[..])), Err(Malformed));
    }

    #[test]
    fn a_command_is_a_list_of_its_words() {
        assert_eq!(&command(&[b"SET", b"k", b""])[..], b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
    }
}
