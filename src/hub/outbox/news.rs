//! Who came and who went, on its way to one client. It has no number and stands in no ledger: what cannot be kept is made
//! good by the whole list, so nothing of it is ever lost.

use super::{Entry, Inner, Outbox};
use crate::channel::ChannelName;
use crate::hub::rules::WhenSlow;
use crate::hub::wire::Signal;
use crate::protocol::{Close, Shared};

impl Outbox {
    /// Called by the shard: writes or keeps what a channel's followers are told.
    pub(in crate::hub) fn tell(&self, channel: &ChannelName, news: &Shared, when_slow: WhenSlow) {
        let mut inner = self.lock();
        if !inner.takes_data() {
            return;
        }
        let bytes = news.wire(inner.format);
        if inner.is_clear() && inner.can_write() {
            inner.write_through(bytes, 0, |it| Entry::news(channel, it));
        } else if inner.queued + bytes.len() <= self.limit {
            inner.push(Entry::news(channel, bytes.clone()));
            inner.wake();
        } else if when_slow == WhenSlow::Disconnect {
            inner.close(Close::SLOW);
        } else {
            // Of what waits, nothing older may come after the list that is to follow.
            inner.forget_news(channel);
            let signal = Signal::ListAgain(channel.clone());
            if !inner.signals.contains(&signal) {
                inner.signals.push_back(signal);
            }
            inner.wake();
        }
    }
}

impl Inner {
    fn forget_news(&mut self, channel: &ChannelName) {
        let Self { queue, queued, .. } = self;
        queue.retain(|entry| {
            let stays = entry.news_of.as_ref() != Some(channel);
            if !stays {
                *queued -= entry.bytes.len();
            }
            stays
        });
    }
}
