//! Why a client may or may not do something, in a sentence. The decision is [`permission`]'s; this only puts it in words.

use crate::auth::Identity;
use crate::channel::{ChannelName, Grant};
use crate::hub::{Access, Rule, Rules};
use crate::session::permission::{self, Decision};
use crate::webhook::Event;

/// A decision and the sentence for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Because {
    pub(super) decision: Decision,
    pub(super) why: String,
}

impl Because {
    fn new(decision: Decision, why: impl Into<String>) -> Self {
        Self { decision, why: why.into() }
    }
}

/// Why nobody may.
pub(super) fn no_rule(rules: &Rules, channel: &ChannelName) -> String {
    let Some(near) = rules.nearest(channel) else {
        return format!("no rule matches `{channel}`");
    };
    let segments = |text: &str| text.split('.').count();
    let (pattern, name) = (near.pattern.as_str(), channel.as_str());
    let hint = match segments(pattern) == segments(name) {
        true => "",
        false => " (`*` is exactly one segment between dots, `**` at the end any number)",
    };
    format!("no rule matches `{channel}`; did you mean the rule `{pattern}`?{hint}")
}

pub(super) fn subscribe(rule: &Rule, channel: &ChannelName, who: &Identity, asked: &[Event]) -> Because {
    let decision = permission::may_subscribe(rule, channel, who);
    if !rule.is_open_to(channel, who.user.as_deref()) {
        return Because::new(decision, not_theirs(rule, who));
    }
    let why = match (rule.subscribe, decision) {
        (Access::Public, _) => "the rule lets everybody in".to_owned(),
        (Access::User, Decision::Deny) => "the rule wants a user, and this client is nobody in particular".to_owned(),
        (Access::User, _) => "the rule lets every user in".to_owned(),
        (Access::Grant, Decision::Deny) => format!("the rule wants a grant: {}", not_granted(who)),
        (Access::Grant, _) => format!("granted by `{}`", granting(who, channel, |it| it.subscribe)),
        (Access::Webhook, _) if !asked.contains(&Event::Subscribe) => {
            return Because::new(Decision::Deny, unasked("subscribe"));
        }
        (Access::Webhook, _) => {
            "the rule leaves it to the backend: it is asked with the `subscribe` webhook".to_owned()
        }
    };
    Because::new(decision, why)
}

pub(super) fn publish(
    rule: &Rule,
    channel: &ChannelName,
    who: &Identity,
    is_subscribed: bool,
    asked: &[Event],
) -> Because {
    let decision = permission::may_publish(rule, channel, who, is_subscribed);
    if !(rule.publish.webhook || rule.publish.broadcast) {
        return Because::new(decision, "the rule says `publish: none`: only the backend publishes here");
    }
    if !rule.is_open_to(channel, who.user.as_deref()) {
        return Because::new(decision, not_theirs(rule, who));
    }
    let why = match (decision, rule.subscribe) {
        (Decision::Deny, Access::Webhook) => {
            format!("the rule wants a subscriber, or a grant: this client does not follow it, and {}", not_granted(who))
        }
        (Decision::Deny, Access::Grant) => format!("the rule wants a grant: {}", not_granted(who)),
        (Decision::Deny, _) => "the rule wants a user, and this client is nobody in particular".to_owned(),
        (Decision::Ask, _) if !asked.contains(&Event::Publish) => {
            return Because::new(Decision::Deny, unasked("publish"));
        }
        (Decision::Ask, _) if rule.publish.broadcast => {
            "the backend is asked with the `publish` webhook; what it allows goes to the subscribers".to_owned()
        }
        (Decision::Ask, _) => {
            "the backend is told with the `publish` webhook; the subscribers hear what it pushes".to_owned()
        }
        (Decision::Allow, _) => "it goes to the subscribers, and the backend is not asked".to_owned(),
    };
    Because::new(decision, why)
}

fn not_theirs(rule: &Rule, who: &Identity) -> String {
    let pattern = rule.pattern.as_str();
    match who.user.as_deref() {
        Some(user) => format!("by the rule `{pattern}` this channel is another user's, not `{user}`'s own"),
        None => format!("the rule `{pattern}` is for a user's own channels, and this client is nobody in particular"),
    }
}

fn not_granted(who: &Identity) -> String {
    let granted: Vec<_> = who.grants.list().iter().map(|it| format!("`{}`", it.pattern)).collect();
    match granted.is_empty() {
        true => "nothing was granted, by token or by the backend".to_owned(),
        false => format!("what was granted ({}) does not cover it", granted.join(", ")),
    }
}

fn granting(who: &Identity, channel: &ChannelName, right: impl Fn(&Grant) -> bool) -> String {
    let covers = |it: &&Grant| right(it) && it.covers(channel, who.user.as_deref());
    who.grants.list().iter().find(covers).map(|it| it.pattern.to_string()).unwrap_or_default()
}

fn unasked(event: &str) -> String {
    format!(
        "the rule leaves it to the backend, which is not asked: `{event}` is not in `webhooks.events`, or there is no `webhooks.url`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::Publish;
    use crate::session::permission::tests::{rule, who};

    const ASK: Publish = Publish { webhook: true, broadcast: true };

    #[test]
    fn a_question_the_backend_is_not_asked_is_a_no_and_says_where_to_change_it() {
        let rule = rule("room.*", Access::Webhook, ASK);
        let channel = ChannelName::parse("room.5").unwrap();
        let ada = who(Some("ada"), &["room.*"]);
        assert_eq!(subscribe(&rule, &channel, &ada, &[Event::Subscribe]).decision, Decision::Ask);
        let unasked = subscribe(&rule, &channel, &ada, &[Event::Publish]);
        assert_eq!(unasked.decision, Decision::Deny);
        assert!(unasked.why.contains("`subscribe` is not in `webhooks.events`"), "{}", unasked.why);
        let unasked = publish(&rule, &channel, &ada, false, &[]);
        assert_eq!(unasked.decision, Decision::Deny);
        assert!(unasked.why.contains("`publish` is not in `webhooks.events`"), "{}", unasked.why);
    }

    #[test]
    fn a_stranger_is_told_that_the_channel_is_a_users_own() {
        let rule = rule("user.{user}.**", Access::User, ASK);
        let channel = ChannelName::parse("user.ada.mail").unwrap();
        for (user, words) in [(Some("bob"), "another user's, not `bob`'s own"), (None, "nobody in particular")] {
            let because = subscribe(&rule, &channel, &who(user, &["**"]), &[]);
            assert!(because.decision == Decision::Deny && because.why.contains(words), "{}", because.why);
        }
    }

    #[test]
    fn a_name_with_another_number_of_segments_is_told_what_a_star_is() {
        let rules = Rules::new(vec![rule("room.*", Access::Public, ASK), rule("news", Access::Public, ASK)]);
        let said = |name: &str| no_rule(&rules, &ChannelName::parse(name).unwrap());
        assert!(said("room.5.typing").contains("did you mean the rule `room.*`? (`*` is exactly one segment"));
        assert_eq!(said("mews"), "no rule matches `mews`; did you mean the rule `news`?");
        assert_eq!(said("orders.42"), "no rule matches `orders.42`");
    }
}
