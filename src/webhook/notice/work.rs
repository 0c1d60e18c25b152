//! The sending: a few requests at a time, woken by what there is to tell, by the clock and by the breaker.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;
use tracing::warn;

use super::super::breaker::Standing;
use super::super::{Event, Webhooks};
use super::attempt::Attempt;
use super::queue::{Parcel, delay};
use super::{NoticeSettings, Notices, State};
use crate::records::Shelf;

/// While nobody is to be told, or nothing can be sent, how often to look again: a reload may have changed that.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A parcel that found no slot tries again after this.
const HELD: Duration = Duration::from_millis(100);
/// Sessions of a dead process are told of as room comes, and leave as much for what happens now.
const LOST_SHARE: usize = 2;

impl Notices {
    /// Sends for as long as the node lives.
    pub async fn work(self: Arc<Self>) {
        let mut attempts = FuturesUnordered::new();
        loop {
            let webhooks = (self.current)();
            let Some(webhooks) = webhooks else {
                tokio::select! {
                    () = tokio::time::sleep(LOOK_AGAIN) => continue,
                    Some(()) = attempts.next(), if !attempts.is_empty() => continue,
                }
            };
            let changed = webhooks.breaker().changed();
            let now = Instant::now();
            self.catch_up(&webhooks, now);
            while let Some(parcel) = self.next(&webhooks, attempts.len(), now) {
                attempts.push(self.attempt(webhooks.clone(), parcel));
            }
            let wake = self.wake(&webhooks, attempts.len(), now);
            tokio::select! {
                () = self.more.notified() => {}
                () = changed => {}
                Some(()) = attempts.next(), if !attempts.is_empty() => {}
                () = tokio::time::sleep_until(wake.unwrap_or(now + LOOK_AGAIN)), if wake.is_some() => {}
            }
        }
    }

    /// What time has brought: changes whose grace is over, room for lost sessions, notices that waited too long.
    fn catch_up(&self, webhooks: &Webhooks, now: Instant) {
        let mut state = self.state();
        while let Some(change) = state.grace.next(now) {
            self.tell_of(&mut state, &change, webhooks);
        }
        self.tell_of_the_lost(&mut state, webhooks);
        if let Some(failing_since) = webhooks.breaker().failing_since() {
            self.give_up(&mut state, webhooks.notice_settings(), failing_since, now);
        }
        if state.left() == 0 {
            self.idle.notify_waiters();
        }
    }

    fn tell_of_the_lost(&self, state: &mut State, webhooks: &Webhooks) {
        let settings = webhooks.notice_settings();
        while state.queue.len() < settings.max_queued / LOST_SHARE
            && state.queue.bytes() < settings.max_bytes / LOST_SHARE
            && let Some(lost) = state.lost.pop_front()
        {
            if webhooks.asks(Event::Disconnect) {
                self.enqueue(state, lost.letter(), settings);
            }
            self.records.remove(Shelf::Sessions, &lost.key);
        }
    }

    /// While the backend fails, what waits longer than patience lasts is a dead letter, tried or not.
    fn give_up(&self, state: &mut State, settings: &NoticeSettings, failing_since: Instant, now: Instant) {
        if now < failing_since + settings.patience || now < state.swept + LOOK_AGAIN.min(settings.patience) {
            return;
        }
        state.swept = now;
        for (letter, tries) in state.queue.expire(now, failing_since, settings.patience) {
            self.bury(state, letter, tries, "the backend has been failing", settings);
        }
    }

    /// The next parcel to send now, if there is a slot for it and the breaker lets it.
    fn next(&self, webhooks: &Webhooks, on_their_way: usize, now: Instant) -> Option<Parcel> {
        if on_their_way >= slots(webhooks, now) {
            return None;
        }
        self.state().queue.next(now, webhooks.notice_settings().batch)
    }

    /// When to look again, whatever happens.
    fn wake(&self, webhooks: &Webhooks, on_their_way: usize, now: Instant) -> Option<Instant> {
        let state = self.state();
        let due = state.queue.due(now).and_then(|due| match webhooks.breaker().standing() {
            Standing::Until(until) if until > now => Some(due.max(until).min(now + LOOK_AGAIN)),
            Standing::Probing => Some(now + LOOK_AGAIN),
            // Whatever is on its way wakes when it is through. Until then there would be nothing to do but spin.
            Standing::Closed | Standing::Until(_) => (on_their_way < slots(webhooks, now)).then_some(due),
        });
        [due, state.grace.due()].into_iter().flatten().min()
    }

    async fn attempt(&self, webhooks: Arc<Webhooks>, parcel: Parcel) {
        let attempt = webhooks.deliver(&parcel).await;
        self.settle(webhooks.notice_settings(), parcel, attempt);
    }

    fn settle(&self, settings: &NoticeSettings, mut parcel: Parcel, attempt: Attempt) {
        let now = Instant::now();
        let mut state = self.state();
        let (why, retry_after) = match attempt {
            Attempt::Delivered => {
                state.queue.done(&parcel);
                for letter in &parcel.letters {
                    self.records.remove(Shelf::Notices, &letter.key());
                    self.metrics.delivered(letter.event.name());
                }
                return;
            }
            Attempt::Held => return state.queue.again(parcel, now + HELD),
            Attempt::Failed { why, retry_after } => (why, retry_after),
        };
        parcel.tries += 1;
        let failing_since = *parcel.failing_since.get_or_insert(now);
        let pause = delay(parcel.tries, settings.max_delay, fastrand::f64()).max(retry_after.unwrap_or_default());
        if now + pause < failing_since + settings.patience {
            for letter in &parcel.letters {
                self.metrics.retried(letter.event.name());
            }
            if let Some(unsaid) = self.complaints.may_complain() {
                let (event, id, tries) = (parcel.event(), parcel.id(), parcel.tries);
                warn!(event, %id, tries, why, ?pause, unsaid, "a notice was not taken and is sent again");
            }
            return state.queue.again(parcel, now + pause);
        }
        state.queue.done(&parcel);
        for letter in parcel.letters {
            self.bury(&mut state, letter, parcel.tries, &why, settings);
        }
    }
}

/// Requests that may be on their way now.
fn slots(webhooks: &Webhooks, now: Instant) -> usize {
    match webhooks.breaker().standing() {
        Standing::Closed => webhooks.notice_slots(),
        // One alone finds out whether the backend is back.
        Standing::Until(until) if until <= now => 1,
        Standing::Until(_) | Standing::Probing => 0,
    }
}
