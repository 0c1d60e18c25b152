//! Joining and leaving channels, and the catch-up in between.

use super::permission::{self, Decision};
use super::presence::told;
use super::{Followed, Policy, Session};
use crate::channel::{ChannelName, Position, now};
use crate::hub::{Fed, Hole};
use crate::protocol::{Code, Raw, Reference, Reply, ResumedChannel, Subscribed};
use crate::webhook::{Event, Question};

impl Session {
    pub(super) async fn subscribe(
        &mut self,
        policy: &Policy,
        channel: ChannelName,
        since: Option<Position>,
        reference: Option<Reference>,
    ) {
        if let Err(error) = self.permit(policy, &channel).await {
            return self.say(&error.about(Some(&channel), reference));
        }
        self.join(policy, channel, since, reference).await;
    }

    /// Joins what an event stream or a poll names in its URL and its cursor. With a cursor the client is told, channel by
    /// channel, whether it missed anything; `is_lost` if nobody knows what its cursor meant.
    pub async fn resume(&mut self, channels: Vec<(ChannelName, Option<Position>)>, is_lost: bool) {
        let policy = self.shared.policy();
        let mut resumed = Vec::new();
        for (channel, since) in channels {
            let is_resumed = since.is_some();
            let recovered = match self.permit(&policy, &channel).await {
                Ok(()) => self.join(&policy, channel.clone(), since, None).await.unwrap_or(false),
                Err(error) => {
                    self.say(&error.about(Some(&channel), None));
                    false
                }
            };
            if is_resumed {
                resumed.push(ResumedChannel { channel, recovered });
            }
        }
        if is_lost || !resumed.is_empty() {
            let complete = !is_lost && resumed.iter().all(|it| it.recovered);
            self.say(&Reply::Resumed { channels: resumed, complete });
        }
    }

    pub fn follows(&self, channel: &ChannelName) -> bool {
        self.position(channel).is_ok()
    }

    /// Asks the rules, and where they say so the backend.
    async fn permit(&mut self, policy: &Policy, channel: &ChannelName) -> Result<(), Reply> {
        let refuse = |it: &Self, code, message: String| {
            it.shared.metrics.rejected(code);
            Reply::error(code, message)
        };
        let is_new = self.position(channel).is_err();
        if is_new && self.following.len() >= policy.limits.subscriptions {
            let message = format!("at most {} channels per connection", policy.limits.subscriptions);
            return Err(refuse(self, Code::TooManySubscriptions, message));
        }
        let Some(rule) = policy.rules.find(channel) else {
            return Err(refuse(self, Code::NotAllowed, "no rule allows this channel".into()));
        };
        match permission::may_subscribe(rule, channel, &self.who) {
            Decision::Allow => Ok(()),
            Decision::Deny => Err(refuse(self, Code::NotAllowed, "you may not subscribe to this channel".into())),
            Decision::Ask if policy.webhooks.as_ref().is_some_and(|it| it.asks(Event::Subscribe)) => {
                let verdict = self.ask(policy, &Question::Subscribe { channel }).await?;
                Box::pin(self.apply(policy, verdict)).await;
                Ok(())
            }
            Decision::Ask => Err(refuse(self, Code::NotAllowed, "the backend is not asked about subscriptions".into())),
        }
    }

    /// Joins without asking. A channel that is followed already is joined anew, so that both sides agree on where it
    /// stands whatever the order their messages crossed in. Answers whether a position that was named was recovered.
    pub(super) async fn join(
        &mut self,
        policy: &Policy,
        channel: ChannelName,
        since: Option<Position>,
        reference: Option<Reference>,
    ) -> Option<bool> {
        let mut kept = None;
        if let Ok(at) = self.position(&channel) {
            let followed = self.following.remove(at);
            self.catching_up.retain(|it| *it.channel() != channel);
            followed.subscription.leave().await;
            kept = followed.present;
        }
        let Some(rule) = policy.rules.find(&channel) else {
            let error = Reply::error(Code::NotAllowed, "no rule allows this channel");
            self.say(&error.about(Some(&channel), reference));
            return None;
        };
        if !self.following.is_empty() {
            self.outbox.follow_several();
        }
        let subscribed = match self.shared.hub.subscribe(&channel, since, &self.outbox, rule).await {
            Ok(subscribed) => subscribed,
            Err(error) => {
                self.shared.metrics.rejected(Code::Unavailable);
                let error = Reply::error(Code::Unavailable, error.to_string());
                self.say(&error.about(Some(&channel), reference));
                return None;
            }
        };
        let (present, roll) = match self.attend(rule, &channel, kept).await {
            Ok(attended) => attended.unzip(),
            Err(error) => {
                subscribed.subscription.leave().await;
                self.say(&error.about(Some(&channel), reference));
                return None;
            }
        };
        let position = subscribed.position;
        self.outbox.note_position(&channel, position.epoch, position.seq);
        self.say(&Reply::Subscribed(Subscribed {
            channel: channel.clone(),
            epoch: position.epoch.to_string(),
            seq: position.seq,
            id: position.id.clone(),
            recovered: subscribed.recovered,
            conflated: rule.is_conflated().then_some(true),
            roll: roll.map(told),
            reference,
            timestamp: now(),
        }));
        if let Some(present) = &present {
            present.go_on();
        }
        match subscribed.catch_up {
            Some(catch_up) => self.catching_up.push_back(catch_up),
            None => subscribed.subscription.go_live(position),
        }
        let at = self.position(&channel).unwrap_or_else(|at| at);
        self.following.reserve_exact(1);
        let followed = Followed { present, subscription: subscribed.subscription, since: now() };
        self.following.insert(at, followed);
        subscribed.recovered
    }

    pub(super) async fn unsubscribe(&mut self, channel: ChannelName, reference: Option<Reference>) {
        self.leave(&channel, None, reference).await;
    }

    /// Answered even if it was not followed: the client wants to hear that it is over.
    pub(super) async fn leave(
        &mut self,
        channel: &ChannelName,
        reason: Option<&'static str>,
        reference: Option<Reference>,
    ) {
        if let Ok(at) = self.position(channel) {
            let followed = self.following.remove(at);
            self.catching_up.retain(|it| it.channel() != channel);
            self.tell_left(&followed, reason);
            if let Some(present) = followed.present {
                present.end();
            }
            // Only after this can no message of the channel follow its `unsubscribed`.
            followed.subscription.leave().await;
        }
        self.say(&Reply::Unsubscribed { channel: channel.clone(), reason, reference, timestamp: now() });
    }

    /// Leaves every channel that rules or grants no longer allow.
    pub(super) async fn leave_forbidden(&mut self, policy: &Policy) {
        self.outbox.grant(self.who.grants.shared());
        let may_stay = |it: &ChannelName| permission::may_stay(&policy.rules, it, &self.who);
        let forbidden: Vec<_> = self.channels().filter(|it| !may_stay(it)).cloned().collect();
        for channel in forbidden {
            self.leave(&channel, Some("not_allowed"), None).await;
        }
    }

    pub fn is_catching_up(&self) -> bool {
        !self.catching_up.is_empty() || !self.listing.is_empty()
    }

    /// Writes one helping of what was missed. Call it while the outbox is nearly empty: its pace is the client's.
    pub async fn feed(&mut self) {
        if let Some(channel) = self.listing.pop() {
            return self.list(channel).await;
        }
        let Some(mut catch_up) = self.catching_up.pop_front() else { return };
        let hub = self.shared.hub.clone();
        match catch_up.feed(&hub, &self.outbox).await {
            Fed::More => self.catching_up.push_back(catch_up),
            Fed::Done(caught) => {
                if let Ok(at) = self.position(catch_up.channel()) {
                    self.following[at].subscription.go_on(caught);
                }
            }
        }
    }

    /// The channel's history is read on from where the subscription has a hole.
    pub fn catch_up_again(&mut self, hole: Hole) {
        let Ok(at) = self.position(hole.channel()) else { return };
        let retention = self.shared.policy().rules.retention(hole.channel());
        self.catching_up.extend(self.shared.hub.catch_up_again(&self.following[at].subscription, hole, retention));
    }

    /// What a followed channel keeps of its past.
    pub(super) async fn history(
        &mut self,
        policy: &Policy,
        channel: ChannelName,
        since: Option<Position>,
        limit: usize,
        reference: Option<Reference>,
    ) {
        let refuse = |it: &Self, code, message: &str| {
            it.shared.metrics.rejected(code);
            it.say(&Reply::error(code, message).about(Some(&channel), reference.clone()));
        };
        if self.position(&channel).is_err() {
            return refuse(self, Code::NotSubscribed, "history is for subscribers of the channel");
        }
        let retention = policy.rules.retention(&channel);
        let Ok(page) = self.shared.hub.history(&channel, since, limit, retention).await else {
            return refuse(self, Code::Unavailable, "the engine is out of reach");
        };
        let last = page.publications.last().map_or(page.head.seq, |it| it.seq);
        let messages = page.publications.into_iter().map(|it| Raw(self.shared.hub.push_of(it).json().clone()));
        self.say(&Reply::History {
            epoch: page.head.epoch.to_string(),
            seq: page.head.seq,
            messages: messages.collect(),
            complete: page.unbroken && last == page.head.seq,
            channel,
            reference,
        });
    }

    /// Where a channel stands among those followed, or belongs.
    pub(super) fn position(&self, channel: &ChannelName) -> Result<usize, usize> {
        self.following.binary_search_by(|it| it.subscription.channel().cmp(channel))
    }
}
