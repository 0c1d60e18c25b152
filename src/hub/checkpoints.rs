use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use crate::channel::{ChannelName, Epoch};

/// Positions too long for a cursor, kept under a name. The oldest are forgotten first: whoever comes back with one of
/// those starts anew and is told.
#[derive(Debug, Default)]
pub struct Checkpoints(Mutex<Kept>);

/// Positions, and the user whose they are.
#[derive(Debug)]
struct Checkpoint {
    positions: Positions,
    user: Option<Arc<str>>,
}

/// A few thousand clients with hundreds of channels each, at some kilobytes apiece.
const MOST: usize = 10_000;

type Positions = Arc<[(ChannelName, Epoch, u64)]>;

#[derive(Debug, Default)]
struct Kept {
    by_name: HashMap<Box<str>, Checkpoint>,
    oldest_first: VecDeque<Box<str>>,
}

impl Checkpoints {
    pub fn keep(&self, positions: Vec<(ChannelName, Epoch, u64)>, user: Option<Arc<str>>) -> Box<str> {
        let name: Box<str> = format!("{:032x}", fastrand::u128(..)).into();
        let mut kept = self.0.lock().expect("nothing panics under this lock");
        if kept.oldest_first.len() >= MOST
            && let Some(oldest) = kept.oldest_first.pop_front()
        {
            kept.by_name.remove(&oldest);
        }
        kept.oldest_first.push_back(name.clone());
        kept.by_name.insert(name.clone(), Checkpoint { positions: positions.into(), user });
        name
    }

    pub fn find(&self, name: &str) -> Option<Positions> {
        self.0.lock().expect("nothing panics under this lock").by_name.get(name).map(|it| it.positions.clone())
    }

    /// Forgets a user's, and how many there were.
    pub fn forget(&self, user: &str) -> usize {
        let mut kept = self.0.lock().expect("nothing panics under this lock");
        let gone: HashSet<_> =
            kept.by_name.extract_if(|_, it| it.user.as_deref() == Some(user)).map(|(name, _)| name).collect();
        kept.oldest_first.retain(|it| !gone.contains(it));
        gone.len()
    }
}
