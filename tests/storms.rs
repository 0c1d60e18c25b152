//! Crowds that come at once: nobody is queued without end, the backend is asked no more than was configured, and whoever
//! comes back when told is let in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::support::app::{TestApp, TestClient, json_of, token};
use crate::support::backend::Reply;
use crate::support::client::{RawClient, say};
use crate::support::events::Events;

const COOKIES: &str = "auth: { webhook: true }\nlimits: { handshakes_per_second: 100, connections_per_ip: 1000 }";

/// A client that obeys: how often it was told to come back before it was let in.
async fn comes_back(app: &TestApp, cookie: &str) -> usize {
    for times in 0.. {
        let url = format!("ws://{}/realtime", app.public());
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("cookie", cookie.parse().unwrap());
        let mut client = TestClient::open(app.public(), request).await;
        let message = client.next().await;
        if message["type"] == "connected" {
            return times;
        }
        assert_eq!((&message["type"], &message["reason"]), (&json!("reconnect"), &json!("busy")), "{message}");
        assert_eq!(client.expect_close().await.0, 4006);
        tokio::time::sleep(Duration::from_millis(message["afterMs"].as_u64().unwrap())).await;
    }
    unreachable!()
}

/// Counts how often the backend is asked whether somebody may connect.
fn asked(app: &TestApp, answer: Value) -> Arc<AtomicUsize> {
    let asked = Arc::<AtomicUsize>::default();
    let counter = asked.clone();
    app.backend.on("/hooks", move |request| {
        counter.fetch_add(usize::from(request.json()["type"] == "connect"), Relaxed);
        Reply::json(200, answer.clone())
    });
    asked
}

#[tokio::test]
async fn a_crowd_with_cookies_is_back_and_the_backend_was_asked_once_about_each() {
    let app = TestApp::with(COOKIES).await;
    let asked = asked(&app, json!({ "userId": "someone" }));
    let cookies: Vec<_> = (0..300).map(|it| format!("session={it}")).collect();
    let turned_away: usize = join_all(cookies.iter().map(|it| comes_back(&app, it))).await.into_iter().sum();
    assert_eq!(asked.load(Relaxed), 300, "each session once: nobody is asked about before it is let in");
    assert!(turned_away > 0, "the crowd was no crowd");
}

#[tokio::test]
async fn the_tabs_of_one_browser_ask_the_backend_once() {
    let app = TestApp::with("auth: { webhook: true }").await;
    let asked = asked(&app, json!({ "userId": "ada", "ttl": 60 }));
    join_all((0..50).map(|_| comes_back(&app, "session=1"))).await;
    assert_eq!(asked.load(Relaxed), 1);
    comes_back(&app, "session=2").await;
    assert_eq!(asked.load(Relaxed), 2, "another cookie is another question");
}

#[tokio::test]
async fn whoever_is_turned_away_hears_when_to_come_back_on_every_transport_and_no_token_was_looked_at() {
    let app = TestApp::with("limits: { handshakes_per_second: 1 }").await;
    let _first = app.client("1", &[]).await;
    // A token that is wrong would be refused for that, had anybody looked.
    let mut socket = app.socket("?token=nonsense").await;
    let reconnect = socket.expect("reconnect").await;
    assert!(reconnect["afterMs"].as_u64().is_some_and(|it| it >= 100), "{reconnect}");
    let (code, reason) = socket.expect_close().await;
    assert!(code == 4006 && reason.starts_with("Come back later in "), "{code} {reason}");

    let mut events = Events::open(app.public(), "/realtime/sse?channels=public.a&token=nonsense", &[]).await;
    assert_eq!(events.expect("failure").await.data["code"], "busy");
    assert!(events.retry.is_some_and(|it| it >= 100), "{:?}", events.retry);
    assert!(events.next().await.is_none());

    let answer = app.get("/realtime/poll?channels=public.a&token=nonsense&cursor=1abc").await;
    assert_eq!(answer.status(), 429);
    assert!(answer.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    let answer = json_of(answer).await;
    assert_eq!((&answer["code"], &answer["messages"], &answer["cursor"]), (&json!("busy"), &json!([]), &json!("1abc")));
    assert!(answer["retry"].as_u64().is_some_and(|it| it >= 100), "{answer}");
}

#[tokio::test]
async fn a_crowd_of_pollers_and_streams_that_obeys_is_let_in() {
    let app = TestApp::with("limits: { handshakes_per_second: 50 }").await;
    let query = format!("channels=public.a&token={}", token("1", &[]));
    let poller = async || loop {
        let answer = app.poll(&query).await;
        if answer["messages"][0]["type"] == "connected" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(answer["retry"].as_u64().unwrap())).await;
    };
    let stream = async || loop {
        let mut events = Events::open(app.public(), &format!("/realtime/sse?{query}"), &[]).await;
        if events.next().await.unwrap().name == "connected" {
            return;
        }
        while events.next().await.is_some() {}
        tokio::time::sleep(Duration::from_millis(events.retry.unwrap())).await;
    };
    let (pollers, streams) = (join_all((0..40).map(|_| poller())), join_all((0..40).map(|_| stream())));
    tokio::join!(pollers, streams);
}

#[tokio::test]
async fn an_event_source_beyond_the_limit_of_connections_is_told_to_come_back_and_a_silent_one_costs_nothing() {
    let app = TestApp::with("limits: { connections_per_ip: 1 }").await;
    let _only = app.client("1", &[]).await;
    let silent = RawClient::connect(app.public()).await;
    let answer = say(app.public(), "GET /realtime/sse HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("too_many_connections"), "{answer}");
    let answer = say(app.public(), "GET / HTTP/1.1\r\nhost: a\r\naccept: text/html\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: "), "{answer}");
    assert!(silent.read_all().await.starts_with("HTTP/1.1 503 "), "it had its second");
}
