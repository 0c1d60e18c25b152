//! Publishers that push as fast as they are answered, each to a channel of its own: what a push costs without subscribers.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Parser;
use mio::{Events, Interest, Poll, Token};
use outrigger_fanout::process::cpu_time;
use outrigger_fanout::publisher::Publisher;
use serde::Serialize;

#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// Where `POST /push` goes
    #[arg(long)]
    api: SocketAddr,
    /// The key of the API
    #[arg(long, default_value = "bench")]
    key: String,
    /// The server's process, whose CPU time is read
    #[arg(long)]
    pid: u32,
    /// How many, each with one POST in flight
    #[arg(long, default_value_t = 64)]
    publishers: usize,
    /// Bytes of `data` in a message
    #[arg(long, default_value_t = 128)]
    size: usize,
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Who is measured, for the table
    #[arg(long, default_value = "server")]
    label: String,
}

#[derive(Serialize)]
struct Report {
    label: String,
    publishers: usize,
    size: usize,
    pushes: usize,
    pushes_per_second: f64,
    cpu_microseconds_per_push: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// Not measured: connections, and channels that are new.
const WARM_UP: Duration = Duration::from_millis(500);

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let data = "x".repeat(arguments.size.saturating_sub(2));
    let body = |at: usize| format!(r#"{{"channel":"bench.{at}","data":"{data}"}}"#);
    let mut poll = Poll::new()?;
    let mut publishers = Vec::new();
    for at in 0..arguments.publishers {
        let mut publisher = Publisher::connect(arguments.api, &arguments.key)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut publisher.stream.tcp, Token(at), interest)?;
        publisher.post(&body(at))?;
        publishers.push((publisher, Instant::now()));
    }
    let warm = Instant::now() + WARM_UP;
    let mut started = None;
    let mut took = Vec::new();
    let (mut events, mut scratch) = (Events::with_capacity(1024), vec![0; 64 * 1024]);
    let (start, cpu) = loop {
        poll.poll(&mut events, Some(Duration::from_millis(100)))?;
        let now = Instant::now();
        if started.is_none() && now >= warm {
            started = Some((now, cpu_time(arguments.pid)?));
            took.clear();
        }
        if let Some(it) = started.filter(|it| now - it.0 >= Duration::from_secs(arguments.seconds)) {
            break it;
        }
        for event in &events {
            let Token(at) = event.token();
            let (publisher, since) = &mut publishers[at];
            publisher.on_event(&mut scratch)?;
            if publisher.is_idle() {
                took.push(since.elapsed());
                *since = Instant::now();
                publisher.post(&body(at))?;
            }
        }
    };
    let (elapsed, cpu) = (start.elapsed(), cpu_time(arguments.pid)? - cpu);
    took.sort_unstable();
    let quantile = |part: usize| took.get(took.len() * part / 100).map_or(0.0, |it| it.as_secs_f64() * 1e3);
    let pushes = took.len().max(1) as f64;
    let report = Report {
        label: arguments.label,
        publishers: arguments.publishers,
        size: arguments.size,
        pushes: took.len(),
        pushes_per_second: pushes / elapsed.as_secs_f64(),
        cpu_microseconds_per_push: cpu.as_secs_f64() * 1e6 / pushes,
        p50_ms: quantile(50),
        p99_ms: quantile(99),
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
