//! The words everything else is said in: channel, pattern, draft, publication, position, member, retention. Plain values,
//! valid because they exist; nothing here does I/O or knows who uses it.
//!
//! | word | meaning |
//! |---|---|
//! | channel | a name that publications go to and clients follow; it needs no creation |
//! | draft | what somebody wants to publish: no number yet |
//! | publication | a draft that was taken: it has an `epoch`, a `seq`, an `id` and a time |
//! | grant | channels that somebody was given, and for what |
//! | position | the `epoch` and `seq` (and `id`) of the last publication somebody has |
//! | member | a user who follows a channel with presence, over however many connections |
//! | change | a channel got its first subscriber or lost its last, a member came or went |
//! | retention | how many publications a channel keeps, and for how long |

mod change;
mod grant;
mod member;
mod name;
mod pattern;
mod publication;

pub use change::Change;
pub use grant::Grant;
pub use member::{MAX_INFO, Member, member_info};
pub use name::{ChannelName, InvalidName};
pub use pattern::{InvalidPattern, Pattern};
pub use publication::{
    ConnectionId, Data, Draft, Epoch, MAX_DEPTH, Position, Publication, Retention, depth, unique_id,
};

/// Milliseconds since the Unix epoch: the `timestamp` of everything a client hears.
pub fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
