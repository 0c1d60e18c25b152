//! What of an outbox can be seen from outside, and the notes that are taken for it.

use bytes::Bytes;

use super::{Inner, Outbox};
use crate::channel::{ChannelName, now};
use crate::hub::ledger::Loss;
use crate::protocol::{Close, Format};

/// An outbox at one moment.
#[derive(Clone, Debug)]
pub struct Seen {
    pub format: Format,
    /// Bytes that wait, control answers included.
    pub backlog: usize,
    /// What may wait before the client counts as slow.
    pub limit: usize,
    pub sent: Sent,
    /// Publications its client did not get.
    pub dropped: [(Loss, u64); Loss::ALL.len()],
    /// When its client was last heard, in seconds since the Unix epoch; none where it has nothing to say.
    pub heard_at: Option<u32>,
    /// What the connection was told to end with.
    pub closing: Option<Close>,
}

/// What the kernel, or the poll, took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub publications: u64,
    /// Frames and control answers included.
    pub bytes: u64,
}

impl Sent {
    pub(super) fn add(&mut self, publications: u32, bytes: usize) {
        self.publications += u64::from(publications);
        self.bytes += bytes as u64;
    }
}

impl Seen {
    /// Whether its client does not keep up: more than half of what may wait does, or something was lost for that reason.
    pub fn is_slow(&self) -> bool {
        self.backlog > self.limit / 2 || self.dropped.iter().any(|it| matches!(it, (Loss::Slow, 1..)))
    }
}

impl Outbox {
    /// Bytes that wait, control answers included.
    pub fn backlog(&self) -> usize {
        self.lock().backlog()
    }

    /// How its client is written to.
    pub fn format(&self) -> Format {
        self.lock().format
    }

    pub fn is_open(&self) -> bool {
        self.lock().open
    }

    pub fn seen(&self) -> Seen {
        let inner = self.lock();
        let dropped = inner.losses.as_deref().copied().unwrap_or_default();
        Seen {
            format: inner.format,
            backlog: inner.backlog(),
            limit: self.limit,
            sent: inner.sent,
            dropped: Loss::ALL.map(|it| (it, dropped[it as usize])),
            heard_at: (inner.heard_at > 0).then_some(inner.heard_at),
            closing: inner.closing.as_deref().cloned(),
        }
    }

    /// Up to where the kernel surely has what the channel published, when everything up to `head` was offered.
    pub fn written_up_to(&self, channel: &ChannelName, head: u64) -> u64 {
        let inner = self.lock();
        let unwritten = match inner.queue.iter().find(|it| it.channel.as_ref() == Some(channel)) {
            Some(first) => return first.seq.saturating_sub(u64::from(first.accounted.count.max(1))),
            // It may be of another channel: then this says less than there is, never more.
            None => inner.written.as_ref().map_or(0, |it| it.count),
        };
        head.saturating_sub(u64::from(unwritten))
    }
}

impl Inner {
    pub(super) fn backlog(&self) -> usize {
        self.queued + self.writing.len() + self.control.iter().map(Bytes::len).sum::<usize>()
    }

    pub(super) fn lost(&mut self, why: Loss, count: u32) {
        self.losses.get_or_insert_default()[why as usize] += u64::from(count);
    }

    pub(super) fn hear(&mut self) {
        self.heard_at = u32::try_from(now() / 1000).unwrap_or(u32::MAX);
    }

    /// Remembers it for whoever looks: the first reason is the reason.
    pub(super) fn ends_with(&mut self, close: &Close) {
        self.closing.get_or_insert_with(|| Box::new(close.clone()));
    }
}
