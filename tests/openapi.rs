//! What `openapi.json` says of an answer is what is answered.

use http::{Request, header};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::app::{PUSH_KEY, TestApp, json_of};
use crate::support::client;

/// Method, path, the path as it is described, and the body.
fn calls() -> Vec<(&'static str, &'static str, &'static str, Value)> {
    let get = |path, described| ("GET", path, described, Value::Null);
    let post = |path, described, body| ("POST", path, described, body);
    vec![
        get("/channels?prefix=room", "/channels"),
        get("/channels?limit=many", "/channels"),
        get("/channels/room.5", "/channels/{channel}"),
        get("/channels/room%205", "/channels/{channel}"),
        get("/channels/room.5/history", "/channels/{channel}/history"),
        get("/channels/room.5/history?seq=1", "/channels/{channel}/history"),
        get("/channels/room.5/members", "/channels/{channel}/members"),
        get("/connections?slow=true", "/connections"),
        get("/connections?slow=perhaps", "/connections"),
        get("/connections/nobody", "/connections/{id}"),
        get("/explain?channel=room.5&user=42", "/explain"),
        get("/explain", "/explain"),
        get("/webhooks/dead", "/webhooks/dead"),
        get("/config", "/config"),
        get("/healthz", "/healthz"),
        get("/readyz", "/readyz"),
        get("/metrics", "/metrics"),
        get("/openapi.json", "/openapi.json"),
        get("/", "/"),
        get("/tail?channel=room.5", "/tail"),
        get("/tail", "/tail"),
        post("/push", "/push", json!({ "channel": "room.5", "data": 1 })),
        post("/push", "/push", json!({ "channel": "room 5", "data": 1 })),
        post("/push", "/push", json!([])),
        post("/users/42/disconnect", "/users/{id}/disconnect", json!({})),
        post("/users/42/disconnect", "/users/{id}/disconnect", json!({ "code": 1 })),
        post("/users/42/revoke", "/users/{id}/revoke", Value::Null),
        post("/tokens/revoke", "/tokens/revoke", json!({ "jti": "t-1" })),
        post("/tokens/revoke", "/tokens/revoke", json!({})),
        post("/connections/nobody/disconnect", "/connections/{id}/disconnect", Value::Null),
        post("/webhooks/dead/replay", "/webhooks/dead/replay", Value::Null),
        post("/reload?dry_run=true", "/reload", Value::Null),
        ("DELETE", "/channels/room.5/history", "/channels/{channel}/history", Value::Null),
        ("DELETE", "/users/42", "/users/{id}", Value::Null),
    ]
}

#[tokio::test]
async fn every_answer_has_a_status_and_a_type_that_are_described() {
    let app = TestApp::in_file("").await;
    let ask = async |method: &str, path: &str, body: &Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "api.test")
            .header(header::AUTHORIZATION, format!("Bearer {PUSH_KEY}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::<bytes::Bytes>::from(body))
            .unwrap();
        client::send(app.api(), request).await
    };
    let spec = json_of(ask("GET", "/openapi.json", &Value::Null).await).await;
    let problem = &spec["components"]["responses"]["Problem"];
    for (method, path, described, body) in calls() {
        let answer = ask(method, path, &body).await;
        let responses = &spec["paths"][described][method.to_lowercase()]["responses"];
        let status = answer.status();
        let said = responses.get(status.as_str());
        let said = said.or_else(|| responses.get("default").filter(|_| !status.is_success()).map(|_| problem));
        let said = said.unwrap_or_else(|| panic!("{method} {path}: {status} is not described"));
        let kind = answer.headers()[header::CONTENT_TYPE].to_str().unwrap().split(';').next().unwrap();
        assert!(said["content"].get(kind).is_some(), "{method} {path}: {status} is {kind}, described is {said}");
    }
}
