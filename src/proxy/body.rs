//! The body of an answer on its way to the client; it carries the request's [`Record`] to its end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::record::Record;
use crate::backend::{self, BoxError};

#[derive(Debug)]
pub struct Body {
    content: Content,
    record: Record,
}

#[derive(Debug)]
enum Content {
    Streamed(backend::Body),
    Whole(Bytes),
}

impl Body {
    pub(super) fn streamed(body: backend::Body, record: Record) -> Self {
        Self { content: Content::Streamed(body), record }
    }

    pub(super) fn whole(bytes: Bytes, record: Record) -> Self {
        Self { content: Content::Whole(bytes), record }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let frame = match &mut this.content {
            Content::Streamed(body) => ready!(Pin::new(body).poll_frame(cx)),
            Content::Whole(bytes) if bytes.is_empty() => None,
            Content::Whole(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
        };
        match &frame {
            Some(Ok(frame)) => {
                this.record.body_bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
                this.record.is_complete = frame.is_trailers();
            }
            Some(Err(error)) => this.record.broke_off(error),
            None => this.record.is_complete = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Streamed(body) => body.is_end_stream(),
            Content::Whole(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Streamed(body) => body.size_hint(),
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // Who reads a body of known length stops at its last byte and never asks for the end.
        self.record.is_complete |= http_body::Body::is_end_stream(self);
    }
}
