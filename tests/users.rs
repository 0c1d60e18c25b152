//! Tokens that end, and users who are sent away or erased.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Request;
use http_body_util::Full;
use outrigger::auth;
use outrigger::channel::{ChannelName, Retention};
use serde_json::{Map, Value, json};

use crate::support::app::{PUSH_KEY, TestApp, TestClient, json_of, settings, token, token_for};
use crate::support::backend::Reply;
use crate::support::events::Events;
use crate::support::{Gate, client, soon};

/// Asks the internal API with the operator's key.
/// A token issued so long ago, with these claims besides.
fn issued(ago: Duration, user: &str, more: Value) -> String {
    let settings = auth::Settings {
        secrets: vec![auth::Named::without_kid(settings::JWT_SECRET.into())],
        user_claim: vec!["sub".into()],
        ..auth::Settings::default()
    };
    let claims = more.as_object().cloned().unwrap_or_else(Map::new);
    let what =
        auth::ToSign { user: Some(user.into()), ttl: Duration::from_secs(3600) + ago, claims, ..Default::default() };
    auth::Signer::build(&settings).unwrap().sign_at(&what, SystemTime::now() - ago)
}

const EARLIER: Duration = Duration::from_secs(60);
const KEPT: Retention = Retention { size: 100, ttl: Duration::from_secs(600) };

fn name(channel: &str) -> ChannelName {
    ChannelName::parse(channel).unwrap()
}

async fn connected(app: &TestApp, token: &str) -> TestClient {
    let mut client = app.socket(&format!("?token={token}")).await;
    client.expect("connected").await;
    client
}

async fn is_refused(app: &TestApp, token: &str) -> bool {
    let mut client = app.socket(&format!("?token={token}")).await;
    client.next_or_close().await == Err((1008, "Invalid token".into()))
}

#[tokio::test]
async fn a_token_that_ends_closes_every_transport_with_the_code_for_a_new_one() {
    let app = TestApp::start().await;
    let short = token_for("1", &[], Duration::from_secs(4));
    let mut socket = app.socket(&format!("?token={short}")).await;
    let mut events = Events::open(app.public(), &format!("/realtime/sse?token={short}"), &[]).await;
    let first = app.poll(&format!("token={short}")).await;
    // `expiring` comes before, unless the time is over by then.
    let ended = loop {
        match socket.next_or_close().await {
            Ok(message) => assert!(message["type"] == "connected" || message["type"] == "expiring", "{message}"),
            Err(ended) => break ended,
        }
    };
    assert_eq!(ended, (4004, "Token expired".into()));
    let mut last = None;
    while let Some(event) = events.next().await {
        last = Some(event);
    }
    let last = last.unwrap();
    assert_eq!((&*last.name, &last.data["code"]), ("closed", &json!(4004)));
    let mut cursor = first["cursor"].as_str().unwrap().to_owned();
    let mut heard = Vec::new();
    while heard.last() != Some(&json!("closed")) {
        let answer = app.poll(&format!("cursor={cursor}")).await;
        cursor = answer["cursor"].as_str().unwrap().to_owned();
        heard.extend(answer["messages"].as_array().unwrap().iter().map(|it| it["type"].clone()));
        if heard.last() == Some(&json!("closed")) {
            assert_eq!(answer["messages"].as_array().unwrap().last().unwrap()["code"], 4004);
        }
    }
}

#[tokio::test]
async fn a_revoked_users_clients_are_sent_away_and_come_back_only_with_a_newer_token() {
    let app = TestApp::start().await;
    let old = issued(EARLIER, "42", Value::Null);
    let mut socket = connected(&app, &old).await;
    let mut events = Events::open(app.public(), &format!("/realtime/sse?token={old}"), &[]).await;
    events.expect("connected").await;
    let mut other = connected(&app, &issued(EARLIER, "43", Value::Null)).await;

    let (status, answer) = app.call("POST", "/users/42/revoke", Value::Null).await;
    let node = app.app.hub().node();
    assert_eq!((status, answer), (200, json!({ "applied": [node], "away": [], "closed": 2 })));
    assert_eq!(socket.expect_close().await, (4008, "Token revoked".into()));
    assert_eq!(events.expect("closed").await.data["code"], 4008);
    assert!(is_refused(&app, &old).await);
    let poll = app.get(&format!("/realtime/poll?token={old}")).await;
    assert_eq!((poll.status().as_u16(), json_of(poll).await["code"].clone()), (401, json!("invalid_token")));
    // A token tells its time in whole seconds, so one of the next second is surely newer.
    let later = issued(Duration::ZERO, "42", json!({}));
    other.send(json!({ "type": "ping" })).await;
    other.expect("pong").await;
    let next_second = async {
        while SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() <= issued_at(&later) {
            tokio::task::yield_now().await;
        }
    };
    soon("the next second", next_second).await;
    connected(&app, &issued(Duration::ZERO, "42", json!({}))).await;
}

#[tokio::test]
async fn a_poller_revoked_between_two_polls_hears_nothing_newer_and_says_nothing_any_more() {
    let app = TestApp::start().await;
    let first = app.poll(&format!("channels=public.a&token={}", issued(EARLIER, "42", Value::Null))).await;
    let connected = first["messages"].as_array().unwrap().iter().find(|it| it["type"] == "connected").unwrap().clone();
    let cursor = first["cursor"].as_str().unwrap();
    app.publish("public.a", json!("before")).await;
    let (_, answer) = app.call("POST", "/users/42/revoke", Value::Null).await;
    assert_eq!(answer["closed"], 1);
    app.publish("public.a", json!("after")).await;

    let id = connected["connectionId"].as_str().unwrap();
    let publish = Request::post(format!("/realtime/connections/{id}/publish"))
        .header("host", "app.test")
        .header("authorization", format!("Bearer {}", connected["secret"].as_str().unwrap()))
        .body(Full::new(bytes::Bytes::from(r#"{"channel":"public.a","data":"me too"}"#)))
        .unwrap();
    assert_eq!(client::send(app.public(), publish).await.status(), 401);
    soon("its session is over", async {
        while app.call("GET", &format!("/connections/{id}"), Value::Null).await.0 != 404 {
            tokio::task::yield_now().await;
        }
    })
    .await;

    let last = app.poll(&format!("cursor={cursor}")).await;
    let heard: Vec<_> = last["messages"].as_array().unwrap().iter().map(|it| (&it["type"], &it["data"])).collect();
    assert_eq!(heard[..1], [(&json!("message"), &json!("before"))]);
    assert_eq!(heard[1..], [(&json!("closed"), &Value::Null)], "nothing that came after");
    assert_eq!(app.get(&format!("/realtime/poll?cursor={cursor}")).await.status(), 401);
    let page = app.app.hub().history(&name("public.a"), None, 9, KEPT).await.unwrap();
    assert_eq!(page.publications.len(), 2);
}

fn issued_at(token: &str) -> u64 {
    use base64::Engine;
    let claims = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice::<Value>(&claims).unwrap()["iat"].as_u64().unwrap()
}

#[tokio::test]
async fn only_tokens_of_before_the_named_moment_are_revoked() {
    let app = TestApp::start().await;
    let (old, new) = (issued(2 * EARLIER, "42", Value::Null), issued(EARLIER / 2, "42", Value::Null));
    let (mut by_old, mut by_new) = (connected(&app, &old).await, connected(&app, &new).await);
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - EARLIER;
    let before = u64::try_from(before.as_millis()).unwrap();
    let (_, answer) = app.call("POST", "/users/42/revoke", json!({ "before": before })).await;
    assert_eq!(answer["closed"], 1);
    assert_eq!(by_old.expect_close().await.0, 4008);
    by_new.send(json!({ "type": "refresh", "token": old, "ref": 1 })).await;
    let error = by_new.expect("error").await;
    assert_eq!((&error["code"], &error["message"]), (&json!("invalid_token"), &json!("the token was revoked")));
}

#[tokio::test]
async fn one_token_can_be_revoked_wherever_it_is_used() {
    let app = TestApp::start().await;
    let stolen = issued(EARLIER, "42", json!({ "jti": "t-1" }));
    let mut by_stolen = connected(&app, &stolen).await;
    let mut by_other = connected(&app, &issued(EARLIER, "42", json!({ "jti": "t-2" }))).await;
    by_other.send(json!({ "type": "refresh", "token": stolen })).await;
    by_other.expect("refreshed").await;
    let ticket = Request::post("/realtime/ticket")
        .header("host", "app.test")
        .header("authorization", format!("Bearer {stolen}"))
        .body(Full::<bytes::Bytes>::default())
        .unwrap();
    let ticket = json_of(client::send(app.public(), ticket).await).await;
    let ticket = ticket["ticket"].as_str().unwrap();

    let (_, answer) = app.call("POST", "/tokens/revoke", json!({ "jti": "t-1" })).await;
    assert_eq!(answer["closed"], 2, "the one that came with it, and the one that changed to it");
    assert_eq!(by_stolen.expect_close().await.0, 4008);
    assert_eq!(by_other.expect_close().await.0, 4008);
    assert!(is_refused(&app, &stolen).await);
    let mut by_ticket = app.socket(&format!("?ticket={ticket}")).await;
    assert_eq!(by_ticket.expect_close().await.0, 1008);
    connected(&app, &issued(EARLIER, "42", json!({ "jti": "t-3" }))).await;
}

#[tokio::test]
async fn a_user_the_backend_vouched_for_is_sent_away_and_asked_about_anew() {
    let app = TestApp::with("auth: { webhook: true }").await;
    app.backend.on("/hooks", |_| Reply::json(200, json!({ "userId": "ada", "ttl": 60 })));
    let mut client = app.socket("").await;
    assert_eq!(client.expect("connected").await["userId"], "ada");
    app.backend.next().await;
    let (_, answer) = app.call("POST", "/users/ada/revoke", Value::Null).await;
    assert_eq!(answer["closed"], 1);
    assert_eq!(client.expect_close().await.0, 4008);
    let mut client = app.socket("").await;
    assert_eq!(client.expect("connected").await["userId"], "ada");
    assert_eq!(app.backend.next().await.json()["type"], "connect", "the verdict of before is not used again");
}

#[tokio::test]
async fn an_erased_user_is_gone_from_connections_and_history_and_leaves_no_gap() {
    let app = TestApp::start().await;
    let mut author = connected(&app, &issued(EARLIER, "42", json!({ "channels": ["room.*"] }))).await;
    let mut reader = app.client("43", &[]).await;
    reader.subscribe("public.a").await;
    author.send(json!({ "type": "publish", "channel": "public.a", "data": "mine", "ref": 1 })).await;
    author.expect("ack").await;
    let push = json!({ "channel": "public.a", "data": "about them", "subject": "42" });
    assert_eq!(app.call("POST", "/push", push).await.0, 200);
    app.publish("public.a", json!("of nobody")).await;
    for seq in [1, 2, 3] {
        reader.expect_push("public.a", seq).await;
    }

    let (status, answer) = app.call("DELETE", "/users/42", Value::Null).await;
    assert_eq!(status, 200, "{answer}");
    let erased = &answer["erased"];
    assert_eq!(
        (&erased["connections"], &erased["publications"], &erased["channels"]),
        (&json!(1), &json!(2), &json!(1))
    );
    assert_eq!(author.expect_close().await.0, 4008);
    let (_, history) = app.call("GET", "/channels/public.a/history", Value::Null).await;
    let seen: Vec<_> =
        history["messages"].as_array().unwrap().iter().map(|it| (&it["seq"], &it["data"], &it["erased"])).collect();
    let (gone, there) = (json!(true), Value::Null);
    assert_eq!(
        seen,
        [(&json!(1), &Value::Null, &gone), (&json!(2), &Value::Null, &gone), (&json!(3), &json!("of nobody"), &there)]
    );
    assert!(!history.to_string().contains("userId"), "{history}");
    let mut late = app.client("44", &[]).await;
    let since = json!({ "epoch": history["epoch"], "seq": 0 });
    late.send(json!({ "type": "subscribe", "channel": "public.a", "since": since })).await;
    assert_eq!(late.expect("subscribed").await["recovered"], true);
    for seq in [1, 2] {
        let message = late.expect_push("public.a", seq).await;
        assert_eq!((&message["data"], &message["erased"]), (&Value::Null, &json!(true)));
    }
    late.expect_push("public.a", 3).await;
}

#[tokio::test]
async fn what_an_erased_user_was_about_to_publish_is_not_stored() {
    let app = TestApp::start().await;
    let gate = Gate::closed();
    let opens = gate.clone();
    app.backend.on("/hooks", move |_| Reply::ok("").behind(&gate));
    let mut author = connected(&app, &issued(EARLIER, "42", json!({ "channels": ["room.*"] }))).await;
    author.send(json!({ "type": "publish", "channel": "room.1", "data": "mine" })).await;
    app.backend.next().await;
    assert_eq!(app.call("DELETE", "/users/42", Value::Null).await.0, 200);
    opens.open();
    let _ = author.next_or_close().await;
    soon("the end of the session", async {
        while !app.app.hub().directory().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (_, history) = app.call("GET", "/channels/room.1/history", Value::Null).await;
    assert_eq!(history["messages"], json!([]));
}

#[tokio::test]
async fn revoking_and_erasing_take_the_operators_key() {
    let app = TestApp::with(&format!(
        "api: {{ listen: 127.0.0.1:0, keys: [ {{ name: pusher, key: '{PUSH_KEY}', scope: [push, read] }} ] }}"
    ))
    .await;
    let mut client = app.socket(&format!("?token={}", token("42", &[]))).await;
    client.expect("connected").await;
    for (method, path) in [("POST", "/users/42/revoke"), ("DELETE", "/users/42"), ("POST", "/tokens/revoke")] {
        assert_eq!(app.call(method, path, Value::Null).await.0, 403, "{method} {path}");
    }
    client.send(json!({ "type": "ping" })).await;
    client.expect("pong").await;
}

/// Where the lines of the log go.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn each_act_of_an_operator_leaves_a_line_with_the_keys_name_and_no_secret() {
    let lines = Lines::default();
    let written = lines.clone();
    // With one subscriber alone, tracing asks whichever thread meets a line first whether it wants it, and other tests do not.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || lines.clone()).finish();
    let _log = tracing::subscriber::set_default(log);
    let app = TestApp::start().await;
    let token = issued(EARLIER, "42", json!({ "jti": "t-1" }));
    let _client = connected(&app, &token).await;
    for (method, path, body) in [
        ("POST", "/users/7/disconnect", Value::Null),
        ("POST", "/tokens/revoke", json!({ "jti": "t-1" })),
        ("POST", "/users/42/revoke", Value::Null),
        ("DELETE", "/users/42", Value::Null),
        ("DELETE", "/channels/public.a/history", Value::Null),
        ("POST", "/reload", Value::Null),
        ("POST", "/drain", Value::Null),
        ("POST", "/users/42/revoke", json!({ "before": "no" })),
    ] {
        app.call(method, path, body).await;
    }
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    let audit: Vec<_> = text.lines().filter(|it| it.contains(" audit: ")).collect();
    for (line, expected) in audit.iter().zip([
        r#"act="POST /users/7/disconnect" status=200 outcome="0 connections closed with 4501""#,
        r#"act="POST /tokens/revoke" status=200 outcome="the token \"t-1\", 1 connections closed""#,
        r#"act="POST /users/42/revoke" status=200"#,
        r#"act="DELETE /users/42" status=200 outcome="{\"connections\":1,"#,
        r#"act="DELETE /channels/public.a/history" status=200"#,
        r#"act="POST /reload" status=422"#,
        r#"act="POST /drain" status=202"#,
        r#"act="POST /users/42/revoke" status=400"#,
    ]) {
        assert!(line.contains(r#"who="tests""#) && line.contains(expected), "{line}\nhas not {expected}");
    }
    assert_eq!(audit.len(), 8, "{audit:#?}");
    for secret in [PUSH_KEY, &token] {
        assert!(!text.contains(secret));
    }
}
