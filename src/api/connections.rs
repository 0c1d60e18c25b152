//! Connections of this node: listing them, and ending them.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Body, BoxError, Problem, Query};
use crate::channel::ConnectionId;
use crate::hub::{Hub, Outbox, Signal};
use crate::protocol::Close;

const MOST: usize = 1000;
/// A code and a reason fit many times.
const MAX_BODY: usize = 4096;
const BODY_WITHIN: Duration = Duration::from_secs(10);

pub(super) fn list(query: &Query, hub: &Hub) -> Result<Response<Body>, Problem> {
    let limit = query.number("limit", 100, MOST)?;
    let directory = hub.directory();
    let found = match query.get("user") {
        Some(user) => directory.user(&user),
        None => directory.all(),
    };
    let connections: Vec<_> = found.iter().take(limit).map(|it| describe(it, hub)).collect();
    let answer = json!({ "scope": "node", "total": found.len(), "connections": connections });
    Ok(super::json(StatusCode::OK, &answer))
}

pub(super) fn one(id: ConnectionId, hub: &Hub) -> Result<Response<Body>, Problem> {
    let outbox = find(id, hub)?;
    Ok(super::json(StatusCode::OK, &describe(&outbox, hub)))
}

fn find(id: ConnectionId, hub: &Hub) -> Result<Arc<Outbox>, Problem> {
    hub.directory().connection(id).ok_or_else(|| Problem::not_found("no such connection on this node"))
}

fn describe(outbox: &Outbox, hub: &Hub) -> Value {
    json!({
        "id": outbox.id.to_string(),
        "user": hub.directory().user_of(outbox.id).as_deref(),
        "outboxBytes": outbox.backlog(),
        "dropped": outbox.dropped(),
    })
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
    end(&[find(id, hub)?], &close)
}

pub(super) async fn disconnect_user<B>(request: Request<B>, user: &str, hub: &Hub) -> Result<Response<Body>, Problem>
where
    B: http_body::Body<Error: Into<BoxError>> + Send,
{
    let close = read(request).await?;
    end(&hub.directory().user(user), &close)
}

fn end(outboxes: &[Arc<Outbox>], close: &Close) -> Result<Response<Body>, Problem> {
    for outbox in outboxes {
        outbox.signal(Signal::Close(close.clone()));
    }
    Ok(super::json(StatusCode::OK, &json!({ "scope": "node", "disconnected": outboxes.len() })))
}

async fn read<B>(request: Request<B>) -> Result<Close, Problem>
where
    B: http_body::Body<Error: Into<BoxError>> + Send,
{
    let body = Limited::new(request.into_body(), MAX_BODY).collect();
    let body = tokio::time::timeout(BODY_WITHIN, body).await;
    let Ok(Ok(body)) = body else { return Err(Problem::bad_request("the body is too large or did not arrive")) };
    let body = body.to_bytes();
    let wanted: Wanted = match body.trim_ascii() {
        b"" => Wanted::default(),
        json => serde_json::from_slice(json).map_err(|error| Problem::bad_request(error.to_string()))?,
    };
    let code = wanted.code.unwrap_or(Close::DISCONNECTED.code);
    if !(4000..5000).contains(&code) {
        return Err(Problem::bad_request(
            "`code` must be 4000 to 4999: up to 4499 clients come back, from 4500 they do not",
        ));
    }
    Ok(Close::custom(code, wanted.reason.as_deref().unwrap_or(&Close::DISCONNECTED.reason)))
}
