//! Notices the backend would not take: looking at them, and sending them again.

use std::collections::HashSet;

use http::{Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::request::read_json;
use super::{Body, BoxError, Problem, Query};
use crate::webhook::Notices;

const MOST: usize = 1000;
/// Some thousands of ids.
const MAX_BODY: usize = 256 * 1024;

pub(super) fn list(query: &Query, notices: &Notices) -> Result<Response<Body>, Problem> {
    let limit = query.number("limit", 100, MOST)?;
    let dead = notices.dead(query.get("after").as_deref(), limit);
    Ok(super::json(StatusCode::OK, &dead))
}

/// Which are to be sent again; all of them, if nothing is said.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Wanted {
    ids: Option<HashSet<String>>,
    /// Told before this time, in milliseconds since the Unix epoch.
    before: Option<u64>,
}

pub(super) async fn replay<B>(request: Request<B>, notices: &Notices) -> Result<Response<Body>, Problem>
where
    B: http_body::Body<Error: Into<BoxError>> + Send,
{
    let wanted: Wanted = read_json(request, MAX_BODY).await?;
    let outcome = notices.replay(wanted.ids.as_ref(), wanted.before);
    Ok(super::json(StatusCode::OK, &json!({ "replayed": outcome.replayed, "left": outcome.left })))
}
