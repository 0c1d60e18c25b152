//! The sections and keys, each with its default.

mod api;
mod auth;
mod channels;
mod data;
mod engine;
mod listen;
mod realtime;
mod webhooks;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use api::{Api, ApiKey, Scope};
pub use auth::{Algorithm, Auth, Jwt, TokenFrom};
pub use channels::{History, Publish, Rule, Subscribe, WhenSlow};
pub use data::{Data, Fsync};
pub use engine::{Alone, Engine, Redis, Sentinel, Shared};
pub use listen::{Listen, Pair, Tls, Upstream};
pub use realtime::{Compression, Heartbeat, Poll, Realtime, Sse};
pub use webhooks::{OnError, WebhookEvent, Webhooks};

use super::values::{Duration, Text, seconds};

/// Outrigger's configuration.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Public listeners. Changing an address takes a restart.
    pub listen: Vec<Listen>,
    /// Whose X-Forwarded-*, Forwarded and PROXY headers are believed, e.g. [10.0.0.0/8].
    pub trusted_proxies: Vec<Text<ipnet::IpNet>>,
    /// A folder in which history, positions, ids, notices and revocations survive a restart. Without it they live in memory.
    /// Changing it takes a restart.
    pub data: Option<Data>,
    /// The backend: the application behind Outrigger.
    pub upstream: Upstream,
    /// WebSocket, event stream and long-poll.
    pub realtime: Realtime,
    /// How clients prove who they are.
    pub auth: Auth,
    /// Rules for channels: the first match wins, no rule means refused.
    pub channels: Vec<Rule>,
    /// Signed questions and notices to the backend.
    pub webhooks: Webhooks,
    /// The internal listener: for the backend and the operator. Changing its address takes a restart.
    pub api: Api,
    /// Where publications are kept: `memory` (this process) or `{redis: …}`, which nodes share. Changing it takes a restart.
    pub engine: Engine,
    /// How long an idle channel's position is remembered.
    pub positions: Duration,
    /// What a node, an address and a client may use.
    pub limits: Limits,
    /// How the process ends.
    pub drain: Drain,
    /// Logs.
    pub telemetry: Telemetry,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![Listen::default()],
            trusted_proxies: Vec::new(),
            data: None,
            upstream: Upstream::default(),
            realtime: Realtime::default(),
            auth: Auth::default(),
            channels: Vec::new(),
            webhooks: Webhooks::default(),
            api: Api::default(),
            engine: Engine::default(),
            positions: seconds(24 * 3600),
            limits: Limits::default(),
            drain: Drain::default(),
            telemetry: Telemetry::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections of this node.
    #[schemars(range(min = 1))]
    pub connections: usize,
    /// Connections per address (IPv4) or /64 (IPv6); trusted_proxies are not counted.
    #[schemars(range(min = 1))]
    pub connections_per_ip: usize,
    /// Channels whose position is remembered; the oldest are forgotten first.
    #[schemars(range(min = 1))]
    pub channels: usize,
    /// Publication ids that are recognised when they are repeated; about the oldest are forgotten first.
    #[schemars(range(min = 1000))]
    pub idempotency_ids: usize,
    /// New sessions within any one second, and so connect questions to the backend; beyond it clients are told when to
    /// come back.
    #[schemars(range(min = 1))]
    pub handshakes_per_second: u32,
    /// Channels one connection may follow.
    #[schemars(range(min = 1))]
    pub subscriptions_per_connection: usize,
    /// Messages one connection may send.
    pub messages_per_second: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 100_000,
            connections_per_ip: 200,
            channels: 1_000_000,
            idempotency_ids: 1_000_000,
            handshakes_per_second: 2000,
            subscriptions_per_connection: 100,
            messages_per_second: Rate::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rate {
    /// In the long run.
    #[schemars(range(min = 1))]
    pub rate: u32,
    /// At once.
    #[schemars(range(min = 1))]
    pub burst: u32,
}

impl Default for Rate {
    fn default() -> Self {
        Self { rate: 20, burst: 60 }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// Between failing /readyz and refusing new connections, so that load balancers notice.
    pub delay: Duration,
    /// Over this time clients are told to come back, each in a slot of its own.
    pub spread: Duration,
    /// After this the process ends, whoever is still there.
    pub deadline: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { delay: seconds(5), spread: seconds(20), deadline: seconds(60) }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// error, warn, info, debug or trace; `outrigger::proxy=debug,info` names a part.
    pub log: String,
    /// A line for each proxied request. Queries are never logged.
    pub access_log: bool,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log: "info".into(), access_log: false }
    }
}
