//! What the kernel says another process has used, read from `/proc`.

use std::fs;
use std::io;
use std::time::Duration;

/// Linux reports `utime` and `stime` in hundredths of a second on every architecture (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// User plus system time of the process and all its threads.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command name, the second field, may itself hold spaces and brackets: count from its last bracket.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = after_name.split_whitespace().skip(11).map(|field| field.parse::<u64>());
    match (fields.next(), fields.next()) {
        (Some(Ok(user)), Some(Ok(system))) => Ok(Duration::from_millis((user + system) * 1000 / TICKS_PER_SECOND)),
        _ => Err(io::Error::other(format!("/proc/{pid}/stat has no times"))),
    }
}

/// Resident bytes. Kernel socket buffers are not among them.
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
    kilobytes.map(|kb: u64| kb * 1024).ok_or_else(|| io::Error::other(format!("/proc/{pid}/status has no VmRSS")))
}
