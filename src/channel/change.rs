use std::sync::Arc;

use super::ChannelName;

/// What happened to a channel's subscribers and members, for whoever tells the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The first subscriber on this node came.
    Occupied { channel: ChannelName },
    /// The last subscriber on this node went.
    Vacated { channel: ChannelName },
    /// The first connection of a user came, on this node.
    Joined { channel: ChannelName, user: Arc<str> },
    /// The last connection of a user went, on this node.
    Left { channel: ChannelName, user: Arc<str> },
}
