//! One client's end of the fan-out: its stream, what the kernel did not take yet, and the waker of the task that serves
//! it, under one short lock. A publication is written at once when nothing is waiting; only what the kernel refuses is
//! queued, bounded in bytes. Control answers never wait behind data.

mod alone;
mod cursor;
mod ending;
mod entry;
mod fetched;
mod news;
mod overflow;
mod owner;
mod seen;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::io::ReadBuf;

use super::Hub;
use super::ledger::{Ledger, Loss};
use super::rules::WhenSlow;
use super::run::Run;
use super::trail::Trail;
use super::wire::{Signal, Wire};
use crate::channel::{ChannelName, ConnectionId, Epoch};
use crate::protocol::{Close, Format};
pub(super) use entry::{Accounted, Entry};
pub use fetched::Handed;
pub use owner::{Owner, Proof};
pub use seen::{Seen, Sent};

/// What became of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// So many bytes, with the kernel.
    Written(usize),
    Queued(usize),
    Dropped,
    /// The connection is over.
    Gone,
}

/// The outbox of one connection. Shared by its task, its shard and whoever looks it up.
pub struct Outbox {
    pub id: ConnectionId,
    /// Queued bytes before the client counts as slow.
    limit: usize,
    ledger: Arc<Ledger>,
    inner: Mutex<Inner>,
}

struct Inner {
    format: Format,
    wire: Option<Box<dyn Wire>>,
    /// Of the connection's own task, refreshed at each of its polls; without one, offers only queue.
    waker: Option<Waker>,
    /// The rest of the entry that is being written; never dropped, or the stream would break off mid-frame.
    writing: Bytes,
    written: Option<Box<Accounted>>,
    /// The last write was not taken whole: the stream is to be polled, even with nothing more to say (TLS holds on to
    /// ciphertext).
    blocked: bool,
    control: VecDeque<Bytes>,
    queue: VecDeque<Entry>,
    queued: usize,
    /// Numbers the entries, so that a poll can confirm them.
    serial: u64,
    signals: VecDeque<Signal>,
    /// Where an event stream or a poll stands.
    trail: Option<Box<Trail>>,
    open: bool,
    owner: Option<Owner>,
    sent: Sent,
    /// When the client was last heard, in seconds since the Unix epoch; 0 until it is.
    heard_at: u32,
    /// What the connection was told to end with.
    closing: Option<Box<Close>>,
    /// Why it is told to go. Nothing newer may follow what it then misses; control answers still go out.
    ending: Option<Loss>,
    /// What the client did not get, by reason; most never lose anything.
    losses: Option<Box<[u64; Loss::ALL.len()]>>,
}

impl Outbox {
    /// With a wire, what is offered is written as it comes; without one it waits to be fetched. `limit` is how many bytes
    /// may wait before the client counts as slow.
    pub fn new(hub: &Hub, format: Format, wire: Option<Box<dyn Wire>>, limit: usize) -> Arc<Self> {
        let has_cursor = matches!(format, Format::EventStream | Format::EventStreamMany | Format::Poll);
        let inner = Inner {
            format,
            wire,
            waker: None,
            writing: Bytes::new(),
            written: None,
            blocked: false,
            control: VecDeque::new(),
            queue: VecDeque::new(),
            queued: 0,
            serial: 0,
            signals: VecDeque::new(),
            trail: has_cursor.then(|| Box::new(Trail::new(hub.checkpoints().clone()))),
            open: true,
            owner: None,
            sent: Sent::default(),
            heard_at: 0,
            closing: None,
            ending: None,
            losses: None,
        };
        Arc::new(Self { id: hub.connection_id(), limit, ledger: hub.ledger().clone(), inner: Mutex::new(inner) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics under an outbox lock")
    }

    /// Called by the shard: writes or keeps a run of one channel's publications.
    pub(super) fn offer(&self, run: &Run, when_slow: WhenSlow) -> Offer {
        let mut inner = self.lock();
        if !inner.open {
            return Offer::Gone;
        }
        if let Some(why) = inner.ending {
            return self.lose(&mut inner, &run.accounted(), why);
        }
        let bytes = run.bytes(inner.format, self.id);
        // What is fetched later gets its cursor then: the client does not stand there before.
        if !inner.is_clear() || !inner.can_write() {
            return self.enqueue(&mut inner, run.entry(bytes.clone()), when_slow);
        }
        if inner.trail.is_none() {
            return inner.write_through(bytes, run.len(), |it| run.entry(it));
        }
        let bytes = inner.with_cursor(bytes, Some(run.channel()), run.end());
        inner.write_through(&bytes, run.len(), |it| run.entry(it))
    }

    /// Called by the connection's own task with a page of catch-up, which is never dropped: its pace is the socket's.
    pub(super) fn catch_up(&self, run: &Run) {
        let mut inner = self.lock();
        if inner.takes_data() {
            let entry = run.entry(run.bytes(inner.format, self.id).clone());
            self.ledger.expected(u64::from(entry.accounted.count));
            inner.push(entry);
        }
    }

    fn enqueue(&self, inner: &mut Inner, entry: Entry, when_slow: WhenSlow) -> Offer {
        let size = entry.bytes.len();
        if when_slow == WhenSlow::LatestOnly {
            inner.replace_older(&entry, &self.ledger);
        }
        if inner.queued + size > self.limit && when_slow == WhenSlow::DropOldest {
            inner.make_room(&entry, self.limit.saturating_sub(size), &self.ledger);
        }
        if inner.queued + size <= self.limit {
            inner.push(entry);
            inner.wake();
            return Offer::Queued(size);
        }
        match when_slow {
            // Nothing of this channel is left to drop: the newcomer itself is what was lost.
            WhenSlow::DropOldest => inner.note_gap(&entry),
            WhenSlow::Disconnect | WhenSlow::LatestOnly => inner.close(Close::SLOW),
        }
        self.lose(inner, &entry.accounted, Loss::Slow)
    }

    fn lose(&self, inner: &mut Inner, accounted: &Accounted, why: Loss) -> Offer {
        inner.lost(why, accounted.count);
        accounted.dropped(why, &self.ledger);
        Offer::Dropped
    }

    /// Asks the connection's task for something. From anywhere.
    pub fn signal(&self, signal: Signal) {
        let mut inner = self.lock();
        if inner.open && !inner.signals.contains(&signal) {
            if let Signal::Close(close) = &signal {
                inner.ends_with(close);
                // A client that polls may be told much later, and must not be shown what came in between.
                inner.ending.get_or_insert(Loss::Closed);
            }
            inner.signals.push_back(signal);
            inner.wake();
        }
    }

    /// Wakes the task that serves the connection. From anywhere.
    pub fn wake(&self) {
        self.lock().wake();
    }

    /// Keeps the waker of a task that does not drive the outbox.
    pub fn listen(&self, waker: &Waker) {
        self.lock().keep(waker);
    }

    /// The connection's task: writes on, keeps the waker, and hears what others want.
    pub fn drive(&self, cx: &mut Context<'_>) -> io::Result<Option<Signal>> {
        let mut inner = self.lock();
        if !inner.open {
            // A shard met an error that the socket itself reports only once.
            return Err(io::ErrorKind::NotConnected.into());
        }
        inner.keep(cx.waker());
        inner.pump(cx, &self.ledger)?;
        Ok(inner.signals.pop_front())
    }

    /// Reads under the same lock: a TLS session is one object for both directions.
    pub fn poll_receive(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.lock();
        let Some(wire) = &mut inner.wire else { return Poll::Ready(Ok(())) };
        let received = wire.poll_receive(cx, buffer);
        if received.is_ready() {
            inner.hear();
        }
        received
    }

    /// Writes what is left and says goodbye. The caller bounds the time.
    pub fn poll_finish(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        inner.keep(cx.waker());
        inner.pump(cx, &self.ledger)?;
        if !inner.is_clear() {
            return Poll::Pending;
        }
        match &mut inner.wire {
            Some(wire) => wire.poll_close(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// The end. The stream is dropped, so the descriptor closes at once; later offers find nobody.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.open = false;
        inner.drop_queue(&self.ledger);
        if let Some(written) = inner.written.take() {
            written.dropped(Loss::Closed, &self.ledger);
        }
        inner.writing = Bytes::new();
        inner.control = VecDeque::new();
        inner.waker = None;
        inner.trail = None;
        let wire = inner.wire.take();
        drop(inner);
        drop(wire);
    }
}

impl Inner {
    fn takes_data(&self) -> bool {
        self.open && self.ending.is_none()
    }

    fn is_clear(&self) -> bool {
        !self.blocked && self.writing.is_empty() && self.control.is_empty() && self.queue.is_empty()
    }

    fn can_write(&self) -> bool {
        self.wire.is_some() && self.waker.is_some()
    }

    fn keep(&mut self, waker: &Waker) {
        if !self.waker.as_ref().is_some_and(|it| it.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    fn push(&mut self, mut entry: Entry) {
        self.serial += 1;
        entry.serial = self.serial;
        self.queued += entry.bytes.len();
        self.queue.push_back(entry);
    }

    /// A client that polls is answered in one list, confirmed as one: there is no second queue for it.
    fn push_control(&mut self, bytes: Bytes) {
        if !self.open {
            return;
        }
        match self.format {
            Format::Poll => self.push(Entry::alone(bytes)),
            _ => self.control.push_back(bytes),
        }
        self.wake();
    }

    fn close(&mut self, close: Close) {
        self.ending.get_or_insert(Loss::Slow);
        self.ends_with(&close);
        let signal = Signal::Close(close);
        if !self.signals.contains(&signal) {
            self.signals.push_back(signal);
        }
        self.wake();
    }

    /// The common case of the fan-out: nothing waits, the kernel takes all of it, and nobody is woken.
    /// `count` is of the publications in it.
    fn write_through(&mut self, bytes: &Bytes, count: u32, entry: impl FnOnce(Bytes) -> Entry) -> Offer {
        let (Some(waker), Some(wire)) = (&self.waker, &mut self.wire) else {
            self.push(entry(bytes.clone()));
            self.wake();
            return Offer::Queued(bytes.len());
        };
        let mut rest = &bytes[..];
        match wire.poll_send(&mut Context::from_waker(waker), &mut rest) {
            Poll::Ready(Ok(())) => {
                self.sent.add(count, bytes.len());
                Offer::Written(bytes.len())
            }
            Poll::Ready(Err(_)) => {
                // The task ends at its next drive; until then nothing more is offered.
                self.open = false;
                self.wake();
                Offer::Gone
            }
            Poll::Pending => {
                self.blocked = true;
                let rest = bytes.slice(bytes.len() - rest.len()..);
                self.sent.add(0, bytes.len() - rest.len());
                self.queued += rest.len();
                self.written = Some(Box::new(entry(Bytes::new()).accounted));
                self.writing = rest;
                Offer::Queued(bytes.len())
            }
        }
    }

    /// Writes until nothing is left or the kernel takes no more: the rest of what was begun, then control, then data.
    fn pump(&mut self, cx: &mut Context<'_>, ledger: &Ledger) -> io::Result<()> {
        loop {
            let Some(wire) = &mut self.wire else { return Ok(()) };
            if self.blocked || !self.writing.is_empty() {
                let mut rest = &self.writing[..];
                let sent = wire.poll_send(cx, &mut rest);
                let taken = self.writing.len() - rest.len();
                self.sent.add(0, taken);
                if self.written.is_some() {
                    self.queued -= taken;
                }
                if sent.is_pending() {
                    self.writing = self.writing.slice(taken..);
                    self.blocked = true;
                    return Ok(());
                }
                self.writing = Bytes::new();
                self.blocked = false;
                if let Poll::Ready(Err(error)) = sent {
                    return Err(error);
                }
                if let Some(written) = self.written.take() {
                    self.sent.add(written.count, 0);
                    written.flushed(ledger);
                }
            }
            if let Some(bytes) = self.control.pop_front() {
                self.writing = bytes;
                continue;
            }
            let Some(entry) = self.queue.pop_front() else {
                self.rest_light();
                return Ok(());
            };
            self.writing = self.with_cursor(&entry.bytes, entry.channel.as_ref(), (entry.epoch, entry.seq));
            self.queued += self.writing.len() - entry.bytes.len();
            self.written = Some(Box::new(entry.accounted));
        }
    }

    /// An entry's bytes and, on an event stream with several channels, where the client stands after them.
    fn with_cursor(&mut self, bytes: &Bytes, channel: Option<&ChannelName>, (epoch, seq): (Epoch, u64)) -> Bytes {
        match (&mut self.trail, channel) {
            (Some(trail), Some(channel)) => {
                trail.advance(channel, epoch, seq);
                match self.format {
                    // The frame carries the cursor itself.
                    Format::EventStream => bytes.clone(),
                    _ => [bytes, &trail.id_block()[..]].concat().into(),
                }
            }
            _ => bytes.clone(),
        }
    }

    /// Frees what a burst grew: at rest a connection holds no queue.
    fn rest_light(&mut self) {
        if self.queue.capacity() > 0 {
            self.queue = VecDeque::new();
        }
        if self.control.capacity() > 0 {
            self.control = VecDeque::new();
        }
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("id", &self.id).field("limit", &self.limit).finish_non_exhaustive()
    }
}
