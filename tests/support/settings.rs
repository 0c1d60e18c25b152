//! The configuration most tests run with.

use std::path::Path;

use outrigger::config::{self, Loaded};

pub const JWT_SECRET: &str = "a secret of the tests, thirty-two bytes";
pub const PUSH_KEY: &str = "a-push-key-of-the-tests-long-enough";
pub const WEBHOOK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The channels of most tests: one rule for each kind of access.
const CHANNELS: &str = "
  - { match: 'public.**', subscribe: public, publish: broadcast, history: { size: 100, ttl: 10m } }
  - { match: 'user.{user}.**', subscribe: user, publish: broadcast }
  - { match: 'room.*', subscribe: grant, publish: webhook+broadcast, history: { size: 100, ttl: 10m } }
  - { match: 'asked.*', subscribe: webhook, publish: webhook }
";

/// Sections of `more` stand in place of those that tests start with.
pub fn yaml(backend: &str, more: &str) -> String {
    let mut sections = vec![
        ("listen", "listen: [ { address: 127.0.0.1:0 } ]".to_owned()),
        ("upstream", format!("upstream: {{ url: '{backend}' }}")),
        ("auth", format!("auth: {{ jwt: {{ secret: '{JWT_SECRET}' }} }}")),
        ("channels", format!("channels: {CHANNELS}")),
        ("webhooks", format!("webhooks: {{ url: /hooks, secret: {WEBHOOK_SECRET} }}")),
        (
            "api",
            format!(
                "api: {{ listen: 127.0.0.1:0, keys: [ {{ name: tests, key: '{PUSH_KEY}', scope: [push, read, admin] }} ] }}"
            ),
        ),
        ("drain", "drain: { delay: 0s, spread: 0s, deadline: 10s }".to_owned()),
    ];
    sections.retain(|(name, _)| !more.lines().any(|it| it.starts_with(&format!("{name}:"))));
    let own = sections.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("\n");
    format!("{own}\n{more}")
}

pub fn loaded(backend: &str, more: &str) -> Loaded {
    let text = yaml(backend, more);
    config::parse("test.yaml", &text, Path::new("."), &|_: &str| None).unwrap_or_else(|error| panic!("{error}"))
}
