use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use futures_util::future::{FutureExt, Shared, WeakShared};

use super::remembered::Key;
use super::{Action, Answer};

/// Questions on their way that others ask in the same words: whoever comes second waits for the first one's answer.
///
/// Whether that answer is theirs too, the backend says: a verdict with a `ttl` is, and so is "come back later". Where it gives
/// no `ttl`, waiting for another's answer only costs time, so after one such answer nobody waits until one has a `ttl` again.
#[derive(Debug)]
pub(super) struct Together {
    /// A few lines each, no await. The weak ends let a question go whose clients have all left.
    under_way: Mutex<HashMap<Key, WeakShared<Asking>>>,
    is_worth_it: AtomicBool,
}

type Asking = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// How a question is asked.
pub(super) enum Turn {
    /// Nobody asks this yet: the answer is one's own.
    First(Shared<Asking>),
    /// Somebody does.
    Second(Shared<Asking>),
}

impl Together {
    pub(super) fn new() -> Self {
        Self { under_way: Mutex::default(), is_worth_it: AtomicBool::new(true) }
    }

    /// Joins those who ask the same, or is the first with `ask`.
    pub(super) fn join(&self, key: Key, ask: impl FnOnce() -> Asking) -> Turn {
        let mut under_way = self.lock();
        if self.is_worth_it.load(Relaxed)
            && let Some(asking) = under_way.get(&key).and_then(WeakShared::upgrade)
        {
            return Turn::Second(asking);
        }
        let asking = ask().shared();
        if let Some(weak) = asking.downgrade() {
            under_way.insert(key, weak);
        }
        Turn::First(asking)
    }

    /// The question is answered.
    pub(super) fn done(&self, key: &Key, answer: &Answer) {
        self.lock().remove(key);
        if let Answer::Verdict(verdict) = answer
            && verdict.action == Action::Allow
        {
            self.is_worth_it.store(verdict.may_be_shared(), Relaxed);
        }
    }

    /// What is being asked now is not for those who come later.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, WeakShared<Asking>>> {
        let mut under_way = self.under_way.lock().expect("nothing panics under this lock");
        if under_way.len() == under_way.capacity() {
            under_way.retain(|_, it| it.upgrade().is_some());
        }
        under_way
    }
}

/// Whether an answer is good for others who asked the same at the same time.
pub(super) fn is_for_all(answer: &Answer) -> bool {
    match answer {
        Answer::Verdict(verdict) => verdict.may_be_shared(),
        Answer::Later { .. } | Answer::Unavailable => true,
    }
}
