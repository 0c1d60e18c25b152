use std::sync::Arc;

use super::checkpoints::Checkpoints;
use crate::channel::{ChannelName, Epoch};
use crate::protocol::cursor;

/// Where an event stream or a poll stands, kept beside its writes so that a cursor never runs ahead of them.
#[derive(Clone, Debug)]
pub struct Trail {
    /// In order of the channels' names.
    positions: Vec<(ChannelName, Epoch, u64)>,
    checkpoints: Arc<Checkpoints>,
    user: Option<Arc<str>>,
}

impl Trail {
    pub fn new(checkpoints: Arc<Checkpoints>) -> Self {
        Self { positions: Vec::new(), checkpoints, user: None }
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

    pub fn cursor(&self) -> String {
        let text = cursor::encode(self.positions.iter().map(|(channel, epoch, seq)| (channel, *epoch, *seq)));
        if text.len() <= cursor::MAX_LEN {
            return text;
        }
        cursor::checkpoint(&self.checkpoints.keep(self.positions.clone(), self.user.clone()))
    }

    /// The cursor as a block of its own: without data no event fires, the browser only remembers the id.
    pub(super) fn id_block(&self) -> Vec<u8> {
        format!("id: {}\n\n", self.cursor()).into_bytes()
    }
}
