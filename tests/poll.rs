//! Long-poll: the same session and the same cursor, one request after the other.

use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::app::{TestApp, token};
use crate::support::backend::Reply;
use crate::support::{Gate, client, soon};

fn types(answer: &Value) -> Vec<&str> {
    answer["messages"].as_array().unwrap().iter().map(|it| it["type"].as_str().unwrap()).collect()
}

fn cursor(answer: &Value) -> String {
    answer["cursor"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_first_poll_answers_at_once_and_the_next_waits_for_a_push() {
    let app = TestApp::start().await;
    let token = token("42", &[]);
    let first = app.poll(&format!("channels=public.a&token={token}")).await;
    assert_eq!(types(&first), ["connected", "subscribed"]);
    assert_eq!(first["retry"], 0);
    let query = format!("cursor={}", cursor(&first));
    let (second, _) = tokio::join!(app.poll(&query), app.publish("public.a", json!({ "n": 1 })));
    assert_eq!(types(&second), ["message"]);
    assert_eq!(second["messages"][0]["data"], json!({ "n": 1 }));
}

#[tokio::test]
async fn what_was_not_confirmed_is_answered_again() {
    let app = TestApp::start().await;
    let first = app.poll(&format!("channels=public.a&token={}", token("42", &[]))).await;
    app.publish("public.a", json!(1)).await;
    let query = format!("cursor={}", cursor(&first));
    let lost = app.poll(&query).await;
    assert_eq!(types(&lost), ["message"]);
    app.publish("public.a", json!(2)).await;
    let again = app.poll(&query).await;
    let seqs: Vec<_> = again["messages"].as_array().unwrap().iter().map(|it| it["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [1, 2]);
    let confirmed = format!("cursor={}&wait=0", cursor(&again));
    assert!(types(&app.poll(&confirmed).await).is_empty());
}

#[tokio::test]
async fn what_comes_once_everything_is_confirmed_is_a_bare_message_too() {
    let app = TestApp::start().await;
    let first = app.poll(&format!("channels=public.a&token={}", token("42", &[]))).await;
    let confirmed = app.poll(&format!("cursor={}&wait=0", cursor(&first))).await;
    assert!(types(&confirmed).is_empty());
    app.publish("public.a", json!({ "n": 1 })).await;
    let second = app.poll(&format!("cursor={}", cursor(&confirmed))).await;
    assert_eq!(second["messages"][0]["data"], json!({ "n": 1 }));
    // Not confirmed yet, so it is answered again.
    let again = app.poll(&format!("cursor={}", cursor(&confirmed))).await;
    assert_eq!(types(&again), ["message"]);
}

#[tokio::test]
async fn a_newer_poll_ends_the_older_one() {
    let app = TestApp::start().await;
    let first = app.poll(&format!("channels=public.a&token={}", token("42", &[]))).await;
    let query = format!("cursor={}", cursor(&first));
    let (older, newer) = tokio::join!(app.poll(&query), async {
        let newer = app.poll(&query);
        let (newer, _) = tokio::join!(newer, app.publish("public.a", json!(1)));
        newer
    });
    let heard = [types(&older).len(), types(&newer).len()];
    assert!(heard.contains(&1), "{older} {newer}");
}

#[tokio::test]
async fn a_newer_poll_ends_an_older_one_though_both_had_to_wait_for_their_session() {
    let app = TestApp::start().await;
    let first = app.poll(&format!("channels=public.a&token={}", token("42", &["room.*"]))).await;
    let (query, gate) = (format!("cursor={}", cursor(&first)), Gate::closed());
    let held = gate.clone();
    app.backend.on("/hooks", move |_| Reply::new(204, "").behind(&held));
    let [id, secret] = ["connectionId", "secret"].map(|it| first["messages"][0][it].as_str().unwrap().to_owned());
    let publish = Request::post(format!("/realtime/connections/{id}/publish"))
        .header("host", "app.test")
        .header("authorization", format!("Bearer {secret}"))
        .body(Full::<bytes::Bytes>::from(json!({ "channel": "room.5", "data": 1 }).to_string()))
        .unwrap();
    // Whatever was sent before it has come by then.
    let settle = async || assert_eq!(app.get("/").await.status(), 200);
    let older = async {
        let answer = app.poll(&query).await;
        app.publish("public.a", json!(1)).await;
        answer
    };
    let newer = async {
        settle().await;
        tokio::join!(app.poll(&query), async {
            settle().await;
            gate.open();
        })
        .0
    };
    let polls = async {
        app.backend.next().await;
        tokio::join!(older, newer)
    };
    let (_, (older, newer)) = tokio::join!(client::send(app.public(), publish), polls);
    assert_eq!((types(&older), types(&newer)), (vec![], vec!["message"]));
}

#[tokio::test]
async fn a_cursor_outlives_its_session() {
    let app = TestApp::start().await;
    let token = token("42", &[]);
    let first = app.poll(&format!("channels=public.a&token={token}")).await;
    app.publish("public.a", json!(1)).await;
    let second = app.poll(&format!("cursor={}", cursor(&first))).await;
    app.publish("public.a", json!(2)).await;
    // Only the positions: as if the session had ended, or the poll had come to another node.
    let cursor = cursor(&second);
    let positions = cursor.split('.').next().unwrap();
    let resumed = app.poll(&format!("cursor={positions}&token={token}")).await;
    assert_eq!(types(&resumed), ["connected", "subscribed", "resumed", "message"]);
    assert_eq!((&resumed["messages"][2]["complete"], &resumed["messages"][3]["seq"]), (&json!(true), &json!(2)));
}

#[tokio::test]
async fn a_poll_with_a_bad_token_is_refused_by_its_status() {
    let app = TestApp::start().await;
    let response = soon("the poll", app.get("/realtime/poll?channels=public.a&token=no")).await;
    assert_eq!(response.status(), 401);
}
