//! Where an event stream or a poll stands, apart from what is written to it.

use super::Outbox;
use crate::channel::{ChannelName, Epoch};
use crate::protocol::Format;

impl Outbox {
    /// An event stream that is to follow more than one channel gets its cursor apart from the shared frames.
    pub fn follow_several(&self) {
        let mut inner = self.lock();
        if inner.format == Format::EventStream {
            inner.format = Format::EventStreamMany;
        }
    }

    /// Notes a position the client has without a publication: where a new channel starts.
    pub fn note_position(&self, channel: &ChannelName, epoch: Epoch, seq: u64) {
        if let Some(trail) = &mut self.lock().trail {
            trail.advance(channel, epoch, seq);
        }
    }
}
