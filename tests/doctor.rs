//! `outrigger doctor` against a node that runs, well or not so well.

use outrigger::webhook::Signing;
use serde_json::Value;
use tokio::process::Command;

use crate::support::app::{PUSH_KEY, TestApp, settings};
use crate::support::backend::{Reply, Seen};
use crate::support::soon;

/// Exit code and findings.
async fn doctor(app: &TestApp, scheme: &str, more: &[&str]) -> (i32, Vec<Value>) {
    doctor_with(PUSH_KEY, app, scheme, more).await
}

async fn doctor_with(key: &str, app: &TestApp, scheme: &str, more: &[&str]) -> (i32, Vec<Value>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
    command.env_remove("OUTRIGGER_URL").env_remove("OUTRIGGER_KEY").arg("doctor").arg("--json").args(more);
    command.arg("--config").arg(app.file()).args(["--url", &format!("{scheme}://{}", app.api()), "--key", key]);
    let output = soon("the examination", command.output()).await.expect("the program is built with its tests");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        panic!("{} {}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    });
    (output.status.code().unwrap(), report["findings"].as_array().unwrap().clone())
}

fn verdicts(findings: &[Value]) -> Vec<(&str, &str)> {
    findings.iter().map(|it| (it["check"].as_str().unwrap(), it["verdict"].as_str().unwrap())).collect()
}

fn finding<'a>(findings: &'a [Value], check: &str) -> &'a Value {
    findings.iter().find(|it| it["check"] == check).unwrap_or_else(|| panic!("no {check} in {findings:?}"))
}

fn is_signed(seen: &Seen) -> bool {
    let signing = Signing::build(&[settings::WEBHOOK_SECRET.into()]).unwrap();
    let timestamp: u64 = seen.header("webhook-timestamp").parse().unwrap();
    signing
        .verify(seen.header("webhook-id"), timestamp, seen.header("webhook-signature"), &seen.body, timestamp)
        .is_ok()
}

/// Fewer connections than any machine's descriptors allow.
const SMALL: &str = "limits: { connections: 100 }";

fn upstream(app: &TestApp) -> String {
    format!("{SMALL}\nupstream: {{ url: '{}', max_connections: 10 }}", app.backend.url())
}

#[tokio::test]
async fn a_sound_node_passes_every_check() {
    let app = TestApp::in_file(SMALL).await;
    app.write(&upstream(&app));
    app.app.reload().await;
    app.backend.on("/hooks", |seen| {
        assert_eq!((seen.header("outrigger-event"), &seen.json()["type"]), ("ping", &Value::from("ping")));
        Reply::new(if is_signed(seen) { 204 } else { 401 }, "")
    });
    let (code, findings) = doctor(&app, "http", &[]).await;
    let checks = [
        "node",
        "ready",
        "configuration",
        "round trip",
        "ledger",
        "notices",
        "descriptors",
        "data",
        "backend",
        "clock",
        "webhook",
    ];
    assert_eq!((code, verdicts(&findings)), (0, checks.map(|it| (it, "ok")).to_vec()), "{findings:#?}");
}

#[tokio::test]
async fn the_room_left_for_data_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let app = TestApp::in_file(&format!("{SMALL}\ndata: '{}'", folder.path().display())).await;
    let (_, findings) = doctor(&app, "http", &[]).await;
    let found = finding(&findings, "data")["found"].as_str().unwrap();
    assert!(found.starts_with(folder.path().to_str().unwrap()) && found.ends_with(" MiB left"), "{found}");
}

#[tokio::test]
async fn a_webhook_that_anyone_can_call_is_a_warning() {
    let app = TestApp::in_file(SMALL).await;
    app.backend.on("/hooks", |_| Reply::new(204, ""));
    let (code, findings) = doctor(&app, "http", &[]).await;
    let webhook = finding(&findings, "webhook");
    assert_eq!((code, &webhook["verdict"]), (0, &Value::from("warning")));
    assert!(webhook["fix"].as_str().unwrap().contains("anyone who reaches the backend can call your webhook"));
}

#[tokio::test]
async fn a_file_that_is_not_what_runs_and_a_backend_that_is_away_are_found() {
    let app = TestApp::in_file(SMALL).await;
    app.write(&format!("{SMALL}\nupstream: {{ url: 'http://127.0.0.1:1' }}"));
    let (code, findings) = doctor(&app, "http", &[]).await;
    assert_eq!(code, 1);
    let configuration = finding(&findings, "configuration");
    assert_eq!(configuration["found"], "changed in the file: upstream.url");
    for check in ["backend", "webhook"] {
        assert_eq!(finding(&findings, check)["verdict"], "failed", "{findings:#?}");
    }
    assert_eq!(finding(&findings, "round trip")["verdict"], "ok");
}

#[tokio::test]
async fn a_node_whose_certificate_nobody_signed_is_examined_when_told_so() {
    let api = format!(
        "api: {{ listen: 127.0.0.1:0, tls: self_signed, keys: [ {{ name: t, key: '{PUSH_KEY}', scope: [admin] }} ] }}"
    );
    let app = TestApp::in_file(&format!("{SMALL}\n{api}")).await;
    let (code, findings) = doctor(&app, "https", &[]).await;
    let node = finding(&findings, "node");
    assert_eq!((code, &node["verdict"]), (1, &Value::from("failed")));
    assert!(node["fix"].as_str().unwrap().contains("--insecure"), "{node}");
    let (code, findings) = doctor(&app, "https", &["--insecure"]).await;
    assert_eq!((code, &finding(&findings, "round trip")["verdict"]), (0, &Value::from("ok")), "{findings:#?}");
}

#[tokio::test]
async fn a_key_that_is_good_for_less_leaves_checks_out_and_one_that_is_not_known_fails_them() {
    let read_key = "a-key-that-may-only-look-around";
    let keys = format!(
        "api: {{ listen: 127.0.0.1:0, keys: [ {{ name: t, key: '{PUSH_KEY}', scope: [admin] }}, {{ name: r, key: '{read_key}', scope: [read] }} ] }}"
    );
    let app = TestApp::in_file(&format!("{SMALL}\n{keys}")).await;
    app.backend.on("/hooks", |seen| Reply::new(if is_signed(seen) { 204 } else { 401 }, ""));
    let (_, findings) = doctor_with(read_key, &app, "http", &[]).await;
    for (check, scope) in [("configuration", "admin"), ("round trip", "push")] {
        let found = finding(&findings, check);
        assert_eq!((&found["verdict"], &found["found"]), (&"warning".into(), &"not checked".into()));
        assert!(found["fix"].as_str().unwrap().contains(&format!("the scope {scope}")), "{found}");
    }
    let (code, findings) = doctor_with("some-other-key-altogether", &app, "http", &[]).await;
    assert_eq!(code, 1);
    for check in ["configuration", "round trip"] {
        let found = finding(&findings, check);
        assert_eq!((&found["verdict"], &found["found"]), (&"failed".into(), &"the node does not know the key".into()));
    }
}
