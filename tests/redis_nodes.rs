//! Two whole nodes over one Redis, as clients and backends see them.

use http::Request;
use http_body_util::Full;
use serde_json::json;

use crate::support::app::TestApp;
use crate::support::client;
use crate::support::service::RedisServer;
use crate::support::soon;

async fn node(redis: &RedisServer) -> TestApp {
    TestApp::with(&format!("engine: {{ redis: {{ url: '{}' }} }}", redis.url())).await
}

async fn ready(app: &TestApp, query: &str) -> u16 {
    let request = Request::get(format!("/readyz{query}")).header("host", "api.test");
    let request = request.body(Full::<bytes::Bytes>::default()).unwrap();
    client::send(app.api(), request).await.status().as_u16()
}

#[tokio::test]
async fn a_push_to_one_node_reaches_the_clients_of_both() {
    let redis = RedisServer::start().await;
    let (first, second) = (node(&redis).await, node(&redis).await);
    let mut near = first.client("1", &[]).await;
    let mut far = second.client("2", &[]).await;
    near.subscribe("public.a").await;
    far.subscribe("public.a").await;
    for seq in 1..=3 {
        let (status, answer) = first.call("POST", "/push", json!({ "channel": "public.a", "data": seq })).await;
        let receipt = &answer["results"][0];
        assert_eq!((status, &receipt["durable"], &receipt["seq"]), (200, &json!("engine"), &json!(seq)));
        assert_eq!((&receipt["matched"], &receipt["queued"]), (&json!(1), &json!(1)), "this node's: {answer}");
        near.expect_push("public.a", seq).await;
        far.expect_push("public.a", seq).await;
    }
    let (_, answer) = first.call("POST", "/push", json!({ "channel": "public.nobody", "data": 1 })).await;
    assert_eq!(answer["results"][0]["matched"], 0, "nobody here follows it: {answer}");
}

#[tokio::test]
async fn a_client_that_changes_nodes_gets_what_it_missed() {
    let redis = RedisServer::start().await;
    let (first, second) = (node(&redis).await, node(&redis).await);
    let mut client = first.client("1", &[]).await;
    let subscribed = client.subscribe("public.a").await;
    first.call("POST", "/push", json!({ "channel": "public.a", "data": 1 })).await;
    let message = client.expect_push("public.a", 1).await;
    drop(client);
    second.call("POST", "/push", json!({ "channel": "public.a", "data": 2 })).await;
    first.call("POST", "/push", json!({ "channel": "public.a", "data": 3 })).await;
    let mut client = second.client("1", &[]).await;
    let since = json!({ "epoch": subscribed["epoch"], "seq": 1, "id": message["id"] });
    client.send(json!({ "type": "subscribe", "channel": "public.a", "since": since })).await;
    assert_eq!(client.expect("subscribed").await["recovered"], true);
    client.expect_push("public.a", 2).await;
    client.expect_push("public.a", 3).await;
    first.call("POST", "/push", json!({ "channel": "public.a", "data": 4 })).await;
    client.expect_push("public.a", 4).await;
}

#[tokio::test]
async fn a_polling_clients_cursor_holds_on_the_other_node() {
    let redis = RedisServer::start().await;
    let (first, second) = (node(&redis).await, node(&redis).await);
    let token = crate::support::app::token("1", &[]);
    let answer = first.poll(&format!("channels=public.a&token={token}")).await;
    let cursor = answer["cursor"].as_str().unwrap().to_owned();
    second.call("POST", "/push", json!({ "channel": "public.a", "data": "missed" })).await;
    let answer = second.poll(&format!("channels=public.a&token={token}&cursor={cursor}")).await;
    let messages = answer["messages"].as_array().unwrap();
    assert!(messages.iter().any(|it| it["data"] == "missed"), "{answer}");
}

#[tokio::test]
async fn clients_and_probes_hear_that_the_engine_is_away_and_back() {
    let mut redis = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let app = node(&redis).await;
    let mut client = app.client("1", &[]).await;
    client.subscribe("public.a").await;
    assert_eq!((ready(&app, "").await, ready(&app, "?for=site").await), (200, 200));
    redis.kill().await;
    client.expect("degraded").await;
    assert_eq!((ready(&app, "").await, ready(&app, "?for=site").await), (503, 200));
    let (status, answer) = app.call("POST", "/push", json!({ "channel": "public.a", "data": 1 })).await;
    assert_eq!((status, &answer["results"][0]["status"]), (503, &json!("refused")), "{answer}");
    let mut late = app.socket(&format!("?token={}", crate::support::app::token("2", &[]))).await;
    late.expect("connected").await;
    late.expect("degraded").await;
    assert_eq!(app.get("/").await.status(), 200, "the site stays up");
    redis.restart().await;
    client.expect("restored").await;
    late.expect("restored").await;
    assert_eq!(app.call("POST", "/push", json!({ "channel": "public.a", "data": 2 })).await.0, 200);
    client.expect_push("public.a", 1).await;
    assert_eq!(ready(&app, "").await, 200);
}

#[tokio::test]
async fn a_node_starts_without_its_engine_and_takes_up_work_when_that_comes() {
    let mut redis = RedisServer::start().await;
    redis.kill().await;
    let engine = format!("engine: {{ redis: {{ url: '{}', connect_timeout: 200ms }} }}", redis.url());
    let app = TestApp::with(&engine).await;
    assert_eq!(ready(&app, "").await, 503);
    redis.restart().await;
    soon("it is ready", async {
        while ready(&app, "").await != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    let mut client = app.client("1", &[]).await;
    client.subscribe("public.a").await;
    app.call("POST", "/push", json!({ "channel": "public.a", "data": 1 })).await;
    client.expect_push("public.a", 1).await;
}

#[tokio::test]
async fn who_is_there_is_one_list_for_clients_of_all_nodes() {
    const ROOMS: &str = "channels: [ { match: 'room.*', subscribe: public, presence: true } ]";
    let redis = RedisServer::start().await;
    let engine = format!("{ROOMS}\nengine: {{ redis: {{ url: '{}', lease: 4s }} }}", redis.url());
    let (first, second) = (TestApp::with(&engine).await, TestApp::with(&engine).await);
    let mut ada = first.client("ada", &[]).await;
    ada.subscribe("room.5").await;
    assert_eq!(ada.expect("joined").await["userId"], "ada");
    let mut bob = second.client("bob", &[]).await;
    let members = &bob.subscribe("room.5").await["members"];
    assert_eq!((&members[0]["userId"], &members[1]["userId"]), (&json!("ada"), &json!("bob")));
    assert_eq!(ada.expect("joined").await["userId"], "bob");
    assert_eq!(bob.expect("joined").await["userId"], "bob");
    drop(ada);
    assert_eq!(bob.expect("left").await["userId"], "ada");
}

#[tokio::test]
async fn users_and_connections_are_spoken_to_on_whatever_node_they_are() {
    let redis = RedisServer::start().await;
    let (first, second) = (node(&redis).await, node(&redis).await);
    let mut near = first.client("42", &[]).await;
    let mut far = second.socket(&format!("?token={}", crate::support::app::token("42", &[]))).await;
    let id = far.expect("connected").await["connectionId"].clone();
    let (status, answer) =
        first.call("POST", "/push", json!({ "user": "42", "data": { "n": 1 }, "event": "said" })).await;
    assert_eq!((status, &answer["results"][0]["queued"]), (200, &json!(1)), "this node's: {answer}");
    for client in [&mut near, &mut far] {
        let message = client.expect("message").await;
        assert_eq!((&message["data"], &message["event"]), (&json!({ "n": 1 }), &json!("said")));
    }
    first.call("POST", "/push", json!({ "connection": id, "data": "you alone" })).await;
    assert_eq!(far.expect("message").await["data"], "you alone");
    let path = format!("/connections/{}/disconnect", id.as_str().unwrap());
    assert_eq!(first.call("POST", &path, json!({ "code": 4499, "reason": "bye" })).await.0, 200);
    assert_eq!(far.expect_close().await, (4499, "bye".into()));
    let mut far = second.client("42", &[]).await;
    first.call("POST", "/users/42/disconnect", json!({ "code": 4498 })).await;
    assert_eq!((near.expect_close().await.0, far.expect_close().await.0), (4498, 4498));
}

#[tokio::test]
async fn what_is_revoked_on_one_node_is_refused_on_all_also_on_those_that_start_later() {
    let redis = RedisServer::start().await;
    let (first, second) = (node(&redis).await, node(&redis).await);
    let token = crate::support::app::token("42", &[]);
    let mut far = second.socket(&format!("?token={token}")).await;
    far.expect("connected").await;
    assert_eq!(first.call("POST", "/users/42/revoke", json!({})).await.0, 200);
    assert_eq!(far.expect_close().await.0, 4008);
    let third = node(&redis).await;
    for app in [&first, &second, &third] {
        soon("the old token is refused", async {
            loop {
                let mut client = app.socket(&format!("?token={token}")).await;
                match client.next_or_close().await {
                    Err(_) => return,
                    Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                }
            }
        })
        .await;
    }
}

#[tokio::test]
async fn clients_are_told_when_redis_has_lost_its_past() {
    let mut redis = RedisServer::start().await;
    let app = node(&redis).await;
    let mut client = app.client("1", &[]).await;
    let subscribed = client.subscribe("public.a").await;
    app.call("POST", "/push", json!({ "channel": "public.a", "data": 1 })).await;
    let seen = client.expect_push("public.a", 1).await;
    redis.restart_empty().await;
    client.expect("degraded").await;
    client.expect("restored").await;
    let gap = client.expect("gap").await;
    assert_eq!((&gap["channel"], &gap["reason"], &gap["seq"]), (&json!("public.a"), &json!("epoch"), &json!(0)));
    assert_ne!(gap["epoch"], subscribed["epoch"]);
    app.call("POST", "/push", json!({ "channel": "public.a", "data": 2 })).await;
    client.expect_push("public.a", 1).await;
    let mut late = app.client("2", &[]).await;
    let since = json!({ "epoch": subscribed["epoch"], "seq": 1, "id": seen["id"] });
    late.send(json!({ "type": "subscribe", "channel": "public.a", "since": since })).await;
    assert_eq!(late.expect("subscribed").await["recovered"], false);
}

#[tokio::test]
async fn clients_of_a_node_that_was_cut_off_get_what_it_missed_in_order() {
    let redis = RedisServer::start().await;
    let relay = crate::support::service::Relay::to(redis.address()).await;
    let cut = TestApp::with(&format!("engine: {{ redis: {{ url: '{}' }} }}", relay.url())).await;
    let other = node(&redis).await;
    let mut client = cut.client("1", &[]).await;
    client.subscribe("public.a").await;
    other.call("POST", "/push", json!({ "channel": "public.a", "data": 1 })).await;
    client.expect_push("public.a", 1).await;
    relay.swallow();
    client.expect("degraded").await;
    for at in 2..=40 {
        other.call("POST", "/push", json!({ "channel": "public.a", "data": at })).await;
    }
    relay.pass_on();
    // What was missed and the good news come in either order.
    let mut next = 2;
    let mut is_restored = false;
    while next <= 40 || !is_restored {
        let message = client.next().await;
        match message["type"].as_str().unwrap() {
            "restored" => is_restored = true,
            "message" => {
                assert_eq!(message["seq"], next, "{message}");
                next += 1;
            }
            other => panic!("unexpected {other}: {message}"),
        }
    }
    other.call("POST", "/push", json!({ "channel": "public.a", "data": 41 })).await;
    client.expect_push("public.a", 41).await;
}
