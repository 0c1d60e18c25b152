//! What one client may be told, held against what was truly published.

use std::collections::HashSet;

use super::*;

/// Every publication the engine took.
#[derive(Default)]
pub(super) struct Truth(Mutex<HashMap<(ChannelName, Epoch, u64), Arc<Publication>>>);

impl Truth {
    pub fn note(&self, it: &Arc<Publication>) {
        self.0.lock().unwrap().insert((it.channel.clone(), it.epoch, it.seq), it.clone());
    }

    fn find(&self, channel: &ChannelName, epoch: Epoch, seq: u64) -> Option<Arc<Publication>> {
        self.0.lock().unwrap().get(&(channel.clone(), epoch, seq)).cloned()
    }
}

/// What a client asked for when it subscribed.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub since: Option<Position>,
    /// The position is one that nobody ever was at.
    pub is_forged: bool,
}

/// One connection's view of its channel.
pub(super) struct View {
    pub channel: ChannelName,
    pub connection: ConnectionId,
    /// It was told that older ones give way to newer ones.
    pub is_conflated: bool,
    pub asked: std::collections::VecDeque<Asked>,
    /// Where it stands, while it is subscribed.
    pub at: Option<Position>,
    pub told: HashSet<&'static str>,
    read: usize,
}

impl View {
    pub fn new(channel: &ChannelName, connection: ConnectionId, is_conflated: bool) -> Self {
        let (channel, asked, told) = (channel.clone(), Default::default(), HashSet::new());
        Self { channel, connection, is_conflated, asked, at: None, told, read: 0 }
    }

    /// Takes in every whole frame there is.
    pub fn read(&mut self, bytes: &[u8], truth: &Truth) -> Result<(), String> {
        while let Some((payload, end)) = frame(&bytes[self.read..]) {
            let message: Value = serde_json::from_slice(payload).expect("a frame holds one JSON message");
            let before = self.at.clone();
            self.hear(&message, truth).map_err(|why| format!("{why}: {message} at {before:?}"))?;
            self.read += end;
        }
        Ok(())
    }

    fn hear(&mut self, it: &Value, truth: &Truth) -> Result<(), String> {
        let seq = it["seq"].as_u64();
        let epoch = || it["epoch"].as_str().and_then(|it| it.parse().ok()).ok_or("no epoch");
        match it["type"].as_str().unwrap() {
            "subscribed" => {
                let position = Position { epoch: epoch()?, seq: seq.ok_or("no seq")?, id: None };
                self.subscribed(position, it["recovered"].as_bool(), truth)
            }
            "unsubscribed" => {
                self.at = None;
                Ok(())
            }
            "gap" => {
                self.told.insert("gap");
                let before = self.at.take().ok_or("a gap while not subscribed")?;
                let position = Position { epoch: epoch()?, seq: seq.ok_or("no seq")?, id: None };
                let goes_back = position.epoch == before.epoch && position.seq < before.seq;
                self.at = Some(position);
                // Only an engine that lost its tail could go back, and this one starts anew.
                if goes_back { Err("a gap that goes back".into()) } else { Ok(()) }
            }
            kind @ ("message" | "skipped") => self.next(seq.ok_or("no seq")?, kind == "skipped", it, truth),
            other => Err(format!("unexpected {other}")),
        }
    }

    fn subscribed(&mut self, at: Position, recovered: Option<bool>, truth: &Truth) -> Result<(), String> {
        let asked = self.asked.pop_front().ok_or("an answer to nothing")?;
        match (&asked.since, recovered) {
            (None, None) => {}
            (Some(_), Some(false)) => {
                self.told.insert("not recovered");
            }
            (Some(_), Some(true)) if asked.is_forged => return Err("a position nobody was at was recovered".into()),
            (Some(since), Some(true)) => {
                self.told.insert("recovered");
                let named = truth.find(&self.channel, since.epoch, since.seq);
                let is_known =
                    since.seq == 0 || named.is_some_and(|it| since.id.as_ref().is_none_or(|id| *id == it.id));
                if !is_known || (at.epoch, at.seq) != (since.epoch, since.seq) {
                    return Err(format!("recovered from elsewhere than {since:?}"));
                }
            }
            _ => return Err("an answer to another question".into()),
        }
        self.at = Some(at);
        Ok(())
    }

    fn next(&mut self, seq: u64, is_skip: bool, it: &Value, truth: &Truth) -> Result<(), String> {
        let before = self.at.take().ok_or("a message while not subscribed")?;
        let is_in_place = if self.is_conflated { seq > before.seq } else { seq == before.seq + 1 };
        if !is_in_place {
            return Err("out of its place".into());
        }
        let published = truth.find(&self.channel, before.epoch, seq).ok_or("never published in this epoch")?;
        if published.exclude.contains(&self.connection) != is_skip {
            return Err("an exclusion that was not heeded, or none that was".into());
        }
        if !is_skip && it["id"].as_str() != Some(&published.id) {
            return Err("another publication has this number".into());
        }
        self.at = Some(published.position());
        Ok(())
    }
}

/// The payload of the first whole frame, and where it ends.
fn frame(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (start, len) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => panic!("no frame is that long"),
        short => (2, usize::from(short)),
    };
    Some((bytes.get(start..start + len)?, start + len))
}
