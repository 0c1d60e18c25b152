use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backend::Target;
use crate::config::values::{Duration, OneOrMany, Text, seconds};
use crate::server::Address;

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
    #[schemars(extend("format" = "path"), example = &"cert.pem")]
    pub cert: PathBuf,
    /// Its private key.
    #[schemars(extend("format" = "path"), example = &"key.pem")]
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
