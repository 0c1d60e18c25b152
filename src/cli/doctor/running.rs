//! The node itself: whether it lives, runs the file, brings a publication round, and has its books in order.

use std::time::SystemTime;

use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::super::node::{self, Node};
use super::super::{Error, unique};
use super::PATIENCE;
use super::finding::Finding;
use crate::config::Config;

/// Only the API can publish here where no rule covers it, so no client ever sees it.
const CHANNEL: &str = "outrigger.doctor";
/// The metric of the circuit breaker when it lets nothing through.
const BREAKER_OPEN: f64 = 2.0;
/// It answers, with a certificate that nobody vouches for.
const UNPROVEN: &str = "say --insecure where the API has a certificate that it signed itself";
/// Descriptors a node needs besides those of clients and backends.
const OWN_DESCRIPTORS: f64 = 64.0;

/// Whether it answers, what it runs; and what its clock says.
pub(super) async fn health(node: &Node) -> (Finding, Option<SystemTime>) {
    let start = "start it with `outrigger run`, or say where it is with --url";
    let response = match timeout(PATIENCE, node.call(Method::GET, "/healthz", Bytes::new())).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            let found = error.to_string();
            let fix = if found.contains("certificate") { UNPROVEN } else { start };
            return (Finding::failed("node", found, fix), None);
        }
        Err(_) => return (Finding::failed("node", format!("no answer within {PATIENCE:?}"), start), None),
    };
    let time = response.headers().get(header::DATE).and_then(|it| httpdate::parse_http_date(it.to_str().ok()?).ok());
    let health: Value = match node::text(response.into_body()).await.map(|it| serde_json::from_str(&it)) {
        Ok(Ok(health)) => health,
        _ => return (Finding::failed("node", "what answers is no Outrigger", "see `api.listen`, or --url"), time),
    };
    let version = health["version"].as_str().unwrap_or_default();
    let ours = env!("CARGO_PKG_VERSION");
    let found = format!("answers, version {version}, generation {} of its configuration", health["generation"]);
    let finding = match health["lastReloadError"].as_str() {
        Some(error) => {
            Finding::warning("node", format!("{found}; the last reload was refused: {error}"), "correct the file")
        }
        None if version != ours => {
            Finding::warning("node", found, format!("restart it: this program is version {ours}"))
        }
        None => Finding::ok("node", found),
    };
    (finding, time)
}

pub(super) async fn readiness(node: &Node) -> Finding {
    match ask(node, Method::GET, "/readyz").await {
        Ok((StatusCode::OK, _)) => Finding::ok("ready", "load balancers are told to send clients"),
        Ok((_, state)) => {
            Finding::failed("ready", format!("load balancers are told to send nobody: {state}"), "see its log")
        }
        Err(error) => Finding::failed("ready", error.to_string(), "see its log"),
    }
}

/// Whether the file is what runs.
pub(super) async fn configuration(operator: Option<&Node>) -> Finding {
    let Some(operator) = operator else { return not_checked("configuration", "admin") };
    let (status, answer) = match ask(operator, Method::POST, "/reload?dry_run=true").await {
        Ok(it) => it,
        Err(error) => return Finding::failed("configuration", error.to_string(), "see its log"),
    };
    if let Some(finding) = not_let_in("configuration", status, "admin") {
        return finding;
    }
    if status != StatusCode::OK {
        let errors: Vec<_> = answer["errors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let found = format!("the node would not take its file: {}", errors.join("; "));
        return Finding::failed("configuration", found, "correct it; what runs goes on meanwhile");
    }
    let changes = answer["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let keys = |of: &dyn Fn(&&Value) -> bool| {
        changes.iter().filter(of).filter_map(|it| it["key"].as_str()).collect::<Vec<_>>().join(", ")
    };
    let (later, now) = (keys(&|it| it["needs_restart"] == true), keys(&|it| it["needs_restart"] != true));
    match (later.as_str(), now.as_str()) {
        ("", "") => Finding::ok("configuration", "the file is what runs"),
        (later, "") => Finding::warning(
            "configuration",
            format!("changed in the file since the start: {later}"),
            "restart the node",
        ),
        (_, now) => Finding::warning("configuration", format!("changed in the file: {now}"), "POST /reload, or SIGHUP"),
    }
}

/// A publication through the node and its engine and back.
pub(super) async fn round_trip(reader: &Node, pusher: Option<&Node>) -> Finding {
    let Some(pusher) = pusher else { return not_checked("round trip", "push") };
    match timeout(PATIENCE, publish_and_hear(reader, pusher)).await {
        Ok(Ok(finding)) => finding,
        Ok(Err(error)) => Finding::failed("round trip", error.to_string(), "see its log, and /readyz for the engine"),
        Err(_) => Finding::failed(
            "round trip",
            format!("a publication was not heard within {PATIENCE:?}"),
            "see its log, and /readyz for the engine",
        ),
    }
}

/// How long it took until the receipt, and until the message was there.
async fn publish_and_hear(reader: &Node, pusher: &Node) -> Result<Finding, Error> {
    let response = reader.call(Method::GET, &format!("/tail?channel={CHANNEL}"), Bytes::new()).await?;
    if let Some(finding) = not_let_in("round trip", response.status(), "read") {
        return Ok(finding);
    }
    if !response.status().is_success() {
        return Err(node::refusal(response).await);
    }
    let mut stream = response.into_body();
    let id = unique("doctor");
    let begun = Instant::now();
    let push = json!({ "channel": CHANNEL, "id": id, "data": null }).to_string();
    let receipt = pusher.call(Method::POST, "/push", push.into()).await?;
    if let Some(finding) = not_let_in("round trip", receipt.status(), "push") {
        return Ok(finding);
    }
    if !receipt.status().is_success() {
        return Err(node::refusal(receipt).await);
    }
    let taken = begun.elapsed().as_secs_f64();
    let mut heard = Vec::new();
    while !heard.windows(id.len()).any(|it| it == id.as_bytes()) {
        match stream.frame().await {
            Some(Ok(frame)) => heard.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Some(Err(error)) => return Err(Error::failed(error)),
            None => return Err(Error::Failed("the node ended the stream".into())),
        }
    }
    let heard = begun.elapsed().as_secs_f64();
    let found = format!("a publication was taken after {:.1} ms and heard after {:.1} ms", taken * 1e3, heard * 1e3);
    Ok(Finding::ok("round trip", found))
}

/// A key that is good for less is no fault of the node's.
fn not_checked(check: &'static str, scope: &str) -> Finding {
    Finding::warning(check, "not checked", format!("it takes a key with the scope {scope}: in `api.keys`, or by --key"))
}

/// What there is to say where the key does not open the door.
fn not_let_in(check: &'static str, status: StatusCode, scope: &str) -> Option<Finding> {
    let fix = "compare `api.keys` of the running node with --key and OUTRIGGER_KEY";
    match status {
        StatusCode::UNAUTHORIZED => Some(Finding::failed(check, "the node does not know the key", fix)),
        StatusCode::FORBIDDEN => Some(not_checked(check, scope)),
        _ => None,
    }
}

/// The ledger, the notices, and the descriptors.
pub(super) async fn metrics(node: &Node, config: &Config) -> Vec<Finding> {
    let read = async {
        let response = node.call(Method::GET, "/metrics", Bytes::new()).await?;
        node::text(response.into_body()).await
    };
    match timeout(PATIENCE, read).await {
        Ok(Ok(text)) => vec![ledger(&text), notices(&text), descriptors(&text, config)],
        Ok(Err(error)) => vec![Finding::failed("ledger", error.to_string(), "see its log")],
        Err(_) => vec![Finding::failed("ledger", "no metrics in time", "see its log")],
    }
}

fn ledger(metrics: &str) -> Finding {
    let read = |name: &str| sum(metrics, name).unwrap_or_default();
    let (expected, flushed) = (read("outrigger_deliveries_expected_total"), read("outrigger_deliveries_flushed_total"));
    let (queued, dropped) = (read("outrigger_deliveries_queued"), read("outrigger_deliveries_dropped_total"));
    let found = format!("{expected} expected = {flushed} flushed + {queued} queued + {dropped} dropped");
    match expected == flushed + queued + dropped {
        true => Finding::ok("ledger", found),
        false => {
            Finding::failed("ledger", format!("does not add up: {found}"), "report it: this is a mistake in Outrigger")
        }
    }
}

fn notices(metrics: &str) -> Finding {
    if sum(metrics, "outrigger_webhook_breaker_state") >= Some(BREAKER_OPEN) {
        let found =
            "the circuit breaker is open: the backend does not answer its webhooks, and is left alone for a while";
        return Finding::failed("notices", found, "see the backend's log, and the node's");
    }
    match sum(metrics, "outrigger_dead_letters").unwrap_or_default() {
        0.0 => Finding::ok("notices", "none was given up"),
        dead => {
            let fix = "see why with GET /webhooks/dead, then POST /webhooks/dead/replay";
            Finding::warning("notices", format!("{dead} were given up and are kept"), fix)
        }
    }
}

fn descriptors(metrics: &str, config: &Config) -> Finding {
    let (Some(limit), Some(open)) =
        (sum(metrics, "outrigger_process_max_fds"), sum(metrics, "outrigger_process_open_fds"))
    else {
        return Finding::warning("descriptors", "the node does not say how many files it may open", "see `ulimit -Hn`");
    };
    let backends = config.upstream.url.0.len() * config.upstream.max_connections;
    let needed = (config.limits.connections + backends) as f64 + OWN_DESCRIPTORS;
    let found = format!("{open} open of {limit}; up to {needed} by limits.connections and upstream.max_connections");
    if limit < needed {
        let fix = "raise LimitNOFILE (systemd), `ulimit -n` or --ulimit nofile (Docker), or lower limits.connections";
        return Finding::warning("descriptors", found, fix);
    }
    Finding::ok("descriptors", found)
}

/// A metric over all its labels.
fn sum(metrics: &str, name: &str) -> Option<f64> {
    let value = |line: &str| {
        let rest = line.strip_prefix(name)?.strip_prefix(['{', ' '])?;
        rest.rsplit(' ').next()?.parse::<f64>().ok()
    };
    metrics.lines().filter_map(value).reduce(|a, b| a + b)
}

/// An answer as status and JSON.
async fn ask(node: &Node, method: Method, path: &str) -> Result<(StatusCode, Value), Error> {
    let call = async {
        let response = node.call(method, path, Bytes::new()).await?;
        let status = response.status();
        let text = node::text(response.into_body()).await?;
        Ok((status, serde_json::from_str(&text).unwrap_or_default()))
    };
    timeout(PATIENCE, call).await.unwrap_or_else(|_| Err(Error::Failed(format!("no answer within {PATIENCE:?}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = "\
# TYPE outrigger_deliveries_dropped counter
outrigger_deliveries_expected_total 10
outrigger_deliveries_flushed_total 6
outrigger_deliveries_queued 1
outrigger_deliveries_dropped_total{reason=\"slow\"} 2
outrigger_deliveries_dropped_total{reason=\"closed\"} 1
outrigger_process_open_fds 20
outrigger_process_max_fds 1024
";

    #[test]
    fn a_ledger_that_does_not_add_up_is_a_failure() {
        assert_eq!(ledger(METRICS), Finding::ok("ledger", "10 expected = 6 flushed + 1 queued + 3 dropped"));
        let wrong = ledger(&METRICS.replace("queued 1", "queued 2"));
        assert!(wrong.to_string().starts_with("FAILED   ledger         does not add up: 10 expected = "), "{wrong}");
    }

    #[test]
    fn notices_that_were_given_up_are_a_warning_and_a_backend_left_alone_is_a_failure() {
        assert_eq!(notices(METRICS), Finding::ok("notices", "none was given up"));
        assert!(
            notices("outrigger_dead_letters 3\n").to_string().starts_with("warning  notices        3 were given up")
        );
        assert!(notices("outrigger_webhook_breaker_state 2\n").to_string().starts_with("FAILED"));
        assert!(notices("outrigger_webhook_breaker_state 0\n").to_string().starts_with("ok"));
    }

    #[test]
    fn descriptors_that_the_limits_may_use_up_are_a_warning() {
        let mut config = Config::default();
        assert!(descriptors(METRICS, &config).to_string().starts_with("warning  descriptors    20 open of 1024"));
        config.limits.connections = 100;
        config.upstream.max_connections = 100;
        assert!(descriptors(METRICS, &config).to_string().starts_with("ok"));
    }
}
