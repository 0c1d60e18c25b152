use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::question::{Connection, digest};
use super::verdict::Verdict;
use crate::channel::ChannelName;

/// Verdicts on subscribing that carried a `ttl`: the same question by the same client is not asked again meanwhile.
///
/// Only verdicts that say yes or no and nothing else are kept: a push or a new state is meant once.
#[derive(Debug)]
pub(super) struct Remembered {
    /// A few lines each, no await.
    verdicts: Mutex<HashMap<Key, (Instant, Verdict)>>,
    capacity: usize,
}

/// A digest of everything the backend bases its verdict on.
pub(super) type Key = [u8; 16];

impl Remembered {
    pub(super) fn new(capacity: usize) -> Self {
        Self { verdicts: Mutex::default(), capacity }
    }

    pub(super) fn key(connection: &Connection, channel: &ChannelName) -> Key {
        let ip = connection.ip.to_string();
        // No user has the empty name, so it can stand for an anonymous client.
        let user = connection.user.unwrap_or_default();
        let (claims, state) = (connection.claims.unwrap_or_default(), connection.state.unwrap_or_default());
        let texts = [channel.as_str(), user, claims, state, connection.transport, &ip].map(str::as_bytes);
        let [channel, user, claims, state, transport, ip] = texts;
        digest(&[channel, user, claims, state, transport, ip, connection.forwarded.as_bytes()])
    }

    pub(super) fn recall(&self, key: &Key) -> Option<Verdict> {
        let verdicts = self.verdicts.lock().expect("nothing panics under this lock");
        verdicts.get(key).filter(|(ends, _)| Instant::now() < *ends).map(|(_, verdict)| verdict.clone())
    }

    /// A full memory forgets what has ended, and else remembers nothing more: to ask is always right.
    pub(super) fn keep(&self, key: Key, verdict: &Verdict) {
        let Some(ttl) = verdict.ttl.filter(|it| *it > Duration::ZERO && verdict.is_plain()) else { return };
        let now = Instant::now();
        let mut verdicts = self.verdicts.lock().expect("nothing panics under this lock");
        if verdicts.len() >= self.capacity {
            verdicts.retain(|_, (ends, _)| now < *ends);
        }
        if verdicts.len() < self.capacity {
            verdicts.insert(key, (now + ttl, verdict.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_room_returns_with_time() {
        let remembered = Remembered::new(2);
        let verdict = |seconds| Verdict { ttl: Some(Duration::from_secs(seconds)), ..Verdict::default() };
        remembered.keep([1; 16], &verdict(10));
        remembered.keep([2; 16], &verdict(99));
        remembered.keep([3; 16], &verdict(99));
        assert!(remembered.recall(&[1; 16]).is_some() && remembered.recall(&[3; 16]).is_none());
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(remembered.recall(&[1; 16]).is_none());
        remembered.keep([3; 16], &verdict(99));
        assert!(remembered.recall(&[2; 16]).is_some() && remembered.recall(&[3; 16]).is_some());
    }
}
