//! One reader with a bad habit.

use std::io;
use std::time::{Duration, Instant};

use memchr::memmem;
use outrigger_fanout::follower::{Follower, Told};
use outrigger_fanout::probe::Cutter;
use outrigger_fanout::stream::Stream;
use outrigger_fanout::target::Target;
use outrigger_fanout::wire::{Transport, client_frame};

/// Small enough that the server's writes become partial, large enough that the window reopens without a timer.
const SMALL_WINDOW: usize = 8 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// Reads whatever is there.
    Quick,
    /// Reads a few bytes each time, through a small window.
    Sipping,
    /// Reads all there is, then looks away for a while.
    Pausing,
    /// Subscribes and unsubscribes without end.
    Hopping,
}

impl Habit {
    pub fn of(index: usize, transport: Transport) -> Habit {
        match (index % 4, transport) {
            (1, _) => Habit::Sipping,
            (2, _) => Habit::Pausing,
            (3, Transport::Ws) => Habit::Hopping,
            _ => Habit::Quick,
        }
    }

    fn bytes_at_once(self) -> usize {
        match self {
            Habit::Sipping => 700,
            Habit::Quick | Habit::Pausing | Habit::Hopping => 64 * 1024,
        }
    }

    fn pause(self) -> Duration {
        match self {
            Habit::Pausing => Duration::from_millis(250),
            Habit::Quick | Habit::Sipping | Habit::Hopping => Duration::ZERO,
        }
    }
}

pub struct Reader {
    pub stream: Stream,
    pub habit: Habit,
    pub follower: Follower,
    pub is_readable: bool,
    transport: Transport,
    cutter: Cutter,
    /// What has come of the response head, until it is whole.
    head: Option<Vec<u8>>,
    wakes_at: Instant,
    has_joined: bool,
    /// And has not asked to leave since.
    is_subscribed: bool,
    may_hop: bool,
}

impl Reader {
    pub fn open(target: &Target, habit: Habit) -> io::Result<Reader> {
        let window = matches!(habit, Habit::Sipping | Habit::Pausing).then_some(SMALL_WINDOW);
        let mut stream = target.connect(0, window)?;
        stream.send(target.request().as_bytes())?;
        Ok(Reader {
            stream,
            habit,
            follower: Follower::new(target.transport),
            is_readable: false,
            transport: target.transport,
            cutter: Cutter::new(target.transport),
            head: Some(Vec::new()),
            wakes_at: Instant::now(),
            has_joined: false,
            is_subscribed: false,
            may_hop: habit == Habit::Hopping,
        })
    }

    pub fn has_joined(&self) -> bool {
        self.has_joined
    }

    pub fn is_subscribed(&self) -> bool {
        self.is_subscribed
    }

    /// From now on it stays where it is, or comes back once more.
    pub fn settle_down(&mut self) {
        self.may_hop = false;
    }

    /// Whether it has everything that was sent; a hopping reader only has to have the last message.
    pub fn has_all(&self, sent: u64) -> bool {
        let is_complete = self.habit == Habit::Hopping || self.follower.messages == sent;
        is_complete && self.follower.last_number == sent.checked_sub(1)
    }

    /// Reads as its habit allows. Says whether a byte came.
    pub fn read(&mut self, scratch: &mut [u8], channel: &str) -> io::Result<bool> {
        if !self.is_readable || Instant::now() < self.wakes_at {
            return Ok(false);
        }
        self.stream.flush()?;
        let mut has_progress = false;
        let mut told = Vec::new();
        loop {
            let (head, cutter, follower) = (&mut self.head, &mut self.cutter, &mut self.follower);
            let taken = self.stream.sip(scratch, self.habit.bytes_at_once(), |bytes| {
                behind_the_head(head, bytes, |bytes| cutter.feed(bytes, |unit| told.push(follower.hear(unit))));
            })?;
            has_progress |= taken.is_some();
            self.is_readable = taken.is_some();
            if taken.is_none() || self.habit == Habit::Sipping {
                break;
            }
        }
        self.wakes_at = Instant::now() + self.habit.pause();
        for told in told {
            self.answer(&told, channel)?;
        }
        // TLS may have more to say after it has read.
        self.stream.flush()?;
        Ok(has_progress)
    }

    fn answer(&mut self, told: &Told, channel: &str) -> io::Result<()> {
        let command = match (told, self.transport) {
            (Told::Connected, Transport::Sse) => {
                (self.has_joined, self.is_subscribed) = (true, true);
                return Ok(());
            }
            (Told::Connected, Transport::Ws) => "subscribe",
            (Told::Subscribed, _) => {
                (self.has_joined, self.is_subscribed) = (true, !self.may_hop);
                if self.is_subscribed {
                    return Ok(());
                }
                "unsubscribe"
            }
            (Told::Unsubscribed, _) => "subscribe",
            (Told::Other, _) => return Ok(()),
        };
        self.stream.send(&client_frame(&format!(r#"{{"type":"{command}","channel":"{channel}"}}"#)))
    }
}

/// Hands on what follows the response head.
fn behind_the_head(head: &mut Option<Vec<u8>>, bytes: &[u8], sink: impl FnOnce(&[u8])) {
    let Some(heard) = head else { return sink(bytes) };
    heard.extend_from_slice(bytes);
    if let Some(end) = memmem::find(heard, b"\r\n\r\n") {
        let rest = heard.split_off(end + 4);
        *head = None;
        sink(&rest);
    }
}
