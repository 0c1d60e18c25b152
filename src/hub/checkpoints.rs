use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::channel::{ChannelName, Epoch, now};
use crate::protocol::cursor::{self, Cursor};
use crate::records::{Forgetful, Records, Shelf};

/// Positions too long for a cursor, kept under a name. The oldest are forgotten first: whoever comes back with one of
/// those is told that nobody knows where it stood. Lives as long as the node, and longer where its records do.
#[derive(Debug)]
pub struct Checkpoints(Mutex<Kept>);

/// Positions, and the user whose they are.
#[derive(Debug)]
struct Checkpoint {
    positions: Positions,
    user: Option<Arc<str>>,
}

/// Its form on disk.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    positions: String,
    user: Option<Arc<str>>,
}

/// A few thousand clients with hundreds of channels each, at some kilobytes apiece.
const MOST: usize = 10_000;

/// In the order of the channels' names.
pub(super) type Positions = Arc<[(ChannelName, Epoch, u64)]>;

#[derive(Debug)]
struct Kept {
    /// Names begin with the time, so that the oldest come first.
    by_name: BTreeMap<Box<str>, Checkpoint>,
    records: Arc<dyn Records>,
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self(Mutex::new(Kept { by_name: BTreeMap::new(), records: Arc::new(Forgetful) }))
    }
}

impl Checkpoints {
    /// From now on they are written through, and those of an earlier process are known. Called once, before anybody comes.
    pub fn live_in(&self, records: Arc<dyn Records>) {
        let mut kept = self.lock();
        for (name, value) in records.all(Shelf::Checkpoints) {
            match Checkpoint::read(&value) {
                Some(checkpoint) => drop(kept.by_name.insert(name.into(), checkpoint)),
                None => {
                    warn!(name, "a checkpoint cannot be read and is left out");
                    records.remove(Shelf::Checkpoints, &name);
                }
            }
        }
        kept.records = records;
    }

    pub(super) fn keep(&self, positions: Positions, user: Option<Arc<str>>) -> Box<str> {
        let name: Box<str> = format!("{:012x}{:020x}", now(), fastrand::u128(..) >> 48).into();
        let checkpoint = Checkpoint { positions, user };
        let mut kept = self.lock();
        if kept.by_name.len() >= MOST
            && let Some((oldest, _)) = kept.by_name.pop_first()
        {
            kept.records.remove(Shelf::Checkpoints, &oldest);
        }
        kept.records.keep(Shelf::Checkpoints, &name, || checkpoint.written());
        kept.by_name.insert(name.clone(), checkpoint);
        name
    }

    pub fn find(&self, name: &str) -> Option<Arc<[(ChannelName, Epoch, u64)]>> {
        self.lock().by_name.get(name).map(|it| it.positions.clone())
    }

    /// Nobody comes back with this one any more.
    pub(super) fn let_go(&self, name: &str) {
        let mut kept = self.lock();
        if kept.by_name.remove(name).is_some() {
            kept.records.remove(Shelf::Checkpoints, name);
        }
    }

    /// Forgets a user's, and how many there were.
    pub fn forget(&self, user: &str) -> usize {
        let mut kept = self.lock();
        let Kept { by_name, records } = &mut *kept;
        let gone = by_name.extract_if(.., |_, it| it.user.as_deref() == Some(user)).map(|(name, _)| name);
        gone.inspect(|it| records.remove(Shelf::Checkpoints, it)).count()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("nothing panics under this lock")
    }
}

impl Checkpoint {
    fn written(&self) -> Vec<u8> {
        let positions = cursor::encode(self.positions.iter().map(|(channel, epoch, seq)| (channel, *epoch, *seq)));
        let stored = Stored { positions, user: self.user.clone() };
        serde_json::to_vec(&stored).expect("texts can be written into memory")
    }

    fn read(record: &[u8]) -> Option<Self> {
        let Stored { positions, user } = serde_json::from_slice(record).ok()?;
        let Cursor::Positions(positions) = cursor::decode(&positions)? else { return None };
        Some(Self { positions: positions.into_iter().map(|(channel, at)| (channel, at.epoch, at.seq)).collect(), user })
    }
}
