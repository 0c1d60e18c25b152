use std::sync::Arc;

use serde::Deserialize;

use crate::channel::{ChannelName, Grant, InvalidPattern, Pattern};

/// The channels somebody was granted, apart from what the rules give everybody.
///
/// One is kept per connection: without patterns it owns nothing, and clones share their patterns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(Option<Arc<[Grant]>>);

/// Patterns of one kind in one token or verdict: each is tried at every subscribe.
pub const MAX_PATTERNS: usize = 100;

/// Why a list of patterns grants nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGrants {
    #[error("there are more than {MAX_PATTERNS} patterns")]
    TooMany,
    #[error("{0}")]
    Pattern(#[from] InvalidPattern),
}

/// The claim `grants`, where the two rights differ.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Claimed {
    #[serde(default)]
    subscribe: Vec<String>,
    #[serde(default)]
    publish: Vec<String>,
}

impl Grants {
    /// Each of `channels` may be subscribed to and published to.
    pub fn both(channels: &[String]) -> Result<Self, InvalidGrants> {
        Self::parse(channels, &Claimed::default())
    }

    /// What a token says: `channels` gives both rights, `claimed` adds to one of them.
    pub(super) fn parse(channels: &[String], claimed: &Claimed) -> Result<Self, InvalidGrants> {
        let Claimed { subscribe, publish } = claimed;
        if channels.len() + subscribe.len().max(publish.len()) > MAX_PATTERNS {
            return Err(InvalidGrants::TooMany);
        }
        let each = |texts: &[String], subscribe, publish| {
            let grant = |text: &String| Ok(Grant { pattern: Pattern::parse(text)?, subscribe, publish });
            texts.iter().map(grant).collect::<Result<Vec<_>, InvalidPattern>>()
        };
        let all = [each(channels, true, true)?, each(subscribe, true, false)?, each(publish, false, true)?].concat();
        Ok(Self::from((!all.is_empty()).then(|| all.into())))
    }

    pub fn may_subscribe(&self, channel: &ChannelName, user: Option<&str>) -> bool {
        self.list().iter().any(|it| it.subscribe && it.covers(channel, user))
    }

    pub fn may_publish(&self, channel: &ChannelName, user: Option<&str>) -> bool {
        self.list().iter().any(|it| it.publish && it.covers(channel, user))
    }

    pub fn list(&self) -> &[Grant] {
        self.0.as_deref().unwrap_or_default()
    }

    /// The list itself, for whoever keeps it longer.
    pub fn shared(&self) -> Option<Arc<[Grant]>> {
        self.0.clone()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl From<Option<Arc<[Grant]>>> for Grants {
    fn from(list: Option<Arc<[Grant]>>) -> Self {
        Self(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    fn texts(all: &[&str]) -> Vec<String> {
        all.iter().map(|it| it.to_string()).collect()
    }

    #[test]
    fn channels_give_both_rights_and_the_users_own_id_is_filled_in() {
        let grants = Grants::both(&texts(&["room.*", "user.{user}.**"])).unwrap();
        assert!(grants.may_subscribe(&channel("room.5"), Some("42")));
        assert!(grants.may_publish(&channel("room.5"), Some("42")));
        assert!(grants.may_subscribe(&channel("user.42.mail"), Some("42")));
        assert!(!grants.may_subscribe(&channel("user.43.mail"), Some("42")));
        assert!(!grants.may_subscribe(&channel("other"), Some("42")));
    }

    #[test]
    fn the_two_rights_can_differ_and_add_to_the_common_ones() {
        let claimed = Claimed { subscribe: texts(&["news"]), publish: Vec::new() };
        let grants = Grants::parse(&texts(&["room.*"]), &claimed).unwrap();
        assert!(grants.may_subscribe(&channel("news"), None) && !grants.may_publish(&channel("news"), None));
        assert!(grants.may_subscribe(&channel("room.1"), None) && grants.may_publish(&channel("room.1"), None));
    }

    #[test]
    fn nothing_granted_grants_nothing() {
        let grants = Grants::both(&[]).unwrap();
        assert!(grants.is_empty());
        assert!(!grants.may_subscribe(&channel("room.5"), Some("42")));
    }

    #[test]
    fn bad_and_too_many_patterns_grant_nothing() {
        assert!(matches!(Grants::both(&texts(&["room.*", "a.**.b"])), Err(InvalidGrants::Pattern(_))));
        assert_eq!(Grants::both(&vec!["a".to_string(); 101]), Err(InvalidGrants::TooMany));
        let claimed = Claimed { subscribe: vec!["a".into(); 60], publish: Vec::new() };
        assert_eq!(Grants::parse(&vec!["a".to_string(); 60], &claimed), Err(InvalidGrants::TooMany));
    }
}
