//! The JSON protocol over a WebSocket, as a hand-written client speaks it.

use std::time::Duration;

use serde_json::json;

use crate::support::app::{TestApp, token, token_for};
use crate::support::backend::Reply;
use crate::support::{client, soon};

#[tokio::test]
async fn a_plain_client_connects_subscribes_and_hears_what_is_pushed() {
    let app = TestApp::start().await;
    let mut client = app.socket(&format!("?token={}", token("42", &["room.*"]))).await;
    let connected = client.expect("connected").await;
    assert_eq!(connected["userId"], "42");
    assert!(connected["connectionId"].is_string() && connected["timestamp"].is_u64(), "{connected}");

    let subscribed = client.subscribe("room.5").await;
    assert_eq!((&subscribed["channel"], &subscribed["seq"]), (&json!("room.5"), &json!(0)));
    app.publish("room.5", json!({ "text": "hi" })).await;
    let message = client.expect_push("room.5", 1).await;
    assert_eq!(message["data"], json!({ "text": "hi" }));

    client.send(json!({ "type": "ping" })).await;
    client.expect("pong").await;
}

#[tokio::test]
async fn two_subscribers_of_two_channels_hear_theirs_in_one_order() {
    let app = TestApp::start().await;
    let mut first = app.client("1", &["room.*"]).await;
    let mut second = app.client("2", &["room.*"]).await;
    for client in [&mut first, &mut second] {
        client.subscribe("room.a").await;
        client.subscribe("room.b").await;
    }
    for at in 0..20 {
        app.publish("room.a", json!(at)).await;
    }
    app.publish("room.b", json!("b")).await;
    for client in [&mut first, &mut second] {
        for seq in 1..=20 {
            client.expect_push("room.a", seq).await;
        }
        client.expect_push("room.b", 1).await;
    }
}

#[tokio::test]
async fn who_shows_no_token_or_a_bad_one_is_told_in_the_close() {
    let app = TestApp::start().await;
    let mut client = app.socket("").await;
    client.send(json!({ "type": "subscribe", "channel": "room.5" })).await;
    assert_eq!(client.expect_close().await, (1008, "Authentication required".into()));
    let mut client = app.socket("?token=nonsense").await;
    assert_eq!(client.expect_close().await, (1008, "Invalid token".into()));
    let expired = token_for("1", &[], Duration::from_secs(0));
    let mut client = app.socket(&format!("?token={expired}")).await;
    client.expect("connected").await;
}

#[tokio::test]
async fn a_token_may_come_in_the_first_message() {
    let app = TestApp::start().await;
    let mut client = app.socket("").await;
    client.send(json!({ "type": "auth", "token": token("7", &[]) })).await;
    assert_eq!(client.expect("connected").await["userId"], "7");
}

#[tokio::test]
async fn a_client_without_the_grant_is_refused_and_stays_connected() {
    let app = TestApp::start().await;
    let mut client = app.client("1", &["room.6"]).await;
    client.send(json!({ "type": "subscribe", "channel": "room.5", "ref": 9 })).await;
    let error = client.expect("error").await;
    assert_eq!(
        (&error["code"], &error["ref"], &error["channel"]),
        (&json!("not_allowed"), &json!(9), &json!("room.5"))
    );
    client.send(json!({ "type": "subscribe", "channel": "nobody.has.a.rule" })).await;
    assert_eq!(client.expect("error").await["code"], "not_allowed");
    client.subscribe("room.6").await;
}

#[tokio::test]
async fn what_cannot_be_read_is_an_error_not_the_end() {
    let app = TestApp::start().await;
    let mut client = app.client("1", &[]).await;
    client.send(json!(["no", "message"])).await;
    assert_eq!(client.expect("error").await["code"], "bad_message");
    client.send(json!({ "type": "dance", "ref": "r" })).await;
    let error = client.expect("error").await;
    assert_eq!((&error["code"], &error["ref"]), (&json!("unknown_type"), &json!("r")));
    client.send(json!({ "type": "ping" })).await;
    client.expect("pong").await;
}

#[tokio::test]
async fn nothing_of_a_channel_comes_after_its_unsubscribed() {
    let app = TestApp::start().await;
    let mut client = app.client("1", &[]).await;
    client.subscribe("public.a").await;
    client.send(json!({ "type": "unsubscribe", "channel": "public.a", "ref": 1 })).await;
    assert_eq!(client.expect("unsubscribed").await["ref"], 1);
    app.publish("public.a", json!(1)).await;
    client.send(json!({ "type": "ping" })).await;
    client.expect("pong").await;
}

#[tokio::test]
async fn a_client_that_comes_back_gets_what_it_missed_before_anything_newer() {
    let app = TestApp::start().await;
    let mut client = app.client("1", &[]).await;
    let subscribed = client.subscribe("public.a").await;
    app.publish("public.a", json!(1)).await;
    let had = client.expect_push("public.a", 1).await;
    drop(client);
    for at in 2..=300 {
        app.publish("public.a", json!(at)).await;
    }
    let mut client = app.client("1", &[]).await;
    let since = json!({ "epoch": subscribed["epoch"], "seq": 250, "id": null });
    client.send(json!({ "type": "subscribe", "channel": "public.a", "since": since })).await;
    let subscribed = client.expect("subscribed").await;
    assert_eq!((&subscribed["recovered"], &subscribed["seq"]), (&json!(true), &json!(250)));
    app.publish("public.a", json!(301)).await;
    for seq in 251..=301 {
        client.expect_push("public.a", seq).await;
    }

    // The first two hundred are gone: 100 are kept.
    let since = json!({ "epoch": subscribed["epoch"], "seq": 1, "id": had["id"] });
    client.send(json!({ "type": "subscribe", "channel": "public.a", "since": since })).await;
    let subscribed = client.expect("subscribed").await;
    assert_eq!((&subscribed["recovered"], &subscribed["seq"]), (&json!(false), &json!(301)));
}

#[tokio::test]
async fn a_publication_is_shown_to_the_backend_and_broadcast_as_it_says() {
    let app = TestApp::start().await;
    app.backend.on("/hooks", |seen| {
        let asked = seen.json();
        assert_eq!((&asked["type"], &asked["channel"]), (&json!("publish"), &json!("room.5")));
        Reply::json(200, json!({ "data": { "text": "CLEAN" }, "reply": { "stored": 17 }, "push": [{ "channel": "public.log", "data": 1 }] }))
    });
    let mut speaker = app.client("1", &["room.*"]).await;
    let mut listener = app.client("2", &["room.*"]).await;
    listener.subscribe("room.5").await;
    listener.subscribe("public.log").await;
    speaker
        .send(json!({ "type": "publish", "channel": "room.5", "data": { "text": "dirty" }, "id": "c-1", "ref": 3 }))
        .await;
    let ack = speaker.expect("ack").await;
    assert_eq!((&ack["ref"], &ack["id"], &ack["seq"]), (&json!(3), &json!("c-1"), &json!(1)));
    assert_eq!(ack["reply"], json!({ "stored": 17 }));
    let mut heard = [listener.next().await, listener.next().await];
    heard.sort_by_key(|it| it["channel"].to_string());
    assert_eq!(heard[0]["channel"], "public.log");
    assert_eq!((&heard[1]["data"], &heard[1]["userId"]), (&json!({ "text": "CLEAN" }), &json!("1")));
}

#[tokio::test]
async fn a_refusal_of_the_backend_reaches_the_client_in_its_words() {
    let app = TestApp::start().await;
    app.backend.on("/hooks", |_| {
        Reply::json(200, json!({ "action": "reject", "error": { "code": "muted", "message": "You are muted." } }))
    });
    let mut client = app.client("1", &["room.*"]).await;
    client.send(json!({ "type": "publish", "channel": "room.5", "data": 1, "ref": 3 })).await;
    let error = client.expect("error").await;
    assert_eq!(
        (&error["code"], &error["message"], &error["ref"]),
        (&json!("muted"), &json!("You are muted."), &json!(3))
    );
}

#[tokio::test]
async fn the_backends_webhook_path_is_nobody_elses_to_call() {
    let app = TestApp::start().await;
    for path in ["/hooks", "//hooks/", "/%68ooks"] {
        assert_eq!(app.get(path).await.status(), 404, "{path}");
    }
    assert!(!app.backend.has_more().await);
}

#[tokio::test]
async fn a_session_may_live_in_a_stream_of_http2_where_that_is_switched_on() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::{Message, Role};
    let more = "listen: [ { address: 127.0.0.1:0, tls: self_signed } ]\nrealtime: { http2_websocket: true }";
    let app = TestApp::with(more).await;
    let mut sender = client::http2(app.public()).await;
    let uri = format!("https://localhost/realtime?token={}", token("42", &[]));
    let request = http::Request::connect(uri)
        .header("sec-websocket-version", "13")
        .extension(hyper::ext::Protocol::from_static("websocket"))
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .unwrap();
    let answer = soon("the upgrade", sender.send_request(request)).await.unwrap();
    assert_eq!(answer.status(), 200);
    let tunnel = hyper_util::rt::TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    let mut socket = WebSocketStream::from_raw_socket(tunnel, Role::Client, None).await;
    let mut next = async |send: Option<serde_json::Value>| {
        if let Some(message) = send {
            socket.send(Message::text(message.to_string())).await.unwrap();
        }
        let message = soon("a message", socket.next()).await.unwrap().unwrap();
        serde_json::from_str::<serde_json::Value>(message.to_text().unwrap()).unwrap()
    };
    assert_eq!(next(None).await["userId"], "42");
    assert_eq!(next(Some(json!({ "type": "subscribe", "channel": "public.a" }))).await["type"], "subscribed");
    app.publish("public.a", json!("through the tunnel")).await;
    assert_eq!(next(None).await["data"], "through the tunnel");
}
