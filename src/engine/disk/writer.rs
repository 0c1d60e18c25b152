//! The one thread that writes: takes what waits, numbers it, commits it as one group, and only then lets it be seen. What
//! a store refuses is refused to its publishers; nothing of it was numbered for good, so nothing is skipped or doubled.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::Fsync;
use super::folder::Folder;
use super::health::Health;
use super::queue::{Order, Queue, Waiting};
use super::restore::mark_in_use;
use super::tables::{Stored, Tables};
use crate::channel::Publication;
use crate::engine::changes::Owed;
use crate::engine::log::Terms;
use crate::engine::memory::Numbered;
use crate::engine::{Error, Memory, Metrics, Receipt};

/// A store that failed is tried again so often.
const RETRY: Duration = Duration::from_secs(1);
/// How often it is made sure that the folder is still there.
const LOOK: Duration = Duration::from_secs(1);
/// What is owed by a store that fails is tidied when it has grown by so much.
const TIDY: usize = 10_000;
/// Nothing to do: looked at now and then all the same.
const IDLE: Duration = Duration::from_secs(60);

pub(super) struct Writer {
    pub(super) queue: Arc<Queue>,
    pub(super) memory: Arc<Memory>,
    pub(super) folder: Folder,
    pub(super) tables: Tables,
    pub(super) fsync: Fsync,
    pub(super) metrics: Metrics,
    pub(super) health: Arc<Health>,
    /// What the store has not been told yet.
    pub(super) owed: Owed,
    /// While the store fails: when it is tried again.
    pub(super) retry_at: Option<Instant>,
    /// The store does not say yet that it is in use.
    pub(super) is_unmarked: bool,
    /// With so much owed it is looked through for what need not be.
    pub(super) tidied_at: usize,
    /// When the folder was last seen in its place.
    pub(super) looked_at: Option<Instant>,
}

/// A draft of a group.
struct Entry {
    kind: Kind,
    answer: Answer,
}

type Answer = oneshot::Sender<Result<Receipt, Error>>;

enum Kind {
    New {
        publication: Arc<Publication>,
        channel: i64,
        terms: Terms,
    },
    /// The same id as one before it in the group: stands and falls with it.
    Again(Receipt),
}

/// What is to be said once a group is through.
#[derive(Default)]
struct Promises {
    settled: Vec<oneshot::Sender<bool>>,
    purged: Vec<oneshot::Sender<bool>>,
    closed: Option<oneshot::Sender<bool>>,
}

impl Writer {
    pub(super) fn work(mut self) {
        let abandoned = Abandoned(self.queue.clone());
        // Whoever looks sees from the start whether it can be written.
        self.commit(&[]);
        loop {
            let patience = self.retry_at.map_or(IDLE, |at| at.saturating_duration_since(Instant::now()));
            let Some(orders) = self.queue.take(patience) else { return };
            if let Some(closed) = self.work_on(orders) {
                let is_clean = self.leave_clean();
                drop(abandoned);
                // The folder is free before anybody hears that it is.
                drop(self);
                let _ = closed.send(is_clean);
                return;
            }
        }
    }

    /// One group. Answers whom to tell when this was the last.
    fn work_on(&mut self, orders: Vec<Order>) -> Option<oneshot::Sender<bool>> {
        let (mut group, mut promises) = (Vec::new(), Promises::default());
        for order in orders {
            match order {
                Order::Publish { drafts, room } => {
                    drafts.into_iter().for_each(|it| self.number(it, &mut group));
                    drop(room);
                }
                Order::Settle(answer) => promises.settled.push(answer),
                Order::Purge(answer) => promises.purged.push(answer),
                Order::Close(answer) => promises.closed = Some(answer),
            }
        }
        self.owed.absorb(self.queue.owed());
        let is_stored = self.may_try(promises.closed.is_some()) && self.commit(&group);
        group.into_iter().for_each(|it| if is_stored { self.take(it) } else { self.refuse(it) });
        tell(promises.settled, is_stored);
        if !promises.purged.is_empty() {
            tell(promises.purged, is_stored && self.tables.settle().is_ok());
        }
        promises.closed
    }

    fn number(&self, waiting: Waiting, group: &mut Vec<Entry>) {
        let Waiting { draft, retention, at, answer } = waiting;
        let is_idempotent = draft.is_idempotent;
        let row = self.tables.newest() + 1 + i64::try_from(group.len()).unwrap_or(0);
        let kind = match self.memory.number(draft, retention, at) {
            Numbered::Known(receipt) => {
                let _ = answer.send(Ok(self.vouch(receipt)));
                return;
            }
            Numbered::Again(receipt) => Kind::Again(receipt),
            Numbered::New { publication, channel } => {
                Kind::New { publication, channel, terms: Terms { retention, is_idempotent, at, row } }
            }
        };
        group.push(Entry { kind, answer });
    }

    fn vouch(&self, receipt: Receipt) -> Receipt {
        Receipt { durable: self.fsync.word(), ..receipt }
    }

    /// A store that just failed is left alone for a while; what comes meanwhile is refused at once.
    fn may_try(&self, is_last: bool) -> bool {
        is_last || self.retry_at.is_none_or(|at| at <= Instant::now())
    }

    fn commit(&mut self, group: &[Entry]) -> bool {
        let stored: Vec<_> = group.iter().filter_map(Entry::stored).collect();
        if stored.is_empty() && self.owed.is_empty() && self.retry_at.is_none() && !self.is_unmarked {
            return true;
        }
        if !self.is_in_place() {
            self.failed(&"it was removed or replaced; put it back, or start anew");
            return false;
        }
        match self.marked().and_then(|()| self.tables.write(&self.owed, &stored)) {
            Ok(()) => {
                self.owed = Owed::default();
                self.health.written();
                if !stored.is_empty() {
                    self.folder.witness(self.tables.newest());
                }
                self.metrics.commits.inc();
                self.metrics.stored.inc_by(stored.len() as u64);
                self.recovered();
                true
            }
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }

    fn marked(&mut self) -> rusqlite::Result<()> {
        if self.is_unmarked {
            mark_in_use(&mut self.tables, self.fsync)?;
            self.is_unmarked = false;
        }
        Ok(())
    }

    fn is_in_place(&mut self) -> bool {
        if self.looked_at.is_some_and(|it| it.elapsed() < LOOK) {
            return true;
        }
        let is_in_place = self.folder.is_in_place();
        self.looked_at = is_in_place.then(Instant::now);
        is_in_place
    }

    fn failed(&mut self, error: &dyn std::fmt::Display) {
        self.health.is_failing.store(true, Ordering::Release);
        self.metrics.failing.set(1);
        self.metrics.failures.inc();
        self.tidy();
        if self.retry_at.replace(Instant::now() + RETRY).is_none() {
            let folder = self.folder.path().display();
            error!(%folder, %error, "the data folder is full or failing: publications are refused until it can be written");
        }
    }

    /// A store that fails for long owes no more than what there is, not what has been.
    fn tidy(&mut self) {
        let owed = |it: &Self| it.owed.records.len() + it.owed.channels.len();
        if owed(self) >= self.tidied_at + TIDY {
            // If it cannot be read either, the next time will do.
            let _ = self.tables.forget_absent(&mut self.owed);
            self.tidied_at = owed(self);
        }
    }

    fn recovered(&mut self) {
        if self.retry_at.take().is_some() {
            self.tidied_at = 0;
            self.health.is_failing.store(false, Ordering::Release);
            self.metrics.failing.set(0);
            info!(folder = %self.folder.path().display(), "the data folder can be written again");
        }
    }

    fn take(&self, Entry { kind, answer }: Entry) {
        let receipt = match kind {
            Kind::Again(receipt) => receipt,
            Kind::New { publication, terms, .. } => {
                let (position, id) = (publication.position(), publication.id.clone());
                self.memory.take(publication, terms);
                Receipt { position, id, duplicate: false, durable: "" }
            }
        };
        let _ = answer.send(Ok(self.vouch(receipt)));
    }

    fn refuse(&self, Entry { kind, answer }: Entry) {
        if let Kind::New { publication, .. } = kind {
            self.memory.fall_back(&publication.channel);
        }
        let _ = answer.send(Err(Error::Storage));
    }

    /// Whether the next process finds everything, whatever happens to the machine.
    fn leave_clean(&mut self) -> bool {
        let left = self.tables.settle().and_then(|()| self.tables.set_marks(&[("clean", "1")], self.fsync));
        match left {
            Ok(()) if self.owed.is_empty() => true,
            outcome => {
                warn!(error = ?outcome.err(), "the data folder was not left clean");
                false
            }
        }
    }
}

fn tell(waiting: Vec<oneshot::Sender<bool>>, outcome: bool) {
    for it in waiting {
        // Nobody minds an answer that nobody waits for any more.
        let _ = it.send(outcome);
    }
}

impl Entry {
    fn stored(&self) -> Option<Stored> {
        let Kind::New { publication, channel, terms } = &self.kind else { return None };
        Some(Stored {
            row: terms.row,
            channel: *channel,
            publication: publication.clone(),
            is_idempotent: terms.is_idempotent,
            is_kept: terms.retention.size > 0,
        })
    }
}

/// Whichever way the thread ends, nobody waits for it.
struct Abandoned(Arc<Queue>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
