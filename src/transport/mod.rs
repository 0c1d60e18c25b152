//! Carries frames between one client and its session: WebSocket, event stream, long-poll. Checks where a request comes
//! from and what it shows; never asks whether something is allowed, and never names an engine.

mod credentials;
mod origin;
pub mod websocket;
mod wire;

use std::time::Duration;

use http::HeaderName;

pub use credentials::TokenSource;
pub use origin::Origins;

/// What all transports are set up with. Part of a generation.
#[derive(Clone, Debug)]
pub struct Settings {
    pub allowed_origins: Origins,
    pub heartbeat: Heartbeat,
    /// Whether permessage-deflate is agreed to.
    pub compression: bool,
    /// The largest message from a client, in bytes, inflated.
    pub max_message: usize,
    /// Bytes that may wait for a client before it counts as slow.
    pub outbox: usize,
    pub token_from: Vec<TokenSource>,
    /// The cookie a token is looked for in.
    pub cookie: String,
    /// The path everything of ours is under.
    pub path: String,
    /// Between two comments on an event stream.
    pub sse_heartbeat: Duration,
    /// How long a poll waits for something to answer.
    pub poll_wait: Duration,
}

/// How silence is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Between two pings.
    pub interval: Duration,
    /// After this long without a sign of life the connection is over.
    pub timeout: Duration,
}

impl Heartbeat {
    fn told(self) -> crate::protocol::Heartbeat {
        let milliseconds = |it: Duration| u64::try_from(it.as_millis()).unwrap_or(u64::MAX);
        crate::protocol::Heartbeat { interval: milliseconds(self.interval), timeout: milliseconds(self.timeout) }
    }
}

/// A time within ten percent of the given one, so that clients that came together do not stay together.
fn jittered(time: Duration) -> Duration {
    time.mul_f64(0.9 + fastrand::f64() * 0.2)
}

/// The value of a header that is text, if there is one.
fn header<'a>(headers: &'a http::HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|it| it.to_str().ok())
}
