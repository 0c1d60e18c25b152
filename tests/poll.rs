//! Long-poll: the same session and the same cursor, one request after the other.

use serde_json::{Value, json};

use crate::support::app::{TestApp, token};
use crate::support::soon;

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
async fn a_message_for_a_session_with_nothing_waiting_is_answered_as_json() {
    let app = TestApp::start().await;
    let first = app.poll(&format!("channels=public.a,public.b&token={}", token("42", &[]))).await;
    let confirmed = app.poll(&format!("cursor={}&wait=0", cursor(&first))).await;
    assert!(types(&confirmed).is_empty());
    app.publish("public.a", json!("live")).await;
    let live = app.poll(&format!("cursor={}", cursor(&confirmed))).await;
    assert_eq!(live["messages"][0]["data"], "live");
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
