use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::Full;

use super::tail::Tail;

/// What a call is answered with: a whole body, or a channel to listen to.
#[derive(Debug)]
pub struct Body(Content);

#[derive(Debug)]
enum Content {
    Whole(Full<Bytes>),
    Tail(Box<Tail>),
}

impl Body {
    pub fn whole(bytes: Bytes) -> Self {
        Self(Content::Whole(Full::new(bytes)))
    }

    pub(super) fn tail(tail: Tail) -> Self {
        Self(Content::Tail(Box::new(tail)))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.get_mut().0 {
            Content::Whole(body) => Pin::new(body).poll_frame(cx),
            Content::Tail(tail) => tail.poll_next(cx).map(|it| it.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Whole(body) => body.is_end_stream(),
            Content::Tail(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Whole(body) => body.size_hint(),
            Content::Tail(_) => SizeHint::default(),
        }
    }
}
