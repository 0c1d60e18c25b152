//! `GET /explain`: which rule a channel has, what a user may do there, who would get a publication now, and what denies it.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::why::{self, Because};
use super::{Body, Problem, Query, Settings, describe, inspect};
use crate::auth::{Grants, Identity};
use crate::channel::{ChannelName, ConnectionId};
use crate::hub::{Access, Hub, Outbox, Publish, Rule, WhenSlow};
use crate::session::permission::Decision;

/// The most connections that are shown of a channel, or of a user.
const MOST: usize = 1000;

pub(super) async fn explain(query: &Query, hub: &Hub, settings: &Settings) -> Result<Response<Body>, Problem> {
    let name = query.get("channel").ok_or_else(|| Problem::bad_request("`channel` is missing"))?;
    let channel = ChannelName::parse(&name).map_err(|error| Problem::bad_request(error.to_string()))?;
    let limit = query.number("limit", 10, MOST)?;
    let granted: Vec<String> = query.all("grant").map(Into::into).collect();
    let grants = Grants::both(&granted).map_err(|error| Problem::bad_request(format!("`grant`: {error}")))?;
    let user: Option<Arc<str>> = query.get("user").filter(|it| !it.is_empty()).map(Into::into);
    let followers = hub.followers(&channel).await;
    let case = Case { channel: &channel, settings };
    let mut answer = json!({ "channel": channel, "user": user, "rule": case.rule() });
    let who = Identity { user: user.clone(), grants, ..Identity::default() };
    case.judge(&who, false).add_to(&mut answer);
    if let Some(user) = &user {
        let mut all: Vec<_> = hub.directory().user(user).iter().map(|it| case.connection(it, &followers)).collect();
        answer["summary"] = summary(&all, user).into();
        all.truncate(limit);
        answer["connections"] = all.into();
    }
    answer["receivers"] = receivers(&followers, hub, limit);
    let page = hub.history(&channel, None, 0, settings.rules.retention(&channel)).await.map_err(inspect::away)?;
    answer["position"] = json!({ "epoch": page.head.epoch.to_string(), "seq": page.head.seq, "id": page.head.id });
    Ok(super::json(StatusCode::OK, &answer))
}

/// A channel under the rules of now.
struct Case<'a> {
    channel: &'a ChannelName,
    settings: &'a Settings,
}

/// What somebody may do there.
struct Judged {
    subscribe: Because,
    publish: Because,
}

impl Case<'_> {
    fn rule(&self) -> Value {
        let Some((at, rule)) = self.settings.rules.place(self.channel) else { return Value::Null };
        let history = json!({ "size": rule.history.size, "ttlMs": rule.history.ttl.as_millis() as u64 });
        json!({
            "key": format!("channels.{at}"),
            "match": rule.pattern.as_str(),
            "subscribe": access(rule.subscribe),
            "publish": publish(rule.publish),
            "history": if rule.history.size == 0 { Value::Null } else { history },
            "presence": rule.presence.is_some(),
            "whenSlow": when_slow(rule),
            "minIntervalMs": rule.min_interval.map(|it| it.as_millis() as u64),
        })
    }

    fn judge(&self, who: &Identity, is_subscribed: bool) -> Judged {
        let asked = &self.settings.asked;
        match self.settings.rules.find(self.channel) {
            Some(rule) => Judged {
                subscribe: why::subscribe(rule, self.channel, who, asked),
                publish: why::publish(rule, self.channel, who, is_subscribed, asked),
            },
            None => {
                let why = why::no_rule(&self.settings.rules, self.channel);
                let denied = Because { decision: Decision::Deny, why };
                Judged { subscribe: denied.clone(), publish: denied }
            }
        }
    }

    /// A living connection, by what it really was granted.
    fn connection(&self, outbox: &Outbox, followers: &[ConnectionId]) -> Value {
        let mut answer = describe::brief(outbox);
        let Some(owner) = outbox.owner() else { return answer };
        let is_following = followers.contains(&outbox.id);
        let who = Identity { user: owner.user, grants: owner.grants.into(), ..Identity::default() };
        answer["grants"] = describe::grants(who.grants.list());
        answer["following"] = is_following.into();
        self.judge(&who, is_following).add_to(&mut answer);
        answer
    }
}

impl Judged {
    fn add_to(&self, answer: &mut Value) {
        for (name, because) in [("subscribe", &self.subscribe), ("publish", &self.publish)] {
            let decision = match because.decision {
                Decision::Allow => "allow",
                Decision::Ask => "ask",
                Decision::Deny => "deny",
            };
            answer[name] = json!({ "decision": decision, "why": because.why });
        }
    }
}

/// Whether a publication would reach the user, and if not, what stands in its way.
fn summary(connections: &[Value], user: &str) -> String {
    let following = connections.iter().filter(|it| it["following"] == true).count();
    let not_following = connections.iter().find(|it| it["following"] == false);
    let reason = |it: &Value| match it["subscribe"]["decision"].as_str() {
        Some("deny") => format!("it may not: {}", it["subscribe"]["why"].as_str().unwrap_or_default()),
        _ => format!("it did not subscribe, and may: {}", it["subscribe"]["why"].as_str().unwrap_or_default()),
    };
    match (connections.len(), following, not_following) {
        (0, ..) => format!("`{user}` has no connection on this node: nobody would get it"),
        (all, following, None) => format!("`{user}` would get it on {following} of {all} connections"),
        (all, 0, Some(it)) => format!("`{user}` would not get it on any of {all} connections: {}", reason(it)),
        (all, following, Some(it)) => {
            format!("`{user}` would get it on {following} of {all} connections; of another: {}", reason(it))
        }
    }
}

/// Who would get a publication now.
fn receivers(followers: &[ConnectionId], hub: &Hub, limit: usize) -> Value {
    let clients: Vec<_> = followers.iter().filter_map(|id| hub.directory().connection(*id)).collect();
    json!({
        "scope": "node",
        "total": clients.len(),
        // `GET /tail` follows without being a client.
        "watchers": followers.len() - clients.len(),
        "connections": clients.iter().take(limit).map(|it| describe::brief(it)).collect::<Vec<_>>(),
    })
}

fn access(access: Access) -> &'static str {
    match access {
        Access::Public => "public",
        Access::User => "user",
        Access::Grant => "grant",
        Access::Webhook => "webhook",
    }
}

fn publish(publish: Publish) -> &'static str {
    match (publish.webhook, publish.broadcast) {
        (false, false) => "none",
        (true, false) => "webhook",
        (false, true) => "broadcast",
        (true, true) => "webhook+broadcast",
    }
}

fn when_slow(rule: &Rule) -> &'static str {
    match rule.when_slow {
        WhenSlow::Disconnect => "disconnect",
        WhenSlow::DropOldest => "drop_oldest",
        WhenSlow::LatestOnly => "latest_only",
    }
}
