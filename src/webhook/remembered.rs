use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::question::{Connection, Handshake, digest, without_credentials};
use super::verdict::Verdict;
use crate::channel::ChannelName;

/// Verdicts that carried a `ttl`: the same question by the same client is not asked again meanwhile.
#[derive(Debug)]
pub(super) struct Remembered {
    /// A few lines each, no await.
    kept: Mutex<Kept>,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Kept {
    verdicts: HashMap<Key, Entry>,
    /// What was asked before may speak of somebody who was forgotten since.
    forgot_at: Option<SystemTime>,
}

#[derive(Debug)]
struct Entry {
    ends: Instant,
    user: Option<Arc<str>>,
    verdict: Verdict,
}

/// A digest of everything the backend bases its verdict on.
pub(super) type Key = [u8; 16];

impl Remembered {
    pub(super) fn new(capacity: usize) -> Self {
        Self { kept: Mutex::default(), capacity }
    }

    /// Of a question whether a client may follow a channel.
    pub(super) fn subscribe(connection: &Connection, channel: &ChannelName) -> Key {
        let ip = connection.ip.to_string();
        // No user has the empty name, so it can stand for an anonymous client.
        let user = connection.user.unwrap_or_default();
        let (claims, state) = (connection.claims.unwrap_or_default(), connection.state.unwrap_or_default());
        let texts = ["subscribe", channel.as_str(), user, claims, state, connection.transport, &ip].map(str::as_bytes);
        let [event, channel, user, claims, state, transport, ip] = texts;
        digest(&[event, channel, user, claims, state, transport, ip, connection.forwarded.without_trace()])
    }

    /// Of a question whether a client may connect: all that the backend sees of it but its connection's own names.
    pub(super) fn connect(connection: &Connection, handshake: &Handshake) -> Key {
        let ip = connection.ip.to_string();
        let query = without_credentials(handshake.query);
        let origin = handshake.origin.unwrap_or_default();
        let texts = ["connect", handshake.path, &query, origin, connection.transport, &ip].map(str::as_bytes);
        let [event, path, query, origin, transport, ip] = texts;
        digest(&[event, path, query, origin, transport, ip, connection.forwarded.without_trace()])
    }

    pub(super) fn recall(&self, key: &Key) -> Option<Verdict> {
        let kept = self.kept.lock().expect("nothing panics under this lock");
        kept.verdicts.get(key).filter(|it| Instant::now() < it.ends).map(|it| it.verdict.clone())
    }

    /// A full memory forgets what has ended, and else remembers nothing more: to ask is always right.
    pub(super) fn keep(&self, key: Key, user: Option<&str>, verdict: &Verdict) {
        let Some(ttl) = verdict.ttl.filter(|it| *it > Duration::ZERO) else { return };
        let now = Instant::now();
        let mut kept = self.kept.lock().expect("nothing panics under this lock");
        if kept.forgot_at.is_some_and(|it| verdict.asked_at.is_none_or(|asked| asked <= it)) {
            return;
        }
        if kept.verdicts.len() >= self.capacity {
            kept.verdicts.retain(|_, it| now < it.ends);
        }
        if kept.verdicts.len() < self.capacity {
            let user = verdict.user.clone().or_else(|| user.map(Arc::from));
            kept.verdicts.insert(key, Entry { ends: now + ttl, user, verdict: verdict.clone() });
        }
    }

    /// Forgets what was said of a user, and how much that was.
    pub(super) fn forget(&self, user: &str) -> usize {
        let mut kept = self.kept.lock().expect("nothing panics under this lock");
        kept.forgot_at = Some(SystemTime::now());
        kept.verdicts.extract_if(|_, it| it.user.as_deref() == Some(user)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(seconds: u64) -> Verdict {
        let asked_at = Some(SystemTime::now());
        Verdict { ttl: Some(Duration::from_secs(seconds)), asked_at, ..Verdict::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_room_returns_with_time() {
        let remembered = Remembered::new(2);
        remembered.keep([1; 16], None, &verdict(10));
        remembered.keep([2; 16], None, &verdict(99));
        remembered.keep([3; 16], None, &verdict(99));
        assert!(remembered.recall(&[1; 16]).is_some() && remembered.recall(&[3; 16]).is_none());
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(remembered.recall(&[1; 16]).is_none());
        remembered.keep([3; 16], None, &verdict(99));
        assert!(remembered.recall(&[2; 16]).is_some() && remembered.recall(&[3; 16]).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_can_be_forgotten_and_an_answer_on_its_way_then_is_not_kept() {
        let remembered = Remembered::new(9);
        let on_its_way = verdict(99);
        remembered.keep([1; 16], Some("42"), &verdict(99));
        remembered.keep([2; 16], Some("43"), &verdict(99));
        assert_eq!(remembered.forget("42"), 1);
        assert!(remembered.recall(&[1; 16]).is_none() && remembered.recall(&[2; 16]).is_some());
        remembered.keep([1; 16], Some("42"), &on_its_way);
        assert!(remembered.recall(&[1; 16]).is_none());
    }
}
