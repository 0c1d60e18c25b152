use std::sync::Arc;

use super::ChannelName;

/// Something about a channel that is not a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The first subscriber on this node came.
    Occupied { channel: ChannelName },
    /// The last one left.
    Vacated { channel: ChannelName },
    /// The user's first connection came to a channel with presence.
    Joined { channel: ChannelName, user: Arc<str> },
    /// The user's last connection left it.
    Left { channel: ChannelName, user: Arc<str> },
}
