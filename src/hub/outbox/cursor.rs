//! Where an event stream or a poll stands, apart from what is written to it.

use super::{Inner, Outbox};
use crate::channel::{ChannelName, Epoch};
use crate::hub::Trail;
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

impl Inner {
    /// The cursor of a trail that goes on from here in thought. A checkpoint it makes is kept for the next one.
    pub(super) fn cursor_of(&mut self, ahead: Option<Trail>) -> String {
        let Some(mut ahead) = ahead else { return String::new() };
        let cursor = ahead.cursor();
        if let Some(trail) = &mut self.trail {
            trail.keep_bases_of(ahead);
        }
        cursor
    }
}
