//! How many connections there may be, in all and from one address. A [`Permit`] is held for as long as the connection
//! lives, also after it was taken over.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::drain::Draining;
use crate::peer::Stream;

/// Refusals being told at the same time; beyond it, connections are closed without a word.
const MAX_REFUSALS: usize = 256;

/// How long a refused client may take to send its request's head, and then to read its answer.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// As much of a head is read.
const MAX_HEAD: usize = 8 * 1024;

/// What a client is told for whom there is no room, by as much of its request's head as it sent in time.
pub type Refusal = fn(head: &[u8]) -> Vec<u8>;

/// For clients of any kind.
pub(super) fn refusal(_: &[u8]) -> Vec<u8> {
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\ncontent-type: text/plain\r\n\
      content-length: 21\r\n\r\nToo many connections\n"
        .to_vec()
}

/// The connections of this process.
#[derive(Debug)]
pub struct Admission {
    open: AtomicUsize,
    /// Protects the counts per address; a few lines, no await.
    by_address: Mutex<HashMap<IpAddr, usize>>,
    refusals: Arc<Semaphore>,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            open: AtomicUsize::new(0),
            by_address: Mutex::default(),
            refusals: Arc::new(Semaphore::new(MAX_REFUSALS)),
        }
    }
}

/// The right to one connection.
pub(super) struct Permit {
    admission: Arc<Admission>,
    address: Option<IpAddr>,
    open: Gauge,
    /// The process does not end before this connection.
    _held: Draining,
}

impl Admission {
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    pub(super) fn admit(self: &Arc<Self>, limit: usize, draining: &Draining, gauge: &Gauge) -> Option<Permit> {
        let admitted = self.open.fetch_update(Relaxed, Relaxed, |open| (open < limit).then_some(open + 1));
        admitted.ok()?;
        gauge.inc();
        Some(Permit { admission: self.clone(), address: None, open: gauge.clone(), _held: draining.clone() })
    }

    /// Tells a client that there is no room, if it costs next to nothing: a TLS handshake would cost more than serving it.
    pub(super) fn refuse(&self, mut stream: Stream, is_plain: bool, refusal: Refusal) {
        let Some(telling) = self.refusals.clone().try_acquire_owned().ok().filter(|_| is_plain) else { return };
        tokio::spawn(async move {
            let _telling = telling;
            let mut head = Vec::new();
            let _ = timeout(REFUSAL_TIMEOUT, read_head(&mut stream, &mut head)).await;
            let answer = refusal(&head);
            drop(head);
            let _ = timeout(REFUSAL_TIMEOUT, tell(&mut stream, &answer)).await;
        });
    }
}

async fn read_head(stream: &mut Stream, head: &mut Vec<u8>) -> io::Result<()> {
    let is_whole = |head: &[u8]| head.windows(4).any(|it| it == b"\r\n\r\n");
    let mut limited = stream.take(MAX_HEAD as u64);
    while !is_whole(head) && limited.read_buf(head).await? > 0 {}
    Ok(())
}

async fn tell(stream: &mut Stream, answer: &[u8]) -> io::Result<()> {
    stream.write_all(answer).await?;
    stream.shutdown().await?;
    // Closing with unread bytes would reset the connection, and the answer with it.
    while stream.read(&mut [0; 1024]).await? > 0 {}
    Ok(())
}

impl Permit {
    /// Counts the connection for its address as well; false when that has as many as it may.
    pub fn claim(&mut self, address: IpAddr, limit: usize) -> bool {
        let address = household(address);
        let mut by_address = self.admission.by_address.lock().expect("nothing panics under this lock");
        let count = by_address.entry(address).or_default();
        if *count >= limit {
            return false;
        }
        *count += 1;
        self.address = Some(address);
        true
    }

    pub fn admission(&self) -> &Admission {
        &self.admission
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.open.dec();
        self.admission.open.fetch_sub(1, Relaxed);
        let Some(address) = self.address else { return };
        let mut by_address = self.admission.by_address.lock().expect("nothing panics under this lock");
        if let Some(count) = by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&address);
            }
        }
    }
}

/// An IPv6 client owns a whole /64, so that is what counts as one address.
fn household(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::Drain;

    #[test]
    fn a_permit_gives_its_place_back() {
        let (_drain, draining) = Drain::new();
        let (admission, gauge) = (Arc::new(Admission::default()), Gauge::default());
        let permit = admission.admit(1, &draining, &gauge).unwrap();
        assert!(admission.admit(1, &draining, &gauge).is_none());
        drop(permit);
        assert!(admission.admit(1, &draining, &gauge).is_some());
        assert_eq!(gauge.get(), 0);
    }

    #[test]
    fn an_address_has_its_own_limit_and_an_ipv6_network_is_one_address() {
        let (_drain, draining) = Drain::new();
        let (admission, gauge) = (Arc::new(Admission::default()), Gauge::default());
        let claim = |address: &str| {
            let mut permit = admission.admit(9, &draining, &gauge).unwrap();
            permit.claim(address.parse().unwrap(), 1).then_some(permit)
        };
        let first = claim("2001:db8::1").expect("the first of the network");
        assert!(claim("2001:db8::ffff:1").is_none());
        assert!(claim("2001:db8:0:1::1").is_some());
        drop(first);
        assert!(claim("2001:db8::2").is_some());
        assert!(admission.by_address.lock().unwrap().is_empty());
    }
}
