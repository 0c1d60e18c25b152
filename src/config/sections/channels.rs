use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::channel::Pattern;
use crate::config::values::{Duration, Text, seconds};

/// What holds for the channels of one pattern.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// `*` is one dot-separated segment, `**` the rest, {user} the client's own id.
    #[serde(rename = "match")]
    #[schemars(example = &"room.*")]
    pub pattern: Text<Pattern>,
    /// Who may follow: public (everybody), user (who has an id), grant (whose token says so), webhook (whom the
    /// backend allows).
    #[serde(default)]
    pub subscribe: Subscribe,
    /// What becomes of a client's publication: none (refused), webhook (the backend is told), broadcast (it goes to
    /// the subscribers), webhook+broadcast (the backend is asked first).
    #[serde(default)]
    pub publish: Publish,
    /// What is kept for clients that come back.
    #[serde(default)]
    pub history: Option<History>,
    /// What a subscriber who does not keep up loses: disconnect, drop_oldest or latest_only.
    #[serde(default)]
    pub when_slow: WhenSlow,
    /// Keep who is there: subscribers with a user id are members, and all subscribers hear who comes and goes.
    #[serde(default)]
    pub presence: bool,
    /// Beyond so many members subscribers hear only how many there are.
    #[serde(default = "many_members")]
    pub max_members: usize,
    /// Subscribers get at most one publication in such an interval: the newest, at its end. For values that change
    /// faster than anybody looks. Those who come back get the newest alone.
    #[serde(default)]
    pub min_interval: Option<Duration>,
}

/// What a page can show, and what a thousand clients that come at once can be told of each other.
fn many_members() -> usize {
    1000
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Subscribe {
    Public,
    User,
    #[default]
    Grant,
    Webhook,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Publish {
    #[default]
    None,
    Webhook,
    Broadcast,
    #[serde(rename = "webhook+broadcast")]
    WebhookAndBroadcast,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    /// Publications kept per channel.
    #[schemars(range(min = 1))]
    pub size: usize,
    /// How long they are kept.
    pub ttl: Duration,
}

impl Default for History {
    fn default() -> Self {
        Self { size: 100, ttl: seconds(600) }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenSlow {
    #[default]
    Disconnect,
    DropOldest,
    LatestOnly,
}
