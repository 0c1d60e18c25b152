//! HTTP/1.1, polled by hand so that a handler can take the connection out of it.
//!
//! When a handler filled the [`Takeover`] slot, hyper's connection is taken apart, the service dropped, and what was left
//! in the slot runs with the bare stream in a task of its own: nothing of HTTP stays allocated for the hours it may last.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::admission::Permit;
use super::connection::{Context, Ends};
use super::hand_on::HandOn;
use super::{Policy, Service};
use crate::peer::{Stream, TakenOver, Takeover};

/// The longest request head.
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 128;

/// Read buffer, and so the unit in which request bodies move.
const MAX_BUFFER: usize = 64 * 1024;

/// How HTTP ended.
enum End {
    Closed(hyper::Result<()>),
    TakenOver(TakenOver),
}

pub(super) async fn serve_http1<S: Service>(
    stream: Stream,
    ends: Ends,
    context: Arc<Context<S>>,
    policy: Arc<Policy>,
    permit: Permit,
) {
    let slot = Takeover::default();
    let has_backlog = Arc::new(AtomicBool::new(false));
    let io = TokioIo::new(Watched { stream, has_backlog: has_backlog.clone() });
    let mut draining = context.draining.clone();
    let requests = context.metrics.requests_http1.clone();
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(policy.header_timeout)
        .max_header_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(io, HandOn { ends, context, slot: Some(slot.clone()), requests });

    let end = {
        let mut stop = pin!(draining.requested());
        let mut is_stopping = false;
        let mut taken = None;
        poll_fn(|cx| {
            if !is_stopping && stop.as_mut().poll(cx).is_ready() {
                is_stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(End::Closed(ended));
            }
            taken = taken.take().or_else(|| slot.take());
            // The end of an earlier, pipelined answer may still wait inside hyper: it goes out first.
            match taken.take() {
                Some(run) if !has_backlog.load(Relaxed) => Poll::Ready(End::TakenOver(run)),
                kept => {
                    taken = kept;
                    Poll::Pending
                }
            }
        })
        .await
    };

    match end {
        End::Closed(Ok(())) => {}
        End::Closed(Err(error)) => tracing::debug!(from = %ends.from, %error, "HTTP/1.1 connection ended"),
        End::TakenOver(run) => {
            let http1::Parts { io, read_buf, service, .. } = connection.into_parts();
            drop(service);
            // A copy, because the buffer it is a part of would live as long as the connection.
            let early = if read_buf.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(&read_buf) };
            let running = run(io.into_inner().stream, early);
            tokio::spawn(async move {
                let _permit = permit;
                running.await;
            });
        }
    }
}

/// A stream that remembers whether its writer still has bytes that the kernel would not take.
struct Watched {
    stream: Stream,
    has_backlog: Arc<AtomicBool>,
}

impl Watched {
    fn note<T>(&self, result: Poll<T>) -> Poll<T> {
        self.has_backlog.store(result.is_pending(), Relaxed);
        result
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.note(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
