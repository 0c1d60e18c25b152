use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::values::{Duration, OneOrMany, Secret, seconds};

/// Where publications are kept.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Engine {
    Alone(Alone),
    Shared(Shared),
}

/// An engine of this node's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Alone {
    Memory,
}

/// An engine that nodes share.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shared {
    /// Redis 6.2 or newer (7.0 for a cluster), or a server that does as it does.
    pub redis: Box<Redis>,
}

impl Default for Engine {
    fn default() -> Self {
        Self::Alone(Alone::Memory)
    }
}

impl Engine {
    pub fn redis(&self) -> Option<&Redis> {
        match self {
            Self::Alone(Alone::Memory) => None,
            Self::Shared(Shared { redis }) => Some(redis),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// redis://host:6379, rediss://host for TLS, or unix:/run/redis.sock; with user:password@ before the host and /2 for a
    /// database after it if need be. Several are tried in turn, or are where a cluster is asked for its servers.
    pub url: OneOrMany<Secret>,
    /// Sentinels say which server is the master. Then `url` is left out.
    pub sentinel: Option<Sentinel>,
    /// The servers are a Redis Cluster.
    pub cluster: bool,
    /// An ACL user; it needs the keys and topics that begin with the prefix.
    pub username: Option<String>,
    /// The user's password, where the URL names none.
    pub password: Option<Secret>,
    /// A PEM file of certificates that servers may be signed by, besides those the system trusts.
    #[schemars(extend("format" = "path"))]
    pub ca: Option<PathBuf>,
    /// What all keys and topics begin with; installations that share a server have one each.
    pub prefix: String,
    /// For connecting and logging in.
    pub connect_timeout: Duration,
    /// For one operation. A publication without an answer by then is unknown; a canary that is not back by then means that
    /// Redis is out of reach.
    pub timeout: Duration,
    /// A node that is not heard of for this long is dead: its members leave.
    pub lease: Duration,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: OneOrMany::default(),
            sentinel: None,
            cluster: false,
            username: None,
            password: None,
            ca: None,
            prefix: "outrigger".into(),
            connect_timeout: seconds(5),
            timeout: seconds(2),
            lease: seconds(10),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sentinel {
    /// The name the sentinels know the master by.
    #[schemars(example = &"mymaster")]
    pub master: String,
    /// Where the sentinels are, as `url` above. A rediss:// here means TLS to the master too; a database after the host is
    /// the master's.
    #[schemars(example = &["redis://sentinel-1:26379"])]
    pub url: OneOrMany<Secret>,
    /// Who we are to the sentinels, if they ask.
    #[serde(default)]
    pub username: Option<String>,
    /// The password for the sentinels.
    #[serde(default)]
    pub password: Option<Secret>,
}
