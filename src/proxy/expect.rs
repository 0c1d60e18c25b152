//! Request bodies on their way in. With `Expect: 100-continue` the client's body is not asked for (hyper would tell the
//! client to go on) until the backend said so itself or was silent for a second.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::header::EXPECT;
use http::{HeaderMap, Request, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

use crate::backend::BoxError;

/// Servers that do not know the expectation just wait for the body.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) fn is_expected(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Opens the gate when the backend says `100 Continue`.
pub(super) fn open_on_continue<B>(request: &mut Request<B>, gate: Arc<Gate>) {
    hyper::ext::on_informational(request, move |interim| {
        if interim.status() == StatusCode::CONTINUE {
            gate.open();
        }
    });
}

#[derive(Debug, Default)]
pub(super) struct Gate {
    is_open: AtomicBool,
    waiting: AtomicWaker,
}

impl Gate {
    pub fn open(&self) {
        self.is_open.store(true, Release);
        self.waiting.wake();
    }

    /// Whether the client's body was asked for.
    pub fn is_open(&self) -> bool {
        self.is_open.load(Acquire)
    }
}

/// A client's body, its errors boxed.
pub(super) struct Open(pub Incoming);

impl Body for Open {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.0).poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// A client's body behind a [`Gate`].
pub(super) struct Gated {
    body: Open,
    gate: Arc<Gate>,
    patience: Option<Pin<Box<Sleep>>>,
}

impl Gated {
    pub fn new(body: Incoming, gate: Arc<Gate>) -> Self {
        Self { body: Open(body), gate, patience: Some(Box::pin(sleep(PATIENCE))) }
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(patience) = &mut self.patience else { return Poll::Ready(()) };
        self.gate.waiting.register(cx.waker());
        if !self.gate.is_open() {
            ready!(patience.as_mut().poll(cx));
            self.gate.is_open.store(true, Release);
        }
        self.patience = None;
        Poll::Ready(())
    }
}

impl Body for Gated {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        ready!(self.poll_open(cx));
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
