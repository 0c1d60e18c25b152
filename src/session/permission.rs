//! May this client do that here? Pure: a rule, an identity and a channel in, a decision out.

use crate::auth::Identity;
use crate::channel::ChannelName;
use crate::hub::{Access, Rule, Rules};

/// What is to be done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    /// The backend decides.
    Ask,
    Deny,
}

/// Whether a client may follow a channel.
pub fn may_subscribe(rule: &Rule, channel: &ChannelName, who: &Identity) -> Decision {
    let user = who.user.as_deref();
    if !rule.is_open_to(channel, user) {
        return Decision::Deny;
    }
    match rule.subscribe {
        Access::Public => Decision::Allow,
        Access::User if user.is_some() => Decision::Allow,
        Access::Grant if who.grants.may_subscribe(channel, user) => Decision::Allow,
        Access::User | Access::Grant => Decision::Deny,
        Access::Webhook => Decision::Ask,
    }
}

/// Whether a client may publish to a channel. Where the backend decides who may follow it, following it is the proof.
pub fn may_publish(rule: &Rule, channel: &ChannelName, who: &Identity, is_subscribed: bool) -> Decision {
    let user = who.user.as_deref();
    if !(rule.publish.webhook || rule.publish.broadcast) || !rule.is_open_to(channel, user) {
        return Decision::Deny;
    }
    let is_entitled = match rule.subscribe {
        Access::Public => true,
        Access::User => user.is_some(),
        Access::Grant => who.grants.may_publish(channel, user),
        Access::Webhook => is_subscribed || who.grants.may_publish(channel, user),
    };
    match (is_entitled, rule.publish.webhook) {
        (false, _) => Decision::Deny,
        (true, true) => Decision::Ask,
        (true, false) => Decision::Allow,
    }
}

/// Whether a subscription made under older rules may stay. What the backend once allowed it is not asked again.
pub fn may_stay(rules: &Rules, channel: &ChannelName, who: &Identity) -> bool {
    rules.find(channel).is_some_and(|rule| may_subscribe(rule, channel, who) != Decision::Deny)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::auth::Grants;
    use crate::channel::{Pattern, Retention};
    use crate::hub::{Publish, WhenSlow};

    pub(crate) fn rule(pattern: &str, subscribe: Access, publish: Publish) -> Rule {
        let pattern = Pattern::parse(pattern).unwrap();
        Rule {
            pattern,
            subscribe,
            publish,
            history: Retention::NONE,
            when_slow: WhenSlow::Disconnect,
            presence: None,
            min_interval: None,
        }
    }

    pub(crate) fn who(user: Option<&str>, granted: &[&str]) -> Identity {
        let granted: Vec<String> = granted.iter().map(ToString::to_string).collect();
        Identity { user: user.map(Into::into), grants: Grants::both(&granted).unwrap(), ..Identity::default() }
    }

    fn channel(text: &str) -> ChannelName {
        ChannelName::parse(text).unwrap()
    }

    #[test]
    fn each_access_lets_in_whom_it_names() {
        let decide = |access, who: &Identity| {
            may_subscribe(&rule("room.*", access, Publish::default()), &channel("room.5"), who)
        };
        assert_eq!(decide(Access::Public, &who(None, &[])), Decision::Allow);
        assert_eq!(decide(Access::User, &who(None, &[])), Decision::Deny);
        assert_eq!(decide(Access::User, &who(Some("42"), &[])), Decision::Allow);
        assert_eq!(decide(Access::Grant, &who(Some("42"), &["room.6"])), Decision::Deny);
        assert_eq!(decide(Access::Grant, &who(Some("42"), &["room.*"])), Decision::Allow);
        assert_eq!(decide(Access::Webhook, &who(None, &[])), Decision::Ask);
    }

    #[test]
    fn a_users_own_channel_is_closed_to_everybody_else_whatever_the_access() {
        for access in [Access::Public, Access::User, Access::Grant, Access::Webhook] {
            let rule = rule("user.{user}.**", access, Publish { webhook: true, broadcast: true });
            let other = who(Some("43"), &["**"]);
            assert_eq!(may_subscribe(&rule, &channel("user.42.mail"), &other), Decision::Deny, "{access:?}");
            assert_eq!(may_publish(&rule, &channel("user.42.mail"), &other, false), Decision::Deny, "{access:?}");
        }
    }

    #[test]
    fn publishing_takes_a_rule_that_allows_it_and_a_client_that_is_entitled() {
        let decide = |access, publish, who: &Identity, subscribed| {
            may_publish(&rule("room.*", access, publish), &channel("room.5"), who, subscribed)
        };
        let ask = Publish { webhook: true, broadcast: false };
        let broadcast = Publish { webhook: false, broadcast: true };
        assert_eq!(decide(Access::Public, Publish::default(), &who(None, &[]), true), Decision::Deny);
        assert_eq!(decide(Access::Public, broadcast, &who(None, &[]), false), Decision::Allow);
        assert_eq!(decide(Access::User, ask, &who(Some("42"), &[]), false), Decision::Ask);
        assert_eq!(decide(Access::Grant, ask, &who(Some("42"), &[]), true), Decision::Deny);
        assert_eq!(decide(Access::Webhook, broadcast, &who(None, &[]), false), Decision::Deny);
        assert_eq!(decide(Access::Webhook, broadcast, &who(None, &[]), true), Decision::Allow);
    }
}
