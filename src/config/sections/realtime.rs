use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::values::{Duration, OneOrMany, Size, kib, seconds};

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
