//! All subscribers and their publisher in one epoll loop.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::probe::{Probe, Tally};
use crate::publisher::Publisher;
use crate::subscriber::{Progress, Subscriber};
use crate::target::Target;

const PUBLISHER: Token = Token(usize::MAX - 1);
/// Handshakes under way at once, as a crowd of browsers behind a load balancer would have.
const OPENING_AT_ONCE: usize = 64;
/// A source address has about 28,000 ephemeral ports.
const SUBSCRIBERS_PER_ADDRESS: usize = 25_000;
const PROBES: usize = 16;
/// So little is in flight to a reader that stalled before its server notices.
const SMALL_WINDOW: usize = 8 * 1024;
/// Longer than any lateness seen on a starved machine: what has not come by then is lost.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Crowd {
    poll: Poll,
    events: Events,
    scratch: Vec<u8>,
    target: Target,
    subscribers: Vec<Subscriber>,
    /// Which of the subscribers are probes.
    probes: Vec<usize>,
    /// Connections that follow the channel and are never read again.
    stalled: Vec<Subscriber>,
    following: usize,
    pub closed: usize,
    pub publisher: Publisher,
    next_number: u64,
    /// The receive buffer of those that are opened now, if not the system's.
    window: Option<usize>,
}

impl Crowd {
    pub fn new(target: Target, mut publisher: Publisher) -> io::Result<Crowd> {
        let poll = Poll::new()?;
        poll.registry().register(&mut publisher.stream.tcp, PUBLISHER, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Crowd {
            poll,
            events: Events::with_capacity(1024),
            scratch: vec![0; 256 * 1024],
            target,
            subscribers: Vec::new(),
            probes: Vec::new(),
            stalled: Vec::new(),
            following: 0,
            closed: 0,
            publisher,
            next_number: 0,
            window: None,
        })
    }

    /// Opens connections until there are `count`, and returns when all of them follow the channel.
    pub fn grow_to(&mut self, count: usize) -> io::Result<()> {
        let mut deadline = Instant::now() + PATIENCE;
        while self.following < count {
            while self.subscribers.len() < count && self.subscribers.len() - self.following < OPENING_AT_ONCE {
                self.open()?;
            }
            let before = self.following;
            self.turn(Duration::from_millis(100))?;
            if self.following > before {
                deadline = Instant::now() + PATIENCE;
            } else if Instant::now() > deadline {
                return Err(io::Error::other(format!("only {} of {count} subscribers came to follow", self.following)));
            }
        }
        Ok(())
    }

    /// Lets so many more follow the channel through a small window, and never reads what they are sent.
    pub fn stall(&mut self, count: usize) -> io::Result<()> {
        self.window = Some(SMALL_WINDOW);
        let readers = self.following;
        self.grow_to(readers + count)?;
        self.window = None;
        self.stalled = self.subscribers.split_off(readers);
        self.following = readers;
        for subscriber in &mut self.stalled {
            self.poll.registry().deregister(&mut subscriber.stream.tcp)?;
        }
        Ok(())
    }

    /// How many messages were posted.
    pub fn sent(&self) -> u64 {
        self.next_number
    }

    fn open(&mut self) -> io::Result<()> {
        let index = self.subscribers.len();
        let mut stream = self.target.connect(index / SUBSCRIBERS_PER_ADDRESS, self.window)?;
        self.poll.registry().register(&mut stream.tcp, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        self.subscribers.push(Subscriber::begin(stream, &self.target.request())?);
        Ok(())
    }

    /// Waits for events once and takes in all of them.
    pub fn turn(&mut self, timeout: Duration) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in &self.events {
            if event.token() == PUBLISHER {
                self.publisher.on_event(&mut self.scratch)?;
                continue;
            }
            let Some(subscriber) = self.subscribers.get_mut(event.token().0) else { continue };
            match subscriber.on_event(&mut self.scratch, self.target.transport, &self.target.channel)? {
                Progress::Nothing => {}
                Progress::NowFollowing => self.following += 1,
                Progress::NowClosed => self.closed += 1,
            }
        }
        Ok(())
    }

    /// Turns until `is_done`, or for at most `PATIENCE`. Says whether it came to be done.
    pub fn turn_until(&mut self, is_done: impl Fn(&Crowd) -> bool) -> io::Result<bool> {
        let deadline = Instant::now() + PATIENCE;
        while !is_done(self) {
            if Instant::now() > deadline {
                return Ok(false);
            }
            self.turn(Duration::from_millis(100))?;
        }
        Ok(true)
    }

    pub fn turn_for(&mut self, time: Duration) -> io::Result<()> {
        let deadline = Instant::now() + time;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            self.turn(left)?;
        }
        Ok(())
    }

    /// Posts `burst` messages with `size` bytes of data each, in one request.
    pub fn push(&mut self, burst: usize, size: usize) -> io::Result<()> {
        let channel = &self.target.channel;
        let first = self.next_number;
        self.next_number += burst as u64;
        let messages: Vec<String> = (first..self.next_number)
            .map(|number| format!(r#"{{"channel":"{channel}","data":{}}}"#, data(number, size)))
            .collect();
        match &messages[..] {
            [single] => self.publisher.post(single),
            several => self.publisher.post(&format!(r#"{{"messages":[{}]}}"#, several.join(","))),
        }
    }

    /// Turns some subscribers, spread over the whole set, into probes, and sees two messages through to everybody.
    pub fn warm_up(&mut self, size: usize) -> io::Result<()> {
        let count = self.subscribers.len();
        self.probes = (0..PROBES.min(count)).map(|probe| probe * count / PROBES.min(count)).collect();
        for &index in &self.probes {
            let probe = Probe::new(self.target.transport, self.next_number);
            self.subscribers[index].probe = Some(Box::new(probe));
        }
        self.turn_for(Duration::from_secs(1))?;
        self.reset();
        for sent in 1..=2 {
            self.push(1, size)?;
            if !self.turn_until(|crowd| crowd.publisher.is_idle() && crowd.have_probes_seen(sent))? {
                return Err(io::Error::other("the first messages did not reach every probe: is the channel followed?"));
            }
        }
        let lost = self.settle()?;
        if lost > 0 {
            return Err(io::Error::other(format!("{lost} deliveries of the first two messages are missing")));
        }
        self.reset();
        Ok(())
    }

    fn reset(&mut self) {
        for subscriber in &mut self.subscribers {
            subscriber.received = 0;
            if let Some(probe) = &mut subscriber.probe {
                probe.tally = Tally::default();
            }
        }
    }

    pub fn tallies(&self) -> impl Iterator<Item = &Tally> {
        self.probes.iter().filter_map(|&index| self.subscribers[index].probe.as_ref()).map(|probe| &probe.tally)
    }

    pub fn have_probes_seen(&self, messages: u64) -> bool {
        self.tallies().all(|tally| tally.messages >= messages)
    }

    /// The bytes every subscriber has to have: messages are the same bytes for all. Heartbeats come on top.
    fn bytes_due(&self) -> u64 {
        self.tallies().map(|tally| tally.bytes).max().unwrap_or(0)
    }

    /// Waits until every connection has its bytes and returns how many deliveries are missing after all.
    pub fn settle(&mut self) -> io::Result<u64> {
        let due = self.bytes_due();
        self.turn_until(|crowd| crowd.subscribers.iter().all(|subscriber| subscriber.received >= due))?;
        let messages = self.tallies().map(|tally| tally.messages).max().unwrap_or(0).max(1);
        let per_message = (due / messages).max(1);
        // Messages differ by the digits of their numbers, hence rounded; a shortfall is never nothing.
        let missing = |short: u64| if short == 0 { 0 } else { ((short + per_message / 2) / per_message).max(1) };
        Ok(self.subscribers.iter().map(|subscriber| missing(due.saturating_sub(subscriber.received))).sum())
    }
}

/// A JSON object of exactly `size` bytes (if that is enough for its number).
pub fn data(number: u64, size: usize) -> String {
    let bare = format!(r#"{{"n":{number},"pad":""}}"#);
    format!(r#"{{"n":{number},"pad":"{}"}}"#, "x".repeat(size.saturating_sub(bare.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_has_the_size_that_was_asked_for() {
        assert_eq!(data(7, 128).len(), 128);
        assert_eq!(data(123_456, 1024).len(), 1024);
    }
}
