//! What the backend is told: who left and why, whatever becomes of it on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Request;
use http_body_util::{BodyExt, Full};
use outrigger::app::App;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::support::app::{TestApp, TestClient, settings, token};
use crate::support::backend::{FakeBackend, RawBackend, RawConnection, Reply};
use crate::support::events::Events;
use crate::support::node::Node;
use crate::support::{Gate, client, soon};

/// Webhooks that ask as the rules of the tests want it, tell these events without grace, and what else is wanted.
fn webhooks(events: &str, more: &str) -> String {
    let secret = settings::WEBHOOK_SECRET;
    let events = format!("connect, subscribe, publish, {events}");
    format!("webhooks: {{ url: /hooks, secret: {secret}, events: [{events}], grace: 0s, {more} }}")
}

async fn metrics(app: &TestApp) -> String {
    let request = Request::get("/metrics").header("host", "api.test").body(Full::<bytes::Bytes>::default()).unwrap();
    let response = client::send(app.api(), request).await;
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// Polls until the node says so.
async fn until_metrics_have(app: &TestApp, line: &str) {
    soon(line, async {
        while !metrics(app).await.lines().any(|it| it == line) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_backend_hears_how_each_connection_ended() {
    let app = TestApp::with(&webhooks("disconnect", "")).await;
    let told = async |transport: &str| {
        let notice = app.backend.next().await.json();
        assert_eq!((&notice["type"], &notice["connection"]["transport"]), (&json!("disconnect"), &json!(transport)));
        assert_eq!((&notice["connection"]["userId"], &notice["n"]), (&json!("42"), &json!(1)), "{notice}");
        assert!(notice["durationMs"].is_u64(), "{notice}");
        (notice["code"].as_u64().unwrap(), notice["reason"].as_str().unwrap().to_owned())
    };
    app.client("42", &[]).await.close(1000).await;
    assert_eq!(told("websocket").await, (1000, String::new()), "the client said goodbye");
    drop(app.client("42", &[]).await);
    assert_eq!(told("websocket").await, (1006, "Connection lost".into()), "nobody did");
    let mut ended = app.client("42", &[]).await;
    app.call("POST", "/users/42/disconnect", json!({ "code": 4400, "reason": "moved" })).await;
    ended.expect_close().await;
    drop(ended);
    assert_eq!(told("websocket").await, (4400, "moved".into()), "the backend did");

    let path = format!("/realtime/sse?channels=public.a&token={}", token("42", &[]));
    let mut events = Events::open(app.public(), &path, &[]).await;
    events.expect("connected").await;
    drop(events);
    assert_eq!(told("sse").await, (1006, "Connection lost".into()));
    let mut events = Events::open(app.public(), &path, &[]).await;
    events.expect("connected").await;
    app.call("POST", "/users/42/disconnect", json!({})).await;
    assert_eq!(told("sse").await, (4501, "Disconnected by the backend".into()));

    app.poll(&format!("channels=public.a&wait=0&token={}", token("42", &[]))).await;
    app.call("POST", "/users/42/disconnect", json!({})).await;
    until_metrics_have(&app, r#"outrigger_notices_delivered_total{event="disconnect"} 5"#).await;
}

#[tokio::test]
async fn a_channel_that_is_left_is_told_with_who_wanted_it() {
    let app = TestApp::with(&webhooks("unsubscribe", "")).await;
    let mut client = app.client("42", &["room.5"]).await;
    for channel in ["public.a", "room.5"] {
        client.subscribe(channel).await;
    }
    client.send(json!({ "type": "unsubscribe", "channel": "public.a" })).await;
    let notice = app.backend.next().await.json();
    assert_eq!(
        (&notice["type"], &notice["channel"], &notice["reason"], &notice["n"]),
        (&json!("unsubscribe"), &json!("public.a"), &json!("client"), &json!(1))
    );
    app.backend.on("/hooks", |_| Reply::json(200, json!({ "unsubscribe": ["room.5"] })));
    client.send(json!({ "type": "publish", "channel": "room.5", "data": 1, "ref": 1 })).await;
    let (question, notice) = (app.backend.next().await.json(), app.backend.next().await.json());
    assert_eq!((&question["n"], &notice["n"]), (&json!(2), &json!(3)), "one lane for both");
    assert_eq!((&notice["lane"], &notice["reason"]), (&question["lane"], &json!("backend")));
}

#[tokio::test]
async fn a_late_disconnect_is_known_by_its_generation() {
    let app =
        TestApp::with(&format!("auth: {{ webhook: true }}\n{}", webhooks("disconnect", "retry: { max_delay: 50ms }")))
            .await;
    let is_away = Arc::new(AtomicBool::new(true));
    let away = is_away.clone();
    app.backend.on("/hooks", move |seen| match seen.json()["type"].as_str() {
        Some("connect") => Reply::json(200, json!({ "userId": "ada" })),
        _ if away.load(Ordering::SeqCst) => Reply::new(404, ""),
        _ => Reply::new(204, ""),
    });
    let mut first = app.socket("").await;
    first.expect("connected").await;
    let connect = app.backend.next().await.json();
    drop(first);
    let refused = app.backend.next().await;
    let mut second = app.socket("").await;
    second.expect("connected").await;
    let mut seen = vec![refused];
    let again = loop {
        let next = app.backend.next().await;
        if next.json()["type"] == "connect" {
            break next.json();
        }
        seen.push(next);
    };
    is_away.store(false, Ordering::SeqCst);
    until_metrics_have(&app, r#"outrigger_notices_delivered_total{event="disconnect"} 1"#).await;
    while app.backend.has_more().await {
        seen.push(app.backend.next().await);
    }
    let generation = |it: &Value| it["connection"]["generation"].as_u64().unwrap();
    assert!(generation(&again) > generation(&connect));
    for try_ in &seen {
        let notice = try_.json();
        assert_eq!(generation(&notice), generation(&connect), "it is about the connection that was");
        assert_eq!((&notice["lane"], &notice["n"]), (&connect["lane"], &json!(2)));
        assert_eq!(try_.header("webhook-id"), seen[0].header("webhook-id"));
    }
}

#[tokio::test]
async fn dead_letters_are_listed_and_sent_again() {
    let app = TestApp::with(&webhooks("disconnect", "retry: { for: 200ms, max_delay: 20ms }")).await;
    app.backend.on("/hooks", |_| Reply::new(418, ""));
    for user in ["1", "2"] {
        drop(app.client(user, &[]).await);
        app.backend.next().await;
    }
    until_metrics_have(&app, "outrigger_dead_letters 2").await;
    let list = app.call("GET", "/webhooks/dead", Value::Null).await.1;
    let ids = [0, 1].map(|at| list["dead"][at]["id"].as_str().unwrap().to_owned());
    assert_eq!((&list["total"], ids[0] != ids[1]), (&json!(2), true), "{list}");
    assert_eq!(list["dead"][0]["notice"]["connection"]["userId"], "1");
    assert!(list["dead"][0]["reason"].as_str().unwrap().contains("418"), "{list}");
    while app.backend.has_more().await {
        app.backend.next().await;
    }
    app.backend.on("/hooks", |_| Reply::new(204, ""));
    let answer = app.call("POST", "/webhooks/dead/replay", json!({ "ids": [ids[1]] })).await.1;
    assert_eq!(answer, json!({ "replayed": 1, "left": 0 }));
    assert_eq!(app.backend.next().await.header("webhook-id"), ids[1]);
    let answer = app.call("POST", "/webhooks/dead/replay", json!({})).await.1;
    assert_eq!(answer, json!({ "replayed": 1, "left": 0 }));
    assert_eq!(app.backend.next().await.header("webhook-id"), ids[0]);
    until_metrics_have(&app, "outrigger_dead_letters 0").await;
    let nonsense = app.call("POST", "/webhooks/dead/replay", json!({ "id": "x" })).await.1;
    assert_eq!(nonsense["status"], 400);
}

#[tokio::test]
async fn a_drain_tells_of_everybody_before_it_is_over() {
    let app = TestApp::with(&webhooks("disconnect", "")).await;
    let mut clients = Vec::new();
    for user in 0..20 {
        clients.push(app.client(&user.to_string(), &[]).await);
    }
    app.poll(&format!("channels=public.a&wait=0&token={}", token("20", &[]))).await;
    let TestApp { app, backend, .. } = app;
    let closing = async {
        for client in &mut clients {
            client.expect("reconnect").await;
            assert_eq!(client.expect_close().await.0, 4003);
        }
    };
    let (left, ()) = soon("the drain", async { tokio::join!(app.drain(), closing) }).await;
    assert!(left.is_none(), "{left}");
    for _ in 0..=20 {
        assert_eq!(backend.next().await.json()["code"], 4003, "streams and polls alike");
    }
}

#[tokio::test]
async fn a_drain_ends_in_time_though_the_backend_takes_nothing() {
    let app =
        TestApp::with(&format!("drain: {{ delay: 0s, spread: 0s, deadline: 1s }}\n{}", webhooks("disconnect", "")))
            .await;
    let gate = Gate::closed();
    app.backend.on("/hooks", move |_| Reply::new(204, "").behind(&gate));
    drop(app.client("42", &[]).await);
    let TestApp { app, backend, .. } = app;
    soon("the drain", app.drain()).await;
    assert_eq!(backend.next().await.json()["type"], "disconnect", "it was tried");
}

/// What a backend does to the connections of one notice, one after the other.
async fn misbehave(number: usize, connection: &mut RawConnection) {
    let answer: &[u8] = match number {
        0 => b"SSH-2.0-OpenSSH_9.6\r\n",
        1 => b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",
        2 => b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\ncut",
        3 => {
            let _ = connection.stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
            while connection.stream.write_all(&b"x-more: and more\r\n".repeat(1000)).await.is_ok() {}
            return;
        }
        4 => {
            let _ = connection.stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            while connection.stream.write_all(&[b'x'; 64 * 1024]).await.is_ok() {}
            return;
        }
        // As a process that was stopped: the kernel takes the request, and nobody answers.
        5 => return drop(soon("the node gives up", connection.stream.read_to_end(&mut Vec::new())).await),
        6 => b"",
        _ => b"HTTP/1.1 204 No Content\r\n\r\n",
    };
    let _ = connection.stream.write_all(answer).await;
}

#[tokio::test]
async fn a_notice_outlives_whatever_a_backend_does_to_it() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let backend = RawBackend::start(move |number, mut connection| {
        let tell = tell.clone();
        async move {
            let head = connection.read_head().await;
            misbehave(number, &mut connection).await;
            let _ = tell.send((number, head));
        }
    })
    .await;
    let patient = "timeout: 500ms, retry: { max_delay: 10ms }, breaker: { failures: 3, open: 20ms }";
    let app = App::start(settings::loaded(&backend.url(), &webhooks("disconnect", patient))).await.unwrap();
    let app = TestApp::over(app).await;
    drop(app.client("42", &[]).await);
    let mut ids = Vec::new();
    while ids.len() < 8 {
        let (number, head) = soon("the next try", told.recv()).await.unwrap();
        let id = head.lines().find_map(|it| it.strip_prefix("webhook-id: ")).unwrap_or_default().to_owned();
        ids.push((number, id));
    }
    ids.sort();
    assert!(ids.iter().enumerate().all(|(at, (number, id))| at == *number && *id == ids[0].1), "{ids:?}");
    until_metrics_have(&app, r#"outrigger_notices_delivered_total{event="disconnect"} 1"#).await;
    until_metrics_have(&app, "outrigger_webhook_breaker_state 0").await;
    assert!(metrics(&app).await.contains("outrigger_webhook_breaker_opened_total 1"), "{}", metrics(&app).await);
}

#[tokio::test]
async fn a_backend_that_was_killed_hears_of_it_once_it_is_back() {
    // Bound and not listening: the port is nobody else's, and whoever connects is refused.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    let quickly = "retry: { max_delay: 10ms }, breaker: { failures: 3, open: 10ms }";
    let url = format!("http://{address}");
    let app = App::start(settings::loaded(&url, &webhooks("disconnect", quickly))).await.unwrap();
    let app = TestApp::over(app).await;
    drop(app.client("42", &[]).await);
    until_metrics_have(&app, "outrigger_webhook_breaker_opened_total 1").await;
    let (tell, mut told) = mpsc::unbounded_channel();
    let _backend = RawBackend::over(socket.listen(8).unwrap(), move |_, mut connection| {
        let tell = tell.clone();
        async move {
            let _ = tell.send(connection.read_head().await);
            let _ = connection.stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        }
    });
    assert!(soon("the notice", told.recv()).await.unwrap().contains("outrigger-event: disconnect"));
    until_metrics_have(&app, r#"outrigger_notices_delivered_total{event="disconnect"} 1"#).await;
}

/// A client of a node that is a process of its own.
async fn client_of(node: &Node, user: &str) -> TestClient {
    let url = format!("ws://{}/realtime?token={}", node.public, token(user, &[]));
    let mut client = TestClient::open(node.public, url.into_client_request().unwrap()).await;
    client.expect("connected").await;
    client
}

#[tokio::test]
async fn a_node_that_was_killed_leaves_nobody_untold_and_nothing_undelivered() {
    let folder = tempfile::tempdir().unwrap();
    let backend = FakeBackend::start().await;
    backend.on("/hooks", |_| Reply::new(404, ""));
    let node = Node::start_before(&backend.url(), folder.path()).await;
    let _connected = client_of(&node, "connected").await;
    drop(client_of(&node, "gone").await);
    let untaken = backend.next().await;
    assert_eq!(untaken.json()["connection"]["userId"], "gone");
    // What is acknowledged is on disk, and whatever was noted before it.
    let (status, _) = node.push(json!({ "channel": "public.a", "data": 1 })).await;
    assert_eq!(status, 200);
    node.kill().await;
    let (tell, mut told) = mpsc::unbounded_channel();
    backend.on("/hooks", move |seen| {
        let _ = tell.send(seen.clone());
        Reply::new(204, "")
    });
    let node = Node::start_before(&backend.url(), folder.path()).await;
    let (mut again, mut lost) = (None, None);
    while again.is_none() || lost.is_none() {
        let seen = soon("a notice", told.recv()).await.unwrap();
        match seen.json()["reason"].as_str() {
            Some("node_lost") => lost = Some(seen.json()),
            _ => again = Some(seen),
        }
    }
    assert_eq!(again.unwrap().header("webhook-id"), untaken.header("webhook-id"), "the same notice, sent again");
    let lost = lost.unwrap();
    assert_eq!((&lost["connection"]["userId"], &lost["code"]), (&json!("connected"), &json!(1006)));
    assert!(node.stop().await.success());
    while told.try_recv().is_ok() {}
    let node = Node::start_before(&backend.url(), folder.path()).await;
    assert!(node.stop().await.success());
    assert!(told.try_recv().is_err(), "what was taken is not told again");
}

#[tokio::test]
async fn a_channel_is_occupied_and_vacated_once_however_many_follow_it() {
    let app = TestApp::with(&webhooks("disconnect, occupied, vacated", "")).await;
    let mut clients = Vec::new();
    for user in ["1", "2"] {
        let mut client = app.client(user, &[]).await;
        client.subscribe("public.a").await;
        clients.push(client);
    }
    let occupied = app.backend.next().await.json();
    assert_eq!(
        (&occupied["type"], &occupied["channel"], &occupied["n"]),
        (&json!("occupied"), &json!("public.a"), &json!(1))
    );
    drop(clients);
    let mut types = Vec::new();
    for _ in 0..3 {
        let notice = app.backend.next().await.json();
        types.push(notice["type"].as_str().unwrap().to_owned());
        if notice["type"] == "vacated" {
            assert_eq!((&notice["lane"], &notice["n"]), (&occupied["lane"], &json!(2)));
        }
    }
    types.sort();
    assert_eq!(types, ["disconnect", "disconnect", "vacated"]);
}

#[tokio::test]
async fn a_batch_is_one_request_whatever_its_number() {
    let app = TestApp::with(&webhooks("disconnect", "batch: 10")).await;
    drop(app.client("42", &[]).await);
    let seen = app.backend.next().await;
    let batch = seen.json();
    assert_eq!((seen.header("outrigger-event"), &batch["type"]), ("batch", &json!("batch")));
    assert_eq!(
        (seen.header("webhook-id"), batch["notices"].as_array().unwrap().len()),
        (batch["id"].as_str().unwrap(), 1)
    );
    assert_eq!(batch["notices"][0]["connection"]["userId"], "42");
}

async fn publish(client: &mut TestClient) -> Value {
    client.send(json!({ "type": "publish", "channel": "room.5", "data": 1, "ref": 1 })).await;
    client.next().await
}

#[tokio::test]
async fn a_backend_that_fails_in_a_row_is_left_alone_and_clients_hear_so_at_once() {
    let app = TestApp::with(&webhooks("", "breaker: { failures: 2, open: 60s }")).await;
    app.backend.on("/hooks", |_| Reply::close());
    let mut client = app.client("42", &["room.5"]).await;
    for _ in 0..2 {
        assert_eq!(publish(&mut client).await["code"], "unavailable");
        app.backend.next().await;
    }
    app.backend.on("/hooks", |_| Reply::new(204, ""));
    assert_eq!(publish(&mut client).await["code"], "unavailable");
    assert!(!app.backend.has_more().await, "nobody was asked");
    let metrics = metrics(&app).await;
    for line in [
        "outrigger_webhook_breaker_state 2",
        "outrigger_webhook_breaker_opened_total 1",
        r#"outrigger_webhook_duration_seconds_count{event="publish",outcome="open"} 1"#,
        r#"outrigger_notices_queued{event="disconnect"} 0"#,
        "outrigger_notices_oldest_age_seconds 0.0",
        "outrigger_dead_letters 0",
        "outrigger_dead_letters_forgotten_total 0",
        "outrigger_dead_letters_replayed_total 0",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn what_holds_without_an_answer_may_differ_by_event() {
    let each = "on_error: { connect: deny, publish: allow }";
    let app = TestApp::with(&webhooks("", each)).await;
    app.backend.on("/hooks", |_| Reply::new(500, ""));
    let mut client = app.client("42", &["room.5"]).await;
    client.subscribe("room.5").await;
    let answers = [publish(&mut client).await, client.next().await];
    assert!(answers.iter().any(|it| it["type"] == "ack"), "{answers:?}");
    assert!(answers.iter().any(|it| it["type"] == "message"), "{answers:?}");
}
