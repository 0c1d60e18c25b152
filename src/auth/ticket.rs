use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use tokio::time::Instant;

/// How long a ticket can be redeemed: it is made to be used in the next request, and it stands in a URL.
pub const TICKET_TTL: Duration = Duration::from_secs(30);

/// Open tickets, each standing once for `T`: whatever the client showed when it asked. Lives as long as the node.
pub struct Tickets<T> {
    /// Guards both lists, which hold the same tickets.
    open: Mutex<Open<T>>,
    capacity: usize,
}

struct Open<T> {
    held: HashMap<Digest, T>,
    /// Oldest first, redeemed ones too: all tickets live equally long, so sweeping looks at the front alone.
    ages: VecDeque<(Instant, Digest)>,
}

/// Tickets are looked up by digest: what a lookup's time tells about it is of no use.
type Digest = [u8; 32];

/// So many tickets are open that no more are given until some have expired.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many tickets are open")]
pub struct TooManyTickets;

impl<T> Tickets<T> {
    pub fn new(capacity: usize) -> Self {
        Self { open: Mutex::new(Open { held: HashMap::new(), ages: VecDeque::new() }), capacity }
    }

    /// A ticket that can be redeemed once within [`TICKET_TTL`].
    pub fn issue(&self, stands_for: T) -> Result<String, TooManyTickets> {
        let mut secret = [0; 24];
        aws_lc_rs::rand::fill(&mut secret).expect("the system has randomness");
        let ticket = BASE64_URL_SAFE_NO_PAD.encode(secret);
        let key = digest_of(&ticket);
        let now = Instant::now();
        let mut open = self.open.lock().expect("nothing panics under this lock");
        open.sweep(now);
        if open.ages.len() >= self.capacity {
            return Err(TooManyTickets);
        }
        open.held.insert(key, stands_for);
        open.ages.push_back((now + TICKET_TTL, key));
        Ok(ticket)
    }

    /// Forgets those that stand for what is meant, and how many there were.
    pub fn forget(&self, is_meant: impl Fn(&T) -> bool) -> usize {
        let mut open = self.open.lock().expect("nothing panics under this lock");
        open.held.extract_if(|_, it| is_meant(it)).count()
    }

    /// What the ticket stands for, the first time.
    pub fn redeem(&self, ticket: &str) -> Option<T> {
        let key = digest_of(ticket);
        let mut open = self.open.lock().expect("nothing panics under this lock");
        open.sweep(Instant::now());
        open.held.remove(&key)
    }
}

impl<T> Open<T> {
    fn sweep(&mut self, now: Instant) {
        while let Some((_, key)) = self.ages.pop_front_if(|(ends, _)| *ends <= now) {
            self.held.remove(&key);
        }
    }
}

impl<T> fmt::Debug for Tickets<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

fn digest_of(ticket: &str) -> Digest {
    digest(&SHA256, ticket.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_ticket_is_good_once() {
        let tickets = Tickets::new(10);
        let (one, two) = (tickets.issue(1).unwrap(), tickets.issue(2).unwrap());
        assert_ne!(one, two);
        assert_eq!(tickets.redeem(&two), Some(2));
        assert_eq!(tickets.redeem(&two), None);
        assert_eq!(tickets.redeem(&one), Some(1));
        assert_eq!(tickets.redeem("made up"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_is_good_for_thirty_seconds() {
        let tickets = Tickets::new(10);
        let (early, late) = (tickets.issue(1).unwrap(), tickets.issue(2).unwrap());
        tokio::time::advance(Duration::from_secs(29)).await;
        assert_eq!(tickets.redeem(&early), Some(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(tickets.redeem(&late), None);
    }

    #[tokio::test(start_paused = true)]
    async fn tickets_are_bounded_in_number_and_room_returns_with_time() {
        let tickets = Tickets::new(2);
        let first = tickets.issue(()).unwrap();
        tickets.issue(()).unwrap();
        assert_eq!(tickets.issue(()), Err(TooManyTickets));
        tickets.redeem(&first);
        tokio::time::advance(TICKET_TTL).await;
        assert!(tickets.issue(()).is_ok());
        assert_eq!(tickets.open.lock().unwrap().held.len(), 1);
    }
}
