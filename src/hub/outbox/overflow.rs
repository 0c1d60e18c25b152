//! What a client does not get: too slow for it, gone, or no longer following. And how it is told.

use bytes::Bytes;

use super::{Entry, Inner, Outbox};
use crate::channel::{ChannelName, Position};
use crate::hub::ledger::{Ledger, Loss};
use crate::protocol::{Format, Reply};

impl Outbox {
    /// No more data: what waits is dropped, control answers still go out.
    pub fn forget_data(&self) {
        let mut inner = self.lock();
        inner.ending.get_or_insert(Loss::Closed);
        inner.drop_queue(&self.ledger);
    }

    /// Takes nothing newer: what waits still goes out, and after it `last`.
    pub fn end_with(&self, last: impl FnOnce(Format) -> Bytes) {
        let mut inner = self.lock();
        let bytes = last(inner.format);
        match inner.takes_data() {
            true => inner.push(Entry::alone(bytes)),
            false => inner.push_control(bytes),
        }
        inner.ending.get_or_insert(Loss::Closed);
        inner.wake();
    }

    /// Takes back what waits of a channel that was left, so that none of it comes after `unsubscribed`.
    pub fn purge(&self, channel: &ChannelName) {
        let mut inner = self.lock();
        let Inner { queue, queued, .. } = &mut *inner;
        queue.retain(|entry| {
            let stays = entry.channel.as_ref() != Some(channel) && entry.news_of.as_ref() != Some(channel);
            if !stays {
                *queued -= entry.bytes.len();
                entry.accounted.dropped(Loss::Left, &self.ledger);
            }
            stays
        });
        if let Some(trail) = &mut inner.trail {
            trail.forget(channel);
        }
    }

    /// Says, behind what waits already, that publications were lost and where the client's position goes on.
    pub fn tell_gap(&self, channel: &ChannelName, at: &Position, reason: &'static str) {
        let mut inner = self.lock();
        if !inner.takes_data() {
            return;
        }
        let gap = Reply::gap(channel.clone(), at.epoch, at.seq, at.id.clone(), reason);
        let bytes = inner.format.reply(&gap);
        inner.push(Entry { channel: Some(channel.clone()), epoch: at.epoch, seq: at.seq, ..Entry::alone(bytes) });
        inner.wake();
    }
}

impl Inner {
    pub(super) fn drop_queue(&mut self, ledger: &Ledger) {
        for entry in std::mem::take(&mut self.queue) {
            self.queued -= entry.bytes.len();
            self.lost(Loss::Closed, entry.accounted.count);
            entry.accounted.dropped(Loss::Closed, ledger);
        }
    }

    /// `latest_only`: whatever older waits of this channel gives way. A gap stays: it may name a new epoch.
    pub(super) fn replace_older(&mut self, newest: &Entry, ledger: &Ledger) {
        let mut lost = 0;
        let Self { queue, queued, .. } = self;
        queue.retain(|entry| {
            let stays = entry.channel != newest.channel || entry.is_gap();
            if !stays {
                *queued -= entry.bytes.len();
                lost += entry.accounted.count;
                entry.accounted.dropped(Loss::Conflated, ledger);
            }
            stays
        });
        if lost > 0 {
            self.lost(Loss::Conflated, lost);
        }
    }

    /// `drop_oldest`: the channel's own oldest entries become one gap notice in their place.
    pub(super) fn make_room(&mut self, newest: &Entry, room: usize, ledger: &Ledger) {
        while self.queued > room {
            let mut of_channel = (0..self.queue.len()).filter(|at| self.queue[*at].channel == newest.channel);
            let Some(first) = of_channel.next() else { return };
            if !self.queue[first].is_gap() {
                self.turn_into_gap(first, ledger);
                continue;
            }
            // The notice that stands here takes in the next oldest.
            let Some(next) = of_channel.next() else { return };
            self.turn_into_gap(next, ledger);
            if let Some(older) = self.queue.remove(first) {
                self.queued -= older.bytes.len();
            }
        }
    }

    pub(super) fn turn_into_gap(&mut self, at: usize, ledger: &Ledger) {
        let Some(entry) = self.queue.get_mut(at) else { return };
        self.queued -= entry.bytes.len();
        let accounted = std::mem::take(&mut entry.accounted);
        entry.bytes = gap_notice(self.format, entry);
        self.queued += entry.bytes.len();
        accounted.dropped(Loss::Slow, ledger);
        self.lost(Loss::Slow, accounted.count);
    }

    /// The newest itself was lost: the notice goes to the end of the queue, or moves the one that is there.
    pub(super) fn note_gap(&mut self, lost: &Entry) {
        if self.queue.back().is_some_and(|it| it.is_gap() && it.channel == lost.channel)
            && let Some(old) = self.queue.pop_back()
        {
            self.queued -= old.bytes.len();
        }
        let bytes = gap_notice(self.format, lost);
        self.push(Entry { channel: lost.channel.clone(), epoch: lost.epoch, seq: lost.seq, ..Entry::alone(bytes) });
        self.wake();
    }
}

fn gap_notice(format: Format, lost: &Entry) -> Bytes {
    match &lost.channel {
        Some(channel) => format.reply(&Reply::gap(channel.clone(), lost.epoch, lost.seq, None, "slow")),
        None => Bytes::new(),
    }
}
