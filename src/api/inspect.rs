//! Channels as this node sees them.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::{Body, Problem, Query, Settings};
use crate::channel::{ChannelName, Position};
use crate::engine::Error;
use crate::hub::Hub;
use crate::protocol::{Present, Raw};

/// The most that is listed in one answer.
const MOST: usize = 1000;

#[derive(Serialize)]
struct Channel {
    channel: ChannelName,
    /// Of this node; 0 for one that is only remembered.
    subscribers: u32,
}

/// Those that somebody of this node follows, and those the engine remembers.
pub(super) async fn channels(query: &Query, hub: &Hub) -> Result<Response<Body>, Problem> {
    let limit = query.number("limit", 100, MOST)?;
    let prefix = query.get("prefix").unwrap_or_default();
    // One more than asked for tells whether there are more.
    let remembered = hub.remembered(&prefix, limit + 1).await.map_err(away)?;
    let mut all: BTreeMap<ChannelName, u32> = remembered.into_iter().map(|it| (it, 0)).collect();
    all.extend(hub.channels(&prefix, limit + 1));
    let is_cut = all.len() > limit;
    let one = |(channel, subscribers)| Channel { channel, subscribers };
    let channels: Vec<_> = all.into_iter().take(limit).map(one).collect();
    Ok(super::json(StatusCode::OK, &json!({ "scope": "node", "channels": channels, "truncated": is_cut })))
}

pub(super) async fn channel(channel: &ChannelName, hub: &Hub, settings: &Settings) -> Result<Response<Body>, Problem> {
    let retention = settings.rules.retention(channel);
    let page = hub.history(channel, None, 0, retention).await.map_err(away)?;
    let rule = settings.rules.find(channel).map(|it| it.pattern.as_str());
    let answer = json!({
        "channel": channel,
        "subscribers": hub.subscribers(channel),
        "scope": "node",
        "epoch": page.head.epoch.to_string(),
        "seq": page.head.seq,
        "id": page.head.id.as_deref(),
        "rule": rule,
    });
    Ok(super::json(StatusCode::OK, &answer))
}

/// The newest publications, or those since a position, oldest first.
pub(super) async fn history(
    channel: &ChannelName,
    query: &Query,
    hub: &Arc<Hub>,
    settings: &Settings,
) -> Result<Response<Body>, Problem> {
    let limit = query.number("limit", 100, MOST)?;
    let since = match (query.get("epoch"), query.get("seq")) {
        (None, None) => None,
        (Some(epoch), Some(seq)) => {
            let position = (|| Some(Position { epoch: epoch.parse().ok()?, seq: seq.parse().ok()?, id: None }))();
            Some(position.ok_or_else(|| Problem::bad_request("`epoch` and `seq` are no position"))?)
        }
        _ => return Err(Problem::bad_request("a position is `epoch` and `seq`")),
    };
    let page = hub.history(channel, since, limit, settings.rules.retention(channel)).await.map_err(away)?;
    let messages = page.publications.into_iter().map(|it| Raw(hub.push_of(it).json().clone()));
    let answer = History {
        channel: channel.clone(),
        epoch: page.head.epoch.to_string(),
        seq: page.head.seq,
        complete: page.unbroken,
        messages: messages.collect(),
    };
    Ok(super::json(StatusCode::OK, &answer))
}

#[derive(Serialize)]
struct History {
    channel: ChannelName,
    epoch: String,
    seq: u64,
    /// Whether nothing is missing since the position that was asked for.
    complete: bool,
    messages: Vec<Raw>,
}

pub(super) async fn delete_history(channel: &ChannelName, hub: &Hub) -> Result<Response<Body>, Problem> {
    hub.delete_history(channel).await.map_err(away)?;
    Ok(super::json(StatusCode::OK, &json!({ "channel": channel })))
}

/// Who is in a channel, on all nodes.
pub(super) async fn members(
    channel: &ChannelName,
    query: &Query,
    hub: &Hub,
    settings: &Settings,
) -> Result<Response<Body>, Problem> {
    let limit = query.number("limit", 100, MOST)?;
    let found = hub.members(channel, limit).await.map_err(away)?;
    let members: Vec<Present> = found.members.iter().map(|it| (&**it).into()).collect();
    let answer = json!({
        "channel": channel,
        // Without it nobody is a member, however many subscribers there are.
        "presence": settings.rules.find(channel).is_some_and(|it| it.presence.is_some()),
        "truncated": members.len() < found.total,
        "members": members,
        "total": found.total,
    });
    Ok(super::json(StatusCode::OK, &answer))
}

pub(super) fn away(error: Error) -> Problem {
    Problem::unavailable(error.to_string())
}
