use super::{ChannelName, Pattern};

/// Channels that somebody was given, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub pattern: Pattern,
    pub subscribe: bool,
    pub publish: bool,
}

impl Grant {
    /// Whether the channel is among them, for a client whose id is `user`.
    pub fn covers(&self, channel: &ChannelName, user: Option<&str>) -> bool {
        self.pattern.matches(channel, user)
    }
}
