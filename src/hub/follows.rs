use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::FutureExt;
use futures_util::future::Shared;

use super::Changes;
use super::reads::Reads;
use crate::channel::{Change, ChannelName};
use crate::engine::{BoxFuture, Broker, Error};

/// How many clients of this node follow each channel: the first makes the engine follow it, the last lets it go.
pub(super) struct Follows {
    counts: Mutex<HashMap<ChannelName, Follow>>,
    broker: Arc<dyn Broker>,
    changes: Changes,
    reads: Arc<Reads>,
}

#[derive(Default)]
struct Follow {
    count: u32,
    /// While the engine has not answered yet: everybody waits for it, or would miss what comes before it does.
    beginning: Option<Shared<BoxFuture<'static, Result<(), Error>>>>,
}

/// Counts a client until it is told that it follows; dropped before, it takes the client back.
struct Counted<'a>(Option<(&'a Follows, &'a ChannelName)>);

impl Follows {
    pub(super) fn new(broker: Arc<dyn Broker>, reads: Arc<Reads>, changes: Changes) -> Self {
        Self { counts: Mutex::default(), broker, changes, reads }
    }

    pub(super) async fn add(&self, channel: &ChannelName) -> Result<(), Error> {
        let beginning = {
            let mut counts = self.lock();
            let follow = counts.entry(channel.clone()).or_default();
            follow.count += 1;
            if follow.count == 1 {
                // Under the lock, as below: told in the order it happens.
                self.tell(Change::Occupied { channel: channel.clone() });
                follow.beginning = Some(self.begin(channel).shared());
            }
            follow.beginning.clone()
        };
        let mut counted = Counted(Some((self, channel)));
        if let Some(beginning) = beginning {
            beginning.await?;
            if let Some(follow) = self.lock().get_mut(channel) {
                follow.beginning = None;
            }
        }
        counted.0 = None;
        Ok(())
    }

    fn begin(&self, channel: &ChannelName) -> BoxFuture<'static, Result<(), Error>> {
        let (broker, reads, channel) = (self.broker.clone(), self.reads.clone(), channel.clone());
        Box::pin(async move {
            broker.follow(&channel).await?;
            // What was published while nobody followed was not heard here.
            reads.forget(&channel);
            Ok(())
        })
    }

    pub(super) fn remove(&self, channel: &ChannelName) {
        let mut counts = self.lock();
        let Some(follow) = counts.get_mut(channel) else { return };
        follow.count -= 1;
        if follow.count == 0 {
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
        self.lock().get(channel).map_or(0, |it| it.count)
    }

    /// Channels with at least one client, at most `limit`, in order of their names.
    pub(super) fn names(&self, prefix: &str, limit: usize) -> Vec<(ChannelName, u32)> {
        let mut names: Vec<_> = {
            let counts = self.lock();
            let named = counts.iter().filter(|(it, _)| it.as_str().starts_with(prefix));
            named.map(|(it, follow)| (it.clone(), follow.count)).collect()
        };
        names.sort_unstable();
        names.truncate(limit);
        names
    }

    pub(super) fn all(&self) -> Vec<ChannelName> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelName, Follow>> {
        self.counts.lock().expect("nothing panics under this lock")
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if let Some((follows, channel)) = self.0 {
            follows.remove(channel);
        }
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
        let follows = Follows::new(Arc::new(engine::Memory::new(settings, Arc::new(Nobody))), Arc::default(), changes);
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
