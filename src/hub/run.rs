use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};

use super::ledger::{Tallies, Tally};
use super::outbox::{Accounted, Entry};
use crate::channel::{ChannelName, ConnectionId, Epoch, Position};
use crate::protocol::{Format, Push, Reply};

/// The most that is joined into one write.
const MAX_RUN: usize = 128 * 1024;

/// Bytes in every format somebody asked for.
type Frames = [OnceLock<Bytes>; 6];

/// Publications of one channel that stand together: joined once per format for everybody, written in one go.
pub(super) struct Run {
    pushes: Vec<Arc<Push>>,
    tallies: Option<Tallies>,
    joined: Frames,
    /// What an excluded connection gets instead; a run with exclusions holds a single publication.
    skipped: Option<Box<Frames>>,
}

/// A publication, and whether somebody counts what becomes of it.
pub(super) type Published = (Arc<Push>, Option<Arc<Tally>>);

/// A run that may still grow.
#[derive(Default)]
struct Open {
    bytes: usize,
    pushes: Vec<Arc<Push>>,
    tallies: Vec<Arc<Tally>>,
}

/// Splits what was published into runs: per channel, in order, without a hole, bounded in bytes. One with exclusions
/// stands alone.
pub(super) fn runs(published: Vec<Published>) -> impl Iterator<Item = Run> {
    let mut latest: HashMap<ChannelName, usize> = HashMap::new();
    let mut runs: Vec<Open> = Vec::new();
    for (push, tally) in published {
        let it = &push.publication;
        let size = it.data.len();
        let is_alone = !it.exclude.is_empty();
        let grows = |open: &Open| {
            !is_alone
                && open.bytes + size <= MAX_RUN
                && open.pushes.last().is_some_and(|last| it.follows(&last.publication))
        };
        let at = latest.get(&it.channel).copied().filter(|at| grows(&runs[*at]));
        let at = at.unwrap_or_else(|| {
            runs.push(Open::default());
            runs.len() - 1
        });
        if is_alone {
            latest.remove(&it.channel);
        } else {
            latest.insert(it.channel.clone(), at);
        }
        runs[at].bytes += size;
        runs[at].pushes.push(push);
        runs[at].tallies.extend(tally);
    }
    runs.into_iter().map(|it| Run::new(it.pushes, it.tallies))
}

impl Run {
    pub(super) fn new(pushes: Vec<Arc<Push>>, tallies: Vec<Arc<Tally>>) -> Self {
        let tallies = (!tallies.is_empty()).then(|| tallies.into());
        let has_exclusions = pushes.iter().any(|it| !it.publication.exclude.is_empty());
        Self { pushes, tallies, joined: Frames::default(), skipped: has_exclusions.then(Box::default) }
    }

    /// The bytes for a client of this format, made once for all of them.
    pub(super) fn bytes(&self, format: Format, to: ConnectionId) -> &Bytes {
        match &self.skipped {
            Some(skipped) if self.is_excluded(to) => skipped[format as usize].get_or_init(|| {
                let it = &self.last().publication;
                format.reply(&Reply::Skipped { channel: it.channel.clone(), seq: it.seq })
            }),
            _ => self.joined[format as usize].get_or_init(|| join(&self.pushes, format)),
        }
    }

    fn is_excluded(&self, to: ConnectionId) -> bool {
        self.last().publication.exclude.contains(&to)
    }

    pub(super) fn channel(&self) -> &ChannelName {
        &self.last().publication.channel
    }

    /// Where a client stands who has the run.
    pub(super) fn end(&self) -> (Epoch, u64) {
        let it = &self.last().publication;
        (it.epoch, it.seq)
    }

    /// The same with the publication's name.
    pub(super) fn position(&self) -> Position {
        self.last().publication.position()
    }

    /// The run as something that waits.
    pub(super) fn entry(&self, bytes: Bytes) -> Entry {
        let (epoch, seq) = self.end();
        let channel = Some(self.channel().clone());
        Entry { serial: 0, bytes, channel, epoch, seq, accounted: self.accounted(), news_of: None }
    }

    /// Enters the run in its tallies as waiting.
    pub(super) fn accounted(&self) -> Accounted {
        match &self.tallies {
            Some(tallies) => Accounted::in_tallies(self.len(), tallies),
            None => Accounted { count: self.len(), tallies: None },
        }
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
