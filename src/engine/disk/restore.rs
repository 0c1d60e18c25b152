//! Reads back what an earlier process stored, and judges whether it can be all there is. A store that cannot prove its tail
//! begins new epochs: clients are told that something may be missing, rather than that nothing is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::folder::{Folder, OpenError, boot};
use super::tables::{Restored, Tables};
use super::{Data, Fsync, Shelves};
use crate::channel::{Data as Payload, Publication};
use crate::engine::changes::{ChannelRow, Owed, RowChange};
use crate::engine::log::{Log, Terms};
use crate::records::Shelf;

/// An opened data folder, read.
pub struct Store {
    pub(super) folder: Folder,
    pub(super) tables: Tables,
    pub(super) fsync: Fsync,
    pub(super) logs: Vec<Log>,
    pub(super) next_channel: i64,
    pub(super) records: Shelves,
    /// Rows that nothing refers to any more.
    pub(super) owed: Owed,
    /// The store does not say yet that it is in use: there was no room for that.
    pub(super) is_unmarked: bool,
}

/// What is read of the tables in one go.
struct Contents {
    channels: Vec<ChannelRow>,
    publications: Vec<Restored>,
    records: Shelves,
    /// Why something may be missing at the end.
    doubt: Option<&'static str>,
}

impl Store {
    /// Takes the folder for this process and reads everything in it. Blocks for as long as that takes.
    pub fn open(data: &Data) -> Result<Self, OpenError> {
        let mut folder = Folder::open(&data.path)?;
        let broken = |error| OpenError::Store { path: data.path.clone(), error };
        let (mut tables, mut contents) = match read(&folder, data.fsync) {
            Ok(it) => it,
            Err(Unreadable::Newer) => return Err(OpenError::Newer { path: data.path.clone() }),
            Err(Unreadable::Store(error)) if is_broken(&error) => {
                let aside = folder.set_aside();
                let aside = aside.map_err(|error| OpenError::Unusable { path: data.path.clone(), error })?;
                let (folder_name, aside) = (data.path.display(), aside.display());
                warn!(folder = %folder_name, %aside, %error, "the store cannot be read: it was put aside, a new one begins");
                folder.witness(0);
                read(&folder, data.fsync).map_err(|it| match it {
                    Unreadable::Newer => OpenError::Newer { path: data.path.clone() },
                    Unreadable::Store(error) => broken(error),
                })?
            }
            Err(Unreadable::Store(error)) => return Err(broken(error)),
        };
        if let Some(why) = contents.doubt {
            tables.begin_new_epochs(&mut contents.channels).map_err(broken)?;
            warn!(folder = %data.path.display(), why, "the store may have lost its end: its channels begin new epochs");
        }
        folder.witness(tables.newest());
        let is_unmarked = match mark_in_use(&mut tables, data.fsync) {
            Err(error) if !is_full(&error) => return Err(broken(error)),
            outcome => outcome.is_err(),
        };
        folder.remember_store();
        folder.sync().map_err(|error| OpenError::Unusable { path: data.path.clone(), error })?;
        Ok(Self { is_unmarked, ..Self::restore(folder, tables, data.fsync, contents) })
    }

    fn restore(folder: Folder, tables: Tables, fsync: Fsync, contents: Contents) -> Self {
        let now = Instant::now();
        let clock = crate::channel::now();
        let next_channel = contents.channels.iter().map(|it| it.number).max().unwrap_or(0) + 1;
        let (channels, publications) = (contents.channels.len(), contents.publications.len());
        let mut logs: HashMap<i64, Log> =
            contents.channels.into_iter().map(|it| (it.number, Log::restored(it, now))).collect();
        let mut owed = Owed::default();
        for it in contents.publications {
            let age = Duration::from_millis(clock.saturating_sub(it.timestamp));
            let at = now.checked_sub(age).unwrap_or(now);
            let log = logs.get_mut(&it.channel).filter(|_| it.kept.is_some() || it.is_idempotent);
            match log {
                Some(log) => put_back(log, it, at),
                None => drop(owed.rows.insert(it.row, RowChange::Gone)),
            }
        }
        info!(folder = %folder.path().display(), channels, publications, "read what was stored");
        let logs = logs.into_values().collect();
        Self { folder, tables, fsync, logs, next_channel, records: contents.records, owed, is_unmarked: false }
    }
}

/// What the next process judges this one by. Before anything else is written.
pub(super) fn mark_in_use(tables: &mut Tables, fsync: Fsync) -> rusqlite::Result<()> {
    tables.set_marks(&[("boot", &*boot()), ("clean", "0"), ("fsync", fsync.word())], fsync)
}

/// There is no room: that may pass, and keeps nobody from reading.
fn is_full(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DiskFull, SystemIoFailure};
    matches!(error.sqlite_error_code(), Some(DiskFull | SystemIoFailure))
}

fn put_back(log: &mut Log, it: Restored, at: Instant) {
    let is_kept = it.kept.is_some();
    let kept = it.kept.unwrap_or_default();
    let publication = Publication {
        channel: log.name().clone(),
        epoch: log.epoch(),
        seq: it.seq,
        prev: None,
        id: it.id,
        event: kept.event,
        user: kept.user,
        subject: kept.subject,
        data: kept.data.unwrap_or(Payload::Json("null".into())),
        timestamp: it.timestamp,
        exclude: kept.exclude,
        erased: kept.erased,
    };
    let terms = Terms { retention: log.row().retention, is_idempotent: it.is_idempotent, at, row: it.row };
    log.put_back(Arc::new(publication), is_kept, terms);
}

enum Unreadable {
    Newer,
    Store(rusqlite::Error),
}

impl From<rusqlite::Error> for Unreadable {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error)
    }
}

fn read(folder: &Folder, fsync: Fsync) -> Result<(Tables, Contents), Unreadable> {
    let tables = Tables::open(&folder.store(), fsync)?.ok_or(Unreadable::Newer)?;
    let mut publications = Vec::new();
    tables.publications(|it| publications.push(it))?;
    let records = Shelf::ALL.into_iter().map(|it| Ok((it, tables.records(it)?)));
    let contents = Contents {
        channels: tables.channels()?,
        publications,
        records: records.collect::<rusqlite::Result<_>>()?,
        doubt: doubt(folder, &tables)?,
    };
    Ok((tables, contents))
}

/// Why the end of the store may be missing; none where it is proven.
fn doubt(folder: &Folder, tables: &Tables) -> rusqlite::Result<Option<&'static str>> {
    if tables.newest() < folder.witnessed() {
        return Ok(Some("it ends before what was acknowledged"));
    }
    let Some(then) = tables.mark("boot")? else { return Ok(None) };
    let is_clean = tables.mark("clean")?.as_deref() == Some("1");
    let was_synced = tables.mark("fsync")?.as_deref() == Some(Fsync::Always.word());
    let is_same_boot = !then.is_empty() && then == boot();
    let is_proven = is_clean || was_synced || is_same_boot;
    Ok((!is_proven).then_some("the machine went down before the last second was synced"))
}

/// The file is not what it should be; anything else may pass, or is for the operator to mend.
fn is_broken(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{
        FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, SqlInputError, Utf8Error,
    };
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
        || matches!(
            error,
            FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) | Utf8Error(..)
                // Our words are good: it is the tables that are not as they were.
                | SqlInputError { .. }
        )
}
