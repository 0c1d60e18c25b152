//! Reading what Redis keeps: pages of history, and what came after a position, held against the chain of ids so that a
//! store that lost writes is never taken for one that has them all.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::record::{self, Link};
use super::resp::{self, Value};
use super::script::{self, Call};
use super::server::{self, Errand};
use super::track::Answer;
use super::{Core, millis, new_epoch};
use crate::channel::{ChannelName, Epoch, Position, Publication, Retention};
use crate::engine::{Error, Gap, Page};

/// Publications asked for at once when a hole is filled.
const FILL: usize = 128;
/// An answer with more than this ends early; whoever wants the rest asks again.
const MAX_BYTES: &str = "8388608";

/// One reading of a channel.
struct Reading {
    head: Position,
    /// The position itself, where it is still kept, and what came after; or the newest.
    found: Vec<Link>,
}

/// How what was found stands to the position it was asked for by.
enum Continuity {
    Whole,
    /// What came right after it is not kept any more.
    Trimmed,
    /// The position is of an epoch that is over.
    OtherEpoch,
    /// The position was never here: writes were lost.
    Forked,
}

impl Core {
    pub(super) async fn page(
        &self,
        channel: &ChannelName,
        since: Option<Position>,
        limit: usize,
        retention: Retention,
    ) -> Result<Page, Error> {
        // One more than asked for: the position itself comes first, if it is kept.
        let count = if since.is_some() { limit.max(1) + 1 } else { limit };
        let reading = self.read(channel, since.as_ref().map(|it| it.seq), count, Some(retention)).await?;
        let Some(since) = since else {
            let publications = reading.found.into_iter().rev().map(|it| it.publication).collect();
            return Ok(Page { publications, head: reading.head, unbroken: true });
        };
        match reading.continuity(&since) {
            Continuity::Whole => {
                let unbroken = true;
                let publications = reading.after(&since).take(limit).collect();
                Ok(Page { publications, head: reading.head, unbroken })
            }
            // The epoch goes on: a client may claim any position. What a node knows by itself is another matter.
            Continuity::Forked | Continuity::Trimmed | Continuity::OtherEpoch => {
                Ok(Page { publications: Vec::new(), head: reading.head, unbroken: false })
            }
        }
    }

    pub(super) async fn head(&self, channel: &ChannelName) -> Result<Position, Error> {
        self.read(channel, None, 0, None).await.map(|it| it.head)
    }

    /// Where channels stand. A publication may be on its way here: what stands elsewhere is compared, in its turn.
    pub(super) async fn heads(&self, channels: &[ChannelName]) -> Result<Vec<Position>, Error> {
        let heads = futures_util::future::try_join_all(channels.iter().map(|it| self.head(it))).await?;
        for (channel, head) in channels.iter().zip(&heads) {
            if let Some(server) = self.following.suspects(channel, head) {
                server.errands.add(Errand::Comparison(channel.clone()));
            }
        }
        Ok(heads)
    }

    /// What came after a position this node stands at. Asks until it is answered.
    pub(super) async fn compare(&self, channel: &ChannelName, since: Position) -> Answer {
        let mut pause = server::Pause::default();
        loop {
            match self.try_compare(channel, &since).await {
                Ok(answer) => return answer,
                Err(_) => pause.wait().await,
            }
        }
    }

    async fn try_compare(&self, channel: &ChannelName, since: &Position) -> Result<Answer, Error> {
        let reading = self.read(channel, Some(since.seq), FILL + 1, None).await?;
        Ok(match reading.continuity(since) {
            Continuity::Whole => {
                Answer::Whole { publications: reading.after(since).collect(), head: reading.head.clone() }
            }
            Continuity::Trimmed => Answer::Broken { head: reading.head, why: Gap::Engine },
            Continuity::OtherEpoch => Answer::Broken { head: reading.head, why: Gap::Epoch },
            Continuity::Forked => Answer::Broken { head: self.renew(channel, since.epoch).await?, why: Gap::Epoch },
        })
    }

    /// Without a retention nothing is trimmed: whoever reads does not know the rule.
    async fn read(
        &self,
        channel: &ChannelName,
        since: Option<u64>,
        count: usize,
        retention: Option<Retention>,
    ) -> Result<Reading, Error> {
        let keys = self.names.of(channel);
        let (epoch, count, positions) = (new_epoch(), count.to_string(), millis(self.engine.positions));
        let since = since.map(|it| it.to_string()).unwrap_or_default();
        let size = retention.map(|it| it.size.to_string()).unwrap_or_default();
        let ttl = millis(retention.map_or(Duration::ZERO, |it| it.ttl));
        let words = [&epoch, &since, &count, &size, &ttl, &positions, MAX_BYTES].map(str::as_bytes);
        let call = Call {
            script: &script::HISTORY,
            keys: &[keys.numbering.as_bytes(), keys.stream.as_bytes()],
            arguments: &words,
        };
        let answer = self.call(channel, &call).await?.list().unwrap_or_default();
        let head = read_head(&answer).ok_or(Error::Unknown)?;
        let entries = match answer.into_iter().nth(3) {
            Some(Value::List(entries)) => entries,
            _ => Vec::new(),
        };
        // What somebody else put into the stream is not ours to deliver.
        let found = entries.into_iter().filter_map(|it| read_entry(channel, head.epoch, it)).collect();
        Ok(Reading { head, found })
    }

    /// The epoch cannot be trusted any more: from here on positions in it are refused.
    async fn renew(&self, channel: &ChannelName, epoch: Epoch) -> Result<Position, Error> {
        let keys = self.names.of(channel);
        let (old, new) = (epoch.to_string(), new_epoch());
        let call = Call {
            script: &script::RENEW,
            keys: &[keys.numbering.as_bytes()],
            arguments: &[old.as_bytes(), new.as_bytes()],
        };
        tracing::warn!(%channel, "Redis lost publications it had acknowledged; the channel begins a new epoch");
        let answer = self.call(channel, &call).await?.list().unwrap_or_default();
        read_head(&answer).ok_or(Error::Unknown)
    }

    pub(super) async fn forget(&self, channel: &ChannelName) -> Result<(), Error> {
        let keys = self.names.of(channel);
        self.ask(channel, resp::command(&[b"UNLINK", keys.stream.as_bytes()])).await.map(drop)
    }

    /// The channels that are remembered, at most `limit`, in order of their names. Looks through all keys, a thousand at a
    /// time, so that publications go on meanwhile.
    pub(super) async fn all_channels(&self, prefix: &str, limit: usize) -> Result<Vec<ChannelName>, Error> {
        let pattern = self.names.pattern(prefix);
        let mut names = BTreeSet::new();
        for server in self.servers() {
            let mut cursor = "0".to_owned();
            loop {
                let words = [b"SCAN", cursor.as_bytes(), b"MATCH", pattern.as_bytes(), b"COUNT", b"1000"];
                let answer = self.accept(&server, server.link.ask(resp::command(&words)).await?)?;
                let answer = answer.list().unwrap_or_default();
                let [next, Value::List(keys)] = &answer[..] else { return Err(Error::Unknown) };
                for key in keys {
                    let name = key.text().and_then(|it| self.names.channel_of(it));
                    names.extend(name.and_then(|it| ChannelName::parse(it).ok()));
                    if names.len() > limit {
                        names.pop_last();
                    }
                }
                cursor = next.text().unwrap_or("0").to_owned();
                if cursor == "0" {
                    break;
                }
            }
        }
        Ok(names.into_iter().collect())
    }
}

impl Reading {
    fn continuity(&self, since: &Position) -> Continuity {
        if since.epoch != self.head.epoch {
            return Continuity::OtherEpoch;
        }
        if since.seq > self.head.seq {
            return Continuity::Forked;
        }
        let differs = |ours: &Option<Arc<str>>| matches!((&since.id, ours), (Some(a), Some(b)) if a != b);
        if since.seq == self.head.seq {
            return if differs(&self.head.id) { Continuity::Forked } else { Continuity::Whole };
        }
        match self.found.first() {
            Some(first) if first.publication.seq == since.seq => match differs(&Some(first.publication.id.clone())) {
                true => Continuity::Forked,
                // It is kept, but what came after it was taken out.
                false if self.found.len() == 1 => Continuity::Trimmed,
                false => Continuity::Whole,
            },
            Some(first) if first.publication.seq == since.seq + 1 => match differs(&first.before) {
                true => Continuity::Forked,
                false => Continuity::Whole,
            },
            _ => Continuity::Trimmed,
        }
    }

    fn after(&self, since: &Position) -> impl Iterator<Item = Arc<Publication>> + use<'_> {
        let seq = since.seq;
        self.found.iter().map(|it| it.publication.clone()).filter(move |it| it.seq > seq)
    }
}

fn read_head(answer: &[Value]) -> Option<Position> {
    let [epoch, seq, id, ..] = answer else { return None };
    let id = id.bytes().and_then(|it| record::read_id(it));
    Some(Position { epoch: epoch.text()?.parse().ok()?, seq: seq.number()?, id })
}

fn read_entry(channel: &ChannelName, epoch: Epoch, entry: Value) -> Option<Link> {
    let entry = entry.list()?;
    let [id, before, body] = &entry[..] else { return None };
    record::read_entry(channel, epoch, id.text()?, before.bytes()?, body.bytes()?)
}
