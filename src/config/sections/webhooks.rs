use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::config::values::{Duration, OneOrMany, Secret, Size, Text, kib, seconds};

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Webhooks {
    /// A path on the backend, which the public listeners then answer with 404, or an absolute URL. Without it nothing
    /// is asked.
    pub url: Option<Text<http::Uri>>,
    /// Signs each question (Standard Webhooks): whsec_…; a list rotates, the first is the newest.
    pub secret: OneOrMany<Secret>,
    /// What the backend is asked (connect, subscribe, publish, refresh) and told (disconnect, unsubscribe, occupied,
    /// vacated, joined, left).
    pub events: Vec<WebhookEvent>,
    /// For a whole question, or one try to deliver a notice.
    pub timeout: Duration,
    /// Headers of the client's handshake that are shown to the backend.
    pub forward_headers: Vec<Text<http::HeaderName>>,
    /// Questions and notices on their way at once; notices use a quarter at most.
    #[schemars(range(min = 1))]
    pub max_in_flight: usize,
    /// What holds when no usable answer comes: deny or allow, or {connect: deny, subscribe: deny, publish: allow}.
    pub on_error: OnErrors,
    /// Pauses questions and notices while the backend fails.
    pub breaker: Breaker,
    /// Notices in one request: 1 sends each by itself, more sends {"type": "batch", "notices": […]}, even of one.
    #[schemars(range(min = 1, max = 1000))]
    pub batch: usize,
    /// What is undone within this time is not told: occupied and vacated, joined and left.
    pub grace: Duration,
    /// How often notices are sent before they become dead letters.
    pub retry: Retry,
    /// Notices that wait. What does not fit becomes a dead letter at once.
    pub queue: Queue,
}

impl Default for Webhooks {
    fn default() -> Self {
        use WebhookEvent::{Connect, Disconnect, Publish, Subscribe};
        let forwarded = ["cookie", "authorization", "user-agent", "accept-language"];
        Self {
            url: None,
            secret: OneOrMany::default(),
            events: vec![Connect, Subscribe, Publish, Disconnect],
            timeout: seconds(5),
            forward_headers: forwarded.map(|it| Text(http::HeaderName::from_static(it))).into(),
            max_in_flight: 64,
            on_error: OnErrors::default(),
            breaker: Breaker::default(),
            batch: 1,
            grace: seconds(3),
            retry: Retry::default(),
            queue: Queue::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// Time-outs, 5xx, broken connections and unreadable answers in a row that open it.
    #[schemars(range(min = 1))]
    pub failures: u32,
    /// How long nothing is sent then, before one question or notice tries again.
    pub open: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 10, open: seconds(5) }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// How long a notice is repeated.
    #[serde(rename = "for")]
    pub patience: Duration,
    /// The longest pause between two tries; a backend's Retry-After may be longer.
    pub max_delay: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { patience: seconds(300), max_delay: seconds(30) }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Queue {
    /// How many.
    #[schemars(range(min = 1))]
    pub notices: usize,
    /// Their bytes together.
    pub size: Size,
    /// Dead letters that are kept, with as many bytes as `size`; the oldest make room.
    pub dead_letters: usize,
}

impl Default for Queue {
    fn default() -> Self {
        Self { notices: 100_000, size: kib(64 * 1024), dead_letters: 10_000 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WebhookEvent {
    Connect,
    Subscribe,
    Publish,
    Refresh,
    Disconnect,
    Unsubscribe,
    Occupied,
    Vacated,
    Joined,
    Left,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    Deny,
    Allow,
}

/// One word for all, or one for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnErrors {
    pub connect: OnError,
    pub subscribe: OnError,
    pub publish: OnError,
}

impl Default for OnErrors {
    fn default() -> Self {
        Self::all(OnError::Deny)
    }
}

impl OnErrors {
    const fn all(word: OnError) -> Self {
        Self { connect: word, subscribe: word, publish: word }
    }
}

/// The form with a word for each; what is left out is denied.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Each {
    /// For clients that are let in by asking.
    #[serde(default = "deny")]
    connect: OnError,
    /// For channels with `subscribe: webhook`.
    #[serde(default = "deny")]
    subscribe: OnError,
    /// For channels with `publish: webhook`.
    #[serde(default = "deny")]
    publish: OnError,
}

fn deny() -> OnError {
    OnError::Deny
}

impl Serialize for OnErrors {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { connect, subscribe, publish } = *self;
        if *self == Self::all(connect) {
            return connect.serialize(serializer);
        }
        Each { connect, subscribe, publish }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for OnErrors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = OnErrors;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`deny`, `allow` or `{connect: …, subscribe: …, publish: …}`")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<OnErrors, E> {
                OnError::deserialize(StrDeserializer::new(text)).map(OnErrors::all)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OnErrors, A::Error> {
                let Each { connect, subscribe, publish } = Each::deserialize(MapAccessDeserializer::new(map))?;
                Ok(OnErrors { connect, subscribe, publish })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for OnErrors {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "OnErrors".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (word, each) = (generator.subschema_for::<OnError>(), generator.subschema_for::<Each>());
        json_schema!({ "anyOf": [word, each] })
    }
}
