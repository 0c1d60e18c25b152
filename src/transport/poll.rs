//! Long-poll: a session parked between two requests. The cursor is the acknowledgement: what a poll hands out stays in the
//! outbox until the next one confirms it. A newer poll of the same session ends the older.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio::time::Instant;

use super::posts::Reachable;
use super::seat::{Seat, Welcome, Work};
use super::wanted::{Wanted, wanted_from};
use super::{Body, Settings, Transports, come_back_response, credentials, jittered, json_response, reply_response};
use crate::channel::ConnectionId;
use crate::hub::{Handed, Outbox, Signal};
use crate::protocol::query::parameter;
use crate::protocol::{Close, Code, Codec, Format, Reply, connection_id};
use crate::session::{Transport, TurnedAway};

/// The poll sessions of this node.
#[derive(Debug, Default)]
pub(super) struct Polls(Mutex<HashMap<ConnectionId, Arc<Parked>>>);

/// One session, served by at most one request at a time.
#[derive(Debug)]
struct Parked {
    secret: Box<str>,
    /// Told when a newer poll has come: the older one lets go.
    newer: Notify,
    polled: AsyncMutex<Polled>,
    /// When it is let go of, unless another poll comes.
    until: Mutex<Instant>,
}

struct Polled {
    outbox: Arc<Outbox>,
    seat: Seat,
    waiting: std::collections::VecDeque<Work>,
    reachable: Reachable,
    is_over: bool,
    /// The node goes away: when the client is to come back.
    come_back: Option<Duration>,
}

/// How often sessions are looked through for those whose clients did not come back, or must go.
const SWEEP: Duration = Duration::from_secs(1);
/// After this a poll that cannot get hold of its session answers without.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(10);

/// The cursor of a poll: positions that are valid on every node, and where its session and its last answer are known.
struct Resume<'a> {
    positions: &'a str,
    session: Option<(ConnectionId, &'a str, u64)>,
}

impl<'a> Resume<'a> {
    fn read(cursor: &'a str) -> Self {
        let mut parts = cursor.split('.');
        let positions = parts.next().unwrap_or_default();
        let session = (|| {
            let (id, secret, serial) = (parts.next()?, parts.next()?, parts.next()?);
            Some((connection_id(id)?, secret, u64::from_str_radix(serial, 16).ok()?))
        })();
        Self { positions, session }
    }

    fn write(handed: &Handed, id: ConnectionId, secret: &str) -> String {
        format!("{}.{id}.{secret}.{:x}", handed.cursor, handed.serial)
    }
}

/// What one request asks of its session.
struct Call<'a> {
    cursor: &'a str,
    /// The last answer it has.
    confirmed: u64,
    wanted: Wanted,
    wait: Duration,
}

/// Answers `GET …/poll?channels=a,b&cursor=…`.
pub(super) async fn answer<B>(
    request: Request<B>,
    settings: &Settings,
    transports: &Arc<Transports>,
) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let cursor = parameter(query, "cursor").unwrap_or_default().into_owned();
    let resume = Resume::read(&cursor);
    let mut wanted = match wanted_from(query, resume.positions, transports.sessions.hub().checkpoints()) {
        Ok(wanted) => wanted,
        Err(error) => return reply_response(&Reply::error(Code::BadChannel, error)),
    };
    let wait = parameter(query, "wait").and_then(|it| it.parse().ok()).map(Duration::from_secs);
    let wait = jittered(settings.poll_wait.min(wait.unwrap_or(settings.poll_wait)));
    let parked = match resume.session.and_then(|(id, secret, _)| transports.polls.find(id, secret)) {
        Some(parked) => {
            // The session itself knows where its client stands.
            wanted.is_lost = false;
            parked
        }
        None => open(&request, settings, transports),
    };
    let call = Call { cursor: &cursor, confirmed: resume.session.map_or(0, |it| it.2), wanted, wait };
    parked.serve(settings, call, transports).await
}

fn open<B>(request: &Request<B>, settings: &Settings, transports: &Arc<Transports>) -> Arc<Parked> {
    let sessions = transports.sessions.clone();
    let hello = credentials::hello(request, settings, &sessions, Transport::Poll, None);
    let outbox = Outbox::new(sessions.hub(), Format::Poll, None, settings.outbox);
    let reachable = transports.posts.open(&outbox);
    let secret = Some(reachable.secret.to_string());
    let welcome = Welcome { heartbeat: settings.heartbeat.told(), secret, wanted: Wanted::default() };
    let parked = Arc::new(Parked {
        secret: reachable.secret.clone(),
        newer: Notify::new(),
        until: Mutex::new(Instant::now() + settings.poll_session),
        polled: AsyncMutex::new(Polled {
            seat: Seat::open(sessions, hello, &outbox, welcome),
            outbox: outbox.clone(),
            waiting: std::collections::VecDeque::new(),
            reachable,
            is_over: false,
            come_back: None,
        }),
    });
    transports.polls.0.lock().expect("nothing panics under this lock").insert(outbox.id, parked.clone());
    parked
}

impl Polls {
    fn find(&self, id: ConnectionId, secret: &str) -> Option<Arc<Parked>> {
        let parked = self.0.lock().expect("nothing panics under this lock").get(&id).cloned()?;
        let is_same = aws_lc_rs::constant_time::verify_slices_are_equal(parked.secret.as_bytes(), secret.as_bytes());
        is_same.is_ok().then_some(parked)
    }

    fn forget(&self, id: ConnectionId) {
        self.0.lock().expect("nothing panics under this lock").remove(&id);
    }

    /// Sees to a session's mailbox once no poll does. Resolves at once for a session that does not poll.
    pub(super) async fn attend(&self, id: ConnectionId) {
        let parked = self.0.lock().expect("nothing panics under this lock").get(&id).cloned();
        if let Some(parked) = parked {
            parked.polled.lock().await.attend().await;
        }
    }

    /// Ends every session: its client goes on elsewhere with its cursor. One with a poll to answer ends with that.
    pub(super) async fn leave(&self) {
        let parked = std::mem::take(&mut *self.0.lock().expect("nothing panics under this lock"));
        for parked in parked.into_values() {
            if let Ok(mut polled) = parked.polled.try_lock() {
                polled.outbox.note_end(&Close::DRAINING);
                polled.leave().await;
            }
        }
    }

    pub(super) async fn sweep(&self) {
        let mut every = tokio::time::interval(SWEEP);
        loop {
            every.tick().await;
            let now = Instant::now();
            let expired: Vec<_> = {
                let mut parked = self.0.lock().expect("nothing panics under this lock");
                parked.extract_if(|_, it| it.is_left(now)).map(|(_, it)| it).collect()
            };
            for parked in expired {
                let mut polled = parked.polled.lock().await;
                polled.outbox.note_end(&Close::SILENT);
                polled.leave().await;
            }
            self.send_away_the_unwanted().await;
        }
    }

    /// Ends sessions that were told to go between two polls. What is left of one tells its client so, should it come back.
    async fn send_away_the_unwanted(&self) {
        let parked: Vec<_> = self.0.lock().expect("nothing panics under this lock").values().cloned().collect();
        for parked in parked {
            // One with a poll to answer hears of it there.
            if let Ok(mut polled) = parked.polled.try_lock() {
                polled.go_if_told_to().await;
            }
        }
    }
}

impl Parked {
    /// No request serves it, and none has for too long.
    fn is_left(&self, now: Instant) -> bool {
        self.polled.try_lock().is_ok() && *self.until.lock().expect("nothing panics under this lock") <= now
    }

    async fn serve(&self, settings: &Settings, call: Call<'_>, transports: &Transports) -> Response<Body> {
        self.newer.notify_waiters();
        // From here on, not only once the session is free: who comes while this one waits for it is newer too.
        let newer = self.newer.notified();
        let Ok(mut polled) = tokio::time::timeout(HAND_OVER_WITHIN, self.polled.lock()).await else {
            return reply_response(&Reply::error(Code::Busy, "another poll of this session does not end"));
        };
        polled.outbox.confirm(call.confirmed);
        let response = match polled.ready(call.wanted).await {
            Ok(()) => {
                let handed = polled.wait(call.wait, newer).await;
                let cursor = Resume::write(&handed, polled.outbox.id, &self.secret);
                // A poll after a poll, when nothing went wrong: at once.
                messages(&handed, &cursor, polled.come_back.unwrap_or_default())
            }
            Err(turned_away) => {
                polled.is_over = true;
                turned_away_response(&turned_away, call.cursor)
            }
        };
        if polled.is_over {
            transports.polls.forget(polled.outbox.id);
            polled.leave().await;
        }
        *self.until.lock().expect("nothing panics under this lock") = Instant::now() + settings.poll_session;
        response
    }
}

impl Polled {
    /// Lets the session finish what it is doing, and joins the channels that are new.
    async fn ready(&mut self, wanted: Wanted) -> Result<(), TurnedAway> {
        self.go_if_told_to().await;
        if self.is_over {
            return Ok(());
        }
        self.seat.rest().await;
        self.waiting.push_front(Work::Tick);
        let _ = self.seat.go_on(&mut self.waiting, &self.outbox);
        self.seat.rest().await;
        match &mut self.seat {
            Seat::Empty(Some(turned_away)) => Err(turned_away.clone()),
            Seat::Idle(session) => {
                let new: Vec<_> = wanted.channels.into_iter().filter(|it| !session.follows(&it.0)).collect();
                // A channel that cannot be joined just now keeps its place in the cursor.
                for (channel, position) in &new {
                    if let Some(at) = position {
                        self.outbox.note_position(channel, at.epoch, at.seq);
                    }
                }
                session.resume(new, wanted.is_lost).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Does what was POSTed while no poll is there to do it.
    async fn attend(&mut self) {
        self.seat.rest().await;
        while let Some(work) = self.reachable.mailbox.take() {
            self.go_if_told_to().await;
            if self.is_over {
                // Whoever posted it hears that the connection is gone.
                return;
            }
            self.waiting.push_back(work);
            let _ = self.seat.go_on(&mut self.waiting, &self.outbox);
            self.seat.rest().await;
        }
    }

    /// What there is to hand out, as soon as there is something; nothing after `wait`, or when a newer poll has come.
    async fn wait(&mut self, wait: Duration, newer: impl Future<Output = ()>) -> Handed {
        let mut newer = std::pin::pin!(newer);
        let mut timeout = std::pin::pin!(tokio::time::sleep(wait));
        std::future::poll_fn(|cx| {
            self.work(cx);
            let handed = self.outbox.waiting_entries(cx.waker());
            let is_time = timeout.as_mut().poll(cx).is_ready() || newer.as_mut().poll(cx).is_ready();
            match is_time || self.is_over || !handed.messages.is_empty() {
                true => Poll::Ready(handed),
                false => Poll::Pending,
            }
        })
        .await
    }

    fn work(&mut self, cx: &mut Context<'_>) {
        // Before anything is looked at: what comes after that wakes this poll.
        self.outbox.listen(cx.waker());
        loop {
            if self.is_over {
                return;
            }
            let mut is_busy = self.seat.poll_done(cx) || self.seat.wants_to_feed(&self.outbox);
            if let Some(work) = self.reachable.mailbox.take() {
                self.waiting.push_back(work);
                is_busy = true;
            }
            match self.outbox.take_signal() {
                Some(Signal::Close(close)) => self.end(&close),
                Some(Signal::Reconnect { after }) => (self.come_back, self.is_over) = (Some(after), true),
                Some(Signal::CatchUpAgain(hole)) => self.waiting.push_front(Work::CatchUpAgain(hole)),
                Some(Signal::ListAgain(channel)) => self.waiting.push_front(Work::ListAgain(channel)),
                None if !is_busy => return,
                None => {}
            }
            if self.is_over || self.seat.go_on(&mut self.waiting, &self.outbox).is_err() {
                return;
            }
        }
    }

    /// Ends where somebody wants it to, although no poll is there to be told.
    async fn go_if_told_to(&mut self) {
        let told = self.outbox.end().filter(|_| !self.is_over);
        if let Some(close) = told {
            self.end(&close);
            self.waiting.clear();
            std::mem::replace(&mut self.seat, Seat::Empty(None)).finish().await;
        }
    }

    fn end(&mut self, close: &Close) {
        self.outbox.note_end(close);
        self.outbox.reply(&Reply::Closed { code: close.code, reason: close.reason.clone() });
        self.is_over = true;
    }

    async fn leave(&mut self) {
        self.outbox.close();
        std::mem::replace(&mut self.seat, Seat::Empty(None)).finish().await;
    }
}

fn messages(handed: &Handed, cursor: &str, retry: Duration) -> Response<Body> {
    let size = handed.messages.iter().map(|it| it.len() + 1).sum::<usize>();
    let mut json = Vec::with_capacity(size + cursor.len() + 48);
    json.extend_from_slice(br#"{"messages":["#);
    for (at, message) in handed.messages.iter().enumerate() {
        if at > 0 {
            json.push(b',');
        }
        json.extend_from_slice(message);
    }
    json.extend_from_slice(format!(r#"],"cursor":"{cursor}","retry":{}}}"#, retry.as_millis()).as_bytes());
    json_response(StatusCode::OK, &String::from_utf8_lossy(&json))
}

/// A client that may come back is told when, in the body and as a header, and finds there all that an answer has: one that
/// looks at no status goes on with the cursor it had. One that may not come back sees it in the status.
fn turned_away_response(turned_away: &TurnedAway, cursor: &str) -> Response<Body> {
    let after = turned_away.come_back();
    let mut response = come_back_response(turned_away, after);
    let error = Codec::Json.encode(&turned_away.reply());
    if let (Some(after), Some(fields)) = (after, error.strip_suffix(b"}")) {
        let cursor = serde_json::to_string(cursor).expect("a text can be written into memory");
        let rest = format!(r#","messages":[],"cursor":{cursor},"retry":{}}}"#, after.as_millis());
        *response.body_mut() = Body::whole([fields, rest.as_bytes()].concat().into());
    }
    response
}

impl std::fmt::Debug for Polled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Polled({})", self.outbox.id)
    }
}
