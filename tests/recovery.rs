//! What a client gets of what it missed, and what the receipt says of it, seen from outside.

use serde_json::json;

use crate::support::app::TestApp;

const TICKER: &str = "
channels:
  - { match: 'ticker.*', subscribe: public, min_interval: 1s, history: { size: 10, ttl: 10m } }
";

#[tokio::test]
async fn of_a_channel_with_an_interval_a_client_hears_the_newest_and_is_told_that_the_rest_gave_way() {
    let app = TestApp::with(TICKER).await;
    let mut client = app.client("1", &[]).await;
    let subscribed = client.subscribe("ticker.a").await;
    assert_eq!(subscribed["conflated"], true);
    app.publish("ticker.a", json!(1)).await;
    client.expect_push("ticker.a", 1).await;
    let messages: Vec<_> = (2..=5).map(|it| json!({ "channel": "ticker.a", "data": it })).collect();
    let answer = app.call("POST", "/push?wait=flushed", json!({ "messages": messages })).await.1;
    let newest = client.expect_push("ticker.a", 5).await;
    assert_eq!(newest["data"], 5);
    assert_eq!(answer["results"][0]["dropped"], json!({ "slow": 0, "conflated": 1 }));
    assert_eq!((&answer["results"][3]["queued"], &answer["results"][3]["flushed"]), (&json!(1), &json!(true)));

    let mut back = app.client("2", &[]).await;
    let since = json!({ "epoch": subscribed["epoch"], "seq": 1 });
    back.send(json!({ "type": "subscribe", "channel": "ticker.a", "since": since })).await;
    assert_eq!(back.expect("subscribed").await["recovered"], true);
    back.expect_push("ticker.a", 5).await;
}

#[tokio::test]
async fn a_push_to_a_user_is_counted_until_the_kernel_has_it() {
    let app = TestApp::start().await;
    let mut client = app.client("1", &[]).await;
    let answer = app.call("POST", "/push?wait=flushed", json!({ "user": "1", "data": "psst" })).await.1;
    let receipt = &answer["results"][0];
    assert_eq!((&receipt["flushed"], &receipt["waiting"], &receipt["queued"]), (&json!(true), &json!(0), &json!(1)));
    assert_eq!(client.expect("message").await["data"], "psst");
}
