//! What subscribers are told of who comes and goes. A quiet channel's changes are told at once, a busy one's are gathered
//! for a moment, and of a large crowd only the number is told: ten thousand clients that join ten thousand others would
//! otherwise be told a hundred million times.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::channel::{ChannelName, Member};
use crate::engine::{Error, Members, Presence};
use crate::hub::inbox::{Inbox, Order};
use crate::protocol::{Moved, Reply, Shared};

/// A channel says who came and went at most this often; of what happens to one user meanwhile, the last counts.
const NEWS_EVERY: Duration = Duration::from_millis(100);
/// And of a crowd how large it is.
const NUMBER_EVERY: Duration = Duration::from_secs(1);

/// The channels of this node whose followers hear who comes and goes.
pub(in crate::hub) struct Crowds {
    inboxes: Arc<[Arc<Inbox>]>,
    /// Held while something is said, so that it is said in order.
    state: Mutex<State>,
    /// Something is to be said later than what was known of.
    later: Notify,
}

#[derive(Default)]
struct State {
    crowds: HashMap<ChannelName, Crowd>,
    /// When which channel is to be looked at; each stands here once.
    due: BinaryHeap<Reverse<(Instant, ChannelName)>>,
}

struct Crowd {
    watchers: u32,
    max_members: usize,
    telling: Telling,
    /// What was not said yet, oldest first.
    pending: Vec<(Arc<Member>, Way)>,
    last_told: Option<Instant>,
    is_due: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Way {
    In,
    Out,
}

/// How a channel's followers are kept informed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telling {
    /// Who came and who went.
    Names,
    /// How many there are.
    Number,
    /// The whole list is being read, since a crowd has become small; changes wait until it is told.
    List,
}

impl Crowds {
    pub(in crate::hub) fn new(inboxes: Arc<[Arc<Inbox>]>) -> Self {
        Self { inboxes, state: Mutex::default(), later: Notify::new() }
    }

    /// Somebody here hears who comes and goes. The newest bound counts.
    pub(super) fn watch(&self, channel: &ChannelName, max_members: usize) {
        let mut state = self.lock();
        let crowd = state.crowds.entry(channel.clone()).or_insert_with(Crowd::new);
        crowd.watchers += 1;
        self.bind(&mut state, channel, max_members);
    }

    pub(super) fn unwatch(&self, channel: &ChannelName) {
        let mut state = self.lock();
        let Some(crowd) = state.crowds.get_mut(channel) else { return };
        crowd.watchers -= 1;
        if crowd.watchers == 0 {
            state.crowds.remove(channel);
        }
    }

    /// The rule names another bound.
    pub(super) fn bound(&self, channel: &ChannelName, max_members: usize) {
        self.bind(&mut self.lock(), channel, max_members);
    }

    fn bind(&self, state: &mut State, channel: &ChannelName, max_members: usize) {
        let Some(crowd) = state.crowds.get_mut(channel) else { return };
        if std::mem::replace(&mut crowd.max_members, max_members) != max_members && crowd.telling == Telling::Number {
            self.look_at(state, channel, Instant::now());
        }
    }

    /// A user came or went; `members` are there now.
    pub(in crate::hub) fn changed(&self, channel: &ChannelName, member: Arc<Member>, way: Way, members: usize) {
        let mut state = self.lock();
        let Some(crowd) = state.crowds.get_mut(channel) else { return };
        let now = Instant::now();
        if crowd.telling != Telling::Number && members > crowd.max_members {
            return self.grow(&mut state, channel, now);
        }
        if crowd.telling != Telling::Number {
            crowd.pending.push((member, way));
        }
        match crowd.last_told.map(|it| it + crowd.interval()).filter(|it| *it > now) {
            None if crowd.telling == Telling::Names => self.say_names(channel, crowd, now),
            next => self.look_at(&mut state, channel, next.unwrap_or(now)),
        }
    }

    /// Who came and went may have been missed: everybody is told the whole list.
    pub(in crate::hub) fn missed(&self) {
        let mut state = self.lock();
        for channel in state.crowds.keys().cloned().collect::<Vec<_>>() {
            self.grow(&mut state, &channel, Instant::now());
        }
    }

    /// Somebody read how many are there: whether that is too many to be listed and told one by one.
    pub(super) fn is_large(&self, channel: &ChannelName, members: usize) -> bool {
        let mut state = self.lock();
        let Some(crowd) = state.crowds.get(channel) else { return false };
        if crowd.telling == Telling::Names && members > crowd.max_members {
            self.grow(&mut state, channel, Instant::now());
            return true;
        }
        // While the list is being read it is about to be told to everybody.
        crowd.telling != Telling::Names
    }

    /// From here on only the number is told, beginning now.
    fn grow(&self, state: &mut State, channel: &ChannelName, now: Instant) {
        if let Some(crowd) = state.crowds.get_mut(channel) {
            crowd.telling = Telling::Number;
            crowd.pending = Vec::new();
            self.look_at(state, channel, now);
        }
    }

    fn look_at(&self, state: &mut State, channel: &ChannelName, at: Instant) {
        let Some(crowd) = state.crowds.get_mut(channel) else { return };
        if !std::mem::replace(&mut crowd.is_due, true) {
            state.due.push(Reverse((at, channel.clone())));
            self.later.notify_one();
        }
    }

    /// Says what is due, for ever. The hub aborts it.
    pub(in crate::hub) async fn work(self: Arc<Self>, presence: Arc<dyn Presence>) {
        loop {
            let channel = self.next_due().await;
            let Some(max_members) = self.begin(&channel) else { continue };
            let members = self.read(&channel, max_members, &*presence).await;
            self.say_number(&channel, members);
        }
    }

    async fn next_due(&self) -> ChannelName {
        loop {
            let at = {
                let mut state = self.lock();
                match state.due.peek() {
                    Some(Reverse((at, _))) if *at <= Instant::now() => {
                        let Reverse((_, channel)) = state.due.pop().expect("it was just looked at");
                        return channel;
                    }
                    next => next.map(|Reverse((at, _))| *at),
                }
            };
            match at {
                None => self.later.notified().await,
                Some(at) => tokio::select! {
                    () = self.later.notified() => {}
                    () = tokio::time::sleep_until(at) => {}
                },
            }
        }
    }

    /// Names are said at once; for a number the engine is to be asked, with the bound it is held against.
    fn begin(&self, channel: &ChannelName) -> Option<usize> {
        let mut state = self.lock();
        let crowd = state.crowds.get_mut(channel)?;
        crowd.is_due = false;
        if crowd.telling == Telling::Names {
            self.say_names(channel, crowd, Instant::now());
            return None;
        }
        Some(crowd.max_members)
    }

    /// How many there are, and all of them once they are few enough.
    async fn read(&self, channel: &ChannelName, max: usize, presence: &dyn Presence) -> Result<Members, Error> {
        let number = presence.members(channel, 0).await?;
        // With a distance, or a channel on the edge would be listed to everybody over and over.
        if number.total > max - max / 4 {
            return Ok(number);
        }
        if let Some(crowd) = self.lock().crowds.get_mut(channel) {
            crowd.telling = Telling::List;
        }
        presence.members(channel, max).await
    }

    fn say_number(&self, channel: &ChannelName, members: Result<Members, Error>) {
        let mut state = self.lock();
        let Some(crowd) = state.crowds.get_mut(channel) else { return };
        if crowd.telling == Telling::Names {
            // Everybody left while the number was read, and these came since.
            return;
        }
        let now = Instant::now();
        let was = std::mem::replace(&mut crowd.telling, Telling::Number);
        crowd.last_told = Some(now);
        let Ok(members) = members else {
            crowd.pending = Vec::new();
            return self.look_at(&mut state, channel, now + NUMBER_EVERY);
        };
        let is_whole = was == Telling::List && members.members.len() == members.total;
        let listed = is_whole.then(|| members.members.iter().map(|it| (&**it).into()).collect());
        self.say(channel, vec![Reply::Members { channel: channel.clone(), members: listed, total: members.total }]);
        if !is_whole {
            crowd.pending = Vec::new();
            return;
        }
        crowd.telling = Telling::Names;
        if !crowd.pending.is_empty() {
            self.look_at(&mut state, channel, now + NEWS_EVERY);
        }
    }

    fn say_names(&self, channel: &ChannelName, crowd: &mut Crowd, now: Instant) {
        let pending = std::mem::take(&mut crowd.pending);
        let mut settled = HashSet::new();
        // Last things first: whoever came and went is told to have gone, since the one who subscribed in between knows
        // of the coming.
        let mut replies: Vec<_> = pending
            .iter()
            .rev()
            .filter(|(member, _)| settled.insert(&member.user))
            .map(|(member, way)| {
                let moved = Moved { channel: channel.clone(), member: (&**member).into() };
                if *way == Way::In { Reply::Joined(moved) } else { Reply::Left(moved) }
            })
            .collect();
        replies.reverse();
        if !replies.is_empty() {
            crowd.last_told = Some(now);
            self.say(channel, replies);
        }
    }

    fn say(&self, channel: &ChannelName, replies: Vec<Reply>) {
        let news = Arc::new(Shared::new(replies));
        for inbox in self.inboxes.iter() {
            inbox.push(Order::News { channel: channel.clone(), news: news.clone() });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }
}

impl Crowd {
    fn new() -> Self {
        Self {
            watchers: 0,
            max_members: 0,
            telling: Telling::Names,
            pending: Vec::new(),
            last_told: None,
            is_due: false,
        }
    }

    fn interval(&self) -> Duration {
        if self.telling == Telling::Number { NUMBER_EVERY } else { NEWS_EVERY }
    }
}
