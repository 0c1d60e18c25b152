//! `GET /metrics` as an event stream: the same text once a second, for whoever watches rather than samples.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::Full;
use prometheus_client::registry::Registry;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::metrics;

/// How often a watcher is told.
const EVERY: Duration = Duration::from_secs(1);

/// What the operator's routes are answered with.
#[derive(Debug)]
pub enum Body {
    Whole(Full<Bytes>),
    Live(Live),
}

/// The numbers of this node, as they change.
#[derive(Debug)]
pub struct Live {
    registry: Arc<Registry>,
    every: Interval,
}

/// Whether an event stream is asked for.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    headers.get(ACCEPT).is_some_and(|it| it.as_bytes() == b"text/event-stream")
}

pub(super) fn stream(registry: &Arc<Registry>) -> Response<Body> {
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut response = Response::new(Body::Live(Live { registry: registry.clone(), every }));
    for (name, value) in [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store, no-transform"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

impl Live {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        ready!(self.every.poll_tick(cx));
        // A registry that cannot be written ends the stream; the plain route answers 500 then.
        Poll::Ready(metrics::text(&self.registry).map(|text| event(&text).into()))
    }
}

/// The text as the data of one event, line by line.
fn event(text: &str) -> String {
    let mut event = String::with_capacity(text.len() + text.len() / 8);
    for line in text.lines().filter(|it| !it.starts_with("# HELP") && !it.starts_with("# UNIT")) {
        event.push_str("data: ");
        event.push_str(line);
        event.push('\n');
    }
    event.push('\n');
    event
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx),
            Self::Live(live) => live.poll_next(cx).map(|it| it.map(|bytes| Ok(http_body::Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Live(_) => false,
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Live(_) => http_body::SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_line_of_data_and_the_help_is_left_out() {
        let text = "# HELP a b\n# TYPE a counter\na_total 1\n# EOF\n";
        assert_eq!(event(text), "data: # TYPE a counter\ndata: a_total 1\ndata: # EOF\n\n");
    }
}
