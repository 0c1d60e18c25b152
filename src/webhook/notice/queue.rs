//! What is to be sent and in which order: a lane's letters one after the other, lanes side by side. Pure: it is told the
//! time.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::super::Event;
use super::letter::{Letter, batch_id};

/// Letters in lanes, and parcels that wait for their next try.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lanes: HashMap<u64, VecDeque<Letter>>,
    /// Lanes with a parcel on its way or waiting for its next try.
    busy: HashSet<u64>,
    /// Lanes with letters and none on its way.
    ready: VecDeque<u64>,
    later: BTreeMap<(Instant, u64), Parcel>,
    /// Numbers the parcels that wait.
    last: u64,
    /// All that are not delivered, those on their way included.
    len: usize,
    bytes: usize,
    by_event: HashMap<Event, usize>,
    /// When each parcel out was told at, for the oldest.
    out: BTreeMap<u64, u64>,
}

/// What goes out in one request and is repeated as it is.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) letters: Vec<Letter>,
    is_batch: bool,
    /// Tries that failed.
    pub(super) tries: u32,
    /// When the first of them did.
    pub(super) failing_since: Option<Instant>,
}

/// A batch is sent before it grows beyond this, or backends would refuse its body.
const MAX_BATCH_BYTES: usize = 512 * 1024;
/// Before the second try, at most.
const FIRST_DELAY: Duration = Duration::from_secs(1);

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn count(&self, event: Event) -> usize {
        self.by_event.get(&event).copied().unwrap_or(0)
    }

    /// When the oldest of them was told, in milliseconds since the Unix epoch.
    pub(super) fn oldest(&self) -> Option<u64> {
        let first = |letters: &VecDeque<Letter>| letters.front().map(|it| it.told_at);
        let waiting = self.lanes.values().filter_map(first).min();
        let later = self.later.values().filter_map(|it| it.letters.first().map(|it| it.told_at)).min();
        let out = self.out.values().copied().min();
        [waiting, later, out].into_iter().flatten().min()
    }

    pub(super) fn push(&mut self, letter: Letter) {
        self.len += 1;
        self.bytes += letter.size();
        *self.by_event.entry(letter.event).or_default() += 1;
        let lane = letter.lane;
        let letters = self.lanes.entry(lane).or_default();
        letters.push_back(letter);
        if letters.len() == 1 && !self.busy.contains(&lane) {
            self.ready.push_back(lane);
        }
    }

    /// The next to send: what is due again, else the first letters of up to `batch` lanes.
    pub(super) fn next(&mut self, now: Instant, batch: usize) -> Option<Parcel> {
        let parcel = match self.later.first_entry().filter(|it| it.key().0 <= now) {
            Some(due) => due.remove(),
            None => {
                let letters = self.take(batch.max(1));
                if letters.is_empty() {
                    return None;
                }
                Parcel { letters, is_batch: batch > 1, tries: 0, failing_since: None }
            }
        };
        self.out.insert(parcel.serial(), parcel.letters.iter().map(|it| it.told_at).min().unwrap_or(0));
        Some(parcel)
    }

    fn take(&mut self, most: usize) -> Vec<Letter> {
        let (mut letters, mut bytes) = (Vec::new(), 0);
        while letters.len() < most
            && let Some(&lane) = self.ready.front()
        {
            let waiting = self.lanes.get_mut(&lane).expect("a ready lane has letters");
            let taken = letters.len();
            while letters.len() < most
                && let Some(letter) = waiting.front()
                && (letters.is_empty() || bytes + letter.size() <= MAX_BATCH_BYTES)
            {
                bytes += letter.size();
                letters.extend(waiting.pop_front());
            }
            if letters.len() == taken {
                break;
            }
            self.ready.pop_front();
            self.busy.insert(lane);
        }
        letters
    }

    /// It is delivered, or given up.
    pub(super) fn done(&mut self, parcel: &Parcel) {
        self.out.remove(&parcel.serial());
        for letter in &parcel.letters {
            self.forget(letter);
        }
        self.release(parcel.letters.iter().map(|it| it.lane));
    }

    /// It is to be sent again, not before `at`.
    pub(super) fn again(&mut self, parcel: Parcel, at: Instant) {
        self.out.remove(&parcel.serial());
        self.last += 1;
        self.later.insert((at, self.last), parcel);
    }

    /// When the first parcel is due, if any waits; a past moment if there is something to send at once.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        if !self.ready.is_empty() {
            return Some(now);
        }
        self.later.first_key_value().map(|((at, _), _)| *at)
    }

    /// Every parcel that waits for its next try gets it now.
    pub(super) fn hasten(&mut self, now: Instant) {
        self.later = std::mem::take(&mut self.later).into_iter().map(|((_, n), parcel)| ((now, n), parcel)).collect();
    }

    /// Takes out what has been waiting for `patience` since the backend began to fail.
    pub(super) fn expire(&mut self, now: Instant, failing_since: Instant, patience: Duration) -> Vec<(Letter, u32)> {
        let is_over = |since: Instant| now.saturating_duration_since(since.max(failing_since)) >= patience;
        let mut expired = Vec::new();
        for letters in self.lanes.values_mut() {
            while letters.front().is_some_and(|it| is_over(it.since)) {
                expired.extend(letters.pop_front().map(|it| (it, 0)));
            }
        }
        let parcels = self.later.extract_if(.., |_, parcel| is_over(parcel.waiting_since()));
        let parcels: Vec<_> = parcels.map(|(_, parcel)| parcel).collect();
        for (letter, _) in &expired {
            self.forget(letter);
        }
        for parcel in parcels {
            self.done(&parcel);
            expired.extend(parcel.letters.into_iter().map(|it| (it, parcel.tries)));
        }
        let busy = &self.busy;
        self.lanes.retain(|lane, letters| !letters.is_empty() || busy.contains(lane));
        let lanes = &self.lanes;
        self.ready.retain(|lane| lanes.contains_key(lane));
        expired
    }

    fn forget(&mut self, letter: &Letter) {
        self.len -= 1;
        self.bytes -= letter.size();
        if let Some(count) = self.by_event.get_mut(&letter.event) {
            *count -= 1;
        }
    }

    fn release(&mut self, lanes: impl Iterator<Item = u64>) {
        for lane in lanes {
            if !self.busy.remove(&lane) {
                continue;
            }
            match self.lanes.get(&lane) {
                Some(letters) if !letters.is_empty() => self.ready.push_back(lane),
                _ => drop(self.lanes.remove(&lane)),
            }
        }
    }
}

impl Parcel {
    /// Its first letter's number tells parcels apart: a letter is in one at a time.
    fn serial(&self) -> u64 {
        self.letters.first().map_or(0, |it| it.serial)
    }

    fn waiting_since(&self) -> Instant {
        self.letters.iter().map(|it| it.since).max().expect("a parcel holds a letter")
    }

    /// The `webhook-id`.
    pub(super) fn id(&self) -> Box<str> {
        match &self.letters[..] {
            [letter] if !self.is_batch => letter.id.clone(),
            letters => batch_id(letters.iter().map(|it| &*it.id)),
        }
    }

    /// As `Outrigger-Event` names it.
    pub(super) fn event(&self) -> &'static str {
        match &self.letters[..] {
            [letter] if !self.is_batch => letter.event.name(),
            _ => "batch",
        }
    }

    pub(super) fn body(&self, id: &str, timestamp: u128) -> Vec<u8> {
        if let ([letter], false) = (&self.letters[..], self.is_batch) {
            return letter.body.get().as_bytes().to_vec();
        }
        let notices: Vec<_> = self.letters.iter().map(|it| it.body.get()).collect();
        let head = format!(r#"{{"type":"batch","id":"{id}","timestamp":{timestamp},"notices":["#);
        [&head, &*notices.join(","), "]}"].concat().into_bytes()
    }
}

/// How long to wait after so many failed tries: full jitter, `chance` being between 0 and 1, below a ceiling that doubles
/// up to `most`. Whoever fails together does not come back together.
pub(super) fn delay(tries: u32, most: Duration, chance: f64) -> Duration {
    let doubled = 2_u32.saturating_pow(tries.saturating_sub(1));
    FIRST_DELAY.saturating_mul(doubled).min(most).mul_f64(chance)
}
