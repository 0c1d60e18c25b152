use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::Event;
use super::letter::Letter;

/// Notices given up on, oldest first. Bounded: the oldest make room.
#[derive(Debug, Default)]
pub(super) struct Graveyard {
    dead: BTreeMap<u64, Dead>,
    bytes: usize,
}

/// One of them. Also its form on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Dead {
    pub(super) letter: Letter,
    died_at: u64,
    tries: u32,
    reason: Box<str>,
}

/// Dead letters as the API shows them.
#[derive(Debug, Serialize)]
pub struct DeadLetters {
    pub total: usize,
    pub dead: Vec<Shown>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    id: Box<str>,
    event: Event,
    died_at: u64,
    tries: u32,
    reason: Box<str>,
    notice: Box<RawValue>,
}

impl Dead {
    pub(super) fn new(letter: Letter, tries: u32, reason: &str) -> Self {
        Self { letter, died_at: crate::channel::now(), tries, reason: reason.into() }
    }

    pub(super) fn record(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a letter is text and numbers")
    }

    /// None for a record that cannot be read.
    pub(super) fn of_record(key: &str, record: &[u8]) -> Option<Self> {
        let mut dead: Self = serde_json::from_slice(record).ok()?;
        dead.letter.serial = u64::from_str_radix(key, 16).ok()?;
        Some(dead)
    }

    fn size(&self) -> usize {
        self.letter.size() + self.reason.len()
    }

    fn shown(&self) -> Shown {
        Shown {
            id: self.letter.id.clone(),
            event: self.letter.event,
            died_at: self.died_at,
            tries: self.tries,
            reason: self.reason.clone(),
            notice: self.letter.body.clone(),
        }
    }
}

impl Graveyard {
    pub(super) fn len(&self) -> usize {
        self.dead.len()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.dead.values().map(|it| &*it.letter.id)
    }

    pub(super) fn bury(&mut self, dead: Dead) {
        self.bytes += dead.size();
        self.dead.insert(dead.letter.serial, dead);
    }

    /// The oldest, where there are more than so many, or bytes.
    pub(super) fn make_room(&mut self, most: usize, most_bytes: usize) -> Option<Letter> {
        if self.dead.len() <= most && self.bytes <= most_bytes {
            return None;
        }
        let (_, dead) = self.dead.pop_first()?;
        self.bytes -= dead.size();
        Some(dead.letter)
    }

    pub(super) fn show(&self, after: Option<&str>, limit: usize) -> DeadLetters {
        let skipped =
            after.and_then(|id| self.dead.values().position(|it| &*it.letter.id == id)).map_or(0, |at| at + 1);
        let dead = self.dead.values().skip(skipped).take(limit).map(Dead::shown).collect();
        DeadLetters { total: self.dead.len(), dead }
    }

    /// Those meant, oldest first: these ids, or all; told before that time, or ever.
    pub(super) fn meant(&self, ids: Option<&HashSet<String>>, before: Option<u64>) -> Vec<u64> {
        let is_meant = |it: &&Dead| {
            ids.is_none_or(|ids| ids.contains(&*it.letter.id)) && before.is_none_or(|before| it.letter.told_at < before)
        };
        self.dead.values().filter(is_meant).map(|it| it.letter.serial).collect()
    }

    /// Those that speak of a user.
    pub(super) fn about(&self, user: &str) -> Vec<u64> {
        let is_about = |it: &&Dead| it.letter.user().as_deref() == Some(user);
        self.dead.values().filter(is_about).map(|it| it.letter.serial).collect()
    }

    pub(super) fn size_of(&self, serial: u64) -> usize {
        self.dead.get(&serial).map_or(0, |it| it.letter.size())
    }

    pub(super) fn raise(&mut self, serial: u64) -> Option<Letter> {
        let dead = self.dead.remove(&serial)?;
        self.bytes -= dead.size();
        Some(dead.letter)
    }
}
