//! Bodies on their way to the backend and back.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::link::Lease;
use super::stream::{Stream, Traffic};
use super::{BoxError, Error};

/// What a request carries.
pub enum RequestBody {
    Empty,
    Whole(Bytes),
    /// Boxed once per request, not per piece.
    Streamed(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError> + Send>>),
}

impl RequestBody {
    /// The same again, where nothing of it can have been used up.
    pub(super) fn copy(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Whole(bytes) => Some(Self::Whole(bytes.clone())),
            Self::Streamed(_) => None,
        }
    }
}

impl From<Bytes> for RequestBody {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Whole(bytes) }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "RequestBody::Empty",
            Self::Whole(_) => "RequestBody::Whole",
            Self::Streamed(_) => "RequestBody::Streamed",
        })
    }
}

/// A request's body while hyper sends it: it notes its progress in the connection's [`Traffic`].
pub(super) struct Outgoing {
    body: RequestBody,
    traffic: Arc<Traffic>,
}

impl Outgoing {
    pub fn new(body: RequestBody, traffic: Arc<Traffic>) -> Self {
        traffic.is_uploading.store(matches!(body, RequestBody::Streamed(_)), Relaxed);
        Self { body, traffic }
    }

    /// Takes the body back, unsent.
    pub fn into_unsent(mut self) -> RequestBody {
        std::mem::replace(&mut self.body, RequestBody::Empty)
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.traffic.is_uploading.store(false, Relaxed);
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let body = match &mut this.body {
            RequestBody::Empty => return Poll::Ready(None),
            RequestBody::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                this.body = RequestBody::Empty;
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            RequestBody::Streamed(body) => body,
        };
        let piece = body.as_mut().poll_frame(cx);
        this.traffic.awaits_sender.store(piece.is_pending(), Relaxed);
        let piece = ready!(piece);
        this.traffic.pieces.fetch_add(1, Relaxed);
        if matches!(piece, Some(Err(_))) {
            this.traffic.sender_left.store(true, Relaxed);
        }
        Poll::Ready(piece)
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            RequestBody::Empty => true,
            RequestBody::Whole(bytes) => bytes.is_empty(),
            RequestBody::Streamed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            RequestBody::Empty => SizeHint::with_exact(0),
            RequestBody::Whole(bytes) => SizeHint::with_exact(bytes.remaining() as u64),
            RequestBody::Streamed(body) => body.size_hint(),
        }
    }
}

/// The body of a backend's answer. Whoever polls it drives the connection; when it ends the connection goes back to its
/// pool, and when it is dropped before its end the connection closes.
#[derive(Debug)]
pub struct Body {
    incoming: Incoming,
    lease: Option<Lease>,
    silence: Option<Silence>,
}

/// The longest time without a piece.
#[derive(Debug)]
struct Silence {
    limit: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Body {
    pub(super) fn new(incoming: Incoming, lease: Lease, silence: Option<Duration>) -> Self {
        let silence = silence.map(|limit| Silence { limit, timer: Box::pin(tokio::time::sleep(limit)) });
        Self { incoming, lease: Some(lease), silence }
    }

    /// A body that is there already, with a connection that went back.
    pub(super) fn finished(incoming: Incoming) -> Self {
        Self { incoming, lease: None, silence: None }
    }

    /// The bare connection after a `101`, with what the backend already sent on it.
    pub async fn into_upgraded(self) -> Result<(Stream, Bytes), Error> {
        match self.lease {
            Some(lease) => lease.into_upgraded().await,
            None => Err(Error::Broken("there is no connection to upgrade".into())),
        }
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Poll::Ready(piece) = Pin::new(&mut self.incoming).poll_frame(cx) {
            return Poll::Ready(piece);
        }
        let Some(lease) = &mut self.lease else { return Poll::Pending };
        lease.drive(cx);
        Pin::new(&mut self.incoming).poll_frame(cx)
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let Some(silence) = &mut self.silence else { return Poll::Pending };
        ready!(silence.timer.as_mut().poll(cx));
        Poll::Ready(Error::Timeout(silence.limit))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let piece = match this.poll_incoming(cx) {
            Poll::Ready(piece) => piece,
            Poll::Pending => return this.poll_silence(cx).map(|error| Some(Err(error.into()))),
        };
        if let Some(Silence { limit, timer }) = &mut this.silence {
            timer.as_mut().reset(Instant::now() + *limit);
        }
        // Trailers are the last piece, and few readers ask for another one behind them.
        let is_last = matches!(&piece, Some(Ok(frame)) if frame.is_trailers());
        let is_over = piece.is_none() || is_last || this.incoming.is_end_stream();
        if is_over && let Some(lease) = this.lease.take() {
            lease.give_back();
        }
        Poll::Ready(piece.map(|piece| piece.map_err(BoxError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
