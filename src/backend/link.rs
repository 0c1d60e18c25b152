//! One connection to a target, and one request on it.
//!
//! No task runs a connection: whoever waits for the head, and later whoever reads the body, polls it. Only where the
//! backend answers before the request's body has ended does a task take over, so that a client that reads nothing while
//! it sends cannot stall.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::body::{Body, Outgoing, RequestBody};
use super::pool::Slot;
use super::stream::{Stream, Traffic};
use super::target::Target;
use super::{Error, Timeouts};

/// Head and trailers of an answer; larger ones are a fault of the backend.
const MAX_HEAD: usize = 256 * 1024;
const MAX_HEADERS: usize = 256;

type Connection = http1::Connection<TokioIo<Stream>, Outgoing>;

/// An open connection. Boxed, because it moves between pool, request and body.
pub(super) struct Link {
    sender: SendRequest<Outgoing>,
    connection: Connection,
    /// hyper is done with the connection: closed, or upgraded.
    is_over: bool,
    traffic: Arc<Traffic>,
}

/// A request that got no answer on this connection.
pub(super) struct Lost {
    pub error: Error,
    /// The request, where hyper had not begun to send it.
    pub unsent: Option<Request<RequestBody>>,
    pub was_written: bool,
    pub was_heard: bool,
    /// Room for another connection.
    pub slot: Slot,
}

impl Link {
    pub async fn connect(target: &Target, tls: Option<&Arc<ClientConfig>>) -> std::io::Result<Box<Self>> {
        let (stream, traffic) = Stream::connect(target, tls).await?;
        let (sender, connection) = http1::Builder::new()
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        Ok(Box::new(Self { sender, connection, is_over: false, traffic }))
    }

    /// Whether the connection can take a request. Polls it, and so sees that an answer is complete or that the backend
    /// closed it. Nobody waits for an unused connection, hence the waker that does nothing.
    pub fn is_usable(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        !self.is_over && self.sender.is_ready()
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.is_over {
            // Its error reaches whoever waits for the head or the body.
            self.is_over = Pin::new(&mut self.connection).poll(cx).is_ready();
        }
    }

    /// Sends a request and waits for the head.
    pub async fn send(
        mut self: Box<Self>,
        request: Request<RequestBody>,
        timeouts: Timeouts,
        slot: Slot,
    ) -> Result<Response<Body>, Lost> {
        self.traffic.begin();
        let traffic = self.traffic.clone();
        let request = request.map(|body| Outgoing::new(body, traffic.clone()));
        let answer = self.sender.try_send_request(request);
        let answer = match self.wait(answer, &timeouts).await {
            Ok(answer) => answer,
            Err(silent) => return Err(self.lost(silent, None, slot)),
        };
        match answer {
            Ok(response) => Ok(self.into_response(response, timeouts, slot)),
            Err(mut failed) => {
                let unsent = failed.take_message().map(|request| request.map(Outgoing::into_unsent));
                let cause = failed.into_error();
                let error = if traffic.sender_left.load(Relaxed) {
                    Error::SenderLeft(cause.into())
                } else {
                    Error::Broken(cause.into())
                };
                Err(self.lost(error, unsent, slot))
            }
        }
    }

    /// Drives the connection until there is an answer, or nothing moved for the response timeout.
    async fn wait<A, T>(
        &mut self,
        answer: A,
        timeouts: &Timeouts,
    ) -> Result<Result<T, TrySendError<Request<Outgoing>>>, Error>
    where
        A: Future<Output = Result<T, TrySendError<Request<Outgoing>>>>,
    {
        let mut answer = pin!(answer);
        let mut deadline = pin!(sleep(timeouts.response));
        let mut pieces = self.traffic.pieces.load(Relaxed);
        poll_fn(|cx| {
            self.drive(cx);
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(Ok(answer));
            }
            while deadline.as_mut().poll(cx).is_ready() {
                let now = self.traffic.pieces.load(Relaxed);
                if now == pieces {
                    return Poll::Ready(Err(self.silence(timeouts)));
                }
                pieces = now;
                deadline.as_mut().reset(Instant::now() + timeouts.response);
            }
            Poll::Pending
        })
        .await
    }

    fn silence(&self, timeouts: &Timeouts) -> Error {
        if self.traffic.awaits_sender.load(Relaxed) {
            Error::SenderSilent(timeouts.response)
        } else {
            Error::Timeout(timeouts.response)
        }
    }

    fn lost(&self, error: Error, unsent: Option<Request<RequestBody>>, slot: Slot) -> Lost {
        let was_written = self.traffic.written.load(Relaxed);
        let was_heard = self.traffic.heard.load(Relaxed);
        Lost { error, unsent, was_written, was_heard, slot }
    }

    fn into_response(self: Box<Self>, response: Response<Incoming>, timeouts: Timeouts, slot: Slot) -> Response<Body> {
        let (head, incoming) = response.into_parts();
        let is_uploading = self.traffic.is_uploading.load(Relaxed);
        let lease = Lease { driver: Driver::Reader(self), slot };
        let body = if head.status == StatusCode::SWITCHING_PROTOCOLS {
            Body::new(incoming, lease, None)
        } else if is_uploading {
            Body::new(incoming, lease.into_task(), timeouts.body)
        } else if incoming.is_end_stream() {
            lease.give_back();
            Body::finished(incoming)
        } else {
            Body::new(incoming, lease, timeouts.body)
        };
        Response::from_parts(head, body)
    }
}

/// A connection whose answer is being read. Dropping it closes the connection.
#[derive(Debug)]
pub(super) struct Lease {
    driver: Driver,
    slot: Slot,
}

/// Who polls the connection.
#[derive(Debug)]
enum Driver {
    Reader(Box<Link>),
    Task { _runs_until_dropped: Abort },
}

#[derive(Debug)]
struct Abort(JoinHandle<()>);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Lease {
    fn into_task(self) -> Self {
        let Driver::Reader(mut link) = self.driver else { return self };
        let run = tokio::spawn(poll_fn(move |cx| {
            link.drive(cx);
            if link.is_over { Poll::Ready(()) } else { Poll::Pending }
        }));
        Self { driver: Driver::Task { _runs_until_dropped: Abort(run) }, slot: self.slot }
    }

    pub fn drive(&mut self, cx: &mut Context<'_>) {
        if let Driver::Reader(link) = &mut self.driver {
            link.drive(cx);
        }
    }

    /// The answer is complete: the connection returns to its pool if it can be used again.
    pub fn give_back(self) {
        if let Driver::Reader(mut link) = self.driver
            && link.is_usable()
        {
            self.slot.keep(link);
        }
    }

    /// After a `101`: the connection without HTTP. Its slot is free again: a tunnel may last for days.
    pub async fn into_upgraded(self) -> Result<(Stream, Bytes), Error> {
        let Driver::Reader(mut link) = self.driver else {
            return Err(Error::Broken("an upgrade request has no body".into()));
        };
        if !link.is_over {
            poll_fn(|cx| Pin::new(&mut link.connection).poll(cx)).await.map_err(|error| Error::Broken(error.into()))?;
        }
        let http1::Parts { io, read_buf, .. } = link.connection.into_parts();
        Ok((io.into_inner(), read_buf))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}
