//! The webhook's signature, both ways: a question that is signed must be taken, one that is not must be refused.

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{Request, StatusCode};
use serde_json::json;

use super::super::unique;
use super::PATIENCE;
use super::finding::Finding;
use crate::app;
use crate::auth::SecretBytes;
use crate::backend::Backend;
use crate::config::Config;
use crate::webhook::Signing;

pub(super) const OURSELVES: &str = concat!("outrigger-doctor/", env!("CARGO_PKG_VERSION"));
const MAX_REPLY: usize = 64 * 1024;

/// Nothing where there is no webhook.
pub(super) async fn ask(config: &Config) -> Option<Finding> {
    let url = &config.webhooks.url.as_ref()?.0;
    let secrets: Vec<SecretBytes> = config.webhooks.secret.0.iter().map(|it| it.reveal().into()).collect();
    let built = Backend::build(app::backend_settings(config), None);
    let (backend, signing) = match (built, Signing::build(&secrets)) {
        (Ok(backend), Ok(signing)) => (backend, signing),
        (Err(error), _) => return Some(Finding::failed("webhook", error.to_string(), "see `upstream`")),
        (_, Err(error)) => return Some(Finding::failed("webhook", error.to_string(), "see `webhooks.secret`")),
    };
    let send = async |signing: Option<&Signing>| {
        let request = ping(url, signing).map_err(|error| error.to_string())?;
        let answer = backend.exchange(request, PATIENCE, MAX_REPLY).await;
        answer.map(|it| it.status()).map_err(|error| error.to_string())
    };
    let (unsigned, signed) = (send(None).await, send(Some(&signing)).await);
    Some(match (unsigned, signed) {
        (Ok(unsigned), Ok(signed)) => judge(unsigned, signed),
        (Err(why), _) | (_, Err(why)) => {
            Finding::failed("webhook", format!("{url}: {why}"), "start the backend, or see `webhooks.url`")
        }
    })
}

/// A question about nobody, of a type that no verdict is wanted for.
fn ping(url: &http::Uri, signing: Option<&Signing>) -> Result<Request<Bytes>, http::Error> {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let id = unique("msg");
    let connection =
        json!({ "id": null, "transport": null, "userId": null, "ip": "127.0.0.1", "claims": {}, "state": null });
    let body =
        json!({ "type": "ping", "id": id, "timestamp": now.as_millis() as u64, "connection": connection }).to_string();
    let mut request = Request::post(url)
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, OURSELVES)
        .header("outrigger-event", "ping")
        .header("webhook-id", &id)
        .header("webhook-timestamp", now.as_secs());
    if let Some(signing) = signing {
        request = request.header("webhook-signature", signing.sign(&id, now.as_secs(), body.as_bytes()));
    }
    request.body(body.into())
}

fn judge(unsigned: StatusCode, signed: StatusCode) -> Finding {
    let found = format!("signed is answered {}, unsigned {}", signed.as_u16(), unsigned.as_u16());
    match (unsigned.is_client_error(), signed) {
        (false, _) if unsigned.is_success() => {
            let fix = "check the signature: anyone who reaches the backend can call your webhook";
            Finding::warning("webhook", found, fix)
        }
        (true, signed) if signed.is_success() => Finding::ok("webhook", found),
        (_, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) => {
            Finding::failed("webhook", found, "see `webhooks.url`: the backend has no POST route there")
        }
        (true, signed) if signed.is_client_error() => {
            let fix = "answer 2xx to `\"type\":\"ping\"` once the signature is right; if you do, the secrets differ";
            Finding::warning("webhook", found, fix)
        }
        _ => Finding::failed(
            "webhook",
            found,
            "see the backend's log: neither a redirect nor an error of its own is an answer",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn what_a_backend_answers_tells_whether_it_looks_at_the_signature() {
        let verdict = |unsigned: u16, signed: u16| {
            judge(StatusCode::from_u16(unsigned).unwrap(), StatusCode::from_u16(signed).unwrap()).verdict
        };
        assert_eq!(verdict(401, 204), Verdict::Ok);
        assert_eq!(verdict(400, 200), Verdict::Ok);
        assert_eq!(verdict(200, 200), Verdict::Warning, "anyone can call it");
        assert_eq!(verdict(401, 401), Verdict::Warning, "it wants a user, or has another secret");
        assert_eq!(verdict(404, 404), Verdict::Failed);
        assert_eq!(verdict(302, 302), Verdict::Failed);
        assert_eq!(verdict(401, 500), Verdict::Failed);
    }
}
