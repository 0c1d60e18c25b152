use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::ledger::{Tallies, Tally};
use super::outbox::{Accounted, Entry};
use crate::channel::{ChannelName, ConnectionId, Epoch};
use crate::protocol::{Format, Push, Reply};

/// Publications of one channel that stand together in a shard's queue: joined once per format, written in one go.
pub(super) struct Run {
    pushes: Vec<Arc<Push>>,
    tallies: Option<Tallies>,
    joined: [Option<Bytes>; 6],
    /// What an excluded connection gets instead; a run with exclusions holds a single publication.
    skipped: Option<(Format, Bytes)>,
}

impl Run {
    pub(super) fn new(pushes: Vec<Arc<Push>>, tallies: Vec<Arc<Tally>>) -> Self {
        let tallies = (!tallies.is_empty()).then(|| tallies.into());
        Self { pushes, tallies, joined: Default::default(), skipped: None }
    }

    /// Makes the bytes for a client of this format, once for all of them.
    pub(super) fn prepare(&mut self, format: Format, to: ConnectionId) {
        if self.is_excluded(to) {
            if self.skipped.as_ref().is_none_or(|(known, _)| *known != format) {
                let it = &self.last().publication;
                let reply = Reply::Skipped { channel: it.channel.clone(), seq: it.seq };
                self.skipped = Some((format, format.reply(&reply)));
            }
        } else if self.joined[format as usize].is_none() {
            self.joined[format as usize] = Some(join(&self.pushes, format));
        }
    }

    /// The bytes for a client of this format, prepared before.
    pub(super) fn bytes(&self, format: Format, to: ConnectionId) -> &Bytes {
        let prepared = match &self.skipped {
            Some((_, bytes)) if self.is_excluded(to) => Some(bytes),
            _ => self.joined[format as usize].as_ref(),
        };
        prepared.expect("bytes are prepared before they are asked for")
    }

    fn is_excluded(&self, to: ConnectionId) -> bool {
        let exclude = &self.last().publication.exclude;
        !exclude.is_empty() && exclude.contains(&to)
    }

    pub(super) fn channel(&self) -> &ChannelName {
        &self.last().publication.channel
    }

    /// Where a client stands who has the run.
    pub(super) fn end(&self) -> (Epoch, u64) {
        let it = &self.last().publication;
        (it.epoch, it.seq)
    }

    /// The run as something that waits.
    pub(super) fn entry(&self, bytes: Bytes) -> Entry {
        let (epoch, seq) = self.end();
        let channel = Some(self.channel().clone());
        Entry { serial: 0, bytes, channel, epoch, seq, accounted: self.accounted(), news_of: None }
    }

    /// Enters the run in its tallies as waiting.
    pub(super) fn accounted(&self) -> Accounted {
        if let Some(tallies) = &self.tallies {
            tallies.iter().for_each(|it| it.queued());
        }
        Accounted { count: self.len(), tallies: self.tallies.clone() }
    }

    pub(super) fn tallies(&self) -> &[Arc<Tally>] {
        self.tallies.as_deref().unwrap_or_default()
    }

    pub(super) fn pushes(&self) -> &[Arc<Push>] {
        &self.pushes
    }

    /// How many publications.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.pushes.len()).unwrap_or(u32::MAX)
    }

    fn last(&self) -> &Push {
        self.pushes.last().expect("a run holds at least one publication")
    }
}

fn join(pushes: &[Arc<Push>], format: Format) -> Bytes {
    if let [only] = pushes {
        return only.wire(format).clone();
    }
    let mut out = BytesMut::with_capacity(pushes.iter().map(|it| it.wire(format).len() + 1).sum());
    for (at, push) in pushes.iter().enumerate() {
        // A poll's messages become items of one list.
        if at > 0 && format == Format::Poll {
            out.extend_from_slice(b",");
        }
        out.extend_from_slice(push.wire(format));
    }
    out.freeze()
}
