use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::Changes;
use crate::channel::{Change, ChannelName};
use crate::engine::{Broker, Error};

/// How many clients of this node follow each channel: the first makes the engine follow it, the last lets it go.
pub(super) struct Follows {
    counts: Mutex<HashMap<ChannelName, u32>>,
    broker: Arc<dyn Broker>,
    changes: Changes,
}

/// Takes the count back if the engine does not come to follow.
struct Counted<'a> {
    follows: &'a Follows,
    channel: &'a ChannelName,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.follows.remove(self.channel);
    }
}

impl Follows {
    pub(super) fn new(broker: Arc<dyn Broker>, changes: Changes) -> Self {
        Self { counts: Mutex::default(), broker, changes }
    }

    pub(super) async fn add(&self, channel: &ChannelName) -> Result<(), Error> {
        {
            let mut counts = self.lock();
            let count = counts.entry(channel.clone()).or_insert(0);
            *count += 1;
            if *count == 1 {
                // Under the lock, as below: told in the order it happens.
                self.tell(Change::Occupied { channel: channel.clone() });
            }
        }
        // Whoever comes second waits too: before the engine follows, what it then reads of the history may be followed by
        // publications that nobody brings. And a client that goes away meanwhile is not counted for ever.
        let counted = Counted { follows: self, channel };
        self.broker.follow(channel).await?;
        std::mem::forget(counted);
        Ok(())
    }

    pub(super) fn remove(&self, channel: &ChannelName) {
        let mut counts = self.lock();
        let Some(count) = counts.get_mut(channel) else { return };
        *count -= 1;
        if *count == 0 {
            counts.remove(channel);
            // Under the lock: a client that comes now makes the engine follow again after this.
            self.broker.unfollow(channel);
            self.tell(Change::Vacated { channel: channel.clone() });
        }
    }

    fn tell(&self, change: Change) {
        if let Some(tell) = self.changes.get() {
            tell(change);
        }
    }

    pub(super) fn count(&self, channel: &ChannelName) -> u32 {
        self.lock().get(channel).copied().unwrap_or(0)
    }

    /// Channels with at least one client, at most `limit`, in order of their names.
    pub(super) fn names(&self, prefix: &str, limit: usize) -> Vec<(ChannelName, u32)> {
        let mut names: Vec<_> = {
            let counts = self.lock();
            counts.iter().filter(|(it, _)| it.as_str().starts_with(prefix)).map(|(it, n)| (it.clone(), *n)).collect()
        };
        names.sort_unstable();
        names.truncate(limit);
        names
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ChannelName, u32>> {
        self.counts.lock().expect("nothing panics under this lock")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::{self, BoxFuture, Deliver};

    /// Nothing is published here.
    struct Nobody;

    impl Deliver for Nobody {
        fn room(&self) -> BoxFuture<'_, ()> {
            Box::pin(std::future::ready(()))
        }

        fn publication(&self, _: Arc<crate::channel::Publication>) {}
    }

    #[tokio::test]
    async fn the_first_and_the_last_follower_are_told_and_nobody_in_between() {
        let (told, changes) = (Arc::new(Mutex::new(Vec::new())), Changes::default());
        let hear = told.clone();
        changes.get_or_init(|| Box::new(move |change| hear.lock().unwrap().push(change)));
        let day = Duration::from_secs(86_400);
        let settings = engine::Settings { positions: day, channels: 10, idempotency: day, idempotency_ids: 10 };
        let follows = Follows::new(Arc::new(engine::Memory::new(settings, Arc::new(Nobody))), changes);
        let channel = ChannelName::parse("room.5").unwrap();
        let heard = || std::mem::take(&mut *told.lock().unwrap());
        follows.add(&channel).await.unwrap();
        assert_eq!(heard(), [Change::Occupied { channel: channel.clone() }]);
        follows.add(&channel).await.unwrap();
        follows.remove(&channel);
        assert_eq!(heard(), []);
        follows.remove(&channel);
        assert_eq!(heard(), [Change::Vacated { channel: channel.clone() }]);
        follows.remove(&channel);
        assert_eq!(heard(), []);
    }
}
