//! Answers Outrigger's questions. The signature is checked as the Standard Webhooks scheme says, in the few lines it
//! takes; the answers are what a small application would say: who this is, and whether and how a message may appear.

use std::time::UNIX_EPOCH;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::COOKIE;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::cookie::Cookies;
use super::{Answer, as_json, error, text};

/// The endpoint, with the secret its questions are signed with.
pub struct Webhooks(hmac::Key);

/// Why a text is no webhook secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a webhook secret is `whsec_` and base64")]
pub struct InvalidSecret;

/// A message older than this may have been recorded by somebody, in seconds.
const TOLERANCE: u64 = 5 * 60;
/// What fits into the chat, in characters.
const MAX_TEXT: usize = 280;

#[derive(Deserialize)]
struct Question {
    #[serde(rename = "type")]
    kind: String,
    connection: Connection,
    channel: Option<String>,
    #[serde(default)]
    data: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Connection {
    user_id: Option<String>,
}

impl Webhooks {
    pub fn signed_with(secret: &str) -> Result<Self, InvalidSecret> {
        let base64 = secret.strip_prefix("whsec_").ok_or(InvalidSecret)?;
        let bytes = BASE64_STANDARD.decode(base64).map_err(|_| InvalidSecret)?;
        if bytes.is_empty() { Err(InvalidSecret) } else { Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes))) }
    }

    pub fn answer(&self, headers: &HeaderMap, body: &[u8], cookies: &Cookies) -> Answer {
        let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        if !self.is_signed(headers, body, now) {
            return text(StatusCode::BAD_REQUEST, "the signature is not right");
        }
        let Ok(question) = serde_json::from_slice::<Question>(body) else {
            return text(StatusCode::BAD_REQUEST, "this is no question we know");
        };
        match question.kind.as_str() {
            "connect" => connect(headers, cookies),
            "publish" => publish(&question),
            // Whoever may connect may follow.
            _ => text(StatusCode::OK, ""),
        }
    }

    fn is_signed(&self, headers: &HeaderMap, body: &[u8], now: u64) -> bool {
        let header = |name: &str| headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default();
        let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
        if !timestamp.parse::<u64>().is_ok_and(|it| it.abs_diff(now) <= TOLERANCE) {
            return false;
        }
        let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
        let signatures = header("webhook-signature").split(' ').filter_map(|it| it.strip_prefix("v1,"));
        let mut tags = signatures.filter_map(|it| BASE64_STANDARD.decode(it).ok());
        tags.any(|it| hmac::verify(&self.0, &signed, &it).is_ok())
    }
}

/// The client's own cookie comes with the question. Without one it may read along as nobody.
fn connect(headers: &HeaderMap, cookies: &Cookies) -> Answer {
    let values = headers.get_all(COOKIE).iter().filter_map(|it| it.to_str().ok());
    match values.filter_map(|it| cookies.find(it)).next() {
        Some(nick) => as_json(StatusCode::OK, &json!({ "userId": nick.as_str() })),
        None => text(StatusCode::OK, ""),
    }
}

/// What comes back as `data` is what everybody sees.
fn publish(question: &Question) -> Answer {
    if !question.channel.as_deref().is_some_and(|it| it.starts_with("chat.")) {
        return error(StatusCode::FORBIDDEN, "read_only", "This channel is not for talking.");
    }
    let Some(nick) = &question.connection.user_id else {
        return error(StatusCode::FORBIDDEN, "login_required", "Choose a name before you say something.");
    };
    let said = question.data["text"].as_str().unwrap_or_default();
    let words: Vec<_> =
        said.split(|it: char| it.is_whitespace() || it.is_control()).filter(|it| !it.is_empty()).collect();
    let text: String = words.join(" ").chars().take(MAX_TEXT).collect();
    if text.is_empty() {
        return error(StatusCode::UNPROCESSABLE_ENTITY, "empty", "There is nothing in this message.");
    }
    as_json(StatusCode::OK, &json!({ "data": { "from": nick, "text": text } }))
}

#[cfg(test)]
mod tests {
    use super::super::cookie::Nick;
    use super::*;
    use http_body_util::BodyExt;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn signed(timestamp: u64, body: &str) -> HeaderMap {
        let Webhooks(key) = Webhooks::signed_with(SECRET).unwrap();
        let tag = hmac::sign(&key, format!("msg_1.{timestamp}.{body}").as_bytes());
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", "msg_1".parse().unwrap());
        headers.insert("webhook-timestamp", timestamp.into());
        headers.insert("webhook-signature", format!("v1a,x v1,{}", BASE64_STANDARD.encode(tag)).parse().unwrap());
        headers
    }

    /// Status and body of the answer to a question that is signed now.
    async fn ask(body: &str, cookie: Option<&str>, cookies: &Cookies) -> (u16, String) {
        let mut headers = signed(UNIX_EPOCH.elapsed().unwrap().as_secs(), body);
        if let Some(cookie) = cookie {
            headers.insert(COOKIE, cookie.parse().unwrap());
        }
        let answer = Webhooks::signed_with(SECRET).unwrap().answer(&headers, body.as_bytes(), cookies);
        let (status, body) = (answer.status().as_u16(), answer.into_body().collect().await.unwrap().to_bytes());
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn the_schemes_own_example_is_believed_and_nothing_near_it() {
        let ours = Webhooks::signed_with(SECRET).unwrap();
        let (now, body) = (1_614_265_330, br#"{"test": 2432232314}"#);
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek".parse().unwrap());
        headers.insert("webhook-timestamp", now.into());
        headers.insert("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=".parse().unwrap());
        assert!(ours.is_signed(&headers, body, now));
        assert!(ours.is_signed(&headers, body, now + TOLERANCE));
        assert!(!ours.is_signed(&headers, body, now + TOLERANCE + 1));
        assert!(!ours.is_signed(&headers, b"{}", now));
        assert!(!Webhooks::signed_with("whsec_b3RoZXI=").unwrap().is_signed(&headers, body, now));
        headers.remove("webhook-id");
        assert!(!ours.is_signed(&headers, body, now));
        assert!(!ours.is_signed(&HeaderMap::new(), body, now));
    }

    #[test]
    fn an_unsigned_question_is_not_answered() {
        let ours = Webhooks::signed_with(SECRET).unwrap();
        let answer = ours.answer(&HeaderMap::new(), br#"{"type":"connect","connection":{}}"#, &Cookies::new());
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn a_secret_has_its_prefix_and_is_base64() {
        for bad in ["", "c2VjcmV0", "whsec_", "whsec_!"] {
            assert_eq!(Webhooks::signed_with(bad).err(), Some(InvalidSecret), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_client_is_who_its_cookie_says_or_nobody() {
        let cookies = Cookies::new();
        let question = r#"{"type":"connect","connection":{"userId":null}}"#;
        let cookie = cookies.issue(&Nick::parse("ada").unwrap());
        let cookie = cookie.split(';').next().unwrap();
        assert_eq!(ask(question, Some(cookie), &cookies).await, (200, r#"{"userId":"ada"}"#.into()));
        assert_eq!(ask(question, None, &cookies).await, (200, String::new()));
        assert_eq!(ask(question, Some("demo_session=YWRh.AAAA"), &cookies).await, (200, String::new()));
    }

    #[tokio::test]
    async fn talking_takes_a_name_and_some_text_and_comes_out_clean() {
        let cookies = Cookies::new();
        let said = |user: &str, channel: &str, text: &str| {
            json!({ "type": "publish", "connection": { "userId": serde_json::from_str::<Value>(user).unwrap() },
                    "channel": channel, "data": { "text": text, "from": "mallory" } })
            .to_string()
        };
        let (status, body) = ask(&said("null", "chat.lobby", "hi"), None, &cookies).await;
        assert!(status == 403 && body.contains("login_required"), "{status} {body}");
        let (status, body) = ask(&said("\"ada\"", "chat.lobby", "  hi \n\t you\u{7} "), None, &cookies).await;
        assert_eq!((status, body.as_str()), (200, r#"{"data":{"from":"ada","text":"hi you"}}"#));
        let (_, body) = ask(&said("\"ada\"", "chat.lobby", &"ü".repeat(1000)), None, &cookies).await;
        assert_eq!(body.chars().filter(|it| *it == 'ü').count(), MAX_TEXT);
        assert_eq!(ask(&said("\"ada\"", "chat.lobby", " \n "), None, &cookies).await.0, 422);
        assert_eq!(ask(&said("\"ada\"", "ticker", "hi"), None, &cookies).await.0, 403);
    }

    #[tokio::test]
    async fn whoever_may_connect_may_follow() {
        let question = r#"{"type":"subscribe","connection":{},"channel":"chat.lobby"}"#;
        assert_eq!(ask(question, None, &Cookies::new()).await, (200, String::new()));
    }
}
