//! What an operator does: probes, metrics, reloads, drains.

use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use crate::support::app::{PUSH_KEY, TestApp, settings};
use crate::support::client;

#[tokio::test]
async fn probes_and_metrics_need_no_key() {
    let app = TestApp::start().await;
    let mut client = app.client("1", &[]).await;
    client.subscribe("public.a").await;
    app.publish("public.a", json!(1)).await;
    client.expect_push("public.a", 1).await;
    let get = async |path: &str| {
        let request = Request::get(path).header("host", "api.test").body(Full::<bytes::Bytes>::default()).unwrap();
        let response = client::send(app.api(), request).await;
        assert_eq!(response.status(), 200, "{path}");
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    };
    assert!(get("/healthz").await.contains(r#""generation":1"#));
    assert!(get("/readyz").await.contains(r#""accepting":true"#));
    let metrics = get("/metrics").await;
    for line in [
        r#"outrigger_connections{transport="websocket"} 1"#,
        "outrigger_deliveries_expected_total 1",
        "outrigger_deliveries_flushed_total 1",
        "outrigger_messages_received_total 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn a_reload_swaps_rules_under_open_connections_and_a_bad_file_changes_nothing() {
    let app = TestApp::in_file("").await;
    let mut client = app.client("1", &[]).await;
    client.subscribe("public.a").await;

    app.write("channels: [ { match: '**', subscribe: nonsense } ]");
    let (status, answer) = app.call("POST", "/reload", Value::Null).await;
    assert_eq!(status, 422);
    assert!(answer["errors"][0].as_str().unwrap().contains("nonsense"), "{answer}");
    let (_, health) = app.call("GET", "/healthz", Value::Null).await;
    assert!(health["lastReloadError"].as_str().unwrap().contains("nonsense"));
    client.send(json!({ "type": "publish", "channel": "public.a", "data": 1, "ref": 1 })).await;
    let mut answers = [client.next().await["type"].clone(), client.next().await["type"].clone()];
    answers.sort_by_key(ToString::to_string);
    assert_eq!(answers, ["ack", "message"]);

    app.write("channels: [ { match: 'other.*', subscribe: public } ]");
    let (_, dry) = app.call("POST", "/reload?dry_run=true", Value::Null).await;
    assert_eq!((&dry["generation"], &dry["dryRun"]), (&json!(1), &json!(true)));
    assert!(
        dry["changes"].as_array().unwrap().iter().any(|it| it["key"].as_str().unwrap().starts_with("channels")),
        "{dry}"
    );
    let (status, answer) = app.call("POST", "/reload", Value::Null).await;
    assert_eq!((status, &answer["generation"]), (200, &json!(2)));
    client.send(json!({ "type": "subscribe", "channel": "other.1" })).await;
    assert_eq!(client.expect("unsubscribed").await["reason"], "not_allowed");
    assert_eq!(client.expect("subscribed").await["channel"], "other.1");
    assert_eq!(app.call("GET", "/healthz", Value::Null).await.1["lastReloadError"], Value::Null);
}

#[tokio::test]
async fn the_running_configuration_shows_no_secret() {
    let app = TestApp::start().await;
    let (_, config) = app.call("GET", "/config", Value::Null).await;
    let text = config.to_string();
    for secret in [PUSH_KEY, settings::JWT_SECRET, settings::WEBHOOK_SECRET] {
        assert!(!text.contains(secret));
    }
    assert_eq!(config["api"]["keys"][0]["key"], "***");
}

#[tokio::test]
async fn a_drain_sends_everybody_away_with_a_code_that_says_come_back() {
    let app = TestApp::start().await;
    let mut client = app.client("1", &[]).await;
    let left = app.app.drain();
    let told = async {
        client.expect("reconnect").await;
        client.expect_close().await
    };
    let ((code, _), left) = tokio::join!(told, left);
    assert!(code == 4003 && left.is_none(), "{code}, {left}");
}

#[tokio::test]
async fn a_reload_takes_a_new_certificate_and_keeps_the_old_one_where_the_pair_does_not_match() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let make = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let first = make("first.example");
    std::fs::write(&cert, first.cert.pem()).unwrap();
    std::fs::write(&key, first.signing_key.serialize_pem()).unwrap();
    let listen = format!(
        "listen: [ {{ address: 127.0.0.1:0, tls: {{ cert: '{}', key: '{}' }} }} ]",
        cert.display(),
        key.display()
    );
    let app = TestApp::in_file(&listen).await;
    let shows = async |name: &str| {
        let stream = client::tls(app.public(), "first.example", &[]).await;
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        shown.windows(name.len()).any(|it| it == name.as_bytes())
    };
    assert!(shows("first.example").await);

    let second = make("second.example");
    std::fs::write(&cert, second.cert.pem()).unwrap();
    let (status, answer) = app.call("POST", "/reload", Value::Null).await;
    assert_eq!(status, 422, "the key is still the first one's");
    assert!(answer["errors"].to_string().contains("does not belong"), "{answer}");
    assert!(shows("first.example").await);

    std::fs::write(&key, second.signing_key.serialize_pem()).unwrap();
    assert_eq!(app.call("POST", "/reload", Value::Null).await.0, 200);
    assert!(shows("second.example").await);
}
