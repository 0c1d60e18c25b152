//! Reads what arrives at a subscriber: cuts the byte stream into frames or events and, at the few subscribers that are
//! probes, counts the messages, checks their order and notes when they came.

use std::io::Cursor;
use std::time::Instant;

use memchr::memmem;
use tungstenite::protocol::frame::FrameHeader;

use crate::wire::Transport;

/// Cuts a byte stream, however it was split on its way, into whole WebSocket frames or SSE events.
pub struct Cutter {
    transport: Transport,
    buffer: Vec<u8>,
}

impl Cutter {
    pub fn new(transport: Transport) -> Cutter {
        Cutter { transport, buffer: Vec::new() }
    }

    /// Calls `unit` with every frame or event that is whole now, framing included.
    pub fn feed(&mut self, bytes: &[u8], mut unit: impl FnMut(&[u8])) {
        self.buffer.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(length) = self.unit_length(start) {
            unit(&self.buffer[start..start + length]);
            start += length;
        }
        self.buffer.drain(..start);
    }

    fn unit_length(&self, start: usize) -> Option<usize> {
        let rest = &self.buffer[start..];
        match self.transport {
            // The line of a chunked body that may stand before an event counts as part of it.
            Transport::Sse => memmem::find(rest, b"\n\n").map(|at| at + 2),
            Transport::Ws => {
                let mut cursor = Cursor::new(rest);
                let (_, payload) = FrameHeader::parse(&mut cursor).expect("the server sends valid frames")?;
                let length = usize::try_from(cursor.position() + payload).ok()?;
                (length <= rest.len()).then_some(length)
            }
        }
    }
}

/// The first run of digits behind `key` in a unit, e.g. `"seq":`.
pub fn number_after(unit: &[u8], key: &str) -> Option<u64> {
    let digits = &unit[memmem::find(unit, key.as_bytes())? + key.len()..];
    let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

pub fn is_message(unit: &[u8]) -> bool {
    memmem::find(unit, br#""type":"message""#).is_some()
}

/// One subscriber that is read message by message.
pub struct Probe {
    cutter: Cutter,
    next: u64,
    pub tally: Tally,
}

/// What a probe has seen since it was last reset.
#[derive(Default)]
pub struct Tally {
    pub messages: u64,
    pub bytes: u64,
    /// Messages that were not the successor of the one before: lost, repeated or overtaken.
    pub out_of_order: u64,
    pub arrivals: Vec<Instant>,
}

impl Probe {
    pub fn new(transport: Transport, next: u64) -> Probe {
        Probe { cutter: Cutter::new(transport), next, tally: Tally::default() }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        let now = Instant::now();
        let (next, tally) = (&mut self.next, &mut self.tally);
        self.cutter.feed(bytes, |unit| {
            if !is_message(unit) {
                return;
            }
            let number = number_after(unit, r#""n":"#).unwrap_or(u64::MAX);
            tally.out_of_order += u64::from(number != *next);
            *next = number.wrapping_add(1);
            tally.messages += 1;
            tally.bytes += unit.len() as u64;
            tally.arrivals.push(now);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::server_frame;

    #[test]
    fn a_stream_split_at_every_byte_yields_the_same_units() {
        let frames = [server_frame("short"), server_frame(&"long".repeat(100))];
        let mut cutter = Cutter::new(Transport::Ws);
        let mut seen: Vec<Vec<u8>> = Vec::new();
        for byte in frames.concat() {
            cutter.feed(&[byte], |unit| seen.push(unit.to_vec()));
        }
        assert_eq!(seen, frames);
    }

    #[test]
    fn a_missing_message_is_out_of_order() {
        let mut probe = Probe::new(Transport::Sse, 0);
        for n in [0, 1, 3] {
            probe.feed(format!("data: {{\"type\":\"message\",\"data\":{{\"n\":{n}}}}}\n\n").as_bytes());
        }
        probe.feed(b": heartbeat\n\n");
        assert_eq!((probe.tally.messages, probe.tally.out_of_order), (3, 1));
    }
}
