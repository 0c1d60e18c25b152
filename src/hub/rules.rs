//! The rules of channels: first match wins, no rule means refused. A pure table; deciding by it is the session's.

use std::time::Duration;

use crate::channel::{ChannelName, Pattern, Retention};

/// All rules of a generation, in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Rules(Vec<Rule>);

/// What holds for the channels of one pattern.
#[derive(Clone, Debug)]
pub struct Rule {
    pub pattern: Pattern,
    pub subscribe: Access,
    pub publish: Publish,
    pub history: Retention,
    pub when_slow: WhenSlow,
    /// Whether subscribers are told who is there.
    pub presence: Option<Attendance>,
    /// Its subscribers get one publication in such an interval, the newest.
    pub min_interval: Option<Duration>,
}

/// How presence is kept in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attendance {
    /// Beyond so many members subscribers are told only how many there are.
    pub max_members: usize,
}

/// Who may subscribe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every client.
    Public,
    /// Every client with a user id.
    User,
    /// Whose token or connect verdict grants the channel.
    Grant,
    /// Whom the backend allows when asked.
    Webhook,
}

/// What happens to a client's publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Publish {
    /// The backend is asked first.
    pub webhook: bool,
    /// It goes to the subscribers, once allowed.
    pub broadcast: bool,
}

/// What a subscriber who does not keep up loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WhenSlow {
    /// The connection; it comes back from its position.
    #[default]
    Disconnect,
    /// The oldest publications, and it is told the gap.
    DropOldest,
    /// Every publication that a newer one of the channel overtook.
    LatestOnly,
}

impl Rules {
    pub fn new(rules: Vec<Rule>) -> Self {
        Self(rules)
    }

    /// The rule of a channel. A `{user}` in a pattern stands for any user's id here, so that a channel has one rule
    /// whoever asks; whether it is the asking client's own is [`Rule::is_open_to`].
    pub fn find(&self, channel: &ChannelName) -> Option<&Rule> {
        self.place(channel).map(|(_, rule)| rule)
    }

    /// The same, and where it stands in the file.
    pub fn place(&self, channel: &ChannelName) -> Option<(usize, &Rule)> {
        self.0.iter().enumerate().find(|(_, it)| it.pattern.matches_for_somebody(channel))
    }

    /// For a name that no rule covers: the one that was probably meant.
    pub fn nearest(&self, channel: &ChannelName) -> Option<&Rule> {
        let nearest = self.0.iter().min_by_key(|it| it.pattern.distance(channel))?;
        let length = channel.as_str().len();
        (nearest.pattern.distance(channel) <= (1 + length / 4).min(length - 1)).then_some(nearest)
    }

    /// How much of its past a channel keeps.
    pub fn retention(&self, channel: &ChannelName) -> Retention {
        self.find(channel).map_or(Retention::NONE, |it| it.history)
    }
}

impl Rule {
    /// Whether newer publications take the place of older ones, so that a hole in the numbers is no loss.
    pub fn is_conflated(&self) -> bool {
        self.when_slow == WhenSlow::LatestOnly || self.min_interval.is_some()
    }

    /// Whether the pattern, with the client's own id in it, covers the channel.
    pub fn is_open_to(&self, channel: &ChannelName, user: Option<&str>) -> bool {
        self.pattern.matches(channel, user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_users_channel_does_not_fall_through_to_a_later_rule() {
        let rule = |pattern: &str, subscribe| Rule {
            pattern: Pattern::parse(pattern).unwrap(),
            subscribe,
            publish: Publish::default(),
            history: Retention::NONE,
            when_slow: WhenSlow::Disconnect,
            presence: None,
            min_interval: None,
        };
        let rules = Rules::new(vec![rule("user.{user}.**", Access::User), rule("**", Access::Public)]);
        let channel = ChannelName::parse("user.42.mail").unwrap();
        let found = rules.find(&channel).unwrap();
        assert_eq!(found.subscribe, Access::User);
        assert!(found.is_open_to(&channel, Some("42")) && !found.is_open_to(&channel, Some("43")));
    }
}
