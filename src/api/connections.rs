//! Connections of this node: listing them, and ending them.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::audit::Outcome;
use super::request::{SMALL, read_json};
use super::{Body, BoxError, Problem, Query, Settings, describe};
use crate::channel::{ChannelName, ConnectionId};
use crate::hub::{Hub, Outbox, Signal};
use crate::protocol::Close;
use crate::session::{Whom, Word};

const MOST: usize = 1000;

pub(super) async fn list(query: &Query, hub: &Hub) -> Result<Response<Body>, Problem> {
    let limit = query.number("limit", 100, MOST)?;
    let user = query.get("user");
    let is_wanted = filter(query)?;
    let directory = hub.directory();
    let found: Vec<Arc<Outbox>> = match (query.get("channel"), &user) {
        (Some(channel), _) => {
            let channel = ChannelName::parse(&channel).map_err(|error| Problem::bad_request(error.to_string()))?;
            let followers = hub.followers(&channel).await;
            followers.into_iter().filter_map(|id| directory.connection(id)).collect()
        }
        (None, Some(user)) => directory.user(user),
        (None, None) => directory.all(),
    };
    let is_of_user = |it: &Outbox| user.is_none() || it.user().as_deref() == user.as_deref();
    let mut wanted = found.into_iter().filter(|it| is_of_user(it) && is_wanted(it));
    let connections: Vec<_> = wanted.by_ref().take(limit).map(|it| describe::brief(&it)).collect();
    let total = connections.len() + wanted.count();
    let answer = json!({ "scope": "node", "total": total, "connections": connections });
    Ok(super::json(StatusCode::OK, &answer))
}

/// By transport, and by whether they keep up.
fn filter(query: &Query) -> Result<impl Fn(&Outbox) -> bool, Problem> {
    let transport = match query.get("transport").as_deref() {
        None => None,
        Some(name) => match describe::TRANSPORTS.iter().find(|it| **it == name) {
            Some(known) => Some(*known),
            None => return Err(Problem::bad_request("`transport` is websocket, sse or poll")),
        },
    };
    let slow = match query.get("slow").as_deref() {
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(_) => return Err(Problem::bad_request("`slow` is true or false")),
    };
    Ok(move |outbox: &Outbox| {
        let seen = outbox.seen();
        transport.is_none_or(|it| describe::transport(seen.format) == it) && slow.is_none_or(|it| seen.is_slow() == it)
    })
}

pub(super) async fn one(id: ConnectionId, hub: &Hub, settings: &Settings) -> Result<Response<Body>, Problem> {
    let outbox = hub.directory().connection(id).ok_or_else(nobody)?;
    Ok(super::json(StatusCode::OK, &describe::whole(&outbox, hub, &settings.rules).await))
}

fn nobody() -> Problem {
    Problem::not_found("no such connection on this node")
}

/// How a connection is to end.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Wanted {
    code: Option<u16>,
    reason: Option<String>,
}

pub(super) async fn disconnect<B>(request: Request<B>, id: ConnectionId, hub: &Hub) -> Result<Response<Body>, Problem>
where
    B: http_body::Body<Error: Into<BoxError>> + Send,
{
    let close = read(request).await?;
    match hub.directory().connection(id) {
        Some(outbox) => end(&[outbox], &close),
        None if hub.is_shared() => {
            spread(Whom::connection(id), &close, hub).await?;
            end(&[], &close)
        }
        None => Err(nobody()),
    }
}

pub(super) async fn disconnect_user<B>(request: Request<B>, user: &str, hub: &Hub) -> Result<Response<Body>, Problem>
where
    B: http_body::Body<Error: Into<BoxError>> + Send,
{
    let close = read(request).await?;
    let answer = end(&hub.directory().user(user), &close);
    spread(Whom::User(user.to_owned()), &close, hub).await?;
    answer
}

/// Has the other nodes end theirs too.
async fn spread(whom: Whom, close: &Close, hub: &Hub) -> Result<(), Problem> {
    let spread = Word::close(whom, close).spread(hub).await;
    spread.map_err(|error| Problem::unavailable(format!("done on this node, but {error}: repeat the call")))
}

fn end(outboxes: &[Arc<Outbox>], close: &Close) -> Result<Response<Body>, Problem> {
    for outbox in outboxes {
        outbox.signal(Signal::Close(close.clone()));
    }
    let answer = json!({ "scope": "node", "disconnected": outboxes.len() });
    Ok(Outcome::of(
        super::json(StatusCode::OK, &answer),
        format!("{} connections closed with {}", outboxes.len(), close.code),
    ))
}

async fn read<B>(request: Request<B>) -> Result<Close, Problem>
where
    B: http_body::Body<Error: Into<BoxError>> + Send,
{
    let wanted: Wanted = read_json(request, SMALL).await?;
    let code = wanted.code.unwrap_or(Close::DISCONNECTED.code);
    if !(4000..5000).contains(&code) {
        return Err(Problem::bad_request(
            "`code` must be 4000 to 4999: up to 4499 clients come back, from 4500 they do not",
        ));
    }
    Ok(Close::custom(code, wanted.reason.as_deref().unwrap_or(&Close::DISCONNECTED.reason)))
}
