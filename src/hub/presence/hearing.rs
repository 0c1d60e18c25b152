use std::sync::Arc;

use crate::channel::ChannelName;
use crate::hub::outbox::Outbox;
use crate::hub::rules::WhenSlow;
use crate::hub::wire::Signal;
use crate::protocol::{Format, Shared};

/// What is held for one client until it was told the list; beyond that it is told the list again.
const MAX_HELD: usize = 64 * 1024;

/// What a follower's session wants of who comes and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Hear {
    /// Held, while the list is read: a change that came between the two must not be heard before it.
    Hold,
    /// What is held, and then everything as it comes.
    Tell,
    Nothing,
}

/// A follower that hears who comes and goes.
#[derive(Default)]
pub(in crate::hub) struct Hearing {
    is_held: bool,
    news: Vec<Arc<Shared>>,
    bytes: usize,
    lists_again: bool,
}

impl Hearing {
    pub(in crate::hub) fn hear(
        hearing: &mut Option<Box<Self>>,
        what: Hear,
        channel: &ChannelName,
        outbox: &Outbox,
        when_slow: WhenSlow,
    ) {
        match (what, &mut *hearing) {
            (Hear::Nothing, _) => *hearing = None,
            (Hear::Hold, _) => hearing.get_or_insert_default().is_held = true,
            (Hear::Tell, Some(hearing)) => hearing.release(channel, outbox, when_slow),
            (Hear::Tell, None) => {}
        }
    }

    pub(in crate::hub) fn tell(
        &mut self,
        news: &Arc<Shared>,
        channel: &ChannelName,
        outbox: &Outbox,
        when_slow: WhenSlow,
    ) {
        match (self.is_held, self.lists_again) {
            (false, _) => outbox.tell(channel, news, when_slow),
            (true, false) => self.keep(news),
            (true, true) => {}
        }
    }

    fn keep(&mut self, news: &Arc<Shared>) {
        self.bytes += news.wire(Format::Poll).len();
        self.news.push(news.clone());
        if self.bytes > MAX_HELD {
            *self = Self { is_held: true, lists_again: true, ..Self::default() };
        }
    }

    fn release(&mut self, channel: &ChannelName, outbox: &Outbox, when_slow: WhenSlow) {
        let held = std::mem::take(self);
        for news in &held.news {
            outbox.tell(channel, news, when_slow);
        }
        if held.lists_again {
            outbox.signal(Signal::ListAgain(channel.clone()));
        }
    }
}
