use serde::{Deserialize, Serialize};

/// What a question or a notice is about, as configuration, header and metrics call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    Connect,
    Subscribe,
    Publish,
    Refresh,
    Disconnect,
    Unsubscribe,
    Occupied,
    Vacated,
    Joined,
    Left,
}

/// What stands in for an answer that did not come. A refresh is never allowed that way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    #[default]
    Deny,
    Allow,
}

/// The same for each question that has a choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnErrors {
    pub connect: OnError,
    pub subscribe: OnError,
    pub publish: OnError,
}

impl Event {
    pub const ALL: [Self; 10] = [
        Self::Connect,
        Self::Subscribe,
        Self::Publish,
        Self::Refresh,
        Self::Disconnect,
        Self::Unsubscribe,
        Self::Occupied,
        Self::Vacated,
        Self::Joined,
        Self::Left,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::Refresh => "refresh",
            Self::Disconnect => "disconnect",
            Self::Unsubscribe => "unsubscribe",
            Self::Occupied => "occupied",
            Self::Vacated => "vacated",
            Self::Joined => "joined",
            Self::Left => "left",
        }
    }
}

impl OnErrors {
    /// One policy for all.
    pub const fn all(policy: OnError) -> Self {
        Self { connect: policy, subscribe: policy, publish: policy }
    }

    pub(super) fn of(self, event: Event) -> OnError {
        match event {
            Event::Connect => self.connect,
            Event::Subscribe => self.subscribe,
            Event::Publish => self.publish,
            // Nobody would know who it is; and notices have no answer.
            _ => OnError::Deny,
        }
    }
}
