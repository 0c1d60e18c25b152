use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::values::{Duration, OneOrMany, Secret, Text, seconds};

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Webhooks {
    /// A path on the backend, which the public listeners then answer with 404, or an absolute URL. Without it nothing
    /// is asked.
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
        use WebhookEvent::{Connect, Publish, Subscribe};
        let forwarded = ["cookie", "authorization", "user-agent", "accept-language"];
        Self {
            url: None,
            secret: OneOrMany::default(),
            events: vec![Connect, Subscribe, Publish],
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
