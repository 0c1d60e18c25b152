//! The data folder: who has it, whether it can be used, and what it can prove about the process before.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the data folder {} cannot be used: {error}", path.display())]
    Unusable { path: PathBuf, error: io::Error },
    #[error("the data folder {} is in use by another process", path.display())]
    InUse { path: PathBuf },
    #[error("the data folder {} was written by a newer version of Outrigger", path.display())]
    Newer { path: PathBuf },
    #[error("the store in the data folder {} cannot be opened: {error}", path.display())]
    Store { path: PathBuf, error: rusqlite::Error },
}

/// Which file it is, whatever its name: device and number.
type Identity = (u64, u64);

/// The folder, for as long as this process has it.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Says up to which row the store was written, from beside it: a store that ends before has lost its tail.
    witness: File,
    /// Locked; the system unlocks it whichever way the process ends.
    lock: File,
    /// The store's own file, as it was opened.
    store: Option<Identity>,
}

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let unusable = |error| OpenError::Unusable { path: path.to_owned(), error };
        std::fs::create_dir_all(path).map_err(unusable)?;
        let file = |name: &str| {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false).open(path.join(name)).map_err(unusable)
        };
        let lock = file("lock")?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::InUse { path: path.to_owned() },
            TryLockError::Error(error) => unusable(error),
        })?;
        Ok(Self { path: path.to_owned(), witness: file("witness")?, lock, store: None })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn store(&self) -> PathBuf {
        self.path.join("store.sqlite")
    }

    /// From now on the store is this file.
    pub(super) fn remember_store(&mut self) {
        self.store = std::fs::metadata(self.store()).ok().map(|it| identity(&it));
    }

    /// Whether what is written is still found by the next process. A store whose files were deleted can be written as
    /// before, and all of it is gone with this process.
    pub(super) fn is_in_place(&self) -> bool {
        let at = |path: PathBuf| std::fs::metadata(path).ok().map(|it| identity(&it));
        let lock = self.lock.metadata().ok().map(|it| identity(&it));
        at(self.path.join("lock")) == lock && at(self.store()) == self.store && self.log().exists()
    }

    /// What was written last is here before it is in the store itself.
    pub(super) fn log(&self) -> PathBuf {
        self.path.join("store.sqlite-wal")
    }

    /// The last row that was said to be stored; 0 if none was.
    pub(super) fn witnessed(&self) -> i64 {
        let mut bytes = [0; 8];
        self.witness.read_exact_at(&mut bytes, 0).map_or(0, |()| i64::from_le_bytes(bytes))
    }

    /// Says that the store has everything up to this row. Eight bytes in place: they need no room on a full disk. If it
    /// fails all the same, the store has only more than is vouched for.
    pub(super) fn witness(&self, row: i64) {
        let _ = self.witness.write_all_at(&row.to_le_bytes(), 0);
    }

    /// Makes sure of the files themselves: what is synced into a file that was never there is not there either.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()?;
        // A folder without one above it is the root, which nobody made.
        self.path
            .parent()
            .map_or(Ok(()), |it| File::open(if it.as_os_str().is_empty() { Path::new(".") } else { it })?.sync_all())
    }

    /// Puts a store that cannot be read out of the way.
    pub(super) fn set_aside(&self) -> io::Result<PathBuf> {
        let broken = self.path.join(format!("store.broken-{}", crate::channel::now()));
        std::fs::create_dir(&broken)?;
        for name in ["store.sqlite", "store.sqlite-wal", "store.sqlite-shm"] {
            match std::fs::rename(self.path.join(name), broken.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(broken)
    }
}

fn identity(it: &std::fs::Metadata) -> Identity {
    (it.dev(), it.ino())
}

/// Whether a folder could be used, without making or opening anything.
pub(super) fn check(path: &Path) -> Result<(), OpenError> {
    use rustix::fs::{Access, access};
    let unusable = |error| Err(OpenError::Unusable { path: path.to_owned(), error });
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let Some(nearest) = absolute.ancestors().find(|it| it.exists()) else { return Ok(()) };
    if !nearest.is_dir() {
        return unusable(io::Error::other(format!("{} is no folder", nearest.display())));
    }
    match access(nearest, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Ok(()),
        Err(error) => unusable(io::Error::other(format!("{}: {}", nearest.display(), io::Error::from(error)))),
    }
}

/// This boot of the machine; empty where the system does not say. What was written in an earlier one and not synced may
/// have gone with the power.
pub(super) fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
