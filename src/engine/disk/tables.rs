//! The store itself: three tables in SQLite, written one transaction per group. Publications are appended in one order, so
//! a group touches the last page and those its trimmed rows are on. Why SQLite: docs/store.md.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, Row, params};

use super::Fsync;
use crate::channel::{ChannelName, ConnectionId, Data, Epoch, Publication, Retention};
use crate::engine::changes::{ChannelRow, Owed, RowChange};
use crate::records::Shelf;

/// Of the layout below; a store with a higher one is of a newer Outrigger.
const VERSION: i64 = 1;

/// The log is written into the tables when it has so many pages of 4 KiB.
const LOG_PAGES: u32 = 4000;

const LAYOUT: &str = "
    CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS channels (
        number INTEGER PRIMARY KEY, name TEXT NOT NULL, epoch INTEGER NOT NULL, head INTEGER NOT NULL, last_id TEXT,
        kept INTEGER NOT NULL, ttl_ms INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS publications (
        row INTEGER PRIMARY KEY, channel INTEGER NOT NULL, seq INTEGER NOT NULL, id TEXT NOT NULL, time INTEGER NOT NULL,
        recognised INTEGER NOT NULL, kind INTEGER, data BLOB, event TEXT, user TEXT, subject TEXT, exclude BLOB);
    CREATE TABLE IF NOT EXISTS records (
        shelf TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (shelf, key)) WITHOUT ROWID;";

const PUT_CHANNEL: &str = "INSERT OR REPLACE INTO channels VALUES (?, ?, ?, ?, ?, ?, ?)";
const PUT_PUBLICATION: &str = "INSERT INTO publications VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
const EMPTY: &str = "UPDATE publications SET kind = NULL, data = NULL, event = NULL, user = NULL, subject = NULL, \
                     exclude = NULL, recognised = recognised AND ?2 WHERE row = ?1";
const ERASE: &str =
    "UPDATE publications SET kind = ?2, data = NULL, event = NULL, user = NULL, subject = NULL WHERE row = ?1";

/// What `kind` says of the data; NULL means that only the id is left.
const JSON: i64 = 0;
const BINARY: i64 = 1;
const ERASED: i64 = 2;

/// A publication for the store.
pub(super) struct Stored {
    pub(super) row: i64,
    pub(super) channel: i64,
    pub(super) publication: Arc<Publication>,
    /// Its id is recognised.
    pub(super) is_idempotent: bool,
    /// The history keeps it, not its id alone.
    pub(super) is_kept: bool,
}

pub(super) struct Tables {
    connection: Connection,
    /// The last row written. It is never deleted, only emptied: it vouches for the tail.
    newest: i64,
    /// The last row is needed no more: it goes with the next group that has a newer one.
    goes_next: Option<i64>,
}

impl Tables {
    /// None if the store is of a newer Outrigger.
    pub(super) fn open(path: &Path, fsync: Fsync) -> rusqlite::Result<Option<Self>> {
        let connection = Connection::open(path)?;
        connection.execute_batch(&format!(
            "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = {LOG_PAGES};
             PRAGMA cache_size = -8192; PRAGMA secure_delete = ON;"
        ))?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |it| it.get(0))?;
        if version > VERSION {
            return Ok(None);
        }
        // Nothing is written where nothing is new: a full disk keeps no node from starting.
        if version < VERSION {
            connection.execute_batch(&format!("BEGIN; {LAYOUT} PRAGMA user_version = {VERSION}; COMMIT"))?;
        }
        connection.set_prepared_statement_cache_capacity(32);
        let newest = connection.query_row("SELECT ifnull(max(row), 0) FROM publications", [], |it| it.get(0))?;
        let tables = Self { connection, newest, goes_next: None };
        tables.sync_each_commit(fsync)?;
        Ok(Some(tables))
    }

    fn sync_each_commit(&self, fsync: Fsync) -> rusqlite::Result<()> {
        let word = if fsync == Fsync::Always { "FULL" } else { "NORMAL" };
        self.connection.pragma_update(None, "synchronous", word)
    }

    pub(super) fn newest(&self) -> i64 {
        self.newest
    }

    pub(super) fn mark(&self, name: &str) -> rusqlite::Result<Option<String>> {
        let mut statement = self.connection.prepare_cached("SELECT value FROM marks WHERE name = ?")?;
        let mut rows = statement.query([name])?;
        rows.next()?.map(|it| it.get(0)).transpose()
    }

    /// Sets marks and makes sure of them, whatever else is synced when.
    pub(super) fn set_marks(&mut self, marks: &[(&str, &str)], fsync: Fsync) -> rusqlite::Result<()> {
        self.sync_each_commit(Fsync::Always)?;
        let transaction = self.connection.transaction()?;
        for mark in marks {
            transaction.prepare_cached("INSERT OR REPLACE INTO marks VALUES (?, ?)")?.execute([mark.0, mark.1])?;
        }
        transaction.commit()?;
        self.sync_each_commit(fsync)
    }

    /// All of it or nothing.
    pub(super) fn write(&mut self, owed: &Owed, publications: &[Stored]) -> rusqlite::Result<()> {
        let newest = publications.last().map_or(self.newest, |it| it.row);
        let mut goes_next = self.goes_next.filter(|it| *it == newest);
        let transaction = self.connection.transaction()?;
        {
            let delete =
                |row: i64| transaction.prepare_cached("DELETE FROM publications WHERE row = ?")?.execute([row]);
            for (number, row) in &owed.channels {
                write_channel(&transaction, *number, row.as_ref())?;
            }
            for it in publications {
                write_publication(&transaction, it)?;
            }
            for (row, change) in &owed.rows {
                match change {
                    RowChange::Gone if *row == newest => {
                        transaction.prepare_cached(EMPTY)?.execute(params![row, false])?;
                        goes_next = Some(newest);
                    }
                    RowChange::Gone => drop(delete(*row)?),
                    RowChange::Emptied => drop(transaction.prepare_cached(EMPTY)?.execute(params![row, true])?),
                    RowChange::Erased => drop(transaction.prepare_cached(ERASE)?.execute([*row, ERASED])?),
                }
            }
            if let Some(row) = self.goes_next.filter(|it| *it != newest) {
                delete(row)?;
            }
            for ((shelf, key), value) in &owed.records {
                write_record(&transaction, *shelf, key, value.as_deref())?;
            }
        }
        transaction.commit()?;
        (self.newest, self.goes_next) = (newest, goes_next);
        Ok(())
    }

    /// Takes out what is to be removed and was never here: while a store fails, things come and go that it never hears of.
    pub(super) fn forget_absent(&self, owed: &mut Owed) -> rusqlite::Result<()> {
        let mut record = self.connection.prepare_cached("SELECT 1 FROM records WHERE shelf = ? AND key = ?")?;
        let mut channel = self.connection.prepare_cached("SELECT 1 FROM channels WHERE number = ?")?;
        // What cannot be looked up stays.
        owed.records.retain(|(shelf, key), it| it.is_some() || record.exists((shelf.name(), key)).unwrap_or(true));
        owed.channels.retain(|number, it| it.is_some() || channel.exists([number]).unwrap_or(true));
        Ok(())
    }

    /// Moves the log into the tables and syncs both; what was erased is then nowhere.
    pub(super) fn settle(&self) -> rusqlite::Result<()> {
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |it| match it.get::<_, i64>(0)? {
            0 => Ok(()),
            _ => Err(rusqlite::Error::QueryReturnedNoRows),
        })
    }

    pub(super) fn channels(&self) -> rusqlite::Result<Vec<ChannelRow>> {
        let mut statement = self.connection.prepare("SELECT * FROM channels")?;
        statement.query_map([], channel)?.collect()
    }

    /// New lives for all channels: who was in one before is told that something may be missing.
    pub(super) fn begin_new_epochs(&self, channels: &mut [ChannelRow]) -> rusqlite::Result<()> {
        let transaction = self.connection.unchecked_transaction()?;
        for it in channels {
            it.epoch = Epoch(fastrand::u64(1..));
            write_channel(&transaction, it.number, Some(it))?;
        }
        transaction.commit()
    }

    /// Calls `each` with every publication in the order they were written.
    pub(super) fn publications(&self, mut each: impl FnMut(Restored)) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare("SELECT * FROM publications ORDER BY row")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            each(restored(row)?);
        }
        Ok(())
    }

    pub(super) fn records(&self, shelf: Shelf) -> rusqlite::Result<Vec<(String, Vec<u8>)>> {
        let mut statement = self.connection.prepare("SELECT key, value FROM records WHERE shelf = ? ORDER BY key")?;
        statement.query_map([shelf.name()], |it| Ok((it.get(0)?, it.get(1)?)))?.collect()
    }

    #[cfg(test)]
    pub(super) fn limit_to(&self, pages: i64) {
        self.connection.pragma_update(None, "max_page_count", pages).unwrap();
    }
}

fn write_channel(connection: &Connection, number: i64, row: Option<&ChannelRow>) -> rusqlite::Result<()> {
    let Some(it) = row else {
        return connection.prepare_cached("DELETE FROM channels WHERE number = ?")?.execute([number]).map(drop);
    };
    let ttl = i64::try_from(it.retention.ttl.as_millis()).unwrap_or(i64::MAX);
    let kept = i64::try_from(it.retention.size).unwrap_or(i64::MAX);
    let (name, epoch, head) = (it.name.as_str(), it.epoch.0.cast_signed(), it.head.cast_signed());
    let mut statement = connection.prepare_cached(PUT_CHANNEL)?;
    statement.execute(params![number, name, epoch, head, it.last_id.as_deref(), kept, ttl]).map(drop)
}

fn write_publication(connection: &Connection, stored: &Stored) -> rusqlite::Result<()> {
    let it = &*stored.publication;
    let kept = stored.is_kept.then_some(it);
    let (kind, data) = match kept.map(|it| &it.data) {
        Some(Data::Json(bytes)) => (Some(JSON), Some(&bytes[..])),
        Some(Data::Binary(bytes)) => (Some(BINARY), Some(&bytes[..])),
        None => (None, None),
    };
    let exclude = kept.filter(|it| !it.exclude.is_empty());
    let exclude = exclude.map(|it| it.exclude.iter().flat_map(|it| it.0.to_be_bytes()).collect::<Vec<u8>>());
    let mut statement = connection.prepare_cached(PUT_PUBLICATION)?;
    let row = params![
        stored.row,
        stored.channel,
        it.seq.cast_signed(),
        &*it.id,
        it.timestamp.cast_signed(),
        stored.is_idempotent,
        kind,
        data,
        kept.and_then(|it| it.event.as_deref()),
        kept.and_then(|it| it.user.as_deref()),
        kept.and_then(|it| it.subject.as_deref()),
        exclude,
    ];
    statement.execute(row).map(drop)
}

fn write_record(connection: &Connection, shelf: Shelf, key: &str, value: Option<&[u8]>) -> rusqlite::Result<()> {
    match value {
        Some(value) => connection.prepare_cached("INSERT OR REPLACE INTO records VALUES (?, ?, ?)")?.execute(params![
            shelf.name(),
            key,
            value
        ]),
        None => {
            connection.prepare_cached("DELETE FROM records WHERE shelf = ? AND key = ?")?.execute([shelf.name(), key])
        }
    }
    .map(drop)
}

fn channel(row: &Row<'_>) -> rusqlite::Result<ChannelRow> {
    let name: String = row.get(1)?;
    let name = ChannelName::parse(&name)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, Box::new(error)))?;
    let ttl = std::time::Duration::from_millis(row.get::<_, i64>(6)?.cast_unsigned());
    Ok(ChannelRow {
        number: row.get(0)?,
        name,
        epoch: Epoch(row.get::<_, i64>(2)?.cast_unsigned()),
        head: row.get::<_, i64>(3)?.cast_unsigned(),
        last_id: row.get::<_, Option<Arc<str>>>(4)?,
        retention: Retention { size: usize::try_from(row.get::<_, i64>(5)?).unwrap_or(usize::MAX), ttl },
    })
}

/// A stored publication without the name and epoch that are its channel's.
pub(super) struct Restored {
    pub(super) row: i64,
    pub(super) channel: i64,
    pub(super) seq: u64,
    pub(super) id: Arc<str>,
    pub(super) timestamp: u64,
    pub(super) is_idempotent: bool,
    pub(super) kept: Option<Kept>,
}

/// What the history has of it.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) data: Option<Data>,
    pub(super) event: Option<Arc<str>>,
    pub(super) user: Option<Arc<str>>,
    pub(super) subject: Option<Arc<str>>,
    pub(super) exclude: Vec<ConnectionId>,
    pub(super) erased: bool,
}

fn restored(row: &Row<'_>) -> rusqlite::Result<Restored> {
    let kept = match row.get::<_, Option<i64>>(6)? {
        None => None,
        Some(kind) => Some(kept(kind, row)?),
    };
    Ok(Restored {
        row: row.get(0)?,
        channel: row.get(1)?,
        seq: row.get::<_, i64>(2)?.cast_unsigned(),
        id: row.get(3)?,
        timestamp: row.get::<_, i64>(4)?.cast_unsigned(),
        is_idempotent: row.get(5)?,
        kept,
    })
}

/// What the disk made of it is not passed on: no client could read it, and each would come back for it for ever.
fn json(bytes: Bytes) -> rusqlite::Result<Bytes> {
    let text = std::str::from_utf8(&bytes)?;
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(rusqlite::Error::FromSqlConversionFailure(7, rusqlite::types::Type::Blob, Box::new(error))),
    }
}

fn kept(kind: i64, row: &Row<'_>) -> rusqlite::Result<Kept> {
    let bytes = || row.get::<_, Vec<u8>>(7).map(Bytes::from);
    let data = match kind {
        BINARY => Some(Data::Binary(bytes()?)),
        JSON => Some(Data::Json(json(bytes()?)?)),
        _ => None,
    };
    let exclude = row.get::<_, Option<Vec<u8>>>(11)?.unwrap_or_default();
    let ids = exclude.as_chunks::<16>().0.iter().map(|it| ConnectionId(u128::from_be_bytes(*it)));
    Ok(Kept {
        data,
        event: row.get(8)?,
        user: row.get(9)?,
        subject: row.get(10)?,
        exclude: ids.collect(),
        erased: kind == ERASED,
    })
}
