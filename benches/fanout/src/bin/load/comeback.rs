//! What it costs when everybody comes back: all connections are open, a hundred messages were missed, and each asks for
//! what came after its position.

use std::io;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use outrigger_fanout::books::{Books, call};
use outrigger_fanout::crowd::data;
use outrigger_fanout::follower::{Follower, Told};
use outrigger_fanout::probe::{Cutter, number_after};
use outrigger_fanout::process::{cpu_time, resident_bytes};
use outrigger_fanout::stream::Stream;
use outrigger_fanout::target::Target;
use outrigger_fanout::wire::client_frame;
use serde::Serialize;

use crate::{Arguments, Cell};

const OPENING_AT_ONCE: usize = 64;
/// A source address has about 28,000 ephemeral ports.
const CLIENTS_PER_ADDRESS: usize = 25_000;
const PATIENCE: Duration = Duration::from_secs(30);
const SETTLING: Duration = Duration::from_secs(1);

#[derive(Serialize)]
pub struct Report {
    #[serde(flatten)]
    cell: Cell,
    missed: u64,
    /// From the first question to the last answer read.
    seconds: f64,
    cpu_seconds_per_million: f64,
    resident_bytes_more: i64,
    lost: u64,
    faults: usize,
    books: Books,
    books_off: u64,
}

struct Client {
    stream: Stream,
    head: Option<Vec<u8>>,
    cutter: Cutter,
    follower: Follower,
    is_connected: bool,
}

struct Crowd {
    poll: Poll,
    events: Events,
    scratch: Vec<u8>,
    clients: Vec<Client>,
}

pub fn measure(target: &Target, arguments: &Arguments, cell: Cell) -> io::Result<Report> {
    let (pid, count, missed) = (arguments.pid, arguments.subscribers, arguments.missed);
    let since = publish(target, arguments, 0..1)?;
    for from in (1..=missed).step_by(50) {
        publish(target, arguments, from..(from + 50).min(missed + 1))?;
    }
    let mut crowd = Crowd::open(target, count)?;
    crowd.turn_for(SETTLING)?;

    let (memory, cpu, start) = (resident_bytes(pid)?, cpu_time(pid)?, Instant::now());
    let channel = &target.channel;
    let question = client_frame(&format!(r#"{{"type":"subscribe","channel":"{channel}","since":{since}}}"#));
    for client in &mut crowd.clients {
        client.stream.send(&question)?;
    }
    crowd.turn_until(|it| it.follower.messages >= missed)?;
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_time(pid)? - cpu);
    let memory = resident_bytes(pid)? as i64 - memory as i64;

    // All are live now: one more, for everybody.
    publish(target, arguments, missed + 1..missed + 2)?;
    crowd.turn_until(|it| it.follower.messages > missed)?;
    let deliveries = missed * count as u64;
    let heard: u64 = crowd.clients.iter().map(|it| it.follower.messages.min(missed + 1)).sum();
    let books = Books::settled(arguments.api, &arguments.key)?;
    Ok(Report {
        cell,
        missed,
        seconds,
        cpu_seconds_per_million: cpu.as_secs_f64() / deliveries as f64 * 1e6,
        resident_bytes_more: memory,
        lost: deliveries + count as u64 - heard,
        faults: crowd.clients.iter().map(|it| it.follower.faults.len()).sum(),
        books,
        books_off: books.off_from(deliveries + count as u64),
    })
}

/// Posts messages with these numbers, and answers the position of the last as `subscribe` names it.
fn publish(target: &Target, arguments: &Arguments, numbers: std::ops::Range<u64>) -> io::Result<String> {
    let message =
        |number| format!(r#"{{"channel":"{}","data":{}}}"#, target.channel, data(number, arguments.size));
    let messages: Vec<_> = numbers.map(message).collect();
    let body = format!(r#"{{"messages":[{}]}}"#, messages.join(","));
    let answer = call(arguments.api, &arguments.key, "POST", "/push", &body)?;
    let epoch = answer.split(r#""epoch":""#).nth(1).and_then(|rest| rest.split('"').next());
    let seq = answer.rfind(r#""seq":"#).and_then(|at| number_after(&answer.as_bytes()[at..], r#""seq":"#));
    match (epoch, seq) {
        (Some(epoch), Some(seq)) => Ok(format!(r#"{{"epoch":"{epoch}","seq":{seq}}}"#)),
        _ => Err(io::Error::other(format!("a receipt without a position: {answer}"))),
    }
}

impl Crowd {
    fn open(target: &Target, count: usize) -> io::Result<Crowd> {
        let (poll, events) = (Poll::new()?, Events::with_capacity(1024));
        let mut crowd = Crowd { poll, events, scratch: vec![0; 256 * 1024], clients: Vec::new() };
        while crowd.clients.len() < count {
            for _ in 0..OPENING_AT_ONCE.min(count - crowd.clients.len()) {
                let index = crowd.clients.len();
                let mut stream = target.connect(index / CLIENTS_PER_ADDRESS, None)?;
                let interest = Interest::READABLE | Interest::WRITABLE;
                crowd.poll.registry().register(&mut stream.tcp, Token(index), interest)?;
                stream.send(target.request().as_bytes())?;
                crowd.clients.push(Client {
                    stream,
                    head: Some(Vec::new()),
                    cutter: Cutter::new(target.transport),
                    follower: Follower::new(target.transport),
                    is_connected: false,
                });
            }
            crowd.turn_until(|it| it.is_connected)?;
        }
        Ok(crowd)
    }

    fn turn(&mut self, timeout: Duration) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in &self.events {
            self.clients[event.token().0].read(&mut self.scratch)?;
        }
        Ok(())
    }

    fn turn_until(&mut self, is_done: impl Fn(&Client) -> bool) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut done = 0;
        while done < self.clients.len() && Instant::now() < deadline {
            // Whoever was done stays so.
            done += self.clients[done..].iter().take_while(|it| is_done(it)).count();
            if done < self.clients.len() {
                self.turn(Duration::from_millis(100))?;
            }
        }
        Ok(())
    }

    fn turn_for(&mut self, time: Duration) -> io::Result<()> {
        let deadline = Instant::now() + time;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            self.turn(left)?;
        }
        Ok(())
    }
}

impl Client {
    fn read(&mut self, scratch: &mut [u8]) -> io::Result<()> {
        self.stream.flush()?;
        let Client { stream, head, cutter, follower, is_connected } = self;
        let is_open = stream.drain(scratch, |bytes| {
            let mut rest = bytes;
            let whole;
            if let Some(heard) = head {
                heard.extend_from_slice(bytes);
                let Some(end) = memchr::memmem::find(heard, b"\r\n\r\n") else { return };
                whole = heard.split_off(end + 4);
                rest = &whole;
                *head = None;
            }
            cutter.feed(rest, |unit| *is_connected |= follower.hear(unit) == Told::Connected);
        })?;
        if is_open { Ok(()) } else { Err(io::Error::other("a client's connection was closed")) }
    }
}
