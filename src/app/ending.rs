//! How a node ends: nobody new, everybody told in a slot of their own, what is under way finished, the rest counted.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::{App, settings};
use crate::protocol::Format;

/// For the internal listener's last answers, once everybody else is gone.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// For notices, even where clients took all the time there was.
const LAST_NOTICES: Duration = Duration::from_secs(1);
/// The same where the next process could send them: a backend that is away does not hold up a restart.
const LAST_NOTICES_KEPT: Duration = Duration::from_secs(5);

/// What was still there at the deadline, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    pub websockets: usize,
    pub event_streams: usize,
    pub polls: usize,
    /// Requests on their way to or from the backend.
    pub proxied: usize,
    /// Connections the backend had upgraded itself. Nobody can be told anything there, so they are cut.
    pub tunnels: usize,
    pub pushes: usize,
    /// Notices the backend has not taken.
    pub notices: usize,
}

impl App {
    /// Ends the node: unready at once, after a while no new connections, then everybody is told to come back, each in its
    /// own slot, and what is under way is finished. Answers what was still there at the deadline.
    pub async fn drain(mut self) -> Leftovers {
        let drain = settings::drain(&self.shared.generation.load().config);
        let deadline = Instant::now() + drain.deadline;
        self.shared.is_draining.store(true, Ordering::Relaxed);
        info!(delay = ?drain.delay, "not ready any more, connections are still taken");
        tokio::time::sleep(drain.delay).await;
        self.drain.begin();
        // The sockets close before clients are sent away: none comes back to a node that is going.
        while self.servers.join_next().await.is_some() {}
        let clients = self.shared.hub.directory().len();
        info!(clients, spread = ?drain.spread, "no new connections are taken, clients are sent away");
        let ending = async {
            self.transports.send_away(drain.spread).await;
            self.drain.finished().await;
        };
        let in_time = tokio::time::timeout_at(deadline, ending).await;
        let mut left = if in_time.is_ok() { Leftovers::default() } else { self.shared.leftovers(&self.api_metrics) };
        // Last, because every client that went is one.
        left.notices = self.shared.tell_the_rest(deadline, self.storage.records().is_lasting()).await;
        let (internal, mut internals) = self.internal;
        internal.begin();
        let _ = tokio::time::timeout(LAST_WORDS, internal.finished()).await;
        internals.abort_all();
        // After the last call that could publish.
        while internals.join_next().await.is_some() {}
        self.storage.close().await;
        left
    }
}

impl super::Shared {
    /// Answers how many notices are lost: those that wait in a data folder are sent by the next process.
    async fn tell_the_rest(&self, deadline: Instant, is_kept: bool) -> usize {
        let now = Instant::now();
        let until = if is_kept { deadline.min(now + LAST_NOTICES_KEPT) } else { deadline.max(now + LAST_NOTICES) };
        let left = self.notices.flush(until).await;
        if is_kept { 0 } else { left }
    }

    fn leftovers(&self, pushes: &crate::api::Metrics) -> Leftovers {
        let mut left = Leftovers {
            proxied: self.counters.proxy.in_flight(),
            tunnels: self.counters.proxy.tunnels(),
            pushes: pushes.publishing(),
            ..Leftovers::default()
        };
        for outbox in self.hub.directory().all() {
            match outbox.format() {
                Format::EventStream | Format::EventStreamMany => left.event_streams += 1,
                Format::Poll => left.polls += 1,
                _ => left.websockets += 1,
            }
        }
        left
    }
}

impl Leftovers {
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { websockets, event_streams, polls, proxied, tunnels, pushes, notices } = self;
        write!(
            f,
            "{websockets} WebSockets, {event_streams} event streams, {polls} polls, {proxied} proxied requests, {tunnels} \
             tunnels of the backend's own, {pushes} pushes, {notices} notices"
        )
    }
}
