//! What an HTTP answer means as an answer to a question.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, Response, StatusCode};
use serde_json::Value;

use super::Answer;
use super::breaker::Failure;
use super::metrics::Outcome;
use super::verdict::{Invalid, Limits, Refusal, Verdict};

/// A reply that says nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Meaningless {
    #[error("the backend answered {0}")]
    Status(StatusCode),
    #[error("the backend's answer is no verdict: {0}")]
    Invalid(#[from] Invalid),
}

impl Meaningless {
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Status(_) => Outcome::Status,
            Self::Invalid(_) => Outcome::Invalid,
        }
    }
}

/// When a backend does not say how much later.
pub(super) const USUAL_DELAY: Duration = Duration::from_secs(5);
const LONGEST_DELAY: Duration = Duration::from_secs(3600);

pub(super) fn read(response: &Response<Bytes>, id: &str, limits: Limits) -> Result<Answer, Meaningless> {
    let (status, headers) = (response.status(), response.headers());
    match status.as_u16() {
        200..=299 => Ok(Answer::Verdict(Box::new(Verdict::parse(response.body(), id, limits)?))),
        401 | 403 | 404 | 409 | 422 => Ok(Answer::Verdict(Box::new(Verdict::reject(refusal(status, response.body()))))),
        429 => Ok(Answer::Later { retry_after: retry_after(headers).unwrap_or(USUAL_DELAY) }),
        // Overload and maintenance: 503, and whatever a gateway on the way makes of it.
        400..=599 => match retry_after(headers) {
            Some(retry_after) => Ok(Answer::Later { retry_after }),
            None => Err(Meaningless::Status(status)),
        },
        _ => Err(Meaningless::Status(status)),
    }
}

/// What an answer says about the backend's health. One that says no, or later, is well; 5xx is not, whatever it asks for.
pub(super) fn failure(status: StatusCode, error: Option<&Meaningless>) -> Option<Failure> {
    match error {
        _ if status.is_server_error() => Some(Failure::Status(status)),
        Some(Meaningless::Invalid(invalid)) => Some(Failure::Garbage(format!("its answer is no verdict: {invalid}"))),
        Some(Meaningless::Status(_)) | None => None,
    }
}

/// Seconds, or a date (RFC 9110 section 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let delay = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = httpdate::parse_http_date(value).ok()?;
            date.duration_since(SystemTime::now()).unwrap_or_default()
        }
    };
    Some(delay.min(LONGEST_DELAY))
}

/// In the backend's own words where it has some, in whichever of the usual shapes: ours, RFC 9457, or a framework's.
fn refusal(status: StatusCode, body: &[u8]) -> Refusal {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = &json["error"];
    let first = |candidates: [&Value; 5]| candidates.into_iter().find_map(|it| it.as_str().map(str::to_owned));
    let code = first([&error["code"], &json["code"], &Value::Null, &Value::Null, &Value::Null]);
    let message = first([&error["message"], &json["detail"], &json["message"], &json["title"], error]);
    let (usual_code, usual_message) = match status {
        StatusCode::UNAUTHORIZED => ("unauthorized", "authentication is required"),
        StatusCode::NOT_FOUND => ("not_found", "there is no such thing"),
        StatusCode::CONFLICT => ("conflict", "this conflicts with what is there"),
        StatusCode::UNPROCESSABLE_ENTITY => ("invalid", "this cannot be processed"),
        _ => ("forbidden", "this is not allowed"),
    };
    Refusal::new(code.as_deref().unwrap_or(usual_code), message.as_deref().unwrap_or(usual_message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, retry_after: Option<&str>, body: &'static str) -> Result<Answer, Meaningless> {
        let mut response = Response::new(Bytes::from_static(body.as_bytes()));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        if let Some(value) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, value.parse().unwrap());
        }
        read(&response, "msg_1", Limits { data: 1000, state: 1000 })
    }

    fn refused(status: u16, body: &'static str) -> (String, String) {
        match reply(status, None, body) {
            Ok(Answer::Verdict(verdict)) => {
                let refusal = verdict.refusal().expect("it is a refusal");
                (refusal.code.into(), refusal.message.into())
            }
            other => panic!("{status}: {other:?}"),
        }
    }

    fn later(status: u16, retry_after: Option<&str>) -> Option<u64> {
        match reply(status, retry_after, "") {
            Ok(Answer::Later { retry_after }) => Some(retry_after.as_secs()),
            _ => None,
        }
    }

    #[test]
    fn an_empty_success_allows() {
        for (status, body) in [(200, ""), (204, ""), (201, " \r\n")] {
            let Ok(Answer::Verdict(verdict)) = reply(status, None, body) else { panic!("{status}") };
            assert!(verdict.refusal().is_none() && verdict.is_plain());
        }
    }

    #[test]
    fn refusals_tell_the_client_why_in_the_backends_words() {
        let pair = |code: &str, message: &str| (code.to_string(), message.to_string());
        assert_eq!(refused(403, ""), pair("forbidden", "this is not allowed"));
        assert_eq!(refused(401, "<html>login</html>"), pair("unauthorized", "authentication is required"));
        assert_eq!(refused(404, r#"{"message":"No query results"}"#).1, "No query results");
        assert_eq!(refused(409, r#"{"title":"Taken","detail":"It is taken"}"#), pair("conflict", "It is taken"));
        assert_eq!(refused(422, r#"{"error":{"code":"too_rude","message":"Mind it"}}"#), pair("too_rude", "Mind it"));
        assert_eq!(refused(403, r#"{"error":"no"}"#), pair("forbidden", "no"));
        assert_eq!(refused(403, r#"[1]"#).0, "forbidden");
    }

    #[test]
    fn come_back_later_says_when() {
        assert_eq!(later(429, None), Some(5));
        assert_eq!(later(429, Some("7")), Some(7));
        assert_eq!(later(503, Some("120")), Some(120));
        assert_eq!(later(503, Some("999999")), Some(3600));
        assert_eq!(later(503, Some("Fri, 31 Dec 1999 23:59:59 GMT")), Some(0));
        assert_eq!(later(503, Some("soon")), None);
        assert_eq!(later(302, Some("7")), None);
    }

    #[test]
    fn anything_else_means_nothing() {
        for status in [302, 400, 405, 410, 418, 500, 502, 503] {
            assert!(matches!(reply(status, None, ""), Err(Meaningless::Status(it)) if it == status), "{status}");
        }
        assert!(matches!(reply(200, None, "<html>please log in</html>"), Err(Meaningless::Invalid(_))));
        assert!(matches!(reply(200, None, "OK"), Err(Meaningless::Invalid(_))));
    }
}
