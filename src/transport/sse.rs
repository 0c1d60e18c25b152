//! An event stream and its session in one task. Over HTTP/1.1 the connection leaves HTTP and shards write to it; over
//! HTTP/2 it is a body that is pulled. A native EventSource gives up for ever on any status but 200, so whoever is turned
//! away is told so in an event.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Request, Response};
use tokio::io::ReadBuf;
use tokio::time::{Instant, Sleep};

use super::posts::Reachable;
use super::seat::{Seat, Welcome, Work};
use super::wanted::{Wanted, wanted};
use super::wire::SocketWire;
use super::{Body, Settings, Transports, credentials, jittered};
use crate::drain::Draining;
use crate::hub::{Outbox, Signal, Wire};
use crate::peer::{Stream, Takeover};
use crate::protocol::{Close, Format, Reply};
use crate::session::{Hello, Transport, TurnedAway};

/// Answers `GET …/sse?channels=a,b`.
pub(super) async fn stream<B>(
    mut request: Request<B>,
    settings: Arc<Settings>,
    transports: &Arc<Transports>,
    cross_origin: &[(HeaderName, HeaderValue)],
) -> Response<Body> {
    let sessions = &transports.sessions;
    let hello = credentials::hello(&request, &settings, sessions, Transport::EventStream, None);
    let wanted = wanted(&request, sessions.hub().checkpoints());
    let visit = Visit { hello, wanted, settings, transports: transports.clone() };
    if let Some(takeover) = request.extensions_mut().remove::<Takeover>() {
        let head = head(cross_origin);
        let run = Box::new(move |stream: Stream, _read| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            stream.end_unacknowledged_after(visit.settings.heartbeat.timeout);
            let stream = EventStream::begin(visit, Some(Box::new(SocketWire(stream))), Some(head));
            Box::pin(stream.serve())
        });
        match takeover.leave(run).await {}
    }
    let mut response = Response::new(Body::pulled(Pulled(Some(EventStream::begin(visit, None, None)))));
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// No store, no transformation, no buffering on the way.
const HEADERS: [(HeaderName, &str); 3] = [
    (CONTENT_TYPE, "text/event-stream"),
    (CACHE_CONTROL, "no-store, no-transform"),
    (HeaderName::from_static("x-accel-buffering"), "no"),
];

/// The head of a stream that left HTTP: it ends with the connection.
pub(super) fn head(cross_origin: &[(HeaderName, HeaderValue)]) -> Bytes {
    let mut head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n".to_vec();
    let fixed = HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value)));
    for (name, value) in fixed.iter().chain(cross_origin) {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head.into()
}

/// A client at the door.
struct Visit {
    hello: Hello,
    wanted: Result<Wanted, String>,
    settings: Arc<Settings>,
    transports: Arc<Transports>,
}

/// One connection.
struct EventStream {
    outbox: Arc<Outbox>,
    seat: Seat,
    waiting: VecDeque<Work>,
    reachable: Reachable,
    timer: Pin<Box<Sleep>>,
    next_heartbeat: Instant,
    heartbeat: Duration,
    /// Nothing more will be said once what waits is written.
    is_ending: bool,
    /// The node's drain waits for it.
    _hold: Option<Draining>,
}

/// Between two attempts of a client, unless it is told otherwise. Jittered for each.
const RETRY: Duration = Duration::from_secs(2);
/// For a client that is not going to be let in: an EventSource cannot be told to stop.
const RETRY_REFUSED: Duration = Duration::from_secs(60);
/// For the last bytes to be taken.
const GOODBYE_WITHIN: Duration = Duration::from_secs(3);

impl EventStream {
    fn begin(visit: Visit, wire: Option<Box<dyn Wire>>, head: Option<Bytes>) -> Self {
        let Visit { hello, wanted, settings, transports } = visit;
        let sessions = transports.sessions.clone();
        let is_one = wanted.as_ref().is_ok_and(|it| it.channels.len() <= 1);
        let format = if is_one { Format::EventStream } else { Format::EventStreamMany };
        let outbox = Outbox::new(sessions.hub(), format, wire, settings.outbox);
        // Whatever is said before a channel is joined carries its old position: a browser that is turned away, or cut off
        // in between, still knows where it was.
        for (channel, position) in wanted.iter().flat_map(|it| &it.channels) {
            if let Some(at) = position {
                outbox.note_position(channel, at.epoch, at.seq);
            }
        }
        outbox.control(head.unwrap_or_default());
        outbox.control(retry(jittered(RETRY)));
        let reachable = transports.posts.open(&outbox);
        let seat = match wanted {
            Ok(wanted) => {
                let secret = Some(reachable.secret.to_string());
                Seat::open(sessions, hello, &outbox, Welcome { heartbeat: settings.heartbeat.told(), secret, wanted })
            }
            Err(error) => {
                outbox.reply(&Reply::error(crate::protocol::Code::BadChannel, error));
                outbox.control(retry(jittered(RETRY_REFUSED)));
                Seat::Empty(None)
            }
        };
        let next_heartbeat = Instant::now() + jittered(settings.sse_heartbeat);
        Self {
            is_ending: matches!(seat, Seat::Empty(_)),
            outbox,
            seat,
            waiting: VecDeque::new(),
            reachable,
            timer: Box::pin(tokio::time::sleep_until(next_heartbeat)),
            next_heartbeat,
            heartbeat: settings.sse_heartbeat,
            _hold: transports.holds.hold(),
        }
    }

    /// Serves a stream that left HTTP.
    async fn serve(mut self) {
        std::future::poll_fn(|cx| self.poll_live(cx)).await;
        let goodbye = std::future::poll_fn(|cx| self.outbox.poll_finish(cx));
        let _ = tokio::time::timeout(GOODBYE_WITHIN, goodbye).await;
        self.outbox.close();
        self.seat.finish().await;
    }

    /// Until the stream is to end, or the client is gone.
    fn poll_live(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.is_ending {
            match self.outbox.drive(cx) {
                Err(_) => return Poll::Ready(()),
                Ok(Some(signal)) => {
                    self.on_signal(signal);
                    continue;
                }
                Ok(None) => {}
            }
            if self.poll_work(cx) {
                continue;
            }
            return match self.poll_hang_up(cx) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            };
        }
        Poll::Ready(())
    }

    /// Everything but the writing. Whether there may be more to do at once.
    fn poll_work(&mut self, cx: &mut Context<'_>) -> bool {
        let mut is_busy = self.seat.poll_done(cx) || self.seat.wants_to_feed(&self.outbox);
        if let Some(work) = self.reachable.mailbox.take() {
            self.waiting.push_back(work);
            is_busy = true;
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            self.on_time();
            is_busy = true;
        }
        if is_busy && let Err(turned_away) = self.seat.go_on(&mut self.waiting, &self.outbox) {
            self.turn_away(&turned_away);
        }
        if is_busy {
            self.set_timer();
        }
        is_busy
    }

    /// A client says nothing on this stream; what it sends is not looked at.
    fn poll_hang_up(&self, cx: &mut Context<'_>) -> bool {
        let mut ignored = [0; 256];
        loop {
            let mut buffer = ReadBuf::new(&mut ignored);
            match self.outbox.poll_receive(cx, &mut buffer) {
                Poll::Pending => return false,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return true,
            }
        }
    }

    fn on_signal(&mut self, signal: Signal) {
        match signal {
            Signal::Close(close) => self.end(&close),
            Signal::Reconnect { after } => self.send_away(after),
            Signal::CatchUpAgain(hole) => self.do_soon(Work::CatchUpAgain(hole)),
            Signal::ListAgain(channel) => self.do_soon(Work::ListAgain(channel)),
        }
    }

    fn do_soon(&mut self, work: Work) {
        self.waiting.push_front(work);
        // If it is busy, its next rest brings it.
        let _ = self.seat.go_on(&mut self.waiting, &self.outbox);
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        if now >= self.next_heartbeat {
            self.next_heartbeat = now + jittered(self.heartbeat);
            self.outbox.control(Bytes::from_static(b":\n\n"));
        }
        self.waiting.push_front(Work::Tick);
    }

    fn set_timer(&mut self) {
        let due = self.seat.deadline().map_or(self.next_heartbeat, |it| it.min(self.next_heartbeat));
        if due < self.timer.deadline() || self.timer.is_elapsed() {
            self.timer.as_mut().reset(due);
        }
    }

    fn turn_away(&mut self, turned_away: &TurnedAway) {
        self.outbox.reply(&turned_away.reply());
        self.outbox.control(retry(turned_away.come_back().unwrap_or_else(|| jittered(RETRY_REFUSED))));
        self.is_ending = true;
    }

    /// The node goes away: what waits goes out, and then the end.
    fn send_away(&mut self, after: Duration) {
        self.outbox.reply(&Reply::reconnect(after, "drain"));
        self.outbox.control(retry(after));
        let Close { code, reason } = Close::DRAINING;
        self.outbox.end_with(|format| format.reply(&Reply::Closed { code, reason }));
        self.is_ending = true;
    }

    fn end(&mut self, close: &Close) {
        self.outbox.note_end(close);
        self.outbox.forget_data();
        self.outbox.reply(&Reply::Closed { code: close.code, reason: close.reason.clone() });
        self.outbox.control(retry(jittered(if close.is_come_back() { RETRY } else { RETRY_REFUSED })));
        self.is_ending = true;
    }
}

/// How long the browser waits before it comes back. Never less than it was told: an appointment that is kept too early is
/// made again.
pub(super) fn retry(after: Duration) -> Bytes {
    format!("retry: {}\n\n", after.as_micros().div_ceil(1000)).into()
}

/// An event stream as a body that HTTP asks for more.
#[derive(Debug)]
pub(super) struct Pulled(Option<EventStream>);

impl Pulled {
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(stream) = &mut self.0 else { return Poll::Ready(None) };
        loop {
            if let Poll::Ready(bytes) = stream.outbox.poll_pull(cx) {
                match bytes {
                    // The head of a stream that stays in HTTP is not ours to write.
                    Some(bytes) if bytes.is_empty() => continue,
                    bytes => return Poll::Ready(bytes),
                }
            }
            if stream.is_ending {
                return Poll::Ready(None);
            }
            if let Some(signal) = stream.outbox.take_signal() {
                stream.on_signal(signal);
            } else if !stream.poll_work(cx) {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for Pulled {
    fn drop(&mut self) {
        let Some(stream) = self.0.take() else { return };
        stream.outbox.close();
        if let (Seat::Busy(_), Ok(runtime)) = (&stream.seat, tokio::runtime::Handle::try_current()) {
            // What the session is in the middle of is not dropped; it holds the node's drain until it is done.
            runtime.spawn(async move { stream.seat.finish().await });
        }
    }
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EventStream({})", self.outbox.id)
    }
}
