//! The load client: opens subscribers, publishes through the API, and prints one JSON line with what it measured.

mod comeback;
mod fanout;
mod idle;

use std::net::SocketAddr;

use clap::{Parser, ValueEnum};
use outrigger_fanout::books::Books;
use outrigger_fanout::crowd::Crowd;
use outrigger_fanout::publisher::Publisher;
use outrigger_fanout::target::Target;
use outrigger_fanout::tls;
use outrigger_fanout::wire::Transport;
use serde::Serialize;

#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// Where subscribers connect
    #[arg(long)]
    server: SocketAddr,
    /// Where `POST /push` goes
    #[arg(long)]
    api: SocketAddr,
    /// The key of the API
    #[arg(long, default_value = "bench")]
    key: String,
    /// The server's process, whose CPU time and memory are read
    #[arg(long)]
    pid: u32,
    #[arg(long, value_enum, default_value = "closed")]
    mode: Mode,
    #[arg(long, value_enum, default_value = "ws")]
    transport: Transport,
    /// Connect with TLS, believing any certificate
    #[arg(long)]
    tls: bool,
    /// A JWT for every subscriber; without it they are anonymous
    #[arg(long)]
    token: Option<String>,
    #[arg(long, default_value = "bench")]
    channel: String,
    #[arg(long, default_value_t = 1000)]
    subscribers: usize,
    /// Messages in one POST
    #[arg(long, default_value_t = 1)]
    burst: usize,
    /// Bytes of `data` in a message
    #[arg(long, default_value_t = 128)]
    size: usize,
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// POSTs per second in the latency mode
    #[arg(long, default_value_t = 10.0)]
    rate: f64,
    /// Connections more that follow the channel and never read
    #[arg(long, default_value_t = 0)]
    stalled: usize,
    /// Messages that clients have missed in the return mode
    #[arg(long, default_value_t = 100)]
    missed: u64,
    /// The server keeps books, to be held against what was published
    #[arg(long)]
    books: bool,
    /// Who is measured, for the table
    #[arg(long, default_value = "server")]
    label: String,
    /// Which repetition this is: the table compares servers within one
    #[arg(long, default_value_t = 1)]
    repetition: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// One POST in flight; the next when the probes have it all
    Closed,
    /// POSTs at a fixed rate, whatever has arrived
    Latency,
    /// Only hold the connections
    Idle,
    /// Everybody asks for what was missed
    Return,
}

/// What every line says about its run.
#[derive(Serialize)]
struct Cell {
    label: String,
    repetition: u32,
    mode: Mode,
    transport: Transport,
    tls: bool,
    subscribers: usize,
    burst: usize,
    size: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let target = Target {
        address: arguments.server,
        transport: arguments.transport,
        tls: arguments.tls.then(tls::client_config),
        token: arguments.token.clone(),
        channel: arguments.channel.clone(),
    };
    let open = |target| Crowd::new(target, Publisher::connect(arguments.api, &arguments.key)?);
    let cell = Cell {
        label: arguments.label.clone(),
        repetition: arguments.repetition,
        mode: arguments.mode,
        transport: arguments.transport,
        tls: arguments.tls,
        subscribers: arguments.subscribers,
        burst: arguments.burst,
        size: arguments.size,
    };
    let line = match arguments.mode {
        Mode::Idle => serde_json::to_string(&idle::measure(open(target)?, &arguments, cell)?)?,
        Mode::Return => serde_json::to_string(&comeback::measure(&target, &arguments, cell)?)?,
        Mode::Closed | Mode::Latency => serde_json::to_string(&fanout::measure(open(target)?, &arguments, cell)?)?,
    };
    println!("{line}");
    Ok(())
}

/// The server's books at the end, if it keeps any.
struct HeldBooks(Option<Books>);

impl HeldBooks {
    fn of(arguments: &Arguments) -> std::io::Result<HeldBooks> {
        if !arguments.books {
            return Ok(HeldBooks(None));
        }
        let mut books = Books::settled(arguments.api, &arguments.key)?;
        if arguments.stalled > 0 {
            // What waits for those who never read is accounted for where it is.
            books.flushed += std::mem::take(&mut books.queued);
        }
        Ok(HeldBooks(Some(books)))
    }

    /// Every message was owed to everybody: what the books say otherwise.
    fn off_from(&self, messages: u64, followers: usize) -> u64 {
        self.0.map_or(0, |books| books.off_from(messages * followers as u64))
    }

    fn slow(&self) -> u64 {
        self.0.map_or(0, |books| books.slow)
    }
}
