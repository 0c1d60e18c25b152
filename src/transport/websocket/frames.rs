//! What a client sends, frame by frame, into whole messages (RFC 6455, with permessage-deflate of RFC 7692). Grows only
//! as data arrives, never by what a header announces, and holds nothing while no message is incomplete.

use std::cell::RefCell;
use std::io::Cursor;

use bytes::{Bytes, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use crate::protocol::Close;

/// What a client said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Text(Bytes),
    Binary(Bytes),
    Ping(Bytes),
    Pong,
    /// The client closes, with what it gave as its code.
    Close(Option<u16>),
}

/// Puts a client's frames together.
pub(super) struct Frames {
    /// Bytes of a frame that is not whole yet.
    incomplete: BytesMut,
    /// A fragmented message on its way.
    message: Option<Box<Message>>,
    /// The largest message taken, in bytes, inflated.
    max_message: usize,
    /// permessage-deflate was negotiated.
    is_deflated: bool,
}

struct Message {
    code: Data,
    is_compressed: bool,
    payload: BytesMut,
    /// How much of a text is known to be UTF-8.
    valid_to: usize,
}

/// The most a control frame carries (RFC 6455, 5.5).
const MAX_CONTROL: u64 = 125;

impl Frames {
    pub(super) fn new(max_message: usize, is_deflated: bool) -> Self {
        Self { incomplete: BytesMut::new(), message: None, max_message, is_deflated }
    }

    /// Takes what was read.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.incomplete.extend_from_slice(bytes);
    }

    /// The next thing the client said, if it is whole. An error is how the connection has to end.
    pub(super) fn next(&mut self) -> Result<Option<Heard>, Close> {
        loop {
            let Some((header, payload)) = self.next_frame()? else { return Ok(None) };
            let heard = match header.opcode {
                OpCode::Control(code) => Some(control(code, payload)?),
                OpCode::Data(code) => self.data(&header, code, payload)?,
            };
            if heard.is_some() {
                return Ok(heard);
            }
        }
    }

    /// One whole frame, unmasked.
    fn next_frame(&mut self) -> Result<Option<(FrameHeader, BytesMut)>, Close> {
        if self.incomplete.is_empty() {
            // Nothing is kept for a connection at rest.
            self.incomplete = BytesMut::new();
            return Ok(None);
        }
        let mut cursor = Cursor::new(&self.incomplete[..]);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| Close::PROTOCOL_ERROR)?;
        let Some((header, length)) = parsed else { return Ok(None) };
        let head = usize::try_from(cursor.position()).map_err(|_| Close::PROTOCOL_ERROR)?;
        self.check(&header, length)?;
        let Some(mask) = header.mask else { return Err(Close::PROTOCOL_ERROR) };
        let length = usize::try_from(length).map_err(|_| Close::TOO_LARGE)?;
        if self.incomplete.len() - head < length {
            return Ok(None);
        }
        let _ = self.incomplete.split_to(head);
        let mut payload = self.incomplete.split_to(length);
        unmask(&mut payload, mask);
        Ok(Some((header, payload)))
    }

    /// Everything that can be wrong with a header, before its payload is waited for.
    fn check(&self, header: &FrameHeader, length: u64) -> Result<(), Close> {
        let is_continuation = header.opcode == OpCode::Data(Data::Continue);
        let may_be_compressed = self.is_deflated && matches!(header.opcode, OpCode::Data(_)) && !is_continuation;
        if header.rsv2 || header.rsv3 || (header.rsv1 && !may_be_compressed) {
            return Err(Close::PROTOCOL_ERROR);
        }
        match header.opcode {
            OpCode::Control(Control::Reserved(_)) | OpCode::Data(Data::Reserved(_)) => Err(Close::PROTOCOL_ERROR),
            OpCode::Control(_) if !header.is_final || length > MAX_CONTROL => Err(Close::PROTOCOL_ERROR),
            OpCode::Control(_) => Ok(()),
            OpCode::Data(_) if is_continuation != self.message.is_some() => Err(Close::PROTOCOL_ERROR),
            OpCode::Data(_) => {
                let before = self.message.as_ref().map_or(0, |it| it.payload.len() as u64);
                if before.saturating_add(length) > self.max_message as u64 { Err(Close::TOO_LARGE) } else { Ok(()) }
            }
        }
    }

    fn data(&mut self, header: &FrameHeader, code: Data, payload: BytesMut) -> Result<Option<Heard>, Close> {
        let mut message = match self.message.take() {
            None => Box::new(Message { code, is_compressed: header.rsv1, payload, valid_to: 0 }),
            Some(mut message) => {
                message.payload.extend_from_slice(&payload);
                message
            }
        };
        if !header.is_final {
            message.check_text(false)?;
            self.message = Some(message);
            return Ok(None);
        }
        if message.is_compressed {
            message.payload = inflate(&message.payload, self.max_message)?;
        }
        message.check_text(true)?;
        let payload = message.payload.freeze();
        Ok(Some(if message.code == Data::Text { Heard::Text(payload) } else { Heard::Binary(payload) }))
    }
}

impl Message {
    /// Fails on the first wrong byte, not at the end of the message. A character may be cut by a fragment's end.
    fn check_text(&mut self, is_whole: bool) -> Result<(), Close> {
        if self.code != Data::Text || (self.is_compressed && !is_whole) {
            return Ok(());
        }
        match std::str::from_utf8(&self.payload[self.valid_to..]) {
            Ok(_) => self.valid_to = self.payload.len(),
            Err(error) if is_whole || error.error_len().is_some() => return Err(Close::INVALID_TEXT),
            Err(error) => self.valid_to += error.valid_up_to(),
        }
        Ok(())
    }
}

fn control(code: Control, payload: BytesMut) -> Result<Heard, Close> {
    match code {
        Control::Ping => Ok(Heard::Ping(payload.freeze())),
        Control::Pong => Ok(Heard::Pong),
        _ => match &payload[..] {
            [] => Ok(Heard::Close(None)),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                if !CloseCode::from(code).is_allowed() {
                    return Err(Close::PROTOCOL_ERROR);
                }
                std::str::from_utf8(reason).map_err(|_| Close::INVALID_TEXT)?;
                Ok(Heard::Close(Some(code)))
            }
            [_] => Err(Close::PROTOCOL_ERROR),
        },
    }
}

/// Eight bytes at a time: the mask repeats every four (RFC 6455, 5.3).
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= mask;
    }
}

thread_local! {
    /// One inflater per worker thread: clients keep no context between messages either.
    static INFLATE: RefCell<Decompress> = RefCell::new(Decompress::new(false));
}

/// Inflates a whole message, giving up at `limit` bytes: a small frame can hold a very large one.
fn inflate(compressed: &[u8], limit: usize) -> Result<BytesMut, Close> {
    /// What the sender left off (RFC 7692, 7.2.2).
    const TAIL: &[u8] = &[0, 0, 0xff, 0xff];
    INFLATE.with_borrow_mut(|inflate| {
        inflate.reset(false);
        let mut out: Vec<u8> = Vec::with_capacity((compressed.len() * 3).clamp(256, limit.max(256)));
        for part in [compressed, TAIL] {
            let mut rest = part;
            loop {
                let before = inflate.total_in();
                let status =
                    inflate.decompress_vec(rest, &mut out, FlushDecompress::Sync).map_err(|_| Close::BAD_DEFLATE)?;
                rest = &rest[usize::try_from(inflate.total_in() - before).unwrap_or(rest.len())..];
                if out.len() > limit {
                    return Err(Close::TOO_LARGE);
                }
                match status {
                    Status::StreamEnd => {
                        // A final block ends the stream; what follows belongs to a fresh one.
                        inflate.reset(false);
                        if rest.is_empty() {
                            break;
                        }
                    }
                    _ if out.len() == out.capacity() => out.reserve(out.capacity().min(limit + 1).max(256)),
                    _ => break,
                }
            }
        }
        Ok(BytesMut::from(&out[..]))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first, 0x80 | u8::try_from(payload.len()).unwrap(), 1, 2, 3, 4];
        out.extend(payload.iter().zip([1, 2, 3, 4].into_iter().cycle()).map(|(byte, mask)| byte ^ mask));
        out
    }

    fn hear(frames: &mut Frames, bytes: &[u8]) -> Result<Vec<Heard>, Close> {
        frames.push(bytes);
        let mut heard = Vec::new();
        while let Some(it) = frames.next()? {
            heard.push(it);
        }
        Ok(heard)
    }

    fn text(text: &str) -> Heard {
        Heard::Text(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn a_fragmented_text_with_a_ping_in_between_is_one_message() {
        let bytes = [frame(0x01, b"Hel"), frame(0x89, b"?"), frame(0x80, b"lo")].concat();
        let expected = vec![Heard::Ping(Bytes::from_static(b"?")), text("Hello")];
        assert_eq!(hear(&mut Frames::new(100, false), &bytes), Ok(expected));
    }

    #[test]
    fn violations_end_the_connection_with_their_code() {
        let end = |first, payload: &[u8]| hear(&mut Frames::new(10, false), &frame(first, payload)).unwrap_err().code;
        assert_eq!(end(0x80, b""), 1002, "a continuation of nothing");
        assert_eq!(end(0xc1, b""), 1002, "compressed without the extension");
        assert_eq!(end(0x83, b""), 1002, "a reserved opcode");
        assert_eq!(end(0x09, b""), 1002, "a fragmented ping");
        assert_eq!(end(0x81, b"01234567890"), 1009, "too large");
        assert_eq!(end(0x81, b"\xff"), 1007, "not UTF-8");
        assert_eq!(end(0x01, b"\xff"), 1007, "not UTF-8, and nobody waits for the rest");
        assert_eq!(end(0x88, b"\x03"), 1002, "half a close code");
        assert_eq!(end(0x88, b"\x03\xed"), 1002, "a close code that may not be sent");
        assert_eq!(hear(&mut Frames::new(10, false), &[0x81, 0x00]).unwrap_err().code, 1002, "unmasked");
    }

    #[test]
    fn a_header_that_announces_too_much_is_refused_before_its_payload() {
        let mut header = vec![0x82, 0xff];
        header.extend_from_slice(&u64::MAX.to_be_bytes());
        header.extend_from_slice(&[0; 4]);
        assert!(hear(&mut Frames::new(1 << 20, false), &header).is_err());
    }

    #[test]
    fn a_compressed_bomb_is_stopped_at_the_limit() {
        let bomb = crate::protocol::wire::deflate(&vec![b'a'; 100_000], 9);
        let mut bytes = vec![0xc1, 0x80 | 126];
        bytes.extend_from_slice(&u16::try_from(bomb.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&bomb);
        assert_eq!(hear(&mut Frames::new(50_000, true), &bytes).unwrap_err().code, 1009);
        assert_eq!(hear(&mut Frames::new(100_000, true), &bytes).unwrap().len(), 1);
    }

    proptest! {
        #[test]
        fn messages_survive_any_split_of_the_stream(
            messages in proptest::collection::vec(".{0,40}", 1..8),
            cuts in proptest::collection::vec(1_usize..20, 1..60),
        ) {
            let compress = |it: &String| {
                let payload = crate::protocol::wire::deflate(it.as_bytes(), 3);
                frame(0xc1, &payload[..payload.len().min(125)])
            };
            let messages: Vec<_> = messages.into_iter().filter(|it| it.len() <= 100).collect();
            let bytes: Vec<u8> = messages.iter().flat_map(compress).collect();
            let mut frames = Frames::new(1000, true);
            let mut heard = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts.into_iter().cycle() {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                heard.extend(hear(&mut frames, now).unwrap());
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(heard, messages.iter().map(|it| text(it)).collect::<Vec<_>>());
        }

        #[test]
        fn nothing_a_client_sends_can_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = hear(&mut Frames::new(64, true), &bytes);
        }
    }
}
