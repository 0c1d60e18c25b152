//! What a store has to be told to hold what the memory holds, beside new publications. Folded by what it is about, so what
//! is owed while a store fails never grows beyond what the node itself remembers.

use std::collections::HashMap;
use std::sync::Arc;

use crate::channel::{ChannelName, Epoch, Retention};
use crate::records::Shelf;

/// A channel's place in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChannelRow {
    pub(super) number: i64,
    pub(super) name: ChannelName,
    pub(super) epoch: Epoch,
    pub(super) head: u64,
    pub(super) last_id: Option<Arc<str>>,
    pub(super) retention: Retention,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Channel(ChannelRow),
    Forgotten(i64),
    Row(i64, RowChange),
}

/// What becomes of a stored publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowChange {
    /// The history no longer has it; its id is still recognised.
    Emptied,
    Erased,
    Gone,
}

/// What one step changed, collected under a shard's lock.
#[derive(Debug)]
pub(super) struct Changes {
    pub(super) shard: usize,
    pub(super) list: Vec<Change>,
    /// So many ids are recognised from now on.
    pub(super) ids_new: usize,
    /// So many ids are no longer recognised.
    pub(super) ids_gone: usize,
}

impl Changes {
    pub(super) fn of(shard: usize) -> Self {
        Self { shard, list: Vec::new(), ids_new: 0, ids_gone: 0 }
    }

    /// Row 0 is that of a publication which is in no store.
    pub(super) fn row(&mut self, row: i64, change: RowChange) {
        if row != 0 {
            self.list.push(Change::Row(row, change));
        }
    }
}

/// Where changes go.
pub(super) trait Journal: Send + Sync {
    /// Called under a shard's lock: never blocks.
    fn changed(&self, changes: Vec<Change>);
}

/// Everything a store has not been told yet.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// None forgets the channel.
    pub(super) channels: HashMap<i64, Option<ChannelRow>>,
    pub(super) rows: HashMap<i64, RowChange>,
    /// None removes the record.
    pub(super) records: HashMap<(Shelf, String), Option<Vec<u8>>>,
}

impl Owed {
    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.rows.is_empty() && self.records.is_empty()
    }

    pub(super) fn add(&mut self, change: Change) {
        match change {
            Change::Channel(it) => {
                self.channels.insert(it.number, Some(it));
            }
            Change::Forgotten(number) => {
                self.channels.insert(number, None);
            }
            Change::Row(row, change) => self.row(row, change),
        }
    }

    /// What is gone stays gone.
    fn row(&mut self, row: i64, change: RowChange) {
        let owed = self.rows.entry(row).or_insert(change);
        if *owed != RowChange::Gone {
            *owed = change;
        }
    }

    /// The same, and what came after it.
    pub(super) fn absorb(&mut self, later: Self) {
        if self.is_empty() {
            *self = later;
            return;
        }
        self.channels.extend(later.channels);
        later.rows.into_iter().for_each(|(row, change)| self.row(row, change));
        self.records.extend(later.records);
    }
}
