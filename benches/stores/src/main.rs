//! How the embedded stores of crates.io take the work of a data folder: many small publications appended in groups, the
//! oldest trimmed, everything read back after the process was killed. An append-only file that trims nothing is the floor.

use std::fs::File;
use std::io::Write as _;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// So many publications are kept, all channels together.
const KEPT: u64 = 100_000;
/// Bytes of each.
const PUBLICATION: usize = 250;

trait Store {
    /// Written to the operating system; `sync` means to the disk too.
    fn commit(&mut self, group: Range<u64>, sync: bool);
    /// Reads everything; answers the number of publications.
    fn count(&mut self) -> usize;
}

struct Log(File);

impl Store for Log {
    fn commit(&mut self, group: Range<u64>, sync: bool) {
        let mut bytes = Vec::new();
        for it in group {
            bytes.extend_from_slice(&it.to_be_bytes());
            bytes.extend_from_slice(&[7; PUBLICATION]);
        }
        self.0.write_all(&bytes).unwrap();
        if sync {
            self.0.sync_data().unwrap();
        }
    }

    fn count(&mut self) -> usize {
        0
    }
}

struct Fjall {
    database: fjall::Database,
    publications: fjall::Keyspace,
}

impl Fjall {
    fn open(folder: &Path) -> Self {
        let database = fjall::Database::builder(folder).cache_size(8 << 20).worker_threads(1).open().unwrap();
        let space = |name| database.keyspace(name, fjall::KeyspaceCreateOptions::default).unwrap();
        Self { publications: space("publications"), database }
    }
}

impl Store for Fjall {
    fn commit(&mut self, group: Range<u64>, sync: bool) {
        let mode = if sync { fjall::PersistMode::SyncData } else { fjall::PersistMode::Buffer };
        let mut batch = self.database.batch().durability(Some(mode));
        for it in group {
            batch.insert(&self.publications, it.to_be_bytes(), [7; PUBLICATION]);
            if it >= KEPT {
                batch.remove(&self.publications, (it - KEPT).to_be_bytes());
            }
        }
        batch.commit().unwrap();
    }

    fn count(&mut self) -> usize {
        self.publications.iter().map(|it| it.value().unwrap().len()).filter(|it| *it > 0).count()
    }
}

struct Redb(redb::Database);

const PUBLICATIONS: redb::TableDefinition<u64, &[u8]> = redb::TableDefinition::new("publications");

impl Store for Redb {
    fn commit(&mut self, group: Range<u64>, sync: bool) {
        let mut write = self.0.begin_write().unwrap();
        write.set_durability(if sync { redb::Durability::Immediate } else { redb::Durability::None }).unwrap();
        {
            let mut publications = write.open_table(PUBLICATIONS).unwrap();
            for it in group {
                publications.insert(it, &[7; PUBLICATION][..]).unwrap();
                if it >= KEPT {
                    publications.remove(it - KEPT).unwrap();
                }
            }
        }
        write.commit().unwrap();
    }

    fn count(&mut self) -> usize {
        use redb::{ReadableDatabase, ReadableTable};
        let read = self.0.begin_read().unwrap();
        let Ok(table) = read.open_table(PUBLICATIONS) else { return 0 };
        table.iter().unwrap().map(|it| it.unwrap().1.value().len()).filter(|it| *it > 0).count()
    }
}

struct Sqlite(rusqlite::Connection, File);

impl Sqlite {
    fn open(folder: &Path) -> Self {
        let connection = rusqlite::Connection::open(folder.join("store")).unwrap();
        connection
            .execute_batch(
                "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
                 PRAGMA wal_autocheckpoint = 4000;
                 CREATE TABLE IF NOT EXISTS publications (at INTEGER PRIMARY KEY, value BLOB);",
            )
            .unwrap();
        connection.execute("PRAGMA user_version = 1", []).unwrap();
        let wal = File::open(folder.join("store-wal")).unwrap();
        Self(connection, wal)
    }
}

impl Store for Sqlite {
    fn commit(&mut self, group: Range<u64>, sync: bool) {
        let write = self.0.transaction().unwrap();
        {
            let mut put = write.prepare_cached("INSERT OR REPLACE INTO publications VALUES (?, ?)").unwrap();
            let mut trim = write.prepare_cached("DELETE FROM publications WHERE at = ?").unwrap();
            for it in group {
                put.execute((it as i64, &[7; PUBLICATION][..])).unwrap();
                if it >= KEPT {
                    trim.execute([(it - KEPT) as i64]).unwrap();
                }
            }
        }
        write.commit().unwrap();
        if sync {
            self.1.sync_data().unwrap();
        }
    }

    fn count(&mut self) -> usize {
        let mut all = self.0.prepare("SELECT value FROM publications").unwrap();
        let rows = all.query_map([], |row| row.get_ref(0).map(|it| it.as_blob().unwrap().len())).unwrap();
        rows.filter(|it| *it.as_ref().unwrap() > 0).count()
    }
}

fn open(name: &str, folder: &Path) -> Box<dyn Store> {
    std::fs::create_dir_all(folder).unwrap();
    match name {
        "log" => Box::new(Log(File::options().append(true).create(true).open(folder.join("log")).unwrap())),
        "fjall" => Box::new(Fjall::open(folder)),
        "redb" => Box::new(Redb(redb::Database::create(folder.join("store")).unwrap())),
        "sqlite" => Box::new(Sqlite::open(folder)),
        _ => panic!("no such store"),
    }
}

fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn written() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = text.lines().find(|it| it.starts_with("wchar")).unwrap();
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

fn publish(store: &mut dyn Store, count: u64, group: u64, sync: bool, from: u64) {
    let mut at = from;
    while at < from + count {
        store.commit(at..at + group, sync);
        at += group;
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // Not in the system's folder for such things: that may be in memory.
    let folder = std::path::absolute("target/outrigger-stores").unwrap();
    if let [_, name, folder] = &arguments[..] {
        // The child: fills the store and dies without a word.
        let mut store = open(name, Path::new(folder));
        let before = (Instant::now(), cpu(), written());
        publish(&mut *store, 200_000, 32, false, 0);
        let each = |it: f64| it / 200_000.0;
        println!(
            "{name:>8} os group 32: {:6.2} µs {:6.2} µs cpu {:6.0} B written per publication",
            each(before.0.elapsed().as_secs_f64() * 1e6),
            each((cpu() - before.1).as_secs_f64() * 1e6),
            each((written() - before.2) as f64),
        );
        std::process::abort();
    }
    for name in ["log", "fjall", "redb", "sqlite"] {
        let _ = std::fs::remove_dir_all(&folder);
        Command::new(&arguments[0]).args([name, folder.to_str().unwrap()]).status().unwrap();
        let start = Instant::now();
        let mut store = open(name, &folder);
        let count = store.count();
        let size: u64 = std::fs::read_dir(&folder).unwrap().map(|it| it.unwrap().metadata().unwrap().len()).sum();
        println!(
            "{name:>8} after kill: {count} publications read back in {:?}, {} MiB (top)",
            start.elapsed(),
            size >> 20
        );
        let mut from = 200_000;
        for (group, sync, count) in [(1, false, 20_000), (1, true, 300), (32, true, 9600)] {
            let before = (Instant::now(), cpu());
            publish(&mut *store, count, group, sync, from);
            from += count;
            println!(
                "{name:>8} {} group {group}: {:6.2} µs {:6.2} µs cpu per publication",
                if sync { "fsync" } else { "os" },
                before.0.elapsed().as_secs_f64() * 1e6 / count as f64,
                (cpu() - before.1).as_secs_f64() * 1e6 / count as f64,
            );
        }
    }
    let _ = std::fs::remove_dir_all(&folder);
}
