//! HTTP/1.1, polled by hand so that a handler can take the connection out of it.
//!
//! When a handler filled the [`Takeover`] slot, hyper's connection is taken apart, the service dropped, and what was left
//! in the slot runs with the bare stream in a task of its own: nothing of HTTP stays allocated for the hours it may last.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};

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
    let mut draining = context.draining.clone();
    let requests = context.metrics.requests_http1.clone();
    let service = HandOn { ends, context, slot: Some(slot.clone()), requests, has_asked: Arc::default() };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(policy.header_timeout)
        .max_header_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(stream), service);

    let end = {
        let mut stop = pin!(draining.requested());
        let mut is_stopping = false;
        poll_fn(|cx| {
            if !is_stopping && stop.as_mut().poll(cx).is_ready() {
                is_stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(End::Closed(ended));
            }
            // Nothing of an earlier answer is left inside: hyper reads a head only after it flushed what was before.
            slot.take().map_or(Poll::Pending, |run| Poll::Ready(End::TakenOver(run)))
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
            let running = run(io.into_inner(), early);
            tokio::spawn(async move {
                let _permit = permit;
                running.await;
            });
        }
    }
}
