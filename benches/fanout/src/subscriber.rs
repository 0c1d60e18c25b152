//! One subscriber, from its handshake to the counting of its bytes.

use std::io;
use std::mem;

use memchr::memmem;

use crate::probe::Probe;
use crate::stream::Stream;
use crate::wire::{Transport, client_frame};

pub struct Subscriber {
    pub stream: Stream,
    phase: Phase,
    /// Bytes since it was last reset, once it follows the channel.
    pub received: u64,
    pub probe: Option<Box<Probe>>,
}

#[derive(PartialEq)]
enum Phase {
    Introduction { heard: Vec<u8>, has_asked: bool },
    Following,
    Closed,
}

/// What an event has changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    Nothing,
    NowFollowing,
    NowClosed,
}

impl Subscriber {
    /// Says the request; TLS and the connection itself may still be on their way.
    pub fn begin(mut stream: Stream, request: &str) -> io::Result<Subscriber> {
        stream.send(request.as_bytes())?;
        let phase = Phase::Introduction { heard: Vec::new(), has_asked: false };
        Ok(Subscriber { stream, phase, received: 0, probe: None })
    }

    pub fn on_event(&mut self, scratch: &mut [u8], transport: Transport, channel: &str) -> io::Result<Progress> {
        self.stream.flush()?;
        let is_open = match &mut self.phase {
            Phase::Closed => return Ok(Progress::Nothing),
            Phase::Introduction { heard, .. } => self.stream.drain(scratch, |bytes| heard.extend_from_slice(bytes))?,
            Phase::Following => {
                let (received, probe) = (&mut self.received, &mut self.probe);
                self.stream.drain(scratch, |bytes| {
                    *received += bytes.len() as u64;
                    if let Some(probe) = probe {
                        probe.feed(bytes);
                    }
                })?
            }
        };
        if self.is_introducing() {
            if !is_open {
                return Err(self.refused("closed before it followed the channel"));
            }
            return self.introduce(transport, channel);
        }
        if is_open {
            return Ok(Progress::Nothing);
        }
        self.phase = Phase::Closed;
        Ok(Progress::NowClosed)
    }

    fn is_introducing(&self) -> bool {
        matches!(self.phase, Phase::Introduction { .. })
    }

    /// `connected` → subscribe → `subscribed`. A stream of events names its channel in the URL, so `connected` is enough.
    fn introduce(&mut self, transport: Transport, channel: &str) -> io::Result<Progress> {
        let Phase::Introduction { heard, has_asked } = &mut self.phase else { return Ok(Progress::Nothing) };
        let has_heard = |what: &str| memmem::find(heard, what.as_bytes()).is_some();
        if has_heard(r#""type":"error""#)
            || (heard.len() > 12 && !has_heard("HTTP/1.1 101") && !has_heard("HTTP/1.1 200"))
        {
            return Err(self.refused("was refused"));
        }
        let is_following = match transport {
            Transport::Sse => has_heard("event: connected"),
            Transport::Ws => has_heard(r#""type":"subscribed""#),
        };
        if is_following {
            self.phase = Phase::Following;
            return Ok(Progress::NowFollowing);
        }
        if transport == Transport::Ws && !*has_asked && has_heard(r#""type":"connected""#) {
            *has_asked = true;
            self.stream.send(&client_frame(&format!(r#"{{"type":"subscribe","channel":"{channel}"}}"#)))?;
        }
        Ok(Progress::Nothing)
    }

    fn refused(&mut self, why: &str) -> io::Error {
        let Phase::Introduction { heard, .. } = mem::replace(&mut self.phase, Phase::Closed) else {
            return io::Error::other(why.to_owned());
        };
        io::Error::other(format!("a subscriber {why}: {}", String::from_utf8_lossy(&heard)))
    }
}
