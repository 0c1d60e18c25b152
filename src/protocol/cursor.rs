//! The cursor of an event stream or a poll: every channel of the session with its position, as one opaque, versioned
//! text that is valid on every node.
//!
//! Version 1 is base64url of, per channel in order of their names: how many bytes the name shares with the one before,
//! the length of the rest, the rest, eight bytes of epoch, and `seq` as a LEB128 number. Shared beginnings keep a
//! hundred channels within two kilobytes. What is longer names a checkpoint, kept on the server, and says in the same way
//! which channels have gone on since.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::channel::{ChannelName, Epoch, Position};

/// Beyond this a cursor names a checkpoint instead: proxies cut header lines at 4 or 8 KiB.
pub const MAX_LEN: usize = 2048;

/// What a client hands back.
#[derive(Debug, PartialEq, Eq)]
pub enum Cursor {
    Positions(Vec<(ChannelName, Position)>),
    /// The positions are kept on the server under this name, apart from these, which have changed since.
    Checkpoint {
        name: Box<str>,
        since: Vec<(ChannelName, Position)>,
    },
}

const VERSION: char = '1';
const CHECKPOINT: char = 'c';
const SINCE: char = '~';

/// Writes positions; give them in the order of their channels' names.
pub fn encode<'a>(positions: impl Iterator<Item = (&'a ChannelName, Epoch, u64)>) -> String {
    let mut bytes = Vec::with_capacity(64);
    let mut before = "";
    for (channel, epoch, seq) in positions {
        let name = channel.as_str();
        let shared = before.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        bytes.push(byte(shared));
        bytes.push(byte(name.len() - shared));
        bytes.extend_from_slice(&name.as_bytes()[shared..]);
        bytes.extend_from_slice(&epoch.0.to_be_bytes());
        write_number(seq, &mut bytes);
        before = name;
    }
    let mut text = String::with_capacity(bytes.len() * 4 / 3 + 4);
    text.push(VERSION);
    URL_SAFE_NO_PAD.encode_string(&bytes, &mut text);
    text
}

/// A cursor that names positions kept on the server, and those that have changed since, in the order of their names.
pub fn since_checkpoint<'a>(name: &str, changed: impl Iterator<Item = (&'a ChannelName, Epoch, u64)>) -> String {
    format!("{CHECKPOINT}{name}{SINCE}{}", encode(changed))
}

/// Reads what a client sent. `None` for anything we did not write: where such a client stands nobody knows.
pub fn decode(text: &str) -> Option<Cursor> {
    let Some(rest) = text.strip_prefix(CHECKPOINT) else { return positions(text).map(Cursor::Positions) };
    let (name, since) = rest.split_once(SINCE)?;
    let is_name = !name.is_empty() && name.len() <= 64 && name.bytes().all(|it| it.is_ascii_alphanumeric());
    Some(Cursor::Checkpoint { name: is_name.then_some(name)?.into(), since: positions(since)? })
}

fn positions(text: &str) -> Option<Vec<(ChannelName, Position)>> {
    let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(VERSION)?).ok()?;
    let mut rest = &bytes[..];
    let mut positions = Vec::new();
    let mut name: Vec<u8> = Vec::new();
    while let [shared, len, after @ ..] = rest {
        let (suffix, after) = after.split_at_checked(usize::from(*len))?;
        name.truncate(usize::from(*shared));
        name.extend_from_slice(suffix);
        let (epoch, after) = after.split_first_chunk::<8>()?;
        let (seq, after) = read_number(after)?;
        let channel = ChannelName::parse(std::str::from_utf8(&name).ok()?).ok()?;
        positions.push((channel, Position { epoch: Epoch(u64::from_be_bytes(*epoch)), seq, id: None }));
        rest = after;
    }
    rest.is_empty().then_some(positions)
}

fn byte(len: usize) -> u8 {
    u8::try_from(len).expect("a channel name is at most 200 bytes")
}

fn write_number(mut number: u64, out: &mut Vec<u8>) {
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits fit");
        number >>= 7;
        if number == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

fn read_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    for (at, byte) in bytes.iter().take(9).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> ChannelName {
        ChannelName::parse(text).unwrap()
    }

    #[test]
    fn a_hundred_channels_fit_two_kilobytes() {
        let names: Vec<_> = (100..200).map(|it| name(&format!("project.17.room.{it}"))).collect();
        let text = encode(names.iter().map(|it| (it, Epoch(u64::MAX), 100_000)));
        assert!(text.len() <= MAX_LEN, "{}", text.len());
    }

    #[test]
    fn a_checkpoint_is_read_back_with_what_has_changed_since() {
        let room = name("room.1");
        let text = since_checkpoint("abc123", [(&room, Epoch(7), 9)].into_iter());
        let at = Position { epoch: Epoch(7), seq: 9, id: None };
        assert_eq!(decode(&text), Some(Cursor::Checkpoint { name: "abc123".into(), since: vec![(room, at)] }));
        for not_ours in ["c", "c~1", "cabc", "cabc~", "ca.c~1"] {
            assert_eq!(decode(not_ours), None, "{not_ours}");
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back(
            channels in proptest::collection::btree_map("[a-zé]{1,4}(\\.[a-z0-9]{1,5}){0,3}", (any::<u64>(), 0_u64..1 << 53), 0..20)
        ) {
            let expected: Vec<_> = channels
                .iter()
                .map(|(text, (epoch, seq))| (name(text), Position { epoch: Epoch(*epoch), seq: *seq, id: None }))
                .collect();
            let text = encode(expected.iter().map(|(channel, it)| (channel, it.epoch, it.seq)));
            prop_assert_eq!(decode(&text), Some(Cursor::Positions(expected)));
        }

        #[test]
        fn nothing_a_client_sends_can_panic(text in ".{0,80}", bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode(&text);
            let _ = decode(&format!("1{}", URL_SAFE_NO_PAD.encode(&bytes)));
            let _ = decode(&format!("cname~1{}", URL_SAFE_NO_PAD.encode(bytes)));
        }
    }
}
