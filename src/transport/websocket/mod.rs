//! A WebSocket and its session in one task: frames in, replies out, pings, the end. Publications do not pass through
//! here; shards write them to the outbox.

#[cfg(feature = "conformance")]
pub mod echo;
mod frames;
mod handshake;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use tokio::io::ReadBuf;
use tokio::time::{Instant, Sleep};
use tokio_tungstenite::tungstenite::protocol::frame::coding::Control;

use super::seat::{Seat, Welcome, Work};
use super::wanted::Wanted;
use super::wire::SocketWire;
use super::{Settings, TokenSource, credentials, jittered};
use crate::drain::Draining;
use crate::hub::{Outbox, Signal};
use crate::peer::{Stream, Takeover};
use crate::protocol::wire::control_frame;
use crate::protocol::{Close, Codec, Command, Reply};
use crate::session::{Hello, Sessions, Transport, TurnedAway};
use frames::{Frames, Heard};
use handshake::Agreed;
pub use handshake::is_upgrade;

/// Answers a handshake, and serves the connection once it is ours.
pub async fn upgrade<B>(
    mut request: Request<B>,
    settings: Arc<Settings>,
    sessions: Arc<Sessions>,
    draining: Draining,
) -> Response<Full<Bytes>> {
    if !credentials::is_from_allowed_origin(&request, &settings) {
        return refuse(StatusCode::FORBIDDEN, "this page's origin may not connect");
    }
    let mut agreed = match Agreed::read(&request, settings.compression) {
        Ok(agreed) => agreed,
        Err((status, text)) => return refuse(status, text),
    };
    let hello = credentials::hello(&request, &settings, &sessions, Transport::WebSocket, agreed.token.take());
    let visit = Visit { hello, agreed, settings, sessions, draining };
    if let Some(takeover) = request.extensions_mut().remove::<Takeover>() {
        let run = Box::new(move |stream, read| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            let head = visit.head();
            Box::pin(Socket::new(stream, read, head, visit).serve())
        });
        match takeover.leave(run).await {}
    }
    let mut response = Response::new(Full::default());
    for (name, value) in visit.agreed.headers() {
        if let (Ok(name), Ok(value)) = (name.parse::<http::HeaderName>(), value.parse()) {
            response.headers_mut().insert(name, value);
        }
    }
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        // Fails when the client is gone before it was answered.
        if let Ok(upgraded) = upgraded.await {
            let stream = Stream::Tunnel(Box::new(TokioIo::new(upgraded)));
            Socket::new(stream, Bytes::new(), Bytes::new(), visit).serve().await;
        }
    });
    response
}

fn welcome(settings: &Settings) -> Welcome {
    Welcome { heartbeat: settings.heartbeat.told(), secret: None, wanted: Wanted::default() }
}

fn refuse(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    if status == StatusCode::UPGRADE_REQUIRED {
        response.headers_mut().insert("sec-websocket-version", http::HeaderValue::from_static("13"));
    }
    response
}

/// A client at the door.
struct Visit {
    hello: Hello,
    agreed: Agreed,
    settings: Arc<Settings>,
    sessions: Arc<Sessions>,
    draining: Draining,
}

impl Visit {
    /// The answer to an HTTP/1.1 handshake, which goes out with the first bytes of the outbox.
    fn head(&self) -> Bytes {
        let lines = self.agreed.headers().into_iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        format!("HTTP/1.1 101 Switching Protocols\r\n{}\r\n", lines.collect::<String>()).into()
    }
}

/// One connection.
struct Socket {
    outbox: Arc<Outbox>,
    frames: Frames,
    codec: Codec,
    seat: Seat,
    /// What the session is to do once it is through with what it is doing.
    waiting: VecDeque<Work>,
    settings: Arc<Settings>,
    timer: Pin<Box<Sleep>>,
    next_ping: Instant,
    heard_at: Instant,
    /// Until when a first message has to bring a token.
    token_due: Option<Instant>,
    _draining: Draining,
}

/// What a connection's task wakes up for.
enum Event {
    Heard,
    Signal(Signal),
    /// The session is free for the next thing.
    Free,
    Time,
    /// The stream ended or broke.
    Gone,
}

/// How a connection ends.
enum End {
    /// There is nobody left to be told.
    Gone,
    Told(Close),
    /// The node goes away: what waits goes out first.
    SentAway {
        after: Duration,
    },
}

/// Commands of one client that may wait for their turn; beyond that nothing more is read from it.
const MAX_WAITING: usize = 16;
/// A client with this much to read first is not read from.
const READ_BELOW: usize = 64 * 1024;
/// For a token in the first message.
const TOKEN_WITHIN: Duration = Duration::from_secs(10);
/// For the last bytes and the client's own goodbye.
const GOODBYE_WITHIN: Duration = Duration::from_secs(3);

/// One read buffer per worker thread: a connection at rest needs none.
const SCRATCH: usize = 64 * 1024;
thread_local! {
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into());
}

impl Socket {
    fn new(stream: Stream, read: Bytes, head: Bytes, visit: Visit) -> Self {
        let Visit { hello, agreed, settings, sessions, draining } = visit;
        let wire = Box::new(SocketWire(stream));
        let outbox = Outbox::new(sessions.hub(), agreed.format(), Some(wire), settings.outbox);
        if !head.is_empty() {
            outbox.control(head);
        }
        let mut frames = Frames::new(settings.max_message, agreed.deflate.is_some());
        frames.push(&read);
        let now = Instant::now();
        let next_ping = now + jittered(settings.heartbeat.interval).mul_f64(fastrand::f64());
        let may_wait = sessions.needs_token(&hello) && settings.token_from.contains(&TokenSource::Message);
        let (seat, token_due) = if may_wait {
            (Seat::Arriving(Box::new(hello), sessions), Some(now + TOKEN_WITHIN))
        } else {
            (Seat::open(sessions, hello, &outbox, welcome(&settings)), None)
        };
        let timer = Box::pin(tokio::time::sleep_until(token_due.map_or(next_ping, |it| it.min(next_ping))));
        Self {
            outbox,
            frames,
            codec: agreed.codec,
            seat,
            waiting: VecDeque::new(),
            settings,
            timer,
            next_ping,
            heard_at: now,
            token_due,
            _draining: draining,
        }
    }

    async fn serve(mut self) {
        let end = self.live().await;
        // Boxed: a connection at rest should not hold room for its goodbye.
        Box::pin(self.part(end)).await;
    }

    async fn live(&mut self) -> End {
        loop {
            let event = std::future::poll_fn(|cx| self.poll_event(cx)).await;
            let step = match event {
                Event::Signal(Signal::Close(close)) => Err(close),
                Event::Signal(Signal::Reconnect { after }) => return End::SentAway { after },
                Event::Signal(Signal::CatchUpAgain(hole)) => {
                    self.waiting.push_front(Work::CatchUpAgain(hole));
                    Ok(())
                }
                Event::Signal(Signal::ListAgain(channel)) => {
                    self.waiting.push_front(Work::ListAgain(channel));
                    Ok(())
                }
                Event::Heard | Event::Free => self.hear(),
                Event::Time => self.on_time(),
                Event::Gone => return End::Gone,
            };
            if let Err(close) = step {
                return End::Told(close);
            }
            match self.seat.go_on(&mut self.waiting, &self.outbox) {
                Ok(()) => self.set_timer(),
                Err(turned_away) => return self.turn_away(&turned_away),
            }
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        match self.outbox.drive(cx) {
            Err(_) => return Poll::Ready(Event::Gone),
            Ok(Some(signal)) => return Poll::Ready(Event::Signal(signal)),
            Ok(None) => {}
        }
        if self.seat.poll_done(cx) || self.seat.wants_to_feed(&self.outbox) {
            return Poll::Ready(Event::Free);
        }
        if self.waiting.len() < MAX_WAITING && self.outbox.backlog() < READ_BELOW {
            match self.poll_read(cx) {
                Poll::Ready(true) => return Poll::Ready(Event::Heard),
                Poll::Ready(false) => return Poll::Ready(Event::Gone),
                Poll::Pending => {}
            }
        }
        self.timer.as_mut().poll(cx).map(|()| Event::Time)
    }

    /// Whether anything came, or the stream is over.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        READ.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            match self.outbox.poll_receive(cx, &mut buffer) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.heard_at = Instant::now();
                    self.frames.push(buffer.filled());
                    Poll::Ready(true)
                }
                Poll::Ready(_) => Poll::Ready(false),
            }
        })
    }

    /// A client that may come back hears when in a message: a close frame has no room for a number.
    fn turn_away(&self, turned_away: &TurnedAway) -> End {
        if let Some(reconnect) = turned_away.reconnect() {
            self.outbox.reply(&reconnect);
        }
        End::Told(turned_away.close())
    }

    /// Acts on whole messages, as many as may wait.
    fn hear(&mut self) -> Result<(), Close> {
        while self.waiting.len() < MAX_WAITING {
            let Some(heard) = self.frames.next()? else { break };
            match heard {
                Heard::Text(text) if self.codec == Codec::Json => self.on_message(&text)?,
                Heard::Binary(bytes) if self.codec == Codec::Msgpack => self.on_message(&bytes)?,
                Heard::Text(_) | Heard::Binary(_) => return Err(Close::UNSUPPORTED),
                Heard::Ping(payload) => self.outbox.control(control_frame(Control::Pong, &payload)),
                Heard::Pong => {}
                Heard::Close(code) => {
                    let code = code.unwrap_or(Close::NORMAL.code);
                    return Err(Close { code, reason: "".into() });
                }
            }
        }
        Ok(())
    }

    fn on_message(&mut self, message: &[u8]) -> Result<(), Close> {
        let command = self.codec.decode(message);
        if let Seat::Arriving(..) = self.seat {
            let Ok(Command::Auth { token }) = command else { return Err(Close::AUTHENTICATION_REQUIRED) };
            self.token_due = None;
            self.seat.show(token, &self.outbox, welcome(&self.settings));
            return Ok(());
        }
        self.seat.count(message.len());
        match command {
            Ok(command) => self.waiting.push_back(Work::Command(command)),
            Err(misread) => self.seat.misread(misread, &self.outbox),
        }
        Ok(())
    }

    fn on_time(&mut self) -> Result<(), Close> {
        let now = Instant::now();
        if self.token_due.is_some_and(|due| now >= due) {
            return Err(Close::AUTHENTICATION_REQUIRED);
        }
        if now.duration_since(self.heard_at) >= self.settings.heartbeat.timeout {
            return Err(Close::SILENT);
        }
        if now >= self.next_ping {
            self.next_ping = now + jittered(self.settings.heartbeat.interval);
            self.outbox.control(control_frame(Control::Ping, b""));
        }
        self.waiting.push_front(Work::Tick);
        Ok(())
    }

    /// Sets the one timer to whatever is due next; an idle connection's is set once per heartbeat.
    fn set_timer(&mut self) {
        let silent_at = self.heard_at + self.settings.heartbeat.timeout;
        let mut due = self.next_ping.min(silent_at);
        for other in [self.token_due, self.seat.deadline()].into_iter().flatten() {
            due = due.min(other);
        }
        // A timer that fires early is cheap; moving it with every message is not.
        if due < self.timer.deadline() || self.timer.is_elapsed() {
            self.timer.as_mut().reset(due);
        }
    }

    /// Says goodbye, within bounds, and lets the session finish what the backend may already have decided.
    async fn part(mut self, end: End) {
        match &end {
            End::Gone => {}
            End::Told(close) => {
                self.outbox.note_end(close);
                self.outbox.forget_data();
                self.outbox.control(close_frame(close));
            }
            End::SentAway { after } => {
                // What the backend is deciding just now is still told.
                self.seat.rest().await;
                self.outbox.note_end(&Close::DRAINING);
                self.outbox.reply(&Reply::reconnect(*after, "drain"));
                self.outbox.end_with(|_| close_frame(&Close::DRAINING));
            }
        }
        if !matches!(end, End::Gone) {
            let goodbye = async {
                std::future::poll_fn(|cx| self.outbox.poll_finish(cx)).await?;
                // Closing with unread bytes would reset the connection, and the close frame with it.
                while std::future::poll_fn(|cx| self.poll_read(cx)).await {
                    self.frames = Frames::new(0, false);
                }
                std::io::Result::Ok(())
            };
            let _ = tokio::time::timeout(GOODBYE_WITHIN, goodbye).await;
        }
        self.outbox.close();
        self.seat.finish().await;
    }
}

fn close_frame(close: &Close) -> Bytes {
    let mut payload = close.code.to_be_bytes().to_vec();
    payload.extend_from_slice(close.reason.as_bytes());
    control_frame(Control::Close, &payload)
}
