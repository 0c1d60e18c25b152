//! What holding connections costs: memory per connection, before and after a burst, and the CPU time of connecting.

use std::io;
use std::time::{Duration, Instant};

use outrigger_fanout::crowd::Crowd;
use outrigger_fanout::process::{cpu_time, resident_bytes};
use serde::Serialize;

use crate::{Arguments, Cell};

const SETTLING: Duration = Duration::from_secs(2);
/// What a server touches once, however many connections follow, is not counted on each of them.
const FIRST_CONNECTIONS: usize = 16;
/// The messages in the burst after which memory is read again: buffers that grew may not have shrunk.
const BURST: usize = 16;

#[derive(Serialize)]
pub struct Report {
    #[serde(flatten)]
    cell: Cell,
    resident_bytes_per_connection: i64,
    resident_bytes_per_connection_after_burst: i64,
    connects_per_second: u64,
    cpu_microseconds_per_connect: f64,
    lost: u64,
    closed: usize,
    /// Deliveries by which the server's books do not add up to what was published.
    books_off: u64,
}

pub fn measure(mut crowd: Crowd, arguments: &Arguments, cell: Cell) -> io::Result<Report> {
    let (pid, all) = (arguments.pid, arguments.subscribers);
    crowd.grow_to(FIRST_CONNECTIONS)?;
    crowd.turn_for(SETTLING)?;

    let (memory_before, cpu_before, start) = (resident_bytes(pid)?, cpu_time(pid)?, Instant::now());
    crowd.grow_to(FIRST_CONNECTIONS + all)?;
    let (connecting, cpu) = (start.elapsed(), cpu_time(pid)? - cpu_before);
    crowd.turn_for(SETTLING)?;
    let per_connection = |memory: u64| (memory as i64 - memory_before as i64) / all as i64;
    let idle = per_connection(resident_bytes(pid)?);

    crowd.warm_up(arguments.size)?;
    crowd.push(BURST, arguments.size)?;
    crowd.turn_until(|crowd| crowd.publisher.is_idle() && crowd.have_probes_seen(BURST as u64))?;
    let lost = crowd.settle()?;
    crowd.turn_for(SETTLING)?;
    Ok(Report {
        cell,
        resident_bytes_per_connection: idle,
        resident_bytes_per_connection_after_burst: per_connection(resident_bytes(pid)?),
        connects_per_second: (all as f64 / connecting.as_secs_f64()) as u64,
        cpu_microseconds_per_connect: cpu.as_micros() as f64 / all as f64,
        lost,
        closed: crowd.closed,
        books_off: crate::HeldBooks::of(arguments)?.off_from(crowd.sent(), FIRST_CONNECTIONS + all),
    })
}
