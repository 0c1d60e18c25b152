//! Readers that make a server's writes partial: small windows, sips of a few bytes, long pauses, and others that join
//! and leave all the time. Every message has to reach everybody who was subscribed, in order, and none before its
//! `subscribed`. Prints one JSON line and exits with 1 if anything was wrong.

mod reader;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use mio::{Events, Interest, Poll, Token};
use outrigger_fanout::books::Books;
use outrigger_fanout::crowd::data;
use outrigger_fanout::publisher::Publisher;
use outrigger_fanout::target::Target;
use outrigger_fanout::tls;
use outrigger_fanout::wire::Transport;
use serde_json::json;

use crate::reader::{Habit, Reader};

#[derive(Parser)]
#[command(about)]
struct Arguments {
    #[arg(long)]
    server: SocketAddr,
    #[arg(long)]
    api: SocketAddr,
    #[arg(long, default_value = "bench")]
    key: String,
    #[arg(long, value_enum, default_value = "ws")]
    transport: Transport,
    #[arg(long)]
    tls: bool,
    #[arg(long)]
    token: Option<String>,
    #[arg(long, default_value = "bench")]
    channel: String,
    #[arg(long, default_value_t = 200)]
    readers: usize,
    #[arg(long, default_value_t = 4000)]
    messages: u64,
    /// The largest `data`; sizes vary below it
    #[arg(long, default_value_t = 4096)]
    size: u64,
    /// After this long without any progress the run has stalled
    #[arg(long, default_value_t = 30)]
    patience: u64,
}

const PUBLISHER: Token = Token(usize::MAX - 1);

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let mut stress = Stress::open(&arguments)?;
    let stalled = stress.run(&arguments).err().map(|error| error.to_string());
    let books = Books::settled(arguments.api, &arguments.key)?;
    Ok(stress.report(&arguments, stalled, books))
}

struct Stress {
    poll: Poll,
    events: Events,
    scratch: Vec<u8>,
    channel: String,
    readers: Vec<Reader>,
    publisher: Publisher,
    sent: u64,
}

impl Stress {
    fn open(arguments: &Arguments) -> io::Result<Stress> {
        let target = Target {
            address: arguments.server,
            transport: arguments.transport,
            tls: arguments.tls.then(tls::client_config),
            token: arguments.token.clone(),
            channel: arguments.channel.clone(),
        };
        let poll = Poll::new()?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let mut publisher = Publisher::connect(arguments.api, &arguments.key)?;
        poll.registry().register(&mut publisher.stream.tcp, PUBLISHER, interest)?;
        let mut readers = Vec::new();
        for index in 0..arguments.readers {
            let mut reader = Reader::open(&target, Habit::of(index, arguments.transport))?;
            poll.registry().register(&mut reader.stream.tcp, Token(index), interest)?;
            readers.push(reader);
        }
        let (events, scratch, channel) = (Events::with_capacity(1024), vec![0; 64 * 1024], arguments.channel.clone());
        Ok(Stress { poll, events, scratch, channel, readers, publisher, sent: 0 })
    }

    /// Everybody in, all messages out, and one last message that everybody has to see.
    fn run(&mut self, arguments: &Arguments) -> io::Result<()> {
        let patience = Duration::from_secs(arguments.patience);
        self.turn_until(patience, |stress| stress.readers.iter().all(Reader::has_joined))?;
        while self.sent + 1 < arguments.messages {
            self.post((1 + self.sent % 16).min(arguments.messages - 1 - self.sent), arguments.size)?;
            self.turn_until(patience, |stress| stress.publisher.is_idle())?;
        }
        for reader in &mut self.readers {
            reader.settle_down();
        }
        self.turn_until(patience, |stress| stress.readers.iter().all(Reader::is_subscribed))?;
        self.post(1, arguments.size)?;
        self.turn_until(patience, |stress| {
            stress.publisher.is_idle() && stress.readers.iter().all(|reader| reader.has_all(stress.sent))
        })
    }

    fn post(&mut self, burst: u64, largest: u64) -> io::Result<()> {
        let channel = &self.channel;
        // A prime step goes through all sizes without repeating itself soon.
        let messages: Vec<String> = (self.sent..self.sent + burst)
            .map(|number| {
                format!(r#"{{"channel":"{channel}","data":{}}}"#, data(number, (number * 7919 % largest) as usize))
            })
            .collect();
        self.sent += burst;
        self.publisher.post(&format!(r#"{{"messages":[{}]}}"#, messages.join(",")))
    }

    /// Turns until `is_done`; an error if for the time of `patience` nobody received a byte.
    fn turn_until(&mut self, patience: Duration, is_done: impl Fn(&Stress) -> bool) -> io::Result<()> {
        let mut last_progress = Instant::now();
        while !is_done(self) {
            if self.turn()? {
                last_progress = Instant::now();
            } else if last_progress.elapsed() > patience {
                return Err(io::Error::other("stalled"));
            }
        }
        Ok(())
    }

    /// Lets everybody read once. Says whether a byte came.
    fn turn(&mut self) -> io::Result<bool> {
        self.poll.poll(&mut self.events, Some(Duration::from_millis(1)))?;
        let mut has_progress = false;
        for event in &self.events {
            match event.token() {
                PUBLISHER => {
                    self.publisher.on_event(&mut self.scratch)?;
                    has_progress = true;
                }
                Token(index) => self.readers[index].is_readable = true,
            }
        }
        for reader in &mut self.readers {
            has_progress |= reader.read(&mut self.scratch, &self.channel)?;
        }
        Ok(has_progress)
    }

    fn report(&self, arguments: &Arguments, stalled: Option<String>, books: Books) -> ExitCode {
        let mut by_habit: BTreeMap<String, (usize, u64)> = BTreeMap::new();
        for reader in &self.readers {
            let (readers, messages) = by_habit.entry(format!("{:?}", reader.habit)).or_default();
            *readers += 1;
            *messages += reader.follower.messages;
        }
        let faults: Vec<_> = self.readers.iter().flat_map(|reader| &reader.follower.faults).collect();
        let gaps: u64 = self.readers.iter().map(|reader| reader.follower.gaps).sum();
        let behind = self.readers.iter().filter(|reader| !reader.has_all(self.sent)).count();
        let line = json!({
            "transport": arguments.transport, "tls": arguments.tls, "sent": self.sent,
            "readers_and_messages_by_habit": by_habit, "gaps": gaps, "behind": behind,
            "faults": faults.len(), "first_faults": faults.iter().take(5).collect::<Vec<_>>(), "stalled": stalled,
            "books": books,
        });
        println!("{line}");
        // Whoever hops leaves something unwritten behind; nobody may have been dropped for being slow.
        let is_balanced = books.off_from(books.expected) == 0 && books.slow == 0;
        let is_right = faults.is_empty() && gaps == 0 && behind == 0 && line["stalled"].is_null() && is_balanced;
        if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
