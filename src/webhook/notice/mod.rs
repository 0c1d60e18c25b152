//! Tells the backend what happened, until it has taken it: notices wait in lanes, each lane's one after the other, are
//! repeated with backoff and jitter, and end as dead letters where that is of no use. Everything is written through to
//! [`Records`], so that a process that comes after a crash goes on where this one ended. Nobody who tells ever waits.

mod attempt;
mod dead;
mod grace;
mod letter;
mod lost;
mod metrics;
mod queue;
#[cfg(test)]
mod tests;
mod told;
mod work;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::complaints::Complaints;
use super::{Connection, Event, Lane, Webhooks};
use crate::channel::{Change, ChannelName};
use crate::records::{Records, Shelf};
pub use dead::DeadLetters;
use dead::{Dead, Graveyard};
use grace::Grace;
use letter::Letter;
pub use letter::Notice;
use lost::Lost;
use metrics::Metrics;
use queue::Queue;

/// How notices are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoticeSettings {
    /// Up to so many in one request; 1 sends each by itself.
    pub batch: usize,
    /// What is undone within this time is not told: occupied and vacated, joined and left.
    pub grace: Duration,
    /// How long a notice is repeated before it is a dead letter.
    pub patience: Duration,
    /// Between two tries at most.
    pub max_delay: Duration,
    /// Notices that may wait, and their bytes.
    pub max_queued: usize,
    pub max_bytes: usize,
    /// Dead letters that are kept; together they may have as many bytes as those that wait.
    pub max_dead: usize,
}

/// The webhooks of the current generation; none where the backend is not told anything.
pub type CurrentWebhooks = Box<dyn Fn() -> Option<Arc<Webhooks>> + Send + Sync>;

/// All notices of a node, from generation to generation.
pub struct Notices {
    current: CurrentWebhooks,
    node: Box<str>,
    records: Arc<dyn Records>,
    /// Held for a few lines, no await; records are written under it, so that they keep the order of what is kept here.
    state: Mutex<State>,
    /// There may be something to send.
    more: Notify,
    /// Nothing is left to send.
    idle: Notify,
    metrics: Metrics,
    /// Of tries that fail, and of notices given up: the one must not drown the other.
    complaints: Complaints,
    obituaries: Complaints,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    graveyard: Graveyard,
    grace: Grace,
    /// Sessions of a process that died, whose end is still to be told.
    lost: VecDeque<Lost>,
    /// Counts what is told of each channel.
    lanes: HashMap<ChannelName, Lane>,
    /// The number of the last letter.
    last: u64,
    /// When what waits too long was looked for.
    swept: Instant,
}

/// What became of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replayed {
    pub replayed: usize,
    /// Those meant for which the queue has no room now.
    pub left: usize,
}

/// Channels that are counted at a time; beyond it all counts begin anew, each with a new lane.
const MAX_LANES: usize = 100_000;

impl Notices {
    /// Takes up what an earlier process left behind. [`Notices::work`] sends.
    pub fn new(current: CurrentWebhooks, node: &str, records: Arc<dyn Records>, registry: &mut Registry) -> Arc<Self> {
        let notices = Arc::new(Self {
            current,
            node: node.into(),
            state: Mutex::new(State::of_records(&*records)),
            records,
            more: Notify::new(),
            idle: Notify::new(),
            metrics: Metrics::register(registry),
            complaints: Complaints::default(),
            obituaries: Complaints::default(),
        });
        metrics::collect(registry, &notices);
        notices.take_back_what_is_believed();
        notices
    }

    /// Tells the backend, if it wants to hear of it. `lane` is the session's own, so the notice follows its questions.
    pub fn tell(&self, notice: &Notice, lane: &mut Lane) {
        let Some(webhooks) = self.webhooks_for(notice.event()) else { return };
        lane.advance();
        self.enqueue(&mut self.state(), notice.letter(lane), webhooks.notice_settings());
        self.more.notify_one();
    }

    /// Tells of a channel, once its grace is over.
    pub fn change(&self, change: Change) {
        let Some(webhooks) = (self.current)() else { return };
        let events = [Event::Occupied, Event::Vacated, Event::Joined, Event::Left];
        if !events.into_iter().any(|it| webhooks.asks(it)) {
            return;
        }
        let grace = webhooks.notice_settings().grace;
        let mut state = self.state();
        let at_once = if grace.is_zero() { Some(change) } else { state.grace.add(change, Instant::now() + grace) };
        if let Some(change) = at_once {
            self.tell_of(&mut state, &change, &webhooks);
        }
        drop(state);
        self.more.notify_one();
    }

    /// Notes who is connected, so that the next process can tell of its end if this one does not live to. Again when
    /// something of it has changed.
    pub fn note(&self, connection: &Connection, lane: &Lane) {
        // Each connect comes by here: nothing is written down for nobody.
        if self.records.is_lasting() && self.webhooks_for(Event::Disconnect).is_some() {
            let (key, record) = lost::note(connection, lane);
            self.records.put(Shelf::Sessions, &key, record);
        }
    }

    /// Tells of the end of a session, and forgets what was noted of it.
    pub fn ended(&self, connection: &Connection, lane: &mut Lane, code: u16, reason: &str, lasted: Duration) {
        self.tell(&Notice::Disconnect { connection, code, reason, lasted }, lane);
        // Only now: a crash in between tells twice, under the same id, rather than not at all.
        self.records.remove(Shelf::Sessions, &lost::key(connection));
    }

    /// Dead letters, oldest first, those after a certain one.
    pub fn dead(&self, after: Option<&str>, limit: usize) -> DeadLetters {
        self.state().graveyard.show(after, limit)
    }

    /// Queues dead letters again under their old ids: these, or all; those told before a time in milliseconds, or all.
    pub fn replay(&self, ids: Option<&HashSet<String>>, before: Option<u64>) -> Replayed {
        let Some(webhooks) = (self.current)() else {
            return Replayed { replayed: 0, left: self.state().graveyard.len() };
        };
        let settings = webhooks.notice_settings();
        let mut state = self.state();
        let meant = state.graveyard.meant(ids, before);
        let mut outcome = Replayed { replayed: 0, left: meant.len() };
        for serial in meant {
            if !state.has_room(state.graveyard.size_of(serial), settings) {
                break;
            }
            let Some(letter) = state.graveyard.raise(serial) else { continue };
            let letter = Letter { since: Instant::now(), ..letter };
            self.records.keep(Shelf::Notices, &letter.key(), || letter.record());
            self.records.remove(Shelf::DeadLetters, &letter.key());
            state.queue.push(letter);
            outcome.replayed += 1;
            outcome.left -= 1;
        }
        drop(state);
        self.metrics.replayed.inc_by(outcome.replayed as u64);
        info!(replayed = outcome.replayed, left = outcome.left, "dead letters are sent again");
        self.more.notify_one();
        outcome
    }

    /// Forgets dead letters that speak of a user, and how many there were. What still waits is on its way to the backend.
    pub fn forget(&self, user: &str) -> usize {
        let mut state = self.state();
        let about = state.graveyard.about(user);
        for serial in &about {
            if let Some(letter) = state.graveyard.raise(*serial) {
                self.records.remove(Shelf::DeadLetters, &letter.key());
            }
        }
        about.len()
    }

    /// The end of the node: what waits is sent now, grace or not, until nothing is left or the time is up. Answers how many
    /// are left; with a `data` folder the next process sends them.
    pub async fn flush(&self, deadline: Instant) -> usize {
        self.end_grace();
        self.state().queue.hasten(Instant::now());
        self.more.notify_one();
        loop {
            let idle = self.idle.notified();
            let left = self.state().left();
            if left == 0 {
                return 0;
            }
            if tokio::time::timeout_at(deadline, idle).await.is_err() {
                let left = self.state().left();
                warn!(left, "notices are not delivered yet and the time is up");
                return left;
            }
        }
    }

    fn end_grace(&self) {
        let Some(webhooks) = (self.current)() else { return };
        let mut state = self.state();
        for change in state.grace.end() {
            self.tell_of(&mut state, &change, &webhooks);
        }
    }

    /// Tells of a change whose grace is over.
    fn tell_of(&self, state: &mut State, change: &Change, webhooks: &Webhooks) {
        let (Change::Occupied { channel }
        | Change::Vacated { channel }
        | Change::Joined { channel, .. }
        | Change::Left { channel, .. }) = change;
        if webhooks.asks(letter::event_of(change)) {
            if state.lanes.len() >= MAX_LANES && !state.lanes.contains_key(channel) {
                state.lanes.clear();
            }
            let lane = state.lanes.entry(channel.clone()).or_insert_with(Lane::new);
            lane.advance();
            let letter = Letter::of_change(change, &self.node, lane);
            self.enqueue(state, letter, webhooks.notice_settings());
        }
        // Only now: a crash in between tells twice rather than not at all.
        self.believes(change, webhooks);
        if matches!(change, Change::Vacated { .. }) {
            state.lanes.remove(channel);
        }
    }

    fn enqueue(&self, state: &mut State, mut letter: Letter, settings: &NoticeSettings) {
        state.last += 1;
        letter.serial = state.last;
        if !state.has_room(letter.size(), settings) {
            return self.bury(state, letter, 0, "the queue is full", settings);
        }
        self.records.keep(Shelf::Notices, &letter.key(), || letter.record());
        state.queue.push(letter);
    }

    /// Gives a notice up.
    fn bury(&self, state: &mut State, letter: Letter, tries: u32, reason: &str, settings: &NoticeSettings) {
        let (key, event) = (letter.key(), letter.event.name());
        self.metrics.dead(event);
        if let Some(unsaid) = self.obituaries.may_complain() {
            error!(event, id = %letter.id, tries, reason, unsaid, "a notice was given up and is a dead letter now");
        }
        let dead = Dead::new(letter, tries, reason);
        self.records.keep(Shelf::DeadLetters, &key, || dead.record());
        self.records.remove(Shelf::Notices, &key);
        state.graveyard.bury(dead);
        while let Some(oldest) = state.graveyard.make_room(settings.max_dead, settings.max_bytes) {
            self.records.remove(Shelf::DeadLetters, &oldest.key());
            self.metrics.forgotten.inc();
            if let Some(unsaid) = self.obituaries.may_complain() {
                error!(id = %oldest.id, unsaid, "too many dead letters, the oldest is forgotten");
            }
        }
    }

    fn webhooks_for(&self, event: Event) -> Option<Arc<Webhooks>> {
        (self.current)().filter(|it| it.asks(event))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }
}

impl State {
    fn of_records(records: &dyn Records) -> Self {
        let mut state = Self {
            queue: Queue::default(),
            graveyard: Graveyard::default(),
            grace: Grace::default(),
            lost: VecDeque::new(),
            lanes: HashMap::new(),
            last: 0,
            swept: Instant::now(),
        };
        let skip = |shelf: Shelf, key: &str| {
            warn!(shelf = shelf.name(), key, "a record cannot be read and is left out");
            records.remove(shelf, key);
        };
        for (key, record) in records.all(Shelf::DeadLetters) {
            match Dead::of_record(&key, &record) {
                Some(dead) => {
                    state.last = state.last.max(dead.letter.serial);
                    state.graveyard.bury(dead);
                }
                None => skip(Shelf::DeadLetters, &key),
            }
        }
        let mut told: HashSet<Box<str>> = state.graveyard.ids().map(Into::into).collect();
        for (key, record) in records.all(Shelf::Notices) {
            match Letter::of_record(&key, &record) {
                // The crash came between the two records of its death, or of its replay.
                Some(letter) if told.contains(&letter.id) => records.remove(Shelf::Notices, &key),
                Some(letter) => {
                    state.last = state.last.max(letter.serial);
                    told.insert(letter.id.clone());
                    state.queue.push(letter);
                }
                None => skip(Shelf::Notices, &key),
            }
        }
        for (key, record) in records.all(Shelf::Sessions) {
            match Lost::of_record(&key, &record) {
                Some(lost) if told.contains(&lost.id) => records.remove(Shelf::Sessions, &key),
                Some(lost) => state.lost.push_back(lost),
                None => skip(Shelf::Sessions, &key),
            }
        }
        if !(state.queue.is_empty() && state.lost.is_empty()) {
            let (queued, lost) = (state.queue.len(), state.lost.len());
            info!(queued, lost, "an earlier process left notices and sessions behind");
        }
        state
    }

    fn has_room(&self, size: usize, settings: &NoticeSettings) -> bool {
        self.queue.len() < settings.max_queued && self.queue.bytes() + size <= settings.max_bytes
    }

    fn left(&self) -> usize {
        self.queue.len() + self.lost.len()
    }
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notices").field("node", &self.node).finish_non_exhaustive()
    }
}
