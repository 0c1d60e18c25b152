//! The sections and keys, each with its default.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{Duration, OneOrMany, Secret, Size, Text, kib, seconds};
use crate::backend::Target;
use crate::channel::Pattern;
use crate::server::Address;

/// Outrigger's configuration.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Public listeners. Changing an address takes a restart.
    pub listen: Vec<Listen>,
    /// Whose X-Forwarded-*, Forwarded and PROXY headers are believed, e.g. [10.0.0.0/8].
    pub trusted_proxies: Vec<Text<ipnet::IpNet>>,
    /// The backend: the application behind Outrigger.
    pub upstream: Upstream,
    /// WebSocket, event stream and long-poll.
    pub realtime: Realtime,
    /// How clients prove who they are.
    pub auth: Auth,
    /// Rules for channels: the first match wins, no rule means refused.
    pub channels: Vec<Rule>,
    /// Signed questions to the backend.
    pub webhooks: Webhooks,
    /// The internal listener: for the backend and the operator. Changing its address takes a restart.
    pub api: Api,
    /// Where publications are kept: `memory` (this process).
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
            upstream: Upstream::default(),
            realtime: Realtime::default(),
            auth: Auth::default(),
            channels: Vec::new(),
            webhooks: Webhooks::default(),
            api: Api::default(),
            engine: Engine::Memory,
            positions: seconds(24 * 3600),
            limits: Limits::default(),
            drain: Drain::default(),
            telemetry: Telemetry::default(),
        }
    }
}

/// One public listener.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// Where to listen.
    pub address: Text<Address>,
    /// A certificate and its key (PEM files), a list of pairs served by SNI, or `self_signed` for development.
    pub tls: Option<Tls>,
    /// Connections from trusted_proxies begin with a PROXY header, version 1 or 2.
    pub proxy_protocol: bool,
    /// Answer every request with a redirect to the first listener with TLS.
    pub redirect_to_https: bool,
}

impl Default for Listen {
    fn default() -> Self {
        let address = Address::Tcp(std::net::SocketAddr::from(([0, 0, 0, 0], 8080)));
        Self { address: Text(address), tls: None, proxy_protocol: false, redirect_to_https: false }
    }
}

/// What a listener proves itself with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Tls {
    #[serde(rename = "self_signed")]
    SelfSigned,
    #[serde(untagged)]
    Pairs(OneOrMany<Pair>),
}

/// A certificate chain and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// The certificate chain, leaf first.
    #[schemars(extend("format" = "path"))]
    pub cert: PathBuf,
    /// Its private key.
    #[schemars(extend("format" = "path"))]
    pub key: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    /// http://HOST:PORT, https://HOST:PORT or unix:/PATH; several balance and fail over.
    pub url: OneOrMany<Text<Target>>,
    /// Until a connection is up.
    pub connect_timeout: Duration,
    /// Until the response head; streaming bodies have no deadline.
    pub response_timeout: Duration,
    /// How long an unused connection is kept; shorter than the backend's own limit (Node closes after 5s).
    pub idle_timeout: Duration,
    /// Connections per backend address; more requests wait for `connect_timeout`.
    #[schemars(range(min = 1))]
    pub max_connections: usize,
    /// A PEM file of certificates that https backends may be signed by, besides those the system trusts.
    #[schemars(extend("format" = "path"))]
    pub ca: Option<PathBuf>,
    /// Protocols of the backend's own that are spliced through when a client asks to upgrade.
    pub upgrades: Vec<String>,
    /// Honour Outrigger-Push on the backend's responses.
    pub push_header: bool,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            url: OneOrMany(vec![Text(Target::Http { host: "127.0.0.1".into(), port: 3000 })]),
            connect_timeout: seconds(5),
            response_timeout: seconds(60),
            idle_timeout: seconds(4),
            max_connections: 1024,
            ca: None,
            upgrades: vec!["websocket".into()],
            push_header: true,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Realtime {
    /// The path of the WebSocket; /sse, /poll and the rest are under it.
    pub path: String,
    /// Pages that may connect: `same-origin`, origins such as https://app.example.com, or "*".
    pub allowed_origins: OneOrMany<String>,
    /// Pings to WebSocket clients.
    pub heartbeat: Heartbeat,
    /// permessage-deflate for text, without context takeover: a broadcast is compressed once for everybody.
    pub compression: Option<Compression>,
    /// The largest message from a client, after inflation.
    pub max_message: Size,
    /// The largest publication from the backend.
    pub max_publication: Size,
    /// Bytes that may wait for one client before it counts as slow.
    pub outbox: Size,
    /// Event streams.
    pub sse: Sse,
    /// Long-poll.
    pub poll: Poll,
    /// Offer WebSocket over HTTP/2 (RFC 8441). Changing it takes a restart.
    pub http2_websocket: bool,
}

impl Default for Realtime {
    fn default() -> Self {
        Self {
            path: "/realtime".into(),
            allowed_origins: OneOrMany(vec!["same-origin".into()]),
            heartbeat: Heartbeat::default(),
            compression: Some(Compression::default()),
            max_message: kib(64),
            max_publication: kib(256),
            outbox: kib(1024),
            sse: Sse::default(),
            poll: Poll::default(),
            http2_websocket: false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Heartbeat {
    /// Between two pings; jittered.
    pub interval: Duration,
    /// A client silent for this long is closed.
    pub timeout: Duration,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { interval: seconds(30), timeout: seconds(60) }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Compression {
    /// Shorter messages are sent as they are.
    pub threshold: Size,
    /// 1 (fast) to 9 (small).
    #[schemars(range(min = 1, max = 9))]
    pub level: u32,
}

impl Default for Compression {
    fn default() -> Self {
        Self { threshold: kib(1), level: 3 }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sse {
    /// Between two comments that keep the connection open.
    pub heartbeat: Duration,
}

impl Default for Sse {
    fn default() -> Self {
        Self { heartbeat: seconds(15) }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Poll {
    /// How long a poll waits for a message, give or take a tenth.
    pub wait: Duration,
    /// How long a session waits for its client's next poll.
    pub session: Duration,
}

impl Default for Poll {
    fn default() -> Self {
        Self { wait: seconds(25), session: seconds(60) }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Let clients in without a token, as nobody in particular.
    pub anonymous: bool,
    /// Where a token is looked for, in this order: query, header, cookie, subprotocol, message.
    pub token_from: Vec<TokenFrom>,
    /// The cookie a token is looked for in.
    pub cookie: String,
    /// Tokens are JWTs, checked with these keys.
    pub jwt: Option<Jwt>,
    /// Ask the backend with the connect webhook about clients without a token, their cookies forwarded.
    pub webhook: bool,
}

impl Default for Auth {
    fn default() -> Self {
        use TokenFrom::{Cookie, Header, Message, Query, Subprotocol};
        Self {
            anonymous: false,
            token_from: vec![Query, Header, Cookie, Subprotocol, Message],
            cookie: "outrigger_token".into(),
            jwt: None,
            webhook: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TokenFrom {
    Query,
    Header,
    Cookie,
    Subprotocol,
    Message,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Jwt {
    /// For HS256, HS384 and HS512; a list rotates.
    pub secret: OneOrMany<Secret>,
    /// Public keys in PEM (RSA, EC or Ed25519); a list rotates.
    pub public_key: OneOrMany<Secret>,
    /// Where a JSON Web Key Set is fetched, e.g. https://login.example.com/jwks.json.
    pub jwks: Option<Text<http::Uri>>,
    /// Accepted algorithms; empty accepts what fits each key.
    pub algorithms: Vec<Algorithm>,
    /// Accepted `iss`; empty accepts any.
    pub issuer: OneOrMany<String>,
    /// Accepted `aud`; empty accepts any.
    pub audience: OneOrMany<String>,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// The first of these claims that a token has is the user's id.
    pub user_claim: OneOrMany<String>,
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            secret: OneOrMany::default(),
            public_key: OneOrMany::default(),
            jwks: None,
            algorithms: Vec::new(),
            issuer: OneOrMany::default(),
            audience: OneOrMany::default(),
            leeway: seconds(30),
            user_claim: OneOrMany(vec!["sub".into(), "userId".into()]),
        }
    }
}

/// A signature algorithm of RFC 7518 or RFC 8037.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

/// What holds for the channels of one pattern.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// `*` is one dot-separated segment, `**` the rest, {user} the client's own id.
    #[serde(rename = "match")]
    pub pattern: Text<Pattern>,
    /// Who may follow: public (everybody), user (who has an id), grant (whose token says so), webhook (whom the backend allows).
    #[serde(default)]
    pub subscribe: Subscribe,
    /// What becomes of a client's publication: none (refused), webhook (the backend is told), broadcast (it goes to the subscribers), webhook+broadcast (the backend is asked first).
    #[serde(default)]
    pub publish: Publish,
    /// What is kept for clients that come back.
    #[serde(default)]
    pub history: Option<History>,
    /// What a subscriber who does not keep up loses: disconnect, drop_oldest or latest_only.
    #[serde(default)]
    pub when_slow: WhenSlow,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Subscribe {
    Public,
    User,
    #[default]
    Grant,
    Webhook,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Publish {
    #[default]
    None,
    Webhook,
    Broadcast,
    #[serde(rename = "webhook+broadcast")]
    WebhookAndBroadcast,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    /// Publications kept per channel.
    #[schemars(range(min = 1))]
    pub size: usize,
    /// How long they are kept.
    pub ttl: Duration,
}

impl Default for History {
    fn default() -> Self {
        Self { size: 100, ttl: seconds(600) }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenSlow {
    #[default]
    Disconnect,
    DropOldest,
    LatestOnly,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Webhooks {
    /// A path on the backend, which the public listeners then answer with 404, or an absolute URL. Without it nothing is asked.
    pub url: Option<Text<http::Uri>>,
    /// Signs each question (Standard Webhooks): whsec_…; a list rotates, the first is the newest.
    pub secret: OneOrMany<Secret>,
    /// What the backend is asked: connect, subscribe, publish, refresh.
    pub events: Vec<WebhookEvent>,
    /// For a whole question.
    pub timeout: Duration,
    /// Headers of the client's handshake that are shown to the backend.
    pub forward_headers: Vec<Text<http::HeaderName>>,
    /// Questions on their way at once.
    #[schemars(range(min = 1))]
    pub max_in_flight: usize,
    /// What holds when no usable answer comes: deny or allow.
    pub on_error: OnError,
}

impl Default for Webhooks {
    fn default() -> Self {
        use WebhookEvent::{Connect, Publish, Refresh, Subscribe};
        let forwarded = ["cookie", "authorization", "user-agent", "accept-language"];
        Self {
            url: None,
            secret: OneOrMany::default(),
            events: vec![Connect, Subscribe, Publish, Refresh],
            timeout: seconds(5),
            forward_headers: forwarded.map(|it| Text(http::HeaderName::from_static(it))).into(),
            max_in_flight: 64,
            on_error: OnError::Deny,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WebhookEvent {
    Connect,
    Subscribe,
    Publish,
    Refresh,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    Deny,
    Allow,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// 127.0.0.1:8700 or unix:/run/outrigger.sock. Keep it off the public network.
    pub listen: Text<Address>,
    /// A certificate and its key, for a backend on another host.
    pub tls: Option<Tls>,
    /// Who may use it, and for what.
    pub keys: Vec<ApiKey>,
    /// How long a repeated publication id is recognised.
    pub idempotency: Duration,
}

impl Default for Api {
    fn default() -> Self {
        let listen = Address::Tcp(std::net::SocketAddr::from(([127, 0, 0, 1], 8700)));
        Self { listen: Text(listen), tls: None, keys: Vec::new(), idempotency: seconds(600) }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// How logs call it.
    pub name: String,
    /// The key itself, sent as `Authorization: Bearer …`.
    pub key: Secret,
    /// push, read, admin (which includes both).
    pub scope: Vec<Scope>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    Push,
    Read,
    Admin,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    #[default]
    Memory,
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
    /// New sessions a second; beyond it clients are told to come back a little later.
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
    /// After this the process ends, whoever is still there.
    pub deadline: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { delay: seconds(5), deadline: seconds(60) }
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

impl<'de> Deserialize<'de> for Tls {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// A list of pairs, where the word `self_signed` may stand for it.
        #[derive(Deserialize)]
        #[serde(transparent)]
        struct Form(OneOrMany<Item>);

        enum Item {
            SelfSigned,
            Pair(Pair),
        }

        impl<'de> Deserialize<'de> for Item {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Either;
                impl<'de> serde::de::Visitor<'de> for Either {
                    type Value = Item;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("`{cert: PATH, key: PATH}` or `self_signed`")
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Item, E> {
                        match text {
                            "self_signed" => Ok(Item::SelfSigned),
                            other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                        }
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Item, A::Error> {
                        Pair::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(Item::Pair)
                    }
                }
                deserializer.deserialize_any(Either)
            }
        }

        let Form(OneOrMany(items)) = Form::deserialize(deserializer)?;
        let mut pairs = Vec::new();
        for item in items {
            match item {
                Item::SelfSigned => return Ok(Self::SelfSigned),
                Item::Pair(pair) => pairs.push(pair),
            }
        }
        Ok(Self::Pairs(OneOrMany(pairs)))
    }
}

impl JsonSchema for Tls {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Tls".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let pairs = generator.subschema_for::<OneOrMany<Pair>>();
        schemars::json_schema!({ "anyOf": [{ "const": "self_signed" }, pairs] })
    }
}
