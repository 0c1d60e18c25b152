//! One server as this node sees it: a link for commands, a link that publications come over, and whether a canary goes
//! round both. Each link comes back for ever.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use super::find::Finder;
use super::link::{Exchange, Link};
use super::script;
use super::socket::{Dialer, Error as Broken, Socket};
use crate::channel::ChannelName;

/// What the links and the canary of one server share.
pub(super) struct Server {
    pub(super) link: Link,
    pub(super) finder: Finder,
    /// The hash tag that stands on a slot of this server.
    pub(super) tag: String,
    /// The canary came back from its last round.
    pub(super) is_up: watch::Sender<bool>,
    /// How far the canaries came: the number of the last that returned.
    pub(super) returned: watch::Sender<u64>,
    /// Everything is subscribed to that is wanted, the canary's topic last.
    pub(super) is_listening: AtomicBool,
    /// The node itself has no room for more: that is no fault of the server.
    pub(super) is_held_up: AtomicBool,
    /// Both links are to be broken and made anew.
    pub(super) given_up: Notify,
    /// A link ended: the canary need not wait for its time.
    pub(super) doubted: Notify,
    pub(super) errands: Errands,
}

/// What the link that publications come over is to see to.
#[derive(Default)]
pub(super) struct Errands {
    waiting: Mutex<Vec<Errand>>,
    changed: Notify,
}

pub(super) enum Errand {
    /// The channel is wanted now, or no longer.
    Subscription(ChannelName),
    /// The channel stands elsewhere in the store than here.
    Comparison(ChannelName),
}

impl Server {
    pub(super) fn new(finder: Finder, tag: String, timeout: Duration) -> (Arc<Self>, Exchange) {
        let (link, exchange) = Link::new(timeout);
        let server = Self {
            link,
            finder,
            tag,
            is_up: watch::Sender::new(false),
            returned: watch::Sender::new(0),
            is_listening: AtomicBool::new(false),
            is_held_up: AtomicBool::new(false),
            given_up: Notify::new(),
            doubted: Notify::new(),
            errands: Errands::default(),
        };
        (Arc::new(server), exchange)
    }

    pub(super) fn is_up(&self) -> bool {
        *self.is_up.borrow()
    }

    /// Carries commands for ever, over one connection after the other.
    pub(super) async fn exchange(self: Arc<Self>, dialer: Dialer, mut exchange: Exchange) {
        let mut pause = Pause::default();
        loop {
            let opened = tokio::select! {
                opened = self.finder.open(&dialer) => opened,
                () = exchange.refuse_all() => return,
            };
            // Before anything is asked: a call that has to be repeated with its text would be overtaken by those after it.
            let opened = match opened {
                Ok(mut socket) => socket.load(&script::all(), dialer.timeout).await.map(|()| socket),
                failed => failed,
            };
            let why = match opened {
                Ok(socket) => {
                    self.connected("commands");
                    pause = Pause::default();
                    exchange.carry(socket, &self.given_up).await
                }
                Err(why) => why,
            };
            self.lost("commands", &why);
            tokio::select! {
                () = pause.wait() => {}
                () = exchange.refuse_all() => return,
            }
        }
    }

    pub(super) fn connected(&self, what: &'static str) {
        info!(server = %self.finder, link = what, "connected to Redis");
    }

    pub(super) fn lost(&self, what: &'static str, why: &Broken) {
        warn!(server = %self.finder, link = what, %why, "no link to Redis");
        self.doubted.notify_one();
    }

    pub(super) async fn open(&self, dialer: &Dialer) -> Result<Socket, Broken> {
        self.finder.open(dialer).await
    }
}

impl Errands {
    pub(super) fn add(&self, errand: Errand) {
        self.waiting.lock().expect("nothing panics under this lock").push(errand);
        self.changed.notify_one();
    }

    /// Waits for some and takes all of them.
    pub(super) async fn take(&self) -> Vec<Errand> {
        loop {
            let waiting = std::mem::take(&mut *self.waiting.lock().expect("nothing panics under this lock"));
            if !waiting.is_empty() {
                return waiting;
            }
            self.changed.notified().await;
        }
    }
}

/// How long to wait before the next try: longer each time, and never the same on two nodes.
#[derive(Debug, Default)]
pub(super) struct Pause {
    tries: u32,
}

const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

impl Pause {
    pub(super) async fn wait(&mut self) {
        tokio::time::sleep(self.next()).await;
    }

    fn next(&mut self) -> Duration {
        let whole = SHORTEST.saturating_mul(1 << self.tries.min(8)).min(LONGEST);
        self.tries += 1;
        whole.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_longest_and_differ() {
        let mut pause = Pause::default();
        let pauses: Vec<_> = (0..40).map(|_| pause.next()).collect();
        assert!(pauses[0] <= SHORTEST && pauses[0] >= SHORTEST / 2);
        assert!(pauses[30..].iter().all(|it| *it <= LONGEST && *it >= LONGEST / 2));
        assert!(pauses[30..].windows(2).any(|it| it[0] != it[1]));
    }
}
