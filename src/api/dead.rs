//! Notices the backend would not take: looking at them, and sending them again.

use std::collections::HashSet;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde_json::json;

use super::{Body, BoxError, Problem, Query};
use crate::webhook::Notices;

const MOST: usize = 1000;
/// Some thousands of ids.
const MAX_BODY: usize = 256 * 1024;
const BODY_WITHIN: Duration = Duration::from_secs(10);

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
    let body = Limited::new(request.into_body(), MAX_BODY).collect();
    let body = tokio::time::timeout(BODY_WITHIN, body).await;
    let Ok(Ok(body)) = body else { return Err(Problem::bad_request("the body is too large or did not arrive")) };
    let body = body.to_bytes();
    let wanted: Wanted = match body.trim_ascii() {
        b"" => Wanted::default(),
        json => serde_json::from_slice(json).map_err(|error| Problem::bad_request(error.to_string()))?,
    };
    let outcome = notices.replay(wanted.ids.as_ref(), wanted.before);
    Ok(super::json(StatusCode::OK, &json!({ "replayed": outcome.replayed, "left": outcome.left })))
}
