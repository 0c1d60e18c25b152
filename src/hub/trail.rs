use std::collections::VecDeque;
use std::sync::Arc;

use super::checkpoints::{Checkpoints, Positions};
use crate::channel::{ChannelName, Epoch};
use crate::protocol::cursor;

/// Where an event stream or a poll stands, kept beside its writes so that a cursor never runs ahead of them.
#[derive(Clone, Debug)]
pub struct Trail {
    /// In order of the channels' names.
    positions: Vec<(ChannelName, Epoch, u64)>,
    checkpoints: Arc<Checkpoints>,
    /// Where it stood when its cursor became too long, newest last. A cursor names one and what has changed since: a
    /// checkpoint with every write would push out everybody else's.
    bases: VecDeque<Base>,
    user: Option<Arc<str>>,
}

#[derive(Clone, Debug)]
struct Base {
    name: Box<str>,
    positions: Positions,
}

/// A client may have read less than was written to it: its cursor can be one of an older base.
const BASES: usize = 4;

impl Trail {
    pub fn new(checkpoints: Arc<Checkpoints>) -> Self {
        Self { positions: Vec::new(), checkpoints, bases: VecDeque::new(), user: None }
    }

    pub fn advance(&mut self, channel: &ChannelName, epoch: Epoch, seq: u64) {
        match self.positions.binary_search_by(|it| it.0.cmp(channel)) {
            Ok(at) => (self.positions[at].1, self.positions[at].2) = (epoch, seq),
            Err(at) => {
                // Most streams follow one channel.
                self.positions.reserve_exact(1);
                self.positions.insert(at, (channel.clone(), epoch, seq));
            }
        }
    }

    /// Whose it is, from now on.
    pub fn belongs_to(&mut self, user: &Arc<str>) {
        self.user = Some(user.clone());
    }

    pub fn forget(&mut self, channel: &ChannelName) {
        self.positions.retain(|it| it.0 != *channel);
    }

    pub fn cursor(&mut self) -> String {
        let text = cursor::encode(self.positions.iter().map(|(channel, epoch, seq)| (channel, *epoch, *seq)));
        if text.len() <= cursor::MAX_LEN {
            return text;
        }
        let since_last = self.bases.back().and_then(|it| it.cursor_at(&self.positions));
        since_last.filter(|it| it.len() <= cursor::MAX_LEN).unwrap_or_else(|| self.begin_base())
    }

    pub(super) fn keep_bases_of(&mut self, ahead: Self) {
        self.bases = ahead.bases;
    }

    fn begin_base(&mut self) -> String {
        if self.bases.len() >= BASES
            && let Some(oldest) = self.bases.pop_front()
        {
            self.checkpoints.let_go(&oldest.name);
        }
        let positions: Positions = self.positions.as_slice().into();
        let name = self.checkpoints.keep(positions.clone(), self.user.clone());
        let cursor = cursor::since_checkpoint(&name, std::iter::empty());
        self.bases.push_back(Base { name, positions });
        cursor
    }

    /// The cursor as a block of its own: without data no event fires, the browser only remembers the id.
    pub(super) fn id_block(&mut self) -> Vec<u8> {
        format!("id: {}\n\n", self.cursor()).into_bytes()
    }
}

impl Base {
    /// The cursor of positions that are this far from it; none where a channel of it was left.
    fn cursor_at(&self, positions: &[(ChannelName, Epoch, u64)]) -> Option<String> {
        let mut then = self.positions.iter().peekable();
        let changed: Vec<_> = positions
            .iter()
            .filter(|now| then.next_if(|then| then.0 == now.0) != Some(*now))
            .map(|(channel, epoch, seq)| (channel, *epoch, *seq))
            .collect();
        then.next().is_none().then(|| cursor::since_checkpoint(&self.name, changed.into_iter()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::cursor::{Cursor, decode};

    fn channel(at: usize) -> ChannelName {
        ChannelName::parse(&format!("{at:03}.{}", "x".repeat(60))).unwrap()
    }

    /// What a server makes of a cursor.
    fn resumed(checkpoints: &Checkpoints, cursor: &str) -> Option<Vec<u64>> {
        let Some(Cursor::Checkpoint { name, since }) = decode(cursor) else { panic!("{cursor}") };
        let mut positions: Vec<_> = checkpoints.find(&name)?.iter().map(|it| it.2).collect();
        for (name, at) in since {
            positions[name.as_str()[..3].parse::<usize>().unwrap()] = at.seq;
        }
        Some(positions)
    }

    #[test]
    fn a_long_cursor_is_exact_at_every_step_and_a_busy_stream_keeps_few_checkpoints() {
        let checkpoints = Arc::new(Checkpoints::default());
        let mut trail = Trail::new(checkpoints.clone());
        trail.belongs_to(&"42".into());
        (0..100).for_each(|at| trail.advance(&channel(at), Epoch(7), 0));
        let mut cursors = Vec::new();
        for step in 0..1000 {
            trail.advance(&channel(step * 37 % 100), Epoch(7), step as u64 + 1);
            let cursor = trail.cursor();
            assert!(cursor.len() <= cursor::MAX_LEN);
            let positions: Vec<_> = trail.positions.iter().map(|it| it.2).collect();
            assert_eq!(resumed(&checkpoints, &cursor).as_ref(), Some(&positions));
            cursors.push((cursor, positions));
        }
        for (cursor, positions) in &cursors[940..] {
            assert_eq!(resumed(&checkpoints, cursor).as_ref(), Some(positions), "one that was not read yet");
        }
        assert_eq!(checkpoints.forget("42"), BASES);
    }

    #[test]
    fn joining_one_channel_after_the_other_takes_few_checkpoints() {
        let checkpoints = Arc::new(Checkpoints::default());
        let mut trail = Trail::new(checkpoints.clone());
        let cursors: Vec<_> = (0..100)
            .map(|at| {
                trail.advance(&channel(at), Epoch(7), at as u64);
                trail.cursor()
            })
            .collect();
        let Some(Cursor::Checkpoint { name, since }) = decode(cursors.last().unwrap()) else { panic!("a long one") };
        assert_eq!(checkpoints.find(&name).unwrap().len() + since.len(), 100);
        let named = |it: &String| it.strip_prefix('c').map(|it| it.split('~').next().unwrap().to_owned());
        let names: std::collections::HashSet<_> = cursors.iter().filter_map(named).collect();
        assert!(names.len() < 8, "{}", names.len());
    }

    #[test]
    fn a_channel_that_was_left_does_not_come_back_with_a_checkpoint() {
        let checkpoints = Arc::new(Checkpoints::default());
        let mut trail = Trail::new(checkpoints.clone());
        (0..100).for_each(|at| trail.advance(&channel(at), Epoch(7), 0));
        trail.cursor();
        trail.forget(&channel(99));
        assert_eq!(resumed(&checkpoints, &trail.cursor()).unwrap().len(), 99);
    }
}
