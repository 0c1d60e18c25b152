//! Who came and went within moments, and need not be mentioned. Pure: it is told the time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use crate::channel::{Change, ChannelName};

/// Changes that wait whether they cancel out.
#[derive(Debug, Default)]
pub(super) struct Grace {
    /// A change, by what it is about, and where it stands in `due`.
    pending: HashMap<Subject, (Instant, u64)>,
    due: BTreeMap<(Instant, u64), Change>,
    last: u64,
}

/// A channel, or a member of one.
type Subject = (ChannelName, Option<Arc<str>>);

/// Changes that wait at most; beyond it they are told without grace.
const MAX_PENDING: usize = 100_000;

impl Grace {
    /// Keeps a change until `due`. What undoes one that still waits takes it away, and nothing is told of either.
    /// Answers with a change that is to be told at once, where too many wait.
    pub(super) fn add(&mut self, change: Change, due: Instant) -> Option<Change> {
        let subject = subject(&change);
        if let Some(place) = self.pending.remove(&subject) {
            let earlier = self.due.remove(&place).expect("what is pending is due");
            if earlier != change {
                return None;
            }
        }
        if self.pending.len() >= MAX_PENDING {
            return Some(change);
        }
        self.last += 1;
        self.pending.insert(subject, (due, self.last));
        self.due.insert((due, self.last), change);
        None
    }

    /// The next change whose grace is over.
    pub(super) fn next(&mut self, now: Instant) -> Option<Change> {
        let change = self.due.first_entry().filter(|it| it.key().0 <= now)?.remove();
        self.pending.remove(&subject(&change));
        Some(change)
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// All that wait, without waiting.
    pub(super) fn end(&mut self) -> impl Iterator<Item = Change> + use<> {
        self.pending.clear();
        std::mem::take(&mut self.due).into_values()
    }
}

fn subject(change: &Change) -> Subject {
    match change {
        Change::Occupied { channel } | Change::Vacated { channel } => (channel.clone(), None),
        Change::Joined { channel, user } | Change::Left { channel, user } => (channel.clone(), Some(user.clone())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn channel() -> ChannelName {
        ChannelName::parse("room.5").unwrap()
    }

    fn joined(user: &str) -> Change {
        Change::Joined { channel: channel(), user: user.into() }
    }

    fn left(user: &str) -> Change {
        Change::Left { channel: channel(), user: user.into() }
    }

    #[test]
    fn what_cancels_out_in_time_is_not_told_and_what_does_not_is_told_in_order() {
        let (mut grace, start) = (Grace::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(grace.add(left("ada"), at(3)), None);
        assert_eq!(grace.add(Change::Vacated { channel: channel() }, at(3)), None);
        assert_eq!(grace.add(left("bob"), at(4)), None);
        assert_eq!(grace.add(joined("ada"), at(5)), None, "she is back");
        assert_eq!(grace.next(at(2)), None);
        assert_eq!(grace.next(at(4)), Some(Change::Vacated { channel: channel() }));
        assert_eq!(grace.next(at(4)), Some(left("bob")));
        assert_eq!(grace.next(at(9)), None);
        assert_eq!((grace.due(), grace.pending.len()), (None, 0));
        grace.add(left("ada"), at(12));
        assert_eq!(grace.next(at(12)), Some(left("ada")), "leaving again is told");
    }

    #[test]
    fn beyond_the_bound_changes_are_told_without_grace() {
        let (mut grace, now) = (Grace::default(), Instant::now());
        for user in 0..MAX_PENDING {
            assert_eq!(grace.add(joined(&user.to_string()), now), None);
        }
        assert_eq!(grace.add(joined("one more"), now), Some(joined("one more")));
        assert_eq!(grace.end().count(), MAX_PENDING);
        assert_eq!(grace.next(now), None);
    }
}
