//! `POST /push` and what it is answered; `Outrigger-Push` on the backend's own replies.

use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::support::app::{PUSH_KEY, TestApp, json_of, token};
use crate::support::backend::Reply;
use crate::support::client;

async fn call(app: &TestApp, request: http::request::Builder, body: impl Into<bytes::Bytes>) -> Response<Incoming> {
    let request = request.header("host", "api.test").header("authorization", format!("Bearer {PUSH_KEY}"));
    client::send(app.api(), request.body(Full::new(body.into())).unwrap()).await
}

async fn push(app: &TestApp, body: Value) -> (StatusCode, Value) {
    let request = Request::post("/push").header("content-type", "application/json");
    let response = call(app, request, body.to_string()).await;
    (response.status(), json_of(response).await)
}

#[tokio::test]
async fn a_push_reaches_every_subscriber_and_its_receipt_counts_them() {
    let app = TestApp::start().await;
    let mut first = app.client("1", &[]).await;
    let mut second = app.client("2", &[]).await;
    first.subscribe("public.a").await;
    second.subscribe("public.a").await;
    let (status, answer) =
        push(&app, json!({ "channel": "public.a", "data": { "text": "hi" }, "event": "said" })).await;
    assert_eq!(status, 200);
    let receipt = &answer["results"][0];
    assert_eq!(
        (&receipt["status"], &receipt["seq"], &receipt["matched"], &receipt["queued"]),
        (&json!("taken"), &json!(1), &json!(2), &json!(2))
    );
    assert_eq!(
        (&receipt["durable"], &receipt["duplicate"], &receipt["dropped"]),
        (&json!("memory"), &json!(false), &json!({ "slow": 0 }))
    );
    for client in [&mut first, &mut second] {
        let message = client.expect_push("public.a", 1).await;
        assert_eq!((&message["event"], &message["id"]), (&json!("said"), &receipt["id"]));
    }
}

#[tokio::test]
async fn a_repeated_id_is_answered_the_first_receipt_and_sent_once() {
    let app = TestApp::start().await;
    let mut client = app.client("1", &[]).await;
    client.subscribe("public.a").await;
    let message = json!({ "channel": "public.a", "data": 1, "id": "order-17" });
    let (_, first) = push(&app, message.clone()).await;
    let (status, again) = push(&app, message).await;
    assert_eq!((status, &again["results"][0]["duplicate"]), (StatusCode::OK, &json!(true)));
    assert_eq!(again["results"][0]["seq"], first["results"][0]["seq"]);
    push(&app, json!({ "channel": "public.a", "data": 2 })).await;
    client.expect_push("public.a", 1).await;
    client.expect_push("public.a", 2).await;
}

#[tokio::test]
async fn many_messages_go_in_their_order_or_not_at_all() {
    let app = TestApp::start().await;
    let mut client = app.client("1", &[]).await;
    client.subscribe("public.a").await;
    let bad =
        json!({ "messages": [{ "channel": "public.a", "data": 1 }, { "channel": "a b", "data": 2 }, { "data": 3 }] });
    let (status, problem) = push(&app, bad).await;
    assert_eq!(status, 422);
    let fields: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|it| it["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["messages[1].channel", "messages[2].channel"]);

    for typo in [json!([]), json!({ "channel": "public.a", "dta": 1 })] {
        assert!(push(&app, typo).await.0.is_client_error());
    }
    assert_eq!(push(&app, json!({ "channel": "public.null", "data": null })).await.0, 200);

    let messages: Vec<_> = (0..20).map(|at| json!({ "channels": ["public.a", "public.b"], "data": at })).collect();
    let (status, answer) = push(&app, json!({ "messages": messages })).await;
    assert_eq!((status, answer["results"].as_array().unwrap().len()), (StatusCode::OK, 40));
    for at in 0..20 {
        assert_eq!(client.expect_push("public.a", at + 1).await["data"], at);
    }
    let lines = "{\"channel\":\"public.a\",\"data\":1}\n\n{\"channel\":\"public.a\",\"data\":2}\n";
    let request = Request::post("/push").header("content-type", "application/x-ndjson");
    assert_eq!(call(&app, request, lines).await.status(), 200);
    client.expect_push("public.a", 21).await;
    client.expect_push("public.a", 22).await;
}

#[tokio::test]
async fn raw_bytes_go_to_the_channels_in_the_url() {
    let app = TestApp::start().await;
    let mut client = app.client("1", &[]).await;
    client.subscribe("public.a").await;
    let request = Request::post("/push?channel=public.a&event=frame").header("content-type", "image/png");
    assert_eq!(call(&app, request, &[0_u8, 255][..]).await.status(), 200);
    let message = client.expect_push("public.a", 1).await;
    assert_eq!(
        (&message["data"], &message["data_base64"], &message["event"]),
        (&json!(null), &json!("AP8="), &json!("frame"))
    );
}

#[tokio::test]
async fn users_and_connections_can_be_spoken_to_and_connections_left_out() {
    let app = TestApp::start().await;
    let mut first = app.socket(&format!("?token={}", token("42", &[]))).await;
    let id = first.expect("connected").await["connectionId"].clone();
    let mut second = app.client("42", &[]).await;
    let mut other = app.client("43", &[]).await;
    let (_, answer) = push(&app, json!({ "user": "42", "data": "both" })).await;
    assert_eq!((&answer["results"][0]["user"], &answer["results"][0]["queued"]), (&json!("42"), &json!(2)));
    push(&app, json!({ "connection": id, "data": "one" })).await;
    assert_eq!(first.expect("message").await["data"], "both");
    assert_eq!(second.expect("message").await["data"], "both");
    assert_eq!(first.expect("message").await["data"], "one");
    for client in [&mut first, &mut second, &mut other] {
        client.subscribe("public.a").await;
    }
    push(&app, json!({ "channel": "public.a", "data": 1, "exclude": [id] })).await;
    assert_eq!(first.expect("skipped").await["seq"], 1);
    second.expect_push("public.a", 1).await;
    other.expect_push("public.a", 1).await;
}

#[tokio::test]
async fn without_a_key_or_its_scope_nothing_is_published() {
    let app = TestApp::with("api: { listen: 127.0.0.1:0, keys: [ { name: reader, key: 'a-key-that-may-only-read-things', scope: [read] } ] }").await;
    let request =
        |key: &str| Request::post("/push").header("host", "api.test").header("authorization", format!("Bearer {key}"));
    let body = || Full::new(bytes::Bytes::from(r#"{"channel":"public.a","data":1}"#));
    let response = client::send(app.api(), request("nonsense").body(body()).unwrap()).await;
    assert_eq!(
        (response.status().as_u16(), response.headers()["content-type"].to_str().unwrap()),
        (401, "application/problem+json")
    );
    let response = client::send(app.api(), request("a-key-that-may-only-read-things").body(body()).unwrap()).await;
    assert_eq!(response.status(), 403);
}

#[tokio::test]
async fn wait_flushed_answers_once_the_kernel_has_every_byte() {
    let app = TestApp::start().await;
    let mut client = app.client("1", &[]).await;
    client.subscribe("public.a").await;
    let request = Request::post("/push?wait=flushed").header("content-type", "application/json");
    let answer = json_of(call(&app, request, r#"{"channel":"public.a","data":1}"#).await).await;
    assert_eq!((&answer["results"][0]["flushed"], &answer["results"][0]["waiting"]), (&json!(true), &json!(0)));
}

#[tokio::test]
async fn a_reply_with_the_header_is_published_while_it_streams_and_the_header_is_taken_off() {
    let app = TestApp::start().await;
    let mut client = app.client("1", &[]).await;
    client.subscribe("public.orders").await;
    client.subscribe("public.log").await;
    app.backend.on("/orders", |_| {
        Reply::json(201, json!({ "order": 17 }))
            .header("outrigger-push", r#""public.orders";event="created", "public.log""#)
    });
    let response = app.get("/orders").await;
    assert_eq!(response.status(), 201);
    assert!(!response.headers().contains_key("outrigger-push"));
    assert_eq!(json_of(response).await, json!({ "order": 17 }));
    let mut heard = [client.expect("message").await, client.expect("message").await];
    heard.sort_by_key(|it| it["channel"].to_string());
    assert_eq!(
        (&heard[1]["channel"], &heard[1]["event"], &heard[1]["data"]),
        (&json!("public.orders"), &json!("created"), &json!({ "order": 17 }))
    );

    app.backend.on("/page", |_| {
        Reply::ok("<html>").header("outrigger-push", r#""public.orders""#).header("outrigger-push-data", r#"{"n": 1}"#)
    });
    let response = app.get("/page").await;
    assert!(!response.headers().contains_key("outrigger-push-data"));
    assert_eq!(client.expect("message").await["data"], json!({ "n": 1 }));

    // A failed reply announces nothing.
    app.backend.on("/failed", |_| Reply::json(500, json!(1)).header("outrigger-push", r#""public.orders""#));
    assert_eq!(app.get("/failed").await.status(), 500);
    client.send(json!({ "type": "ping" })).await;
    client.expect("pong").await;
}

#[tokio::test]
async fn channels_and_connections_can_be_looked_at_and_ended() {
    let app = TestApp::start().await;
    let mut client = app.client("42", &[]).await;
    client.subscribe("public.a").await;
    push(&app, json!({ "channel": "public.a", "data": { "n": 1 } })).await;
    let get = async |path: &str| json_of(call(&app, Request::get(path), "").await).await;
    assert_eq!(get("/channels?prefix=public").await["channels"], json!([{ "channel": "public.a", "subscribers": 1 }]));
    assert_eq!(get("/channels/public.a").await["seq"], 1);
    assert_eq!(get("/channels/public.a/history").await["messages"][0]["data"], json!({ "n": 1 }));
    let connection = &get("/connections?user=42").await["connections"][0];
    assert_eq!(connection["user"], "42");
    let body = r#"{"code":4499,"reason":"bye"}"#;
    let answer = json_of(call(&app, Request::post("/users/42/disconnect"), body).await).await;
    assert_eq!(answer["disconnected"], 1);
    client.expect_push("public.a", 1).await;
    assert_eq!(client.expect_close().await, (4499, "bye".into()));
    assert_eq!(call(&app, Request::put("/push"), "").await.status(), 405);
}
