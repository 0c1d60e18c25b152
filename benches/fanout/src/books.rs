//! The server's own books, read from `GET /metrics`: what it owed its subscribers and what became of it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

/// A server that still has something queued after this will not send it any more.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Books {
    pub expected: u64,
    pub flushed: u64,
    pub queued: u64,
    /// For any reason.
    pub dropped: u64,
    /// Of those, because a client was slow.
    pub slow: u64,
}

impl Books {
    /// Reads them once nothing is queued any more, or at the latest after a while.
    pub fn settled(api: SocketAddr, key: &str) -> io::Result<Books> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let books = Books::of(&call(api, key, "GET", "/metrics", "")?);
            if books.queued == 0 || Instant::now() > deadline {
                return Ok(books);
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn of(metrics: &str) -> Books {
        let sum = |name: &str| {
            let of_it = metrics.lines().filter(|line| line.starts_with(name));
            of_it.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
        };
        Books {
            expected: sum("outrigger_deliveries_expected_total"),
            flushed: sum("outrigger_deliveries_flushed_total"),
            queued: sum("outrigger_deliveries_queued"),
            dropped: sum("outrigger_deliveries_dropped_total"),
            slow: sum("outrigger_deliveries_dropped_total{reason=\"slow\"}"),
        }
    }

    /// By how many deliveries they do not add up to what was due.
    pub fn off_from(&self, due: u64) -> u64 {
        self.expected.abs_diff(self.flushed + self.queued + self.dropped) + self.expected.abs_diff(due) + self.queued
    }
}

/// One request to the API, and the whole answer.
pub fn call(api: SocketAddr, key: &str, method: &str, path: &str, body: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(api)?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {api}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if !answer.starts_with("HTTP/1.1 200") {
        return Err(io::Error::other(format!("{method} {path} was answered: {answer}")));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_that_add_up_are_off_by_nothing() {
        let metrics = "# TYPE outrigger_deliveries_expected counter\n\
             outrigger_deliveries_expected_total 10\noutrigger_deliveries_flushed_total 7\n\
             outrigger_deliveries_dropped_total{reason=\"slow\"} 2\noutrigger_deliveries_dropped_total{reason=\"left\"} 1\n\
             outrigger_deliveries_queued 0\n";
        let books = Books::of(metrics);
        assert_eq!((books.dropped, books.slow, books.off_from(10), books.off_from(11)), (3, 2, 0, 1));
    }
}
