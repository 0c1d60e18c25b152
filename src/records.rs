//! Small records that outlive the process where the node has a `data:` folder: undelivered notices, dead letters,
//! sessions, revocations, checkpoints. Their owners keep them in memory and write them through; at the start they read them back.

use std::fmt;
use std::pin::Pin;

/// Whose records they are: keys are unique within a shelf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shelf {
    /// Notices the backend has not acknowledged.
    Notices,
    /// Notices given up on.
    DeadLetters,
    /// Clients that are connected, for the notice of their end should this process not live to send it.
    Sessions,
    /// Tokens and users that are no longer let in.
    Revocations,
    /// Positions that are too long for a cursor.
    Checkpoints,
    /// Channels and members that the backend was told are there.
    Believed,
}

impl Shelf {
    pub const ALL: [Self; 6] =
        [Self::Notices, Self::DeadLetters, Self::Sessions, Self::Revocations, Self::Checkpoints, Self::Believed];

    pub fn name(self) -> &'static str {
        match self {
            Self::Notices => "notices",
            Self::DeadLetters => "dead_letters",
            Self::Sessions => "sessions",
            Self::Revocations => "revocations",
            Self::Checkpoints => "checkpoints",
            Self::Believed => "believed",
        }
    }
}

/// Where records go. Writing returns at once and keeps the order of the calls; a record is as safe as the node's data
/// once [`Records::settled`] resolves.
pub trait Records: Send + Sync + fmt::Debug {
    /// Whether a process that comes after this one finds them. Where not, nothing is written down: see `keep`.
    fn is_lasting(&self) -> bool;

    fn put(&self, shelf: Shelf, key: &str, value: Vec<u8>);

    fn remove(&self, shelf: Shelf, key: &str);

    /// What an earlier process left behind, in the order of the keys. Its owner asks once, at the start.
    fn all(&self, shelf: Shelf) -> Vec<(String, Vec<u8>)>;

    /// Resolves once everything written so far is as safe as it gets, or cannot be made so: then it answers false.
    fn settled(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>>;
}

impl dyn Records + '_ {
    /// Puts a record that is only written down where it lasts.
    pub fn keep(&self, shelf: Shelf, key: &str, record: impl FnOnce() -> Vec<u8>) {
        if self.is_lasting() {
            self.put(shelf, key, record());
        }
    }
}

/// A node without `data:`: its records end with it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Forgetful;

impl Records for Forgetful {
    fn is_lasting(&self) -> bool {
        false
    }

    fn put(&self, _: Shelf, _: &str, _: Vec<u8>) {}

    fn remove(&self, _: Shelf, _: &str) {}

    fn all(&self, _: Shelf) -> Vec<(String, Vec<u8>)> {
        Vec::new()
    }

    fn settled(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(std::future::ready(true))
    }
}
