//! A crowd that comes back at once: every client opens a WebSocket with a cookie of its own, goes away when it is told to,
//! and comes back when it was told. The backend behind the server is here too, and notes when it is asked. Prints one JSON
//! line and exits with 1 if somebody is not back, or the backend was asked faster than it may be.

mod backend;
mod visitor;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use outrigger_fanout::process;
use serde_json::json;
use tokio::task::JoinSet;

use crate::backend::Backend;

#[derive(Parser)]
#[command(about)]
struct Arguments {
    #[arg(long)]
    server: SocketAddr,
    /// Where the backend listens, which the server asks
    #[arg(long)]
    backend: SocketAddr,
    /// The server's process, for its CPU time
    #[arg(long)]
    pid: u32,
    #[arg(long, default_value_t = 10_000)]
    clients: usize,
    /// Clients that share one cookie, as the tabs of a browser do
    #[arg(long, default_value_t = 1)]
    tabs: usize,
    /// What the server is configured with
    #[arg(long, default_value_t = 2000)]
    rate: usize,
    /// How long the backend thinks, in milliseconds
    #[arg(long, default_value_t = 5)]
    thinks: u64,
    /// Seconds after which whoever is not back is lost
    #[arg(long, default_value_t = 120)]
    patience: u64,
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let backend = Backend::listen(arguments.backend, Duration::from_millis(arguments.thinks))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(&arguments, &backend))
}

async fn run(arguments: &Arguments, backend: &Backend) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let cpu_before = process::cpu_time(arguments.pid)?;
    let begun = Instant::now();
    let mut crowd = JoinSet::new();
    for client in 0..arguments.clients {
        let cookie = client / arguments.tabs.max(1);
        crowd.spawn(visitor::comes_back(arguments.server, cookie));
    }
    let mut back = Vec::new();
    let mut told = 0;
    let until = tokio::time::Instant::now() + Duration::from_secs(arguments.patience);
    let mut open = Vec::new();
    while let Ok(Some(visit)) = tokio::time::timeout_at(until, crowd.join_next()).await {
        let visit = visit??;
        told += visit.told_to_wait;
        back.push(visit.in_at.duration_since(begun).as_secs_f64());
        open.push(visit.stream);
    }
    let cpu = process::cpu_time(arguments.pid)? - cpu_before;
    let asked = backend.asked();
    let fastest = backend::most_within(&asked, Duration::from_secs(1));
    back.sort_by(f64::total_cmp);
    let at = |share: f64| back.get((back.len() as f64 * share) as usize).or(back.last()).copied().unwrap_or_default();
    let lost = arguments.clients - back.len();
    let report = json!({
        "clients": arguments.clients, "tabs": arguments.tabs, "rate": arguments.rate, "back": back.len(), "lost": lost,
        "told_to_come_back": told, "asked": asked.len(), "most_asked_within_a_second": fastest,
        "seconds_until_half_are_back": at(0.5), "seconds_until_all_are_back": at(1.0), "server_cpu_seconds": cpu.as_secs_f64(),
    });
    println!("{report}");
    // A server that is busy with the crowd asks a little later than it let in: one second's questions reach into the next.
    let is_kept = fastest <= arguments.rate + arguments.rate / 2;
    Ok(if lost == 0 && is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
