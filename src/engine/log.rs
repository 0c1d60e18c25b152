//! One channel's numbering and past: what is kept for catching up, which ids are recognised, where the head is. A plain
//! value under its shard's lock; what a store must know of a step is noted in [`Changes`].

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::changes::{Change, Changes, ChannelRow, RowChange};
use crate::channel::{ChannelName, Draft, Epoch, Position, Publication, Retention};

/// What is known of one channel.
pub(super) struct Log {
    name: ChannelName,
    /// The channel's number in the store; 0 without one.
    number: i64,
    epoch: Epoch,
    head: u64,
    last_id: Option<Arc<str>>,
    pub(super) kept: VecDeque<Kept>,
    /// The id of the publication before the first one kept: whoever has that one misses nothing.
    before_kept: Option<Arc<str>>,
    retention: Retention,
    /// Ids that are recognised, oldest first.
    given: VecDeque<Given>,
    taken: HashMap<Arc<str>, u64>,
    /// Numbers given to publications that the store does not have yet.
    ahead: Option<Box<Ahead>>,
    pub(super) used: Instant,
    /// This node's clients follow it: its numbering must not begin anew under them.
    pub(super) is_followed: bool,
}

pub(super) struct Kept {
    pub(super) publication: Arc<Publication>,
    pub(super) at: Instant,
    /// Its row in the store; 0 without one.
    pub(super) row: i64,
}

struct Given {
    id: Arc<str>,
    seq: u64,
    at: Instant,
    row: i64,
}

#[derive(Default)]
struct Ahead {
    head: u64,
    ids: HashMap<Arc<str>, u64>,
}

/// How a publication is taken into its log.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub(super) retention: Retention,
    /// A repetition of its id is recognised.
    pub(super) is_idempotent: bool,
    pub(super) at: Instant,
    pub(super) row: i64,
}

impl Log {
    pub(super) fn new(name: ChannelName, number: i64, now: Instant) -> Self {
        // Never 0: that stands for an epoch nobody gave.
        let epoch = Epoch(fastrand::u64(1..));
        let row = ChannelRow { number, name, epoch, head: 0, last_id: None, retention: Retention::NONE };
        Self::restored(row, now)
    }

    /// As a store knows it; its past is put back with [`Log::put_back`].
    pub(super) fn restored(row: ChannelRow, now: Instant) -> Self {
        Self {
            name: row.name,
            number: row.number,
            epoch: row.epoch,
            head: row.head,
            last_id: row.last_id,
            kept: VecDeque::new(),
            before_kept: None,
            retention: row.retention,
            given: VecDeque::new(),
            taken: HashMap::new(),
            ahead: None,
            used: now,
            is_followed: false,
        }
    }

    pub(super) fn name(&self) -> &ChannelName {
        &self.name
    }

    pub(super) fn number(&self) -> i64 {
        self.number
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// A stored publication, in the order of the numbers: its data if the history still has it, its id if it is recognised.
    pub(super) fn put_back(&mut self, publication: Arc<Publication>, is_kept: bool, terms: Terms) {
        let (id, seq) = (publication.id.clone(), publication.seq);
        if seq >= self.head {
            self.head = seq;
            self.last_id = Some(id.clone());
        }
        if terms.is_idempotent {
            self.recognise(id, seq, terms);
        }
        if is_kept {
            self.kept.push_back(Kept { publication, at: terms.at, row: terms.row });
        } else if self.kept.is_empty() {
            self.before_kept = Some(publication.id.clone());
        }
    }

    /// Nobody follows it, and nothing is on its way into it.
    pub(super) fn may_be_forgotten(&self) -> bool {
        !self.is_followed && self.ahead.is_none()
    }

    pub(super) fn row(&self) -> ChannelRow {
        ChannelRow {
            number: self.number,
            name: self.name.clone(),
            epoch: self.epoch,
            head: self.head,
            last_id: self.last_id.clone(),
            retention: self.retention,
        }
    }

    pub(super) fn position(&self) -> Position {
        Position { epoch: self.epoch, seq: self.head, id: self.last_id.clone() }
    }

    /// Where the publication of this id stands, and whether it only waits for the store.
    pub(super) fn find(&self, id: &Arc<str>) -> Option<(Position, bool)> {
        let at = |seq: u64| Position { epoch: self.epoch, seq, id: Some(id.clone()) };
        let waiting = self.ahead.as_ref().and_then(|it| it.ids.get(id));
        self.taken.get(id).map(|seq| (at(*seq), false)).or_else(|| waiting.map(|seq| (at(*seq), true)))
    }

    /// What the draft becomes, with the number after the head.
    pub(super) fn next(&self, draft: Draft) -> Publication {
        let head = self.ahead.as_ref().map_or(self.head, |it| it.head);
        Publication {
            channel: draft.channel,
            epoch: self.epoch,
            seq: head + 1,
            prev: None,
            id: draft.id,
            event: draft.event,
            user: draft.user,
            subject: draft.subject,
            data: draft.data,
            timestamp: crate::channel::now(),
            exclude: draft.exclude,
            erased: false,
        }
    }

    /// The publication is on its way to the store: until then nobody sees it.
    pub(super) fn goes_ahead(&mut self, publication: &Publication, is_idempotent: bool) {
        let ahead = self.ahead.get_or_insert_default();
        ahead.head = publication.seq;
        if is_idempotent {
            ahead.ids.insert(publication.id.clone(), publication.seq);
        }
    }

    /// What was on its way did not arrive: its numbers are given again.
    pub(super) fn fall_back(&mut self) {
        self.ahead = None;
    }

    pub(super) fn take(&mut self, publication: &Arc<Publication>, terms: Terms, changes: &mut Changes) {
        let Publication { seq, id, .. } = &**publication;
        (self.head, self.last_id) = (*seq, Some(id.clone()));
        if self.ahead.as_ref().is_some_and(|it| it.head == *seq) {
            self.ahead = None;
        }
        if terms.is_idempotent {
            self.recognise(id.clone(), *seq, terms);
            changes.ids_new += 1;
        }
        self.keeps(terms.retention, changes);
        if terms.retention.size > 0 {
            self.kept.push_back(Kept { publication: publication.clone(), at: terms.at, row: terms.row });
        } else {
            self.before_kept = Some(id.clone());
            if !terms.is_idempotent {
                self.let_go(*seq, terms.row, changes);
            }
        }
        self.trim(changes);
    }

    fn recognise(&mut self, id: Arc<str>, seq: u64, Terms { at, row, .. }: Terms) {
        self.taken.insert(id.clone(), seq);
        self.given.push_back(Given { id, seq, at, row });
    }

    /// A rule that keeps less than before is obeyed at once.
    pub(super) fn keeps(&mut self, retention: Retention, changes: &mut Changes) {
        if self.retention != retention {
            self.retention = retention;
            if self.number != 0 {
                changes.list.push(Change::Channel(self.row()));
            }
        }
    }

    fn trim(&mut self, changes: &mut Changes) {
        while self.kept.len() > self.retention.size {
            self.drop_oldest(changes);
        }
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
    }

    fn drop_oldest(&mut self, changes: &mut Changes) {
        let Some(Kept { publication, row, .. }) = self.kept.pop_front() else { return };
        if self.taken.get(&publication.id) == Some(&publication.seq) {
            changes.row(row, RowChange::Emptied);
        } else {
            self.let_go(publication.seq, row, changes);
        }
        self.before_kept = Some(publication.id.clone());
    }

    /// Nothing needs the row any more. The head outlives its publication.
    fn let_go(&self, seq: u64, row: i64, changes: &mut Changes) {
        changes.row(row, RowChange::Gone);
        if seq == self.head && row != 0 {
            changes.list.push(Change::Channel(self.row()));
        }
    }

    pub(super) fn expire(&mut self, now: Instant, idempotency: Duration, changes: &mut Changes) {
        let ttl = self.retention.ttl;
        while self.kept.front().is_some_and(|it| now.saturating_duration_since(it.at) >= ttl) {
            self.drop_oldest(changes);
        }
        self.trim(changes);
        while self.given.front().is_some_and(|it| now.saturating_duration_since(it.at) >= idempotency) {
            self.forget_oldest_id(changes);
        }
    }

    pub(super) fn forget_history(&mut self, changes: &mut Changes) {
        while !self.kept.is_empty() {
            self.drop_oldest(changes);
        }
        self.kept = VecDeque::new();
    }

    /// When each of the recognised ids was given.
    pub(super) fn ids_given(&self) -> impl Iterator<Item = Instant> {
        self.given.iter().map(|it| it.at)
    }

    /// Answers how many.
    pub(super) fn forget_ids_until(&mut self, cut: Instant, most: usize, changes: &mut Changes) -> usize {
        let mut count = 0;
        while count < most && self.given.front().is_some_and(|it| it.at <= cut) {
            self.forget_oldest_id(changes);
            count += 1;
        }
        count
    }

    fn forget_oldest_id(&mut self, changes: &mut Changes) {
        let Some(Given { id, seq, row, .. }) = self.given.pop_front() else { return };
        changes.ids_gone += 1;
        // After a restart an older publication may still name an id that was given again since.
        if self.taken.get(&id) == Some(&seq) {
            self.taken.remove(&id);
        }
        let is_kept = self.kept.front().is_some_and(|it| it.publication.seq <= seq);
        if !is_kept {
            self.let_go(seq, row, changes);
        }
    }

    /// The channel itself goes, and all its rows.
    pub(super) fn forget(&mut self, changes: &mut Changes) {
        changes.ids_gone += self.given.len();
        if self.number == 0 {
            return;
        }
        self.kept.iter().for_each(|it| changes.row(it.row, RowChange::Gone));
        self.given.iter().for_each(|it| changes.row(it.row, RowChange::Gone));
        changes.list.push(Change::Forgotten(self.number));
    }

    /// What a user published, or what is about them, keeps its number and loses all else. Answers how many.
    pub(super) fn erase(&mut self, user: &str, changes: &mut Changes) -> usize {
        let is_theirs = |it: &&mut Kept| {
            let Publication { user: author, subject, .. } = &*it.publication;
            author.as_deref() == Some(user) || subject.as_deref() == Some(user)
        };
        let mut count = 0;
        for kept in self.kept.iter_mut().filter(is_theirs) {
            kept.publication = Arc::new(kept.publication.emptied());
            changes.row(kept.row, RowChange::Erased);
            count += 1;
        }
        count
    }

    /// Whether everything after `since` is still here, and `since` itself is of this log's past.
    pub(super) fn continues(&self, since: &Position) -> bool {
        if since.epoch != self.epoch || since.seq > self.head {
            return false;
        }
        let first_kept = self.kept.front().map_or(self.head + 1, |it| it.publication.seq);
        if since.seq + 1 < first_kept {
            return false;
        }
        let named = match since.seq {
            it if it == self.head => self.last_id.as_ref(),
            it if it + 1 == first_kept => self.before_kept.as_ref(),
            _ => self.kept.iter().map(|it| &it.publication).find(|it| it.seq == since.seq).map(|it| &it.id),
        };
        match (&since.id, named) {
            (Some(theirs), Some(ours)) => theirs == ours,
            _ => true,
        }
    }
}
