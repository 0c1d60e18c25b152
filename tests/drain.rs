//! The end of a node, as its clients, its backend and its operator see it.

use http::Request;
use http_body_util::Full;
use outrigger::app::Leftovers;
use serde_json::json;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::support::app::{PUSH_KEY, TestApp, TestClient, json_of, token};
use crate::support::backend::Reply;
use crate::support::client::{self, RawClient};
use crate::support::events::Events;
use crate::support::{Gate, soon};

async fn stream(app: &TestApp, query: &str) -> Events {
    let mut events = Events::open(app.public(), &format!("/realtime/sse?{query}&token={}", token("1", &[])), &[]).await;
    events.expect("connected").await;
    events
}

#[tokio::test]
async fn every_client_is_told_to_come_back_and_gets_what_waits_before_the_end() {
    let app = TestApp::start().await;
    let mut socket = app.client("1", &[]).await;
    socket.subscribe("public.a").await;
    let url = format!("ws://{}/realtime?token={}", app.public(), token("2", &[]));
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "outrigger.v1.msgpack".parse().unwrap());
    let mut packed = TestClient::open(app.public(), request).await;
    assert_eq!(packed.next_packed().await["type"].as_str(), Some("connected"));
    let mut events = stream(&app, "channels=public.a").await;
    events.expect("subscribed").await;
    app.publish("public.a", json!("last words")).await;
    socket.expect_push("public.a", 1).await;

    let drained = tokio::spawn(app.app.drain());
    let reconnect = socket.expect("reconnect").await;
    assert_eq!(reconnect["reason"], "drain");
    assert!(reconnect["afterMs"].as_u64().is_some_and(|it| (100..=1000).contains(&it)), "{reconnect}");
    assert_eq!(socket.expect_close().await.0, 4003);

    let reconnect = packed.next_packed().await;
    assert_eq!((reconnect["type"].as_str(), reconnect["reason"].as_str()), (Some("reconnect"), Some("drain")));
    assert!(reconnect["afterMs"].as_u64().is_some_and(|it| it <= 1000), "{reconnect}");
    assert_eq!(packed.expect_close().await.0, 4003);

    events.expect("message").await;
    let after = events.expect("reconnect").await.data["afterMs"].as_u64().unwrap();
    assert_eq!(events.expect("closed").await.data["code"], 4003);
    // A browser keeps its slot as a WebSocket does, to the millisecond.
    assert!(events.retry.is_some_and(|it| it == after || it == after + 1), "{:?}, {after}", events.retry);
    assert!(events.next().await.is_none());
    assert!(soon("the end", drained).await.unwrap().is_none());
}

#[tokio::test]
async fn a_poll_that_waits_is_answered_at_once_with_the_time_to_come_back_and_a_cursor_that_resumes() {
    let app = TestApp::with("drain: { delay: 0s, spread: 5s, deadline: 10s }").await;
    let first = app.poll(&format!("channels=public.a&token={}", token("1", &[]))).await;
    let path = format!("/realtime/poll?cursor={}", first["cursor"].as_str().unwrap());
    let address = app.public();
    let request = Request::get(path).header("host", "app.test").body(Full::<bytes::Bytes>::default()).unwrap();
    let waiting = tokio::spawn(client::send(address, request));
    // What the first answer gave is confirmed: the second poll is being served.
    let outbox = app.app.hub().directory().all().remove(0);
    soon("the second poll", async {
        while outbox.backlog() > 0 {
            tokio::task::yield_now().await
        }
    })
    .await;
    let drained = tokio::spawn(app.app.drain());
    let answer = json_of(waiting.await.unwrap()).await;
    assert_eq!(answer["messages"], json!([]));
    assert!(answer["retry"].as_u64().is_some_and(|it| (100..=6000).contains(&it)), "{answer}");
    assert!(answer["cursor"].as_str().is_some_and(|it| it.len() > 20), "{answer}");
    assert!(soon("the end", drained).await.unwrap().is_none());
}

#[tokio::test]
async fn a_request_that_is_under_way_is_finished_and_a_publish_still_gets_its_answer() {
    let app = TestApp::start().await;
    let gate = Gate::closed();
    let opens = gate.clone();
    app.backend.on("/slow", move |_| Reply::ok("finished").behind(&gate));
    let mut proxied = RawClient::connect(app.public()).await;
    proxied.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    app.backend.next().await;
    let asked = opens.clone();
    app.backend.on("/hooks", move |_| Reply::ok("").behind(&asked));
    let mut socket = app.client("1", &["room.*"]).await;
    socket.subscribe("room.1").await;
    socket.send(json!({ "type": "publish", "channel": "room.1", "data": 1, "ref": 7 })).await;
    app.backend.next().await;

    let drained = tokio::spawn(app.app.drain());
    opens.open();
    assert!(proxied.read_all().await.ends_with("finished"));
    let mut heard = Vec::new();
    while let Ok(message) = socket.next_or_close().await {
        heard.push(message["type"].as_str().unwrap().to_owned());
    }
    assert!(heard.contains(&"ack".to_owned()) && heard.contains(&"reconnect".to_owned()), "{heard:?}");
    assert!(soon("the end", drained).await.unwrap().is_none());
}

#[tokio::test]
async fn what_is_left_at_the_deadline_is_reported_by_kind() {
    let app = TestApp::with("drain: { delay: 0s, spread: 0s, deadline: 300ms }").await;
    app.backend.on("/never", |_| Reply::ok("").behind(&Gate::closed()));
    app.backend.echo_upgrades_on("/own", "websocket");
    let mut proxied = RawClient::connect(app.public()).await;
    proxied.send("GET /never HTTP/1.1\r\nhost: a\r\n\r\n").await;
    app.backend.next().await;
    let mut tunnel = RawClient::connect(app.public()).await;
    tunnel.send("GET /own HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
    tunnel.read_to("welcome ").await;
    let left = soon("the deadline", app.app.drain()).await;
    assert_eq!(left, Leftovers { proxied: 1, tunnels: 1, ..Leftovers::default() });
    assert!(left.to_string().contains("1 proxied requests, 1 tunnels"), "{left}");
}

#[tokio::test]
async fn a_drain_asked_for_over_the_api_fails_readiness_and_needs_the_operators_key() {
    let app = TestApp::start().await;
    let post = |key: &str| {
        Request::post("/drain")
            .header("host", "api.test")
            .header("authorization", format!("Bearer {key}"))
            .body(Full::<bytes::Bytes>::default())
            .unwrap()
    };
    assert_eq!(client::send(app.api(), post("another-key-altogether")).await.status(), 401);
    assert_eq!(client::send(app.api(), post(PUSH_KEY)).await.status(), 202);
    soon("the wish reaches the process", app.app.drain_wanted()).await;
}
