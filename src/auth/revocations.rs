use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tracing::warn;

use super::Identity;
use crate::records::{Records, Shelf};

/// Tokens and users that are no longer let in, until every token they concern has expired. Lives as long as the node, and
/// longer where its records do.
///
/// Users and tokens are known by digest: the list of those who are gone names nobody.
pub struct Revocations {
    /// A few lines each, no await.
    kept: Mutex<Kept>,
    records: Arc<dyn Records>,
}

#[derive(Default)]
struct Kept {
    entries: HashMap<Key, Entry>,
    swept_at: Option<SystemTime>,
}

type Key = [u8; 16];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// Milliseconds since the Unix epoch: of a user's tokens those issued earlier. None is a token itself.
    before: Option<u64>,
    /// In milliseconds too: when nobody has such a token any more.
    until: u64,
}

/// How long, and how many. Part of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Longer than any token is valid.
    pub time: Duration,
    pub most: usize,
}

/// There is no room: nothing was revoked. Forgetting an older revocation would let somebody in again.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} revocations are kept already, as many as `auth.revocations.most` allows")]
pub struct NoRoom(pub usize);

/// A disk that takes longer has not stored it.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);
/// How often what is over is looked for.
const SWEEP: Duration = Duration::from_secs(60);

impl Revocations {
    /// With what an earlier process was told.
    pub fn open(records: Arc<dyn Records>) -> Self {
        let mut kept = Kept::default();
        for (name, value) in records.all(Shelf::Revocations) {
            match (key(&name), serde_json::from_slice(&value)) {
                (Some(key), Ok(entry)) => drop(kept.entries.insert(key, entry)),
                _ => warn!(record = %name, "a revocation cannot be read, and does not hold"),
            }
        }
        Self { kept: Mutex::new(kept), records }
    }

    /// From now on a user's tokens that were issued before this are refused, and those that do not say when they were.
    pub fn revoke_user(&self, user: &str, before: SystemTime, keep: Keep) -> Result<(), NoRoom> {
        let from = before.max(SystemTime::now());
        self.revoke(of_user(user), Some(milliseconds(before)), from, keep)
    }

    /// From now on the token of this `jti` is refused.
    pub fn revoke_token(&self, jti: &str, keep: Keep) -> Result<(), NoRoom> {
        self.revoke(of_token(jti), None, SystemTime::now(), keep)
    }

    fn revoke(&self, key: Key, before: Option<u64>, from: SystemTime, keep: Keep) -> Result<(), NoRoom> {
        let mut kept = self.lock();
        for gone in kept.sweep(SystemTime::now()) {
            self.records.remove(Shelf::Revocations, &name(gone));
        }
        let known = kept.entries.get(&key).copied();
        if known.is_none() && kept.entries.len() >= keep.most {
            return Err(NoRoom(kept.entries.len()));
        }
        let until = milliseconds(from.checked_add(keep.time).unwrap_or(from));
        let entry = Entry {
            // A later revocation includes an earlier one.
            before: before.max(known.and_then(|it| it.before)),
            until: until.max(known.map_or(0, |it| it.until)),
        };
        kept.entries.insert(key, entry);
        // Under the lock: records keep the order of the calls.
        let record = || serde_json::to_vec(&entry).expect("numbers can be written into memory");
        self.records.keep(Shelf::Revocations, &name(key), record);
        Ok(())
    }

    /// Resolves once all of them are as safe as the node's data; false means that they hold in this process alone.
    pub async fn settled(&self) -> bool {
        timeout(SETTLED_WITHIN, self.records.settled()).await.unwrap_or(false)
    }

    pub fn is_revoked(&self, who: &Identity) -> bool {
        self.concern(who.user.as_deref(), who.issued_at, who.jti.as_deref())
    }

    /// The same of what is known of somebody.
    pub fn concern(&self, user: Option<&str>, issued_at: Option<SystemTime>, jti: Option<&str>) -> bool {
        let kept = self.lock();
        if kept.entries.is_empty() {
            return false;
        }
        let now = milliseconds(SystemTime::now());
        let find = |key: Key| kept.entries.get(&key).filter(|it| now < it.until);
        let is_token_revoked = jti.is_some_and(|it| find(of_token(it)).is_some());
        is_token_revoked
            || user.and_then(|it| find(of_user(it))).and_then(|it| it.before).is_some_and(|before| {
                // A token tells its time in seconds: one made within the second of the revocation counts as older.
                issued_at.is_none_or(|it| milliseconds(it) < before)
            })
    }

    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("nothing panics under this lock")
    }
}

impl Kept {
    /// Takes out what is over.
    fn sweep(&mut self, now: SystemTime) -> Vec<Key> {
        if self.swept_at.is_some_and(|it| now.duration_since(it).is_ok_and(|ago| ago < SWEEP)) {
            return Vec::new();
        }
        self.swept_at = Some(now);
        let now = milliseconds(now);
        self.entries.extract_if(|_, it| it.until <= now).map(|(key, _)| key).collect()
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations").field("kept", &self.len()).finish_non_exhaustive()
    }
}

fn of_user(user: &str) -> Key {
    digest("user", user)
}

fn of_token(jti: &str) -> Key {
    digest("token", jti)
}

fn digest(kind: &str, id: &str) -> Key {
    let mut context = Context::new(&SHA256);
    context.update(kind.as_bytes());
    context.update(b"\0");
    context.update(id.as_bytes());
    context.finish().as_ref()[..16].try_into().expect("SHA-256 has 32 bytes")
}

fn name(key: Key) -> String {
    format!("{:032x}", u128::from_be_bytes(key))
}

fn key(name: &str) -> Option<Key> {
    (name.len() == 32).then(|| u128::from_str_radix(name, 16).ok()).flatten().map(u128::to_be_bytes)
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::pin::Pin;

    use super::*;
    use crate::records::Forgetful;

    const KEEP: Keep = Keep { time: Duration::from_secs(3600), most: 3 };

    fn who(user: &str, issued_at: Option<SystemTime>, jti: Option<&str>) -> Identity {
        Identity { user: Some(user.into()), issued_at, jti: jti.map(Into::into), ..Identity::default() }
    }

    #[test]
    fn a_users_older_tokens_are_refused_and_newer_ones_are_not() {
        let revocations = Revocations::open(Arc::new(Forgetful));
        let now = SystemTime::now();
        let (earlier, later) = (Some(now - Duration::from_secs(1)), Some(now + Duration::from_secs(1)));
        assert!(!revocations.is_revoked(&who("42", None, None)));
        revocations.revoke_user("42", now, KEEP).unwrap();
        assert!(revocations.is_revoked(&who("42", earlier, None)));
        assert!(revocations.is_revoked(&who("42", None, None)), "it does not say when it was issued");
        assert!(!revocations.is_revoked(&who("42", later, None)));
        assert!(!revocations.is_revoked(&who("43", earlier, None)));
        revocations.revoke_user("42", now - Duration::from_secs(99), KEEP).unwrap();
        assert!(revocations.is_revoked(&who("42", earlier, None)), "an earlier time takes nothing back");
    }

    #[test]
    fn one_token_can_be_refused_and_is_no_user_of_that_name() {
        let revocations = Revocations::open(Arc::new(Forgetful));
        revocations.revoke_token("t-1", KEEP).unwrap();
        let now = Some(SystemTime::now());
        assert!(revocations.is_revoked(&who("42", now, Some("t-1"))));
        assert!(!revocations.is_revoked(&who("42", now, Some("t-2"))));
        assert!(!revocations.is_revoked(&who("t-1", None, None)));
    }

    #[test]
    fn without_room_nothing_older_is_forgotten_and_the_caller_hears_it() {
        let revocations = Revocations::open(Arc::new(Forgetful));
        for user in ["1", "2", "3"] {
            revocations.revoke_user(user, SystemTime::now(), KEEP).unwrap();
        }
        assert_eq!(revocations.revoke_token("t", KEEP), Err(NoRoom(3)));
        assert!(revocations.revoke_user("2", SystemTime::now(), KEEP).is_ok(), "it has its place already");
        assert!(revocations.is_revoked(&who("1", None, None)));
        // What is over makes room.
        let mut kept = revocations.lock();
        kept.entries.values_mut().for_each(|it| it.until = 1);
        kept.swept_at = None;
        drop(kept);
        assert!(!revocations.is_revoked(&who("1", None, None)));
        assert!(revocations.revoke_token("t", KEEP).is_ok());
        assert_eq!(revocations.len(), 1);
    }

    /// A shelf in memory that outlives what writes on it.
    #[derive(Debug, Default)]
    struct Kept(Mutex<BTreeMap<String, Vec<u8>>>);

    impl Records for Kept {
        fn is_lasting(&self) -> bool {
            true
        }

        fn put(&self, _: Shelf, key: &str, value: Vec<u8>) {
            self.0.lock().unwrap().insert(key.into(), value);
        }
        fn remove(&self, _: Shelf, key: &str) {
            self.0.lock().unwrap().remove(key);
        }
        fn all(&self, _: Shelf) -> Vec<(String, Vec<u8>)> {
            self.0.lock().unwrap().iter().map(|(key, value)| (key.clone(), value.clone())).collect()
        }
        fn settled(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
            Box::pin(std::future::ready(true))
        }
    }

    #[test]
    fn they_outlive_the_process_name_nobody_and_what_cannot_be_read_stops_nothing() {
        let records = Arc::new(Kept::default());
        let first = Revocations::open(records.clone());
        first.revoke_user("ada@example.com", SystemTime::now(), KEEP).unwrap();
        first.revoke_token("t-1", KEEP).unwrap();
        drop(first);
        assert!(!format!("{records:?}").contains("ada"));
        records.put(Shelf::Revocations, "garbage", b"{".to_vec());
        let second = Revocations::open(records);
        assert!(second.is_revoked(&who("ada@example.com", None, None)));
        assert!(second.is_revoked(&who("43", None, Some("t-1"))));
        assert_eq!(second.len(), 2);
    }
}
