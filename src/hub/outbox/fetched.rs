//! The outbox of a client that fetches: a poll, or a stream that HTTP/2 pulls.

use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::Outbox;
use crate::hub::wire::Signal;

/// What a poll hands out.
#[derive(Debug, Clone)]
pub struct Handed {
    /// Each one message or several, separated by commas.
    pub messages: Vec<Bytes>,
    /// Confirms all of it.
    pub serial: u64,
    pub cursor: String,
}

impl Outbox {
    /// A poll: everything that waits, which stays here until it is confirmed; and where the client stands once it has it.
    pub fn waiting_entries(&self, waker: &Waker) -> Handed {
        let mut inner = self.lock();
        inner.keep(waker);
        let mut trail = inner.trail.as_deref().cloned();
        for (channel, entry) in inner.queue.iter().filter_map(|it| Some((it.channel.as_ref()?, it))) {
            if let Some(trail) = &mut trail {
                trail.advance(channel, entry.epoch, entry.seq);
            }
        }
        Handed {
            messages: inner.queue.iter().map(|it| it.bytes.clone()).collect(),
            serial: inner.queue.back().map_or(0, |it| it.serial),
            cursor: inner.cursor_of(trail),
        }
    }

    /// A poll that came back confirms what the last one handed out.
    pub fn confirm(&self, up_to: u64) {
        let mut inner = self.lock();
        inner.hear();
        while let Some(entry) = inner.queue.pop_front_if(|it| it.serial <= up_to) {
            inner.queued -= entry.bytes.len();
            inner.sent.add(entry.accounted.count, entry.bytes.len());
            entry.accounted.flushed(&self.ledger);
            if let (Some(trail), Some(channel)) = (&mut inner.trail, &entry.channel) {
                trail.advance(channel, entry.epoch, entry.seq);
            }
        }
    }

    /// A stream that is pulled (HTTP/2): the next bytes, control before data.
    pub fn poll_pull(&self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut inner = self.lock();
        inner.keep(cx.waker());
        if let Some(bytes) = inner.control.pop_front() {
            inner.sent.add(0, bytes.len());
            return Poll::Ready(Some(bytes));
        }
        let Some(entry) = inner.queue.pop_front() else {
            return if inner.open { Poll::Pending } else { Poll::Ready(None) };
        };
        inner.queued -= entry.bytes.len();
        inner.sent.add(entry.accounted.count, entry.bytes.len());
        entry.accounted.flushed(&self.ledger);
        Poll::Ready(Some(inner.with_cursor(&entry.bytes, entry.channel.as_ref(), (entry.epoch, entry.seq))))
    }

    /// The next signal for a client without a stream.
    pub fn take_signal(&self) -> Option<Signal> {
        self.lock().signals.pop_front()
    }
}
