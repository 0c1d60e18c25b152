use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::listen::Tls;
use crate::config::values::{Duration, Secret, Text, seconds};
use crate::server::Address;

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
    #[schemars(example = &"backend")]
    pub name: String,
    /// The key itself, sent as `Authorization: Bearer …`.
    #[schemars(example = &"${PUSH_KEY}")]
    pub key: Secret,
    /// push, read, admin (which includes both).
    #[schemars(example = [Scope::Push, Scope::Read])]
    pub scope: Vec<Scope>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    Push,
    Read,
    Admin,
}
