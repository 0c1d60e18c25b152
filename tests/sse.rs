//! Event streams, as curl and a native EventSource hear them.

use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::app::{TestApp, json_of, token};
use crate::support::backend::Reply;
use crate::support::client;
use crate::support::events::Events;

async fn stream(app: &TestApp, query: &str, headers: &[(&str, &str)]) -> Events {
    Events::open(app.public(), &format!("/realtime/sse?{query}"), headers).await
}

/// POSTs a command for the session of this `connected`.
async fn post(app: &TestApp, connected: &Value, command: &str, body: Value) -> (u16, Value) {
    let id = connected["connectionId"].as_str().unwrap();
    let secret = connected["secret"].as_str().unwrap();
    let request = Request::post(format!("/realtime/connections/{id}/{command}"))
        .header("host", "app.test")
        .header("authorization", format!("Bearer {secret}"))
        .body(Full::new(bytes::Bytes::from(body.to_string())))
        .unwrap();
    let response = client::send(app.public(), request).await;
    (response.status().as_u16(), json_of(response).await)
}

#[tokio::test]
async fn a_stream_says_hello_at_once_and_then_what_is_pushed() {
    let app = TestApp::start().await;
    let mut events = stream(&app, &format!("channels=public.a&token={}", token("42", &[])), &[]).await;
    assert_eq!(events.headers["content-type"], "text/event-stream");
    assert_eq!(events.headers["cache-control"], "no-store, no-transform");
    assert_eq!(events.headers["x-accel-buffering"], "no");
    let connected = events.expect("connected").await;
    assert_eq!(connected.data["userId"], "42");
    assert!((1800..=2200).contains(&events.retry.unwrap()), "{:?}", events.retry);
    events.expect("subscribed").await;
    app.publish("public.a", json!({ "n": 1 })).await;
    let message = events.expect("message").await;
    assert_eq!((&message.data["data"], &message.data["seq"]), (&json!({ "n": 1 }), &json!(1)));
    assert!(!message.last_id.is_empty());
}

#[tokio::test]
async fn who_is_disconnected_at_the_door_hears_whether_coming_back_helps() {
    let app = TestApp::with("auth: { webhook: true }").await;
    for (code, helps) in [(4123, true), (4503, false)] {
        let disconnect = json!({ "disconnect": { "code": code, "reason": "moved" } });
        app.backend.on("/hooks", move |_| Reply::json(200, disconnect.clone()));
        let mut events = stream(&app, "channels=public.a", &[]).await;
        let failure = events.expect("failure").await;
        assert_eq!((&failure.data["retryable"], &failure.data["message"]), (&json!(helps), &json!("moved")), "{code}");
    }
}

#[tokio::test]
async fn last_event_id_resumes_one_channel_without_loss() {
    let app = TestApp::start().await;
    let query = format!("channels=public.a&token={}", token("42", &[]));
    let mut events = stream(&app, &query, &[]).await;
    events.expect("connected").await;
    events.expect("subscribed").await;
    app.publish("public.a", json!(1)).await;
    let id = events.expect("message").await.last_id;
    drop(events);
    app.publish("public.a", json!(2)).await;
    app.publish("public.a", json!(3)).await;

    let mut events = stream(&app, &query, &[("last-event-id", &id)]).await;
    events.expect("connected").await;
    assert_eq!(events.expect("subscribed").await.data["recovered"], true);
    let resumed = events.expect("resumed").await;
    assert_eq!(resumed.data["complete"], true);
    for seq in [2, 3] {
        assert_eq!(events.expect("message").await.data["seq"], seq);
    }
}

#[tokio::test]
async fn a_browser_that_is_turned_away_still_knows_where_it_was() {
    let app = TestApp::start().await;
    let query = format!("channels=public.a&token={}", token("42", &[]));
    let mut events = stream(&app, &query, &[]).await;
    events.expect("connected").await;
    let id = events.expect("subscribed").await.last_id;
    drop(events);

    let mut refused = stream(&app, "channels=public.a&token=no", &[("last-event-id", &id)]).await;
    assert_eq!(refused.expect("failure").await.last_id, id);
    let mut resumed = stream(&app, &query, &[("last-event-id", &id)]).await;
    assert_eq!(resumed.expect("connected").await.last_id, id);
}

#[tokio::test]
async fn a_cursor_covers_every_channel_of_the_session() {
    let app = TestApp::start().await;
    let token = token("42", &[]);
    let mut events = stream(&app, &format!("channels=public.a,public.b&token={token}"), &[]).await;
    events.expect("connected").await;
    events.expect("subscribed").await;
    events.expect("subscribed").await;
    app.publish("public.a", json!(1)).await;
    app.publish("public.b", json!(1)).await;
    events.expect("message").await;
    events.expect("message").await;
    let id = events.id_after(1).await;
    drop(events);
    app.publish("public.a", json!(2)).await;
    app.publish("public.b", json!(2)).await;
    // The channels are in the cursor; the URL need not name them.
    let mut events = stream(&app, &format!("token={token}&cursor={id}"), &[]).await;
    events.expect("connected").await;
    events.expect("subscribed").await;
    events.expect("subscribed").await;
    assert_eq!(events.expect("resumed").await.data["complete"], true);
    let mut heard = [events.expect("message").await.data, events.expect("message").await.data];
    heard.sort_by_key(|it| it["channel"].to_string());
    assert_eq!([&heard[0]["seq"], &heard[1]["seq"]], [2, 2]);
}

#[tokio::test]
async fn channels_change_by_post_without_reconnecting() {
    let app = TestApp::start().await;
    let mut events = stream(&app, &format!("channels=public.a&token={}", token("42", &[])), &[]).await;
    let connected = events.expect("connected").await.data;
    events.expect("subscribed").await;

    let (status, answer) = post(&app, &connected, "subscribe", json!({ "channel": "public.b", "ref": 1 })).await;
    assert_eq!((status, &answer["type"]), (200, &json!("subscribed")));
    assert_eq!(events.expect("subscribed").await.data["channel"], "public.b");
    app.publish("public.b", json!(1)).await;
    assert_eq!(events.expect("message").await.data["channel"], "public.b");

    let (status, answer) =
        post(&app, &connected, "publish", json!({ "channel": "public.a", "data": 7, "ref": 2 })).await;
    assert_eq!((status, &answer["type"], &answer["seq"]), (200, &json!("ack"), &json!(1)));
    assert_eq!(events.expect("message").await.data["data"], 7);

    let (status, answer) = post(&app, &connected, "publish", json!({ "channel": "room.5", "data": 7 })).await;
    assert_eq!((status, &answer["code"]), (403, &json!("not_allowed")));
    let (status, _) = post(&app, &connected, "unsubscribe", json!({ "channel": "public.b" })).await;
    assert_eq!(status, 200);
    events.expect("unsubscribed").await;

    let mut forged = connected.clone();
    forged["secret"] = json!("00");
    assert_eq!(post(&app, &forged, "publish", json!({ "channel": "public.a", "data": 1 })).await.0, 401);
}

#[tokio::test]
async fn who_is_turned_away_is_told_in_an_event_because_an_eventsource_gives_up_on_any_other_status() {
    let app = TestApp::start().await;
    let mut events = stream(&app, "channels=public.a&token=nonsense", &[]).await;
    assert_eq!(events.expect("failure").await.data["code"], "invalid_token");
    assert!(events.next().await.is_none());
    assert!(events.retry.unwrap() > 10_000);
    let mut events = stream(&app, "channels=a%20b", &[]).await;
    assert_eq!(events.expect("failure").await.data["code"], "bad_channel");
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_page_of_another_origin_hears_nothing_unless_it_is_listed() {
    let app = TestApp::with("realtime: { allowed_origins: [same-origin, 'https://other.example'] }").await;
    let request = |origin: &str| {
        Request::get("/realtime/sse?channels=public.a")
            .header("host", "app.test")
            .header("origin", origin)
            .body(Full::<bytes::Bytes>::default())
            .unwrap()
    };
    assert_eq!(client::send(app.public(), request("https://evil.example")).await.status(), 403);
    let response = client::send(app.public(), request("https://other.example")).await;
    assert_eq!(response.headers()["access-control-allow-origin"], "https://other.example");
    assert_eq!(response.headers()["access-control-allow-credentials"], "true");
}

#[tokio::test]
async fn over_http2_a_stream_is_one_of_many_on_its_connection() {
    use http_body_util::BodyExt;
    let app = TestApp::with("listen: [ { address: 127.0.0.1:0, tls: self_signed } ]").await;
    let mut sender = client::http2(app.public()).await;
    let uri = format!("https://localhost/realtime/sse?channels=public.a,public.b&token={}", token("42", &[]));
    let request = Request::get(uri).body(Full::<bytes::Bytes>::default()).unwrap();
    let mut response = sender.send_request(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    let mut read_to = async |end: &str| {
        while !text.contains(end) {
            let frame = crate::support::soon("an event", response.frame()).await.unwrap().unwrap();
            text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
        std::mem::take(&mut text)
    };
    let hello = read_to(r#""channel":"public.b""#).await;
    assert!(hello.contains("event: connected\n") && hello.matches("event: subscribed\n").count() == 2, "{hello}");
    app.publish("public.a", json!({ "n": 1 })).await;
    assert!(read_to(r#"{"n":1}"#).await.contains("event: message\n"));
}
