//! What one configuration changes in another, key by key, for a log line and for `POST /reload?dry_run=true`.

use serde::Serialize;
use serde_json::Value as Json;

use super::sections::Config;

/// One key that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// `realtime.heartbeat.interval`, `channels.0.match`.
    pub key: String,
    /// Null where it was not there. Secrets are `***`.
    pub from: Json,
    pub to: Json,
    /// The running node keeps the old value.
    pub needs_restart: bool,
}

/// Sockets are bound and the engine is opened once, when the node starts.
const NEEDS_RESTART: [&str; 10] = [
    "api.listen",
    "api.idempotency",
    "data",
    "data.fsync",
    "data.path",
    "engine",
    "limits.channels",
    "limits.idempotency_ids",
    "positions",
    "realtime.http2_websocket",
];

/// Everything that differs, in the order of the file.
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let (before, after) = (json(old), json(new));
    let mut changes = Vec::new();
    compare("", &before, &after, &mut changes);
    for (key, before, after) in secrets(old, new) {
        if before != after {
            let masked = || Json::from("***");
            let needs_restart = needs_restart(&key);
            changes.push(Change { key, from: masked(), to: masked(), needs_restart });
        }
    }
    changes
}

fn json(config: &Config) -> Json {
    serde_json::to_value(config).expect("a configuration is text, numbers, lists and keys")
}

fn compare(key: &str, from: &Json, to: &Json, changes: &mut Vec<Change>) {
    match (from, to) {
        (Json::Object(old), Json::Object(new)) => {
            for (name, from) in old {
                compare(&join(key, name), from, new.get(name).unwrap_or(&Json::Null), changes);
            }
            for (name, to) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
                compare(&join(key, name), &Json::Null, to, changes);
            }
        }
        // Lists of plain values are one value to their reader; rules and listeners are compared one by one.
        (Json::Array(old), Json::Array(new)) if old.iter().chain(new).any(Json::is_object) => {
            for at in 0..old.len().max(new.len()) {
                let item = |list: &[Json]| list.get(at).cloned().unwrap_or(Json::Null);
                compare(&join(key, &at.to_string()), &item(old), &item(new), changes);
            }
        }
        _ if from == to => {}
        _ => {
            let needs_restart = needs_restart(key);
            changes.push(Change { key: key.to_owned(), from: from.clone(), to: to.clone(), needs_restart });
        }
    }
}

/// A listener's certificate reloads; where it listens, and whether with TLS at all, does not.
fn needs_restart(key: &str) -> bool {
    NEEDS_RESTART.contains(&key)
        || key.starts_with("engine.")
        || (key.starts_with("listen.") && !key.contains(".tls."))
        || key == "api.tls"
}

/// The secrets that both have at the same key. Those that come or go show in the JSON, masked.
fn secrets(old: &Config, new: &Config) -> Vec<(String, String, String)> {
    let lists = |config: &Config| {
        let jwt = config.auth.jwt.clone().unwrap_or_default();
        let keys = config.api.keys.iter().map(|it| it.key.clone()).collect();
        let redis = config.engine.redis().cloned().unwrap_or_default();
        [
            ("auth.jwt.secret", jwt.secret.0),
            ("auth.jwt.public_key", jwt.public_key.0),
            ("webhooks.secret", config.webhooks.secret.0.clone()),
            ("api.keys", keys),
            ("engine.redis.url", redis.url.0),
            ("engine.redis.password", redis.password.into_iter().collect()),
        ]
    };
    let pairs = lists(old).into_iter().zip(lists(new)).flat_map(|((key, old), (_, new))| {
        let named = move |at: usize| if key == "api.keys" { format!("{key}.{at}.key") } else { format!("{key}.{at}") };
        old.into_iter()
            .zip(new)
            .enumerate()
            .map(move |(at, (old, new))| (named(at), old.reveal().to_owned(), new.reveal().to_owned()))
    });
    pairs.collect()
}

fn join(key: &str, name: &str) -> String {
    if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") }
}
