//! What the backend is told of a session once it needs no answer: that it is there to be missed, left a channel, is over.

use std::time::Duration;

use super::{Followed, Session};
use crate::channel::now;
use crate::protocol::Close;
use crate::webhook::Notice;

/// Nobody said goodbye: the client closed an event stream, or the network did (RFC 6455 section 7.1.5).
const LOST: Close = Close { code: 1006, reason: std::borrow::Cow::Borrowed("Connection lost") };

impl Session {
    /// Notes it for the case that this process does not live to tell of its end. Again when what is noted has changed.
    pub(super) fn note(&mut self) {
        let notices = self.shared.notices.clone();
        self.with_connection(|connection, lane| notices.note(connection, lane));
    }

    pub(super) fn tell_left(&mut self, followed: &Followed, reason: Option<&str>) {
        let lasted = Duration::from_millis(now().saturating_sub(followed.since));
        let (channel, reason) = (followed.subscription.channel(), reason.unwrap_or("client"));
        let notices = self.shared.notices.clone();
        self.with_connection(|connection, lane| {
            notices.tell(&Notice::Unsubscribe { connection, channel, reason, lasted }, lane);
        });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let (end, lasted) = (self.outbox.end().unwrap_or(LOST), self.since.elapsed());
        let notices = self.shared.notices.clone();
        self.with_connection(|connection, lane| {
            notices.ended(connection, lane, end.code, &end.reason, lasted);
        });
    }
}
