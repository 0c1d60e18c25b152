use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response};
use tokio::time::{Sleep, sleep};

use super::{Body, Problem, Query, Settings};
use crate::channel::{ChannelName, Pattern};
use crate::hub::{Access, Hub, Outbox, Publish, Rule, Subscription, WhenSlow};
use crate::protocol::Format;

/// A channel as `outrigger tail` watches it: an event stream of what is published from now on.
pub(super) struct Tail {
    outbox: Arc<Outbox>,
    _subscription: Subscription,
    heartbeat: Pin<Box<Sleep>>,
}

/// A terminal that is further behind than this loses the oldest, and is told.
const OUTBOX: usize = 4 * 1024 * 1024;
const HEARTBEAT: Duration = Duration::from_secs(15);

pub(super) async fn tail(query: &Query, hub: &Arc<Hub>, settings: &Settings) -> Result<Response<Body>, Problem> {
    let name = query.get("channel").ok_or_else(|| Problem::bad_request("`channel` is missing"))?;
    let channel = ChannelName::parse(&name).map_err(|error| Problem::bad_request(error.to_string()))?;
    let outbox = Outbox::new(hub, Format::EventStream, None, OUTBOX);
    let rule = Rule {
        pattern: Pattern::parse("**").expect("`**` is a pattern"),
        subscribe: Access::Public,
        publish: Publish::default(),
        // The channel's own: the engine trims to what it is told.
        history: settings.rules.retention(&channel),
        when_slow: WhenSlow::DropOldest,
        presence: None,
        min_interval: None,
    };
    let subscribed = hub.subscribe(&channel, None, &outbox, &rule).await;
    let subscribed = subscribed.map_err(|error| Problem::unavailable(error.to_string()))?;
    outbox.control(Bytes::from_static(b":\n\n"));
    subscribed.subscription.go_live(subscribed.position);
    let tail = Tail { outbox, _subscription: subscribed.subscription, heartbeat: Box::pin(sleep(HEARTBEAT)) };
    let mut response = Response::new(Body::tail(tail));
    for (name, value) in [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store, no-transform"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

impl Tail {
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.heartbeat.as_mut().poll(cx).is_ready() {
            self.heartbeat.set(sleep(HEARTBEAT));
            self.outbox.control(Bytes::from_static(b":\n\n"));
            cx.waker().wake_by_ref();
        }
        // It fell behind before it was live; who watches comes back.
        if self.outbox.take_signal().is_some() {
            return Poll::Ready(None);
        }
        self.outbox.poll_pull(cx)
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.outbox.close();
    }
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tail")
    }
}
