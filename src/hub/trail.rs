use std::collections::BTreeMap;
use std::sync::Arc;

use super::checkpoints::Checkpoints;
use crate::channel::{ChannelName, Epoch};
use crate::protocol::cursor;

/// Where an event stream on several channels stands, kept beside its writes so that a cursor never runs ahead of them.
#[derive(Debug)]
pub struct Trail {
    positions: BTreeMap<ChannelName, (Epoch, u64)>,
    checkpoints: Arc<Checkpoints>,
}

impl Trail {
    pub fn new(checkpoints: Arc<Checkpoints>) -> Self {
        Self { positions: BTreeMap::new(), checkpoints }
    }

    pub fn advance(&mut self, channel: &ChannelName, epoch: Epoch, seq: u64) {
        match self.positions.get_mut(channel) {
            Some(position) => *position = (epoch, seq),
            None => {
                self.positions.insert(channel.clone(), (epoch, seq));
            }
        }
    }

    pub fn forget(&mut self, channel: &ChannelName) {
        self.positions.remove(channel);
    }

    pub fn cursor(&self) -> String {
        let text = cursor::encode(self.positions.iter().map(|(channel, (epoch, seq))| (channel, *epoch, *seq)));
        if text.len() <= cursor::MAX_LEN {
            return text;
        }
        let positions = self.positions.iter().map(|(channel, (epoch, seq))| (channel.clone(), *epoch, *seq));
        cursor::checkpoint(&self.checkpoints.keep(positions.collect()))
    }

    /// The cursor as a block of its own: without data no event fires, the browser only remembers the id.
    pub(super) fn id_block(&self) -> Vec<u8> {
        format!("id: {}\n\n", self.cursor()).into_bytes()
    }
}
