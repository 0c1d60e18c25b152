//! The followers of one channel in one shard, and the position audit. Whoever is live stands exactly where the channel
//! was last delivered to, so one comparison per publication watches over all of them: what does not continue from there
//! sends everybody back to the history.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::inbox::cost;
use super::ledger::Ledger;
use super::outbox::{Offer, Outbox};
use super::presence::Hearing;
use super::rules::WhenSlow;
use super::run::{Run, runs};
use super::wire::{Hole, Signal};
use crate::channel::{ChannelName, ConnectionId, Position};
use crate::protocol::{Format, Push, Shared};

/// After so many offers, or so many bytes, the shard lets others run.
const OFFERS_PER_TURN: usize = 512;
const BYTES_PER_TURN: usize = 1024 * 1024;
/// What is held for the clients that catch up, once for all of them; who needs more reads on from the history.
const MAX_HELD: usize = 256 * 1024;
/// A client whose history does not meet what is delivered is sent back to it so often, then it is told a gap.
const MOST_TRIES: u8 = 3;

/// The reason of a gap that is the client's own.
pub(super) const SLOW: &str = "slow";

/// Tells a subscription from an earlier one of the same connection.
pub(super) type Number = u32;

/// A core's share of a channel's followers.
#[derive(Default)]
pub(super) struct Lane {
    /// Where everybody stands who is live: what was delivered last, or where the first of them began.
    last: Option<Position>,
    live: Vec<Follower>,
    joining: Option<Box<Joining>>,
    /// Not every publication goes this way: one may follow on any older one of its epoch.
    is_sparse: bool,
}

pub(super) struct Follower {
    pub(super) outbox: Arc<Outbox>,
    pub(super) number: Number,
    pub(super) when_slow: WhenSlow,
    /// Where the channel has presence.
    pub(super) hearing: Option<Box<Hearing>>,
}

/// Clients between their join and the end of their catch-up, and what was published meanwhile.
#[derive(Default)]
struct Joining {
    clients: HashMap<ConnectionId, Joiner>,
    held: VecDeque<Arc<Push>>,
    bytes: usize,
    /// How many were held and let go again: what the first of `held` is counted from.
    let_go: u64,
    /// Clients that are through with the history and wait for the delivery to come up to them.
    ahead: usize,
}

struct Joiner {
    follower: Follower,
    /// From which of the held on they are its own.
    since: u64,
    /// Its history reached further than what was delivered here: it goes live once that has come as far.
    ahead: Option<Position>,
    tries: u8,
}

/// What a run's offers came to.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) matched: u32,
    /// In nobody's books before it is released; until then the client's catch-up owes it.
    pub(super) held: u32,
    pub(super) written: u32,
    pub(super) bytes: usize,
    gone: bool,
}

/// How a client's history meets what was held for it.
enum Seam {
    /// These are still to be written; then it stands where everybody stands.
    Meets(Vec<Arc<Push>>),
    Ahead,
    Open(&'static str),
}

impl Lane {
    pub(super) fn sparse() -> Self {
        Self { is_sparse: true, ..Self::default() }
    }

    pub(super) fn join(&mut self, follower: Follower) {
        self.joining.get_or_insert_default().hold_for(follower);
    }

    pub(super) fn followers(&self) -> impl Iterator<Item = &Follower> {
        let joining = self.joining.iter().flat_map(|it| it.clients.values().map(|it| &it.follower));
        self.live.iter().chain(joining)
    }

    fn followers_mut(&mut self) -> impl Iterator<Item = &mut Follower> {
        let joining = self.joining.iter_mut().flat_map(|it| it.clients.values_mut().map(|it| &mut it.follower));
        self.live.iter_mut().chain(joining)
    }

    pub(super) fn find(&mut self, id: ConnectionId) -> Option<&mut Follower> {
        // Whoever is joining first: of a crowd that comes at once nobody looks through those who are in already.
        match self.joining.as_mut().and_then(|it| it.clients.get_mut(&id)) {
            Some(joiner) => Some(&mut joiner.follower),
            None => self.live.iter_mut().find(|it| it.outbox.id == id),
        }
    }

    /// None for somebody who does not follow here.
    pub(super) fn is_catching_up(&self, outbox: &Arc<Outbox>) -> Option<bool> {
        let is_it = |it: &Follower| Arc::ptr_eq(&it.outbox, outbox);
        let is_joining =
            || self.joining.as_ref()?.clients.get(&outbox.id).filter(|it| is_it(&it.follower)).map(|_| true);
        self.live.iter().any(is_it).then_some(false).or_else(is_joining)
    }

    /// Tells everybody who came and who went.
    pub(super) async fn tell(&mut self, channel: &ChannelName, news: &Arc<Shared>) {
        let mut left = OFFERS_PER_TURN.min(BYTES_PER_TURN / news.wire(Format::Poll).len().max(1)).max(1);
        let per_turn = left;
        for Follower { outbox, when_slow, hearing, .. } in self.followers_mut() {
            if left == 0 {
                tokio::task::yield_now().await;
                left = per_turn;
            }
            left -= 1;
            if let Some(hearing) = hearing {
                hearing.tell(news, channel, outbox, *when_slow);
            }
        }
    }

    /// How many are live.
    pub(super) fn live(&self) -> u32 {
        u32::try_from(self.live.len()).unwrap_or(u32::MAX)
    }

    /// How many there are.
    pub(super) fn len(&self) -> u32 {
        let joining = self.joining.as_ref().map_or(0, |it| it.clients.len());
        u32::try_from(self.live.len() + joining).unwrap_or(u32::MAX)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.live.is_empty() && self.joining.is_none()
    }

    /// Where its live followers stand.
    pub(super) fn last(&self) -> Option<&Position> {
        self.last.as_ref()
    }

    /// Offers a run to everybody who is live and holds it for everybody who is not.
    pub(super) async fn deliver(&mut self, run: &Run, ledger: &Ledger) -> Outcome {
        if self.is_sparse && self.last.as_ref().is_some_and(|it| it.is_place_of(&run.position())) {
            // Whoever joined while it waited has it from the history.
            return Outcome::default();
        }
        if let Err(reason) = self.continues(run) {
            self.send_back(run.channel(), reason, ledger);
        }
        self.last = Some(run.position());
        let mut outcome = Outcome::default();
        if let Some(joining) = &mut self.joining {
            joining.keep(run);
            let waiting = u32::try_from(joining.clients.len()).unwrap_or(u32::MAX);
            (outcome.matched, outcome.held) = (waiting, waiting);
        }
        let per_turn = OFFERS_PER_TURN.min(BYTES_PER_TURN / run.pushes()[0].json().len().max(1)).max(1);
        let mut turns = self.live.chunks(per_turn).peekable();
        while let Some(turn) = turns.next() {
            turn.iter().for_each(|it| outcome.add(it.outbox.offer(run, it.when_slow)));
            if turns.peek().is_some() {
                tokio::task::yield_now().await;
            }
        }
        if outcome.gone {
            self.live.retain(|it| it.outbox.is_open());
        }
        self.meet_those_ahead(run.channel(), ledger);
        outcome
    }

    /// Whether a run follows on where everybody stands. Not, if something was lost on its way, came twice, or the engine
    /// lost its past: what it was is for the history to say.
    fn continues(&self, run: &Run) -> Result<(), &'static str> {
        let first = &run.pushes()[0].publication;
        match &self.last {
            Some(last) if last.epoch != first.epoch => Err("epoch"),
            Some(last) if self.is_sparse && last.seq < first.seq => Ok(()),
            Some(last) if last.seq != first.before() => Err("engine"),
            _ => Ok(()),
        }
    }

    /// Everybody who is live reads the history from where they stand; what is delivered meanwhile is held for them.
    fn send_back(&mut self, channel: &ChannelName, reason: &'static str, ledger: &Ledger) {
        let Some(last) = &self.last else { return };
        if self.live.is_empty() {
            return;
        }
        tracing::debug!(%channel, reason, seq = last.seq, "publications were missed: the history is read again");
        ledger.hole();
        let joining = self.joining.get_or_insert_default();
        for follower in std::mem::take(&mut self.live) {
            follower.read_from(channel, last, reason);
            joining.hold_for(follower);
        }
    }

    /// The engine says where the channel stands, and it is not where it stood here for a while: something is missing.
    pub(super) fn heal(&mut self, channel: &ChannelName, head: Position, ledger: &Ledger) {
        let reason = if self.last.as_ref().is_some_and(|it| it.epoch != head.epoch) { "epoch" } else { "engine" };
        self.send_back(channel, reason, ledger);
        self.last = Some(head);
        // Those ahead may wait for something that will never be delivered.
        if let Some(joining) = &mut self.joining {
            joining.ask_those_ahead(channel, reason);
        }
    }

    /// A client is through with the history, up to `from`. Unless that is not `whole`, nothing is missing up to there.
    pub(super) fn go_live(&mut self, channel: &ChannelName, at: &Place, whole: bool, ledger: &Ledger) {
        let Some(joining) = &mut self.joining else { return };
        let Some(joiner) = joining.clients.get_mut(&at.id).filter(|it| it.follower.number == at.number) else { return };
        joining.ahead -= usize::from(joiner.ahead.take().is_some());
        let (seam, end) = (joining.seam(at, self.last.as_ref(), self.is_sparse), joining.end());
        let Some(joiner) = joining.clients.get_mut(&at.id) else { return };
        match seam {
            Seam::Ahead => {
                joiner.ahead = Some(at.from.clone());
                joining.ahead += 1;
                return;
            }
            Seam::Open(reason) if whole && joiner.tries < MOST_TRIES => {
                // Being slow is no reason to give up: its pace is the socket's.
                joiner.tries += u8::from(reason == "engine");
                joiner.since = end;
                return joiner.follower.read_from(channel, &at.from, reason);
            }
            _ => {}
        }
        let Some(Joiner { follower, .. }) = joining.clients.remove(&at.id) else { return };
        if joining.clients.is_empty() {
            self.joining = None;
        }
        // Where the stream meets what it has, nothing is missing even if the engine gave out.
        let whole = whole || self.last.is_some();
        let last = self.last.get_or_insert_with(|| at.from.clone());
        match seam {
            Seam::Meets(pushes) if whole => follower.release(pushes, ledger),
            Seam::Open("epoch") => follower.outbox.tell_gap(channel, last, "epoch"),
            _ => follower.outbox.tell_gap(channel, last, "engine"),
        }
        if self.live.is_empty() {
            // Most channels of most nodes have one follower.
            self.live.reserve_exact(1);
        }
        self.live.push(follower);
    }

    fn meet_those_ahead(&mut self, channel: &ChannelName, ledger: &Ledger) {
        let Some(joining) = self.joining.as_ref().filter(|it| it.ahead > 0) else { return };
        let place = |(id, it): (&ConnectionId, &Joiner)| {
            let from = it.ahead.clone()?;
            Some(Place { id: *id, number: it.follower.number, from })
        };
        for at in joining.clients.iter().filter_map(place).collect::<Vec<_>>() {
            self.go_live(channel, &at, true, ledger);
        }
    }

    /// Takes out whoever is among `leaving`, which is sorted.
    pub(super) fn leave(&mut self, leaving: &[(ConnectionId, Number)]) {
        let leaves = |it: &Follower| leaving.binary_search(&(it.outbox.id, it.number)).is_ok();
        if let Some(joining) = &mut self.joining {
            for (id, number) in leaving {
                if joining.clients.get(id).is_some_and(|it| it.follower.number == *number)
                    && let Some(gone) = joining.clients.remove(id)
                {
                    joining.ahead -= usize::from(gone.ahead.is_some());
                }
            }
            if joining.clients.is_empty() {
                self.joining = None;
            }
        }
        match leaving {
            [_] => {
                if let Some(at) = self.live.iter().position(leaves) {
                    self.live.swap_remove(at);
                }
            }
            _ => self.live.retain(|it| !leaves(it)),
        }
        if self.live.capacity() > 64 && self.live.len() < self.live.capacity() / 4 {
            self.live.shrink_to(self.live.len() * 2);
        }
    }
}

/// A client that is to go live, and up to where it has the history.
pub(super) struct Place {
    pub(super) id: ConnectionId,
    pub(super) number: Number,
    pub(super) from: Position,
}

impl Joining {
    fn hold_for(&mut self, follower: Follower) {
        let since = self.end();
        self.clients.insert(follower.outbox.id, Joiner { follower, since, ahead: None, tries: 0 });
    }

    fn end(&self) -> u64 {
        self.let_go + self.held.len() as u64
    }

    fn ask_those_ahead(&mut self, channel: &ChannelName, reason: &'static str) {
        let end = self.end();
        for joiner in self.clients.values_mut() {
            if let Some(from) = joiner.ahead.take() {
                joiner.since = end;
                joiner.follower.read_from(channel, &from, reason);
            }
        }
        self.ahead = 0;
    }

    fn keep(&mut self, run: &Run) {
        for push in run.pushes() {
            self.bytes += cost(push);
            self.held.push_back(push.clone());
        }
        while self.bytes > MAX_HELD
            && let Some(push) = self.held.pop_front()
        {
            self.bytes -= cost(&push);
            self.let_go += 1;
        }
    }

    /// Joins a client's history to what was held for it: each has to follow on the one before, up to where everybody
    /// stands. Of two epochs nobody can tell the older, so the engine is asked again.
    fn seam(&self, place: &Place, last: Option<&Position>, is_sparse: bool) -> Seam {
        let (epoch, mut seq) = (place.from.epoch, place.from.seq);
        let is_delivered = last.is_some_and(|it| it.epoch == epoch);
        match last {
            None => return Seam::Meets(Vec::new()),
            Some(last) if is_delivered && last.seq == seq => return Seam::Meets(Vec::new()),
            Some(last) if is_delivered && last.seq < seq => return Seam::Ahead,
            _ => {}
        }
        let since = self.clients.get(&place.id).map_or(0, |it| it.since);
        let Some(skip) = since.checked_sub(self.let_go) else { return Seam::Open(SLOW) };
        let mut held = self.held.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)).peekable();
        if !is_delivered {
            return if held.peek().is_some() { Seam::Open("epoch") } else { Seam::Ahead };
        }
        let mut pushes = Vec::new();
        let is_old = |it: &&Arc<Push>| it.publication.epoch != epoch || it.publication.seq <= place.from.seq;
        for push in held.skip_while(is_old) {
            let it = &push.publication;
            if it.epoch != epoch || (it.before() != seq && !is_sparse) {
                return Seam::Open("engine");
            }
            seq = it.seq;
            if is_sparse {
                pushes.clear();
            }
            pushes.push(push.clone());
        }
        if last.is_some_and(|it| it.seq == seq) { Seam::Meets(pushes) } else { Seam::Open("engine") }
    }
}

impl Follower {
    fn read_from(&self, channel: &ChannelName, from: &Position, reason: &'static str) {
        let hole = Hole { channel: channel.clone(), number: self.number, from: from.clone(), reason };
        self.outbox.signal(Signal::CatchUpAgain(Box::new(hole)));
    }

    fn release(&self, pushes: Vec<Arc<Push>>, ledger: &Ledger) {
        for run in runs(pushes.into_iter().map(|push| (push, None)).collect()) {
            let count = u64::from(run.len());
            match self.outbox.offer(&run, self.when_slow) {
                Offer::Written(bytes) => {
                    ledger.expected(count);
                    ledger.flushed_many(count, bytes);
                }
                Offer::Queued(_) | Offer::Dropped => ledger.expected(count),
                Offer::Gone => return,
            }
        }
    }
}

impl Outcome {
    /// Enters in the books what was offered.
    pub(super) fn enter(&self, run: &Run, ledger: &Ledger) {
        let count = u64::from(run.len());
        ledger.expected(count * u64::from(self.matched - self.held));
        ledger.flushed_many(count * u64::from(self.written), self.bytes);
    }

    fn add(&mut self, offer: Offer) {
        self.matched += u32::from(offer != Offer::Gone);
        match offer {
            Offer::Written(bytes) => {
                self.written += 1;
                self.bytes += bytes;
            }
            Offer::Queued(bytes) => self.bytes += bytes,
            Offer::Dropped => {}
            Offer::Gone => self.gone = true,
        }
    }
}
