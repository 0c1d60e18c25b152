use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::Full;

use super::sse::Pulled;

/// What a transport answers with: a whole small body, or an event stream that HTTP pulls from.
#[derive(Debug)]
pub struct Body(Content);

#[derive(Debug)]
enum Content {
    Whole(Full<Bytes>),
    Pulled(Box<Pulled>),
}

impl Body {
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self(Content::Whole(Full::new(bytes)))
    }

    pub(super) fn pulled(stream: Pulled) -> Self {
        Self(Content::Pulled(Box::new(stream)))
    }
}

impl From<Full<Bytes>> for Body {
    fn from(body: Full<Bytes>) -> Self {
        Self(Content::Whole(body))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.get_mut().0 {
            Content::Whole(body) => Pin::new(body).poll_frame(cx),
            Content::Pulled(stream) => stream.poll_next(cx).map(|it| it.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Whole(body) => body.is_end_stream(),
            Content::Pulled(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Whole(body) => body.size_hint(),
            Content::Pulled(_) => SizeHint::default(),
        }
    }
}
