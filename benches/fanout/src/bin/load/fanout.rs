//! What a delivery costs: as fast as it goes with one POST in flight, or at a fixed rate.

use std::io;
use std::process;
use std::time::{Duration, Instant};

use outrigger_fanout::crowd::Crowd;
use outrigger_fanout::process::{cpu_time, resident_bytes};
use serde::Serialize;

use crate::{Arguments, Cell, Mode};

#[derive(Serialize)]
pub struct Report {
    #[serde(flatten)]
    cell: Cell,
    messages: u64,
    deliveries_per_second: u64,
    cpu_seconds_per_million: f64,
    /// Of one core. Near 1 the server was the limit, as it should be in the closed loop.
    server_cpu: f64,
    client_cpu: f64,
    /// Framing included, TLS not.
    bytes_per_delivery: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    lost: u64,
    out_of_order: u64,
    closed: usize,
    resident_bytes: u64,
    /// Deliveries by which the server's books do not add up to what was published.
    books_off: u64,
    /// Deliveries that a client was too slow for.
    dropped_slow: u64,
}

pub fn measure(mut crowd: Crowd, arguments: &Arguments, cell: Cell) -> io::Result<Report> {
    crowd.grow_to(arguments.subscribers)?;
    crowd.stall(arguments.stalled)?;
    crowd.warm_up(arguments.size)?;

    let (server_before, client_before, start) = (cpu_time(arguments.pid)?, cpu_time(process::id())?, Instant::now());
    let sent_at = match arguments.mode {
        Mode::Latency => at_a_fixed_rate(&mut crowd, arguments)?,
        Mode::Closed | Mode::Idle | Mode::Return => one_after_the_other(&mut crowd, arguments)?,
    };
    let missing = crowd.settle()?;
    let elapsed = start.elapsed().as_secs_f64();
    let server = (cpu_time(arguments.pid)? - server_before).as_secs_f64();
    let client = (cpu_time(process::id())? - client_before).as_secs_f64();

    let messages = sent_at.len() as u64;
    let arrived = crowd.tallies().map(|tally| tally.messages).max().unwrap_or(0);
    let unseen = (messages - arrived.min(messages)) * arguments.subscribers as u64;
    let deliveries = (messages * arguments.subscribers as u64) as f64;
    let bytes = crowd.tallies().map(|tally| tally.bytes).max().unwrap_or(0);
    let latencies = sorted_latencies(&crowd, &sent_at);
    let books = crate::HeldBooks::of(arguments)?;
    if arguments.stalled > 0 && books.slow() == 0 {
        return Err(io::Error::other("whoever was to stall still had room for all of it: send more or larger messages"));
    }
    Ok(Report {
        cell,
        messages,
        deliveries_per_second: (deliveries / elapsed) as u64,
        cpu_seconds_per_million: rounded(server / deliveries * 1e6),
        server_cpu: rounded(server / elapsed),
        client_cpu: rounded(client / elapsed),
        bytes_per_delivery: rounded(bytes as f64 / arrived.max(1) as f64),
        p50_ms: quantile(&latencies, 0.50),
        p99_ms: quantile(&latencies, 0.99),
        max_ms: quantile(&latencies, 1.0),
        lost: missing + unseen,
        out_of_order: crowd.tallies().map(|tally| tally.out_of_order).sum(),
        closed: crowd.closed,
        resident_bytes: resident_bytes(arguments.pid)?,
        books_off: books.off_from(crowd.sent(), arguments.subscribers + arguments.stalled),
        dropped_slow: books.slow(),
    })
}

/// Returns when each message was sent.
fn one_after_the_other(crowd: &mut Crowd, arguments: &Arguments) -> io::Result<Vec<Instant>> {
    let mut sent_at = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(arguments.seconds);
    while Instant::now() < deadline {
        sent_at.resize(sent_at.len() + arguments.burst, Instant::now());
        crowd.push(arguments.burst, arguments.size)?;
        let sent = sent_at.len() as u64;
        if !crowd.turn_until(|crowd| crowd.publisher.is_idle() && crowd.have_probes_seen(sent))? {
            break;
        }
    }
    Ok(sent_at)
}

/// Returns when each message was due: one that waited for the POST before it has waited.
fn at_a_fixed_rate(crowd: &mut Crowd, arguments: &Arguments) -> io::Result<Vec<Instant>> {
    let mut due_at = Vec::new();
    let start = Instant::now();
    let posts = (arguments.rate * arguments.seconds as f64) as u64;
    for post in 0..posts {
        let due = start + Duration::from_secs_f64(post as f64 / arguments.rate);
        crowd.turn_for(due.saturating_duration_since(Instant::now()))?;
        if !crowd.turn_until(|crowd| crowd.publisher.is_idle())? {
            return Err(io::Error::other("a POST was not answered"));
        }
        due_at.resize(due_at.len() + arguments.burst, due);
        crowd.push(arguments.burst, arguments.size)?;
    }
    let sent = due_at.len() as u64;
    crowd.turn_until(|crowd| crowd.publisher.is_idle() && crowd.have_probes_seen(sent))?;
    Ok(due_at)
}

/// In milliseconds, over all probes.
fn sorted_latencies(crowd: &Crowd, sent_at: &[Instant]) -> Vec<f64> {
    let pairs = crowd.tallies().flat_map(|tally| tally.arrivals.iter().zip(sent_at));
    let mut latencies: Vec<f64> =
        pairs.map(|(arrival, sent)| arrival.saturating_duration_since(*sent).as_secs_f64() * 1000.0).collect();
    latencies.sort_by(f64::total_cmp);
    latencies
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1) as f64;
    sorted.get((last * share).round() as usize).copied().map_or(0.0, rounded)
}

fn rounded(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}
