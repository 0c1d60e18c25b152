//! Users and tokens that are no longer wanted: revoked, or erased.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::audit::Outcome;
use super::request::{SMALL, read_json};
use super::{Body, BoxError, Problem};
use crate::auth::{NoRoom, is_user_id};
use crate::session::{Erasure, NotErased, Sessions, Word};

/// A caller's clock may be ahead by this much.
const SKEW: Duration = Duration::from_secs(60);
/// Longer than any token's own id that anybody makes.
const MAX_JTI: usize = 1024;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Before {
    /// Milliseconds since the Unix epoch; now without it.
    before: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Token {
    jti: Option<String>,
}

/// `POST /users/{id}/revoke`
pub(super) async fn revoke<B>(request: Request<B>, user: &str, sessions: &Sessions) -> Result<Response<Body>, Problem>
where
    B: http_body::Body<Error: Into<BoxError>> + Send,
{
    let user = named(user)?;
    let now = SystemTime::now();
    let Before { before } = read_json(request, SMALL).await?;
    let before = before.map_or(now, |it| UNIX_EPOCH + Duration::from_millis(it));
    if before > now + SKEW {
        return Err(Problem::bad_request("`before` lies in the future; it is in milliseconds"));
    }
    let closed = sessions.revoke_user(user, before).map_err(full)?;
    settled(sessions).await?;
    spread(&Word::RevokeUser { user: user.to_owned(), before: millis(before) }, sessions).await?;
    let since = millis(before);
    Ok(applied(sessions, closed, &format!("tokens from before {since}")))
}

/// `POST /tokens/revoke`
pub(super) async fn revoke_token<B>(request: Request<B>, sessions: &Sessions) -> Result<Response<Body>, Problem>
where
    B: http_body::Body<Error: Into<BoxError>> + Send,
{
    let Token { jti } = read_json(request, SMALL).await?;
    let Some(jti) = jti.filter(|it| !it.is_empty() && it.len() <= MAX_JTI) else {
        return Err(Problem::bad_request("`jti` is missing, empty or too long"));
    };
    let closed = sessions.revoke_token(&jti).map_err(full)?;
    settled(sessions).await?;
    spread(&Word::RevokeToken { jti: jti.clone() }, sessions).await?;
    Ok(applied(sessions, closed, &format!("the token {jti:?}")))
}

/// `DELETE /users/{id}`
pub(super) async fn erase(user: &str, sessions: &Sessions) -> Result<Response<Body>, Problem> {
    let user = named(user)?;
    let erasure = sessions.erase(user).await.map_err(|error| match error {
        NotErased::NoRoom(error) => full(error),
        error @ NotErased::Stored(_) => Problem::unavailable(error.to_string()),
    })?;
    settled(sessions).await?;
    spread(&Word::Erase { user: user.to_owned(), before: millis(SystemTime::now()) }, sessions).await?;
    let erased = by_kind(&erasure);
    let outcome = Value::Object(erased.clone()).to_string();
    let answer = json!({ "user": user, "applied": [sessions.hub().node()], "away": [], "erased": erased });
    Ok(Outcome::of(super::json(StatusCode::OK, &answer), outcome))
}

fn by_kind(erasure: &Erasure) -> Map<String, Value> {
    let Erasure { connections, tickets, verdicts, checkpoints, publications, channels, dead_letters } = erasure;
    let counts = [
        ("connections", connections),
        ("tickets", tickets),
        ("verdicts", verdicts),
        ("checkpoints", checkpoints),
        ("publications", publications),
        ("channels", channels),
        ("deadLetters", dead_letters),
    ];
    counts.into_iter().map(|(kind, count)| (kind.to_owned(), json!(count))).collect()
}

fn millis(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// Other nodes do it too: at once, when they return, or when they start.
async fn spread(word: &Word, sessions: &Sessions) -> Result<(), Problem> {
    let spread = word.spread(sessions.hub()).await;
    spread.map_err(|error| Problem::unavailable(format!("done on this node, but {error}: repeat the call")))
}

/// Other nodes were told, but do not answer: the answer names the one that was asked.
fn applied(sessions: &Sessions, closed: usize, what: &str) -> Response<Body> {
    let answer = json!({ "applied": [sessions.hub().node()], "away": [], "closed": closed });
    Outcome::of(super::json(StatusCode::OK, &answer), format!("{what}, {closed} connections closed"))
}

async fn settled(sessions: &Sessions) -> Result<(), Problem> {
    match sessions.is_settled().await {
        true => Ok(()),
        false => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "The revocation could not be stored",
            "it holds until this process ends; repeat the call",
        )),
    }
}

fn named(user: &str) -> Result<&str, Problem> {
    if is_user_id(user) { Ok(user) } else { Err(Problem::bad_request("this is no possible user id")) }
}

fn full(error: NoRoom) -> Problem {
    tracing::error!(%error, "a revocation was refused: raise `auth.revocations.most`");
    Problem::new(StatusCode::INSUFFICIENT_STORAGE, "Nothing was revoked", error.to_string())
}
