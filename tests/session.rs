//! Who gets in, for how long, and how much it may do.

use std::time::Duration;

use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::app::{TestApp, TestClient, json_of, token, token_for};
use crate::support::backend::Reply;
use crate::support::{client, soon};

const COOKIES: &str = "
auth: { webhook: true }
webhooks: { url: /hooks, secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw, timeout: 2s }
";

fn request(app: &TestApp, path: &str, headers: &[(&str, &str)]) -> Request<()> {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let mut request = format!("ws://{}{path}", app.public()).into_client_request().unwrap();
    for (name, value) in headers {
        let name: http::HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    request
}

async fn with_headers(app: &TestApp, headers: &[(&str, &str)]) -> TestClient {
    TestClient::open(app.public(), request(app, "/realtime", headers)).await
}

#[tokio::test]
async fn a_cookie_session_of_the_backend_is_enough_to_get_in() {
    let app = TestApp::with(COOKIES).await;
    app.backend.on("/hooks", |seen| {
        let asked = seen.json();
        assert_eq!((&asked["type"], seen.header("cookie")), (&json!("connect"), "session=ada"));
        assert_eq!(asked["request"]["path"], "/realtime");
        Reply::json(
            200,
            json!({ "userId": "ada", "channels": ["room.5"], "subscribe": ["room.5"], "state": { "n": 1 } }),
        )
    });
    let mut client = with_headers(&app, &[("cookie", "session=ada")]).await;
    assert_eq!(client.expect("connected").await["userId"], "ada");
    assert_eq!(client.expect("subscribed").await["channel"], "room.5");
    app.publish("room.5", json!(1)).await;
    client.expect_push("room.5", 1).await;
    // What the backend noted comes back with the next question.
    let _connect = app.backend.next().await;
    app.backend.on("/hooks", |_| Reply::new(204, ""));
    client.send(json!({ "type": "publish", "channel": "room.5", "data": 1, "ref": 1 })).await;
    client.next().await;
    let asked = app.backend.next().await.json();
    assert_eq!(
        (&asked["connection"]["state"], &asked["connection"]["userId"], &asked["n"]),
        (&json!({ "n": 1 }), &json!("ada"), &json!(2))
    );
}

#[tokio::test]
async fn whom_the_backend_refuses_is_told_so_in_the_close() {
    let app = TestApp::with(COOKIES).await;
    app.backend.on("/hooks", |_| Reply::new(403, ""));
    assert_eq!(with_headers(&app, &[]).await.expect_close().await.0, 4500);
    app.backend.on("/hooks", |_| Reply::json(200, json!({ "disconnect": { "code": 4123, "reason": "later" } })));
    assert_eq!(with_headers(&app, &[]).await.expect_close().await, (4123, "later".into()));
    app.backend.on("/hooks", |_| Reply::new(500, ""));
    let mut client = with_headers(&app, &[]).await;
    assert_eq!(client.expect("reconnect").await["reason"], "unavailable");
    assert_eq!(client.expect_close().await.0, 4007);
    app.backend.on("/hooks", |_| Reply::new(429, "").header("retry-after", "7"));
    let mut client = with_headers(&app, &[]).await;
    let after = client.expect("reconnect").await["afterMs"].as_u64().unwrap();
    assert!((7000..=10_500).contains(&after), "{after}");
    assert_eq!(client.expect_close().await.0, 4006);
}

#[tokio::test]
async fn a_token_is_found_in_every_place_it_may_be() {
    let app = TestApp::start().await;
    let token = token("42", &[]);
    let (bearer, cookie) = (format!("Bearer {token}"), format!("a=b; outrigger_token={token}"));
    let subprotocols = format!("outrigger.v1.json, outrigger.token.{token}");
    for header in [("authorization", &bearer), ("cookie", &cookie), ("sec-websocket-protocol", &subprotocols)] {
        let mut client = with_headers(&app, &[(header.0, header.1)]).await;
        assert_eq!(client.expect("connected").await["userId"], "42", "{}", header.0);
    }
}

#[tokio::test]
async fn what_a_page_shows_on_purpose_counts_before_its_cookie() {
    let app = TestApp::start().await;
    let cookie = format!("outrigger_token={}", token("41", &[]));
    let subprotocols = format!("outrigger.v1.json, outrigger.token.{}", token("42", &[]));
    let mut client = with_headers(&app, &[("cookie", &cookie), ("sec-websocket-protocol", &subprotocols)]).await;
    assert_eq!(client.expect("connected").await["userId"], "42");
}

#[tokio::test]
async fn a_ticket_opens_one_connection_and_no_second() {
    let app = TestApp::start().await;
    let ask = |bearer: String| {
        Request::post("/realtime/ticket")
            .header("host", "app.test")
            .header("authorization", bearer)
            .body(Full::<bytes::Bytes>::default())
            .unwrap()
    };
    let response = client::send(app.public(), ask(format!("Bearer {}", token("42", &[])))).await;
    let ticket = json_of(response).await["ticket"].as_str().unwrap().to_owned();
    let mut first = app.socket(&format!("?ticket={ticket}")).await;
    assert_eq!(first.expect("connected").await["userId"], "42");
    let mut second = app.socket(&format!("?ticket={ticket}")).await;
    assert_eq!(second.expect_close().await.0, 1008);
    assert_eq!(client::send(app.public(), ask("Bearer no".into())).await.status(), 401);
}

#[tokio::test]
async fn a_session_ends_with_its_token_unless_it_is_refreshed() {
    let app = TestApp::with("auth: { jwt: { secret: 'a secret of the tests, thirty-two bytes', leeway: 0s } }").await;
    let brief = token_for("42", &["room.*"], Duration::from_secs(2));
    let mut ends = app.socket(&format!("?token={brief}")).await;
    let mut goes_on = app.socket(&format!("?token={brief}")).await;
    for client in [&mut ends, &mut goes_on] {
        assert!(client.expect("connected").await["expiresAt"].is_u64());
        client.expect("expiring").await;
    }
    goes_on.subscribe("room.5").await;
    goes_on.send(json!({ "type": "refresh", "token": token("43", &[]), "ref": 1 })).await;
    assert_eq!(goes_on.expect("error").await["code"], "invalid_token", "another user's");
    goes_on.send(json!({ "type": "refresh", "token": token("42", &["room.6"]), "ref": 2 })).await;
    // The new token grants less.
    assert_eq!(goes_on.expect("unsubscribed").await["channel"], "room.5");
    assert_eq!(goes_on.expect("refreshed").await["ref"], 2);
    assert_eq!(ends.expect_close().await.0, 4004);
    goes_on.subscribe("room.6").await;
}

#[tokio::test]
async fn a_silent_peer_is_closed_at_the_timeout() {
    let app = TestApp::with("realtime: { heartbeat: { interval: 100ms, timeout: 300ms } }").await;
    // A raw client that never answers a ping.
    let token = token("42", &[]);
    let handshake = format!(
        "GET /realtime?token={token} HTTP/1.1\r\nhost: app.test\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let mut raw = client::RawClient::connect(app.public()).await;
    raw.send(handshake).await;
    let mut heard = Vec::new();
    let end = async {
        use tokio::io::AsyncReadExt;
        raw.stream.read_to_end(&mut heard).await.unwrap();
    };
    soon("the end of a silent connection", end).await;
    let close = [&[0x88_u8, 19, 0x0f, 0xa2][..], b"Heartbeat timeout"].concat();
    assert!(heard.windows(close.len()).any(|it| it == close), "no close 4002");
    assert!(heard.windows(2).any(|it| it == [0x89, 0]), "no ping");
}

#[tokio::test]
async fn more_messages_than_allowed_are_refused_one_by_one_and_said_why() {
    let app = TestApp::with("limits: { messages_per_second: { rate: 1, burst: 3 } }").await;
    let mut client = app.client("42", &[]).await;
    for _ in 0..3 {
        client.send(json!({ "type": "ping" })).await;
        client.expect("pong").await;
    }
    client.send(json!({ "type": "subscribe", "channel": "public.a", "ref": 4 })).await;
    let error = client.expect("error").await;
    assert_eq!((&error["code"], &error["ref"], &error["retryable"]), (&json!("rate_limited"), &json!(4), &json!(true)));
}

#[tokio::test]
async fn subscriptions_and_new_sessions_have_their_limits() {
    let app = TestApp::with("limits: { subscriptions_per_connection: 2, handshakes_per_second: 3 }").await;
    let mut client = app.client("42", &[]).await;
    client.subscribe("public.a").await;
    client.subscribe("public.b").await;
    client.subscribe("public.a").await;
    client.send(json!({ "type": "subscribe", "channel": "public.c" })).await;
    assert_eq!(client.expect("error").await["code"], "too_many_subscriptions");
    let mut turned_away = 0;
    for _ in 0..6 {
        let mut next = app.socket(&format!("?token={}", token("1", &[]))).await;
        let message = next.next().await;
        if message["type"] == "reconnect" {
            assert_eq!(message["reason"], "busy");
            let (code, reason) = next.expect_close().await;
            assert!(code == 4006 && reason.starts_with("Come back later in "), "{code} {reason}");
            turned_away += 1;
        }
    }
    assert!((3..=6).contains(&turned_away), "{turned_away}");
}

#[tokio::test]
async fn a_page_of_another_origin_opens_no_websocket() {
    let app = TestApp::start().await;
    let stream = tokio::net::TcpStream::connect(app.public()).await.unwrap();
    let evil = request(&app, "/realtime", &[("origin", "https://evil.example")]);
    let refused = soon("the refusal", tokio_tungstenite::client_async(evil, stream)).await;
    assert!(matches!(refused, Err(tokio_tungstenite::tungstenite::Error::Http(it)) if it.status() == 403));
    let own = format!("http://{}", app.public());
    with_headers(&app, &[("origin", &own)]).await;
}

#[tokio::test]
async fn msgpack_clients_speak_bytes_and_json_clients_see_them_as_base64() {
    let app = TestApp::start().await;
    let mut json_client = app.client("1", &[]).await;
    json_client.subscribe("public.a").await;
    let token = token("2", &[]);
    let path = format!("/realtime?token={token}");
    let request = request(&app, &path, &[("sec-websocket-protocol", "outrigger.v1.msgpack")]);
    let mut packed = TestClient::open(app.public(), request).await;
    assert_eq!(packed.next_packed().await["type"].as_str(), Some("connected"));
    let field = |name: &str, value: rmpv::Value| (rmpv::Value::from(name), value);
    let publish = rmpv::Value::Map(vec![
        field("type", "publish".into()),
        field("channel", "public.a".into()),
        field("data", rmpv::Value::Binary(vec![0, 255])),
        field("ref", 1.into()),
    ]);
    packed.send_packed(&publish).await;
    assert_eq!(packed.next_packed().await["type"].as_str(), Some("ack"));
    let message = json_client.expect_push("public.a", 1).await;
    assert_eq!((&message["data"], &message["data_base64"]), (&Value::Null, &json!("AP8=")));
}

#[tokio::test]
async fn questions_of_one_connection_come_one_after_the_other_while_pushes_go_on() {
    let app = TestApp::start().await;
    let gate = crate::support::Gate::closed();
    let opens = gate.clone();
    app.backend.on("/hooks", move |seen| match seen.json()["n"].as_u64() {
        Some(1) => Reply::new(204, "").behind(&gate),
        _ => Reply::new(204, ""),
    });
    let mut client = app.client("42", &["room.*"]).await;
    client.subscribe("public.a").await;
    for n in 1..=3 {
        client.send(json!({ "type": "publish", "channel": "room.5", "data": n, "ref": n })).await;
    }
    let first = app.backend.next().await.json();
    app.publish("public.a", json!("meanwhile")).await;
    client.expect_push("public.a", 1).await;
    assert!(!app.backend.has_more().await, "the second was asked before the first was answered");
    opens.open();
    let (second, third) = (app.backend.next().await.json(), app.backend.next().await.json());
    assert_eq!([&first["data"], &second["data"], &third["data"]], [1, 2, 3]);
    assert_eq!([&first["n"], &second["n"], &third["n"]], [1, 2, 3]);
    for n in 1..=3 {
        assert_eq!(client.expect("ack").await["ref"], n);
    }
}

#[tokio::test]
async fn without_an_answer_in_time_a_publication_is_refused_and_the_client_stays() {
    let app =
        TestApp::with("webhooks: { url: /hooks, secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw, timeout: 200ms }")
            .await;
    app.backend.on("/hooks", |_| Reply::new(204, "").behind(&crate::support::Gate::closed()));
    let mut client = app.client("42", &["room.*"]).await;
    client.send(json!({ "type": "publish", "channel": "room.5", "data": 1, "ref": 1 })).await;
    let error = client.expect("error").await;
    assert_eq!((&error["code"], &error["retryable"]), (&json!("unavailable"), &json!(true)));
    client.send(json!({ "type": "ping" })).await;
    client.expect("pong").await;
}
