//! What is said to one client alone.

use bytes::Bytes;

use super::{Accounted, Entry, Offer, Outbox};
use crate::hub::direct::Letter;
use crate::hub::ledger::Loss;
use crate::protocol::Reply;

impl Outbox {
    /// Called from anywhere: a message to this client and a few others, of no channel.
    pub(in crate::hub) fn message(&self, letter: &mut Letter) -> Offer {
        let mut inner = self.lock();
        if !inner.open {
            return Offer::Gone;
        }
        let accounted = Accounted::in_tallies(1, &letter.tallies);
        self.ledger.expected(1);
        if let Some(why) = inner.ending {
            return self.lose(&mut inner, &accounted, why);
        }
        let bytes = letter.bytes(inner.format);
        let size = bytes.len();
        if inner.queued + size > self.limit {
            return self.lose(&mut inner, &accounted, Loss::Slow);
        }
        inner.push(Entry { accounted, ..Entry::alone(bytes) });
        inner.wake();
        self.ledger.offered(size);
        Offer::Queued(size)
    }

    /// Says something to this client alone, before any data that waits. From the connection's own task.
    pub fn reply(&self, reply: &Reply) {
        let mut inner = self.lock();
        let format = inner.format;
        let bytes = match &mut inner.trail {
            Some(trail) => format.reply_at(reply, &trail.cursor()),
            None => format.reply(reply),
        };
        inner.push_control(bytes);
    }

    /// The same with bytes that are framed already: pings, heartbeats.
    pub fn control(&self, bytes: Bytes) {
        self.lock().push_control(bytes);
    }
}
