//! What an operator is told who asks: why does this user not get it, what is the matter with that connection.

use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::app::{TestApp, json_of, token};
use crate::support::client;

async fn get(app: &TestApp, path: &str) -> Value {
    let (status, answer) = app.call("GET", path, Value::Null).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

#[tokio::test]
async fn a_misspelt_channel_is_explained_with_the_rule_that_was_meant() {
    let app = TestApp::start().await;
    let answer = get(&app, "/explain?channel=rom.5&user=42").await;
    assert_eq!(answer["rule"], Value::Null);
    assert_eq!(answer["subscribe"]["decision"], "deny");
    assert_eq!(answer["subscribe"]["why"], "no rule matches `rom.5`; did you mean the rule `room.*`?");
    assert_eq!(answer["summary"], "`42` has no connection on this node: nobody would get it");
    let (status, problem) = app.call("GET", "/explain?channel=a+b", Value::Null).await;
    assert_eq!((status, &problem["status"]), (400, &json!(400)));
}

#[tokio::test]
async fn a_grant_in_the_question_shows_what_a_token_would_do() {
    let app = TestApp::start().await;
    let without = get(&app, "/explain?channel=room.5&user=42").await;
    assert_eq!(without["rule"]["key"], "channels.2");
    assert_eq!((&without["rule"]["match"], &without["rule"]["history"]["size"]), (&json!("room.*"), &json!(100)));
    assert_eq!(without["subscribe"]["why"], "the rule wants a grant: nothing was granted, by token or by the backend");
    let with = get(&app, "/explain?channel=room.5&user=42&grant=room.6&grant=room.*").await;
    assert_eq!(with["subscribe"], json!({ "decision": "allow", "why": "granted by `room.*`" }));
    assert_eq!(with["publish"]["decision"], "ask");
    let others = get(&app, "/explain?channel=user.43.mail&user=42").await;
    assert!(others["subscribe"]["why"].as_str().unwrap().contains("another user's, not `42`'s own"), "{others}");
    assert_eq!(app.call("GET", "/explain?channel=room.5&grant=a.**.b", Value::Null).await.0, 400);
}

#[tokio::test]
async fn living_connections_are_judged_by_what_they_really_were_granted() {
    let app = TestApp::start().await;
    let mut inside = app.client("42", &["room.*"]).await;
    let epoch = inside.subscribe("room.5").await["epoch"].clone();
    let _outside = app.client("42", &["room.6"]).await;
    let answer = get(&app, "/explain?channel=room.5&user=42").await;
    let of = |following: bool| {
        let all = answer["connections"].as_array().unwrap();
        all.iter().find(|it| it["following"] == following).unwrap_or_else(|| panic!("{answer}"))
    };
    assert_eq!(of(true)["subscribe"]["decision"], "allow");
    assert_eq!(of(true)["grants"], json!([{ "match": "room.*", "subscribe": true, "publish": true }]));
    let why = "the rule wants a grant: what was granted (`room.6`) does not cover it";
    assert_eq!(of(false)["subscribe"], json!({ "decision": "deny", "why": why }));
    assert_eq!(answer["summary"], format!("`42` would get it on 1 of 2 connections; of another: it may not: {why}"));
    assert_eq!(answer["receivers"]["total"], 1);
    assert_eq!(answer["receivers"]["connections"][0]["id"], of(true)["id"]);
    assert_eq!(answer["position"], json!({ "epoch": epoch, "seq": 0, "id": null }));

    // A new token is another grant, and the explanation follows it.
    inside.send(json!({ "type": "refresh", "token": token("42", &["room.7"]) })).await;
    inside.expect("unsubscribed").await;
    inside.expect("refreshed").await;
    let answer = get(&app, "/explain?channel=room.5&user=42").await;
    assert_eq!(answer["receivers"]["total"], 0);
    assert!(
        answer["summary"].as_str().unwrap().starts_with("`42` would not get it on any of 2 connections"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_rule_that_leaves_publications_out_says_so() {
    let rules = "channels: [{ match: 'ticks.*', subscribe: public, min_interval: 250ms, when_slow: latest_only }]";
    let app = TestApp::with(rules).await;
    let rule = &get(&app, "/explain?channel=ticks.5").await["rule"];
    assert_eq!((&rule["minIntervalMs"], &rule["whenSlow"]), (&json!(250), &json!("latest_only")));
}

#[tokio::test]
async fn the_summary_speaks_of_all_connections_however_few_are_listed() {
    let app = TestApp::start().await;
    let _outside = app.client("42", &["room.6"]).await;
    let mut inside = app.client("42", &["room.*"]).await;
    inside.subscribe("room.5").await;
    let answer = get(&app, "/explain?channel=room.5&user=42&limit=1").await;
    assert_eq!(answer["connections"].as_array().unwrap().len(), 1);
    let summary = answer["summary"].as_str().unwrap();
    assert!(summary.starts_with("`42` would get it on 1 of 2 connections"), "{summary}");
}

#[tokio::test]
async fn a_connection_shows_who_it_is_what_it_got_and_how_far_it_is() {
    let app = TestApp::start().await;
    let mut client = app.client("7", &["room.*"]).await;
    client.subscribe("public.a").await;
    client.subscribe("room.1").await;
    app.publish("public.a", json!(1)).await;
    app.publish("public.a", json!(2)).await;
    client.expect_push("public.a", 1).await;
    client.expect_push("public.a", 2).await;
    let list = get(&app, "/connections?user=7&transport=websocket&slow=false").await;
    assert_eq!(list["total"], 1, "{list}");
    let id = list["connections"][0]["id"].as_str().unwrap();
    let one = get(&app, &format!("/connections/{id}")).await;
    assert_eq!((&one["user"], &one["ip"], &one["transport"]), (&json!("7"), &json!("127.0.0.1"), &json!("websocket")));
    assert_eq!(
        (&one["sentPublications"], &one["outboxBytes"], &one["dropped"]["slow"]),
        (&json!(2), &json!(0), &json!(0))
    );
    assert!(
        one["sentBytes"].as_u64().unwrap() > 200
            && one["heardAt"].as_u64() >= one["connectedAt"].as_u64().map(|it| it / 1000 * 1000),
        "{one}"
    );
    assert_eq!(
        one["channels"],
        json!([
            { "channel": "public.a", "seq": 2, "head": 2, "catchingUp": false },
            { "channel": "room.1", "seq": 0, "head": 0, "catchingUp": false },
        ])
    );
    assert_eq!(get(&app, "/connections?transport=sse").await["total"], 0);
    assert_eq!(get(&app, "/connections?slow=true").await["total"], 0);
    assert_eq!(app.call("GET", "/connections?transport=pigeon", Value::Null).await.0, 400);
}

#[tokio::test]
async fn channels_without_subscribers_are_listed_while_they_are_remembered() {
    let app = TestApp::start().await;
    let mut client = app.client("7", &[]).await;
    client.subscribe("public.followed").await;
    app.publish("public.remembered", json!(1)).await;
    let answer = get(&app, "/channels?prefix=public.").await;
    let followed = json!({ "channel": "public.followed", "subscribers": 1 });
    let remembered = json!({ "channel": "public.remembered", "subscribers": 0 });
    assert_eq!(answer["channels"], json!([followed, remembered]));
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_one_on_every_path() {
    let app = TestApp::start().await;
    for (path, allowed) in
        [("/reload", "POST"), ("/healthz", "GET, HEAD"), ("/config", "GET"), ("/push", "POST"), ("/explain", "GET")]
    {
        let request = Request::builder().method("PATCH").uri(path).header("host", "api.test");
        let response = client::send(app.api(), request.body(Full::<bytes::Bytes>::default()).unwrap()).await;
        let header = |name: &str| response.headers().get(name).and_then(|it| it.to_str().ok()).unwrap_or_default();
        assert_eq!((response.status().as_u16(), header("allow")), (405, allowed), "{path}");
        assert_eq!(header("content-type"), "application/problem+json", "{path}");
    }
}

#[tokio::test]
async fn a_backend_may_send_a_user_away_with_the_key_it_pushes_with() {
    let keys = "api: { listen: 127.0.0.1:0, keys: [ { name: b, key: a-key-of-the-backend-alone, scope: [push] } ] }";
    let app = TestApp::with(keys).await;
    let mut client = app.client("7", &[]).await;
    let request = Request::post("/users/7/disconnect")
        .header("host", "api.test")
        .header("authorization", "Bearer a-key-of-the-backend-alone")
        .body(Full::<bytes::Bytes>::default())
        .unwrap();
    let answer = json_of(client::send(app.api(), request).await).await;
    assert_eq!(answer["disconnected"], 1, "{answer}");
    client.expect_close().await;
}
