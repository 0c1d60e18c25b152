use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::wanted::Wanted;
use crate::channel::{ChannelName, now};
use crate::hub::{Hole, Outbox};
use crate::protocol::{Command, Heartbeat, Misread, Reply};
use crate::session::{Hello, Session, Sessions, TurnedAway};

/// Where a connection's session is: not there yet, at rest, or in the middle of something. While it is busy the
/// connection goes on reading, answering pings and writing; what the session does is never dropped half-way.
pub(super) enum Seat {
    /// A client that has yet to show a token.
    Arriving(Box<Hello>, Arc<Sessions>),
    Idle(Box<Session>),
    Busy(Pin<Box<dyn Future<Output = Outcome> + Send>>),
    /// It was not let in, or is being moved between the others.
    Empty(Option<TurnedAway>),
}

/// How a client is greeted.
#[derive(Debug)]
pub(super) struct Welcome {
    pub(super) heartbeat: Heartbeat,
    pub(super) secret: Option<String>,
    pub(super) wanted: Wanted,
}

/// The next helping of a catch-up is put into an outbox with less than this.
const FEED_BELOW: usize = 32 * 1024;

/// What a session can be busy with.
#[derive(Debug)]
pub(super) enum Work {
    Command(Command),
    /// A command that came by POST, and where its answers go.
    Posted(Command, oneshot::Sender<Vec<Reply>>),
    Tick,
    /// Reads on for a channel whose publications outgrew what could be held.
    CatchUpAgain(Box<Hole>),
    /// Tells anew who is in a channel, since there was no room for who came and went.
    ListAgain(ChannelName),
    /// Another helping of what was missed.
    Feed,
}

type Outcome = Result<Box<Session>, TurnedAway>;

impl Seat {
    /// Lets a client in and greets it; an event stream is told a secret, and joins what its URL names.
    pub(super) fn open(sessions: Arc<Sessions>, hello: Hello, outbox: &Arc<Outbox>, welcome: Welcome) -> Self {
        let outbox = outbox.clone();
        Self::Busy(Box::pin(async move {
            let mut session = sessions.open(hello, &outbox).await?;
            session.begin(welcome.heartbeat, welcome.secret).await;
            session.resume(welcome.wanted.channels, welcome.wanted.is_lost).await;
            Ok(session)
        }))
    }

    /// The token came in the first message.
    pub(super) fn show(&mut self, token: String, outbox: &Arc<Outbox>, welcome: Welcome) {
        if let Self::Arriving(mut hello, sessions) = std::mem::replace(self, Self::Empty(None)) {
            hello.token = Some(token);
            *self = Self::open(sessions, *hello, outbox, welcome);
        }
    }

    /// Whether something the session was doing is done now.
    pub(super) fn poll_done(&mut self, cx: &mut Context<'_>) -> bool {
        let Self::Busy(work) = self else { return false };
        let Poll::Ready(outcome) = work.as_mut().poll(cx) else { return false };
        *self = match outcome {
            Ok(session) => Self::Idle(session),
            Err(turned_away) => Self::Empty(Some(turned_away)),
        };
        true
    }

    /// Gives an idle session the next thing to do. An error is the end of a client that was not let in.
    pub(super) fn go_on(&mut self, waiting: &mut VecDeque<Work>, outbox: &Outbox) -> Result<(), TurnedAway> {
        match self {
            Self::Empty(Some(turned_away)) => return Err(turned_away.clone()),
            Self::Busy(_) => {
                // Of all commands only a ping needs no session.
                if matches!(waiting.front(), Some(Work::Command(Command::Ping))) {
                    waiting.pop_front();
                    outbox.reply(&Reply::Pong { timestamp: now() });
                }
            }
            Self::Idle(_) => match waiting.pop_front() {
                Some(work) => self.work(work),
                None if self.wants_to_feed(outbox) => self.work(Work::Feed),
                None => *waiting = VecDeque::new(),
            },
            _ => {}
        }
        Ok(())
    }

    /// Until the session is through with what it is doing, which is bounded in time.
    pub(super) async fn rest(&mut self) {
        let is_at_rest = |it: &mut Self, cx: &mut Context<'_>| it.poll_done(cx) || !it.is_busy();
        std::future::poll_fn(|cx| if is_at_rest(self, cx) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Busy(_))
    }

    /// Whether there is more to catch up with, and room for it.
    pub(super) fn wants_to_feed(&self, outbox: &Outbox) -> bool {
        matches!(self, Self::Idle(session) if session.is_catching_up()) && outbox.backlog() < FEED_BELOW
    }

    fn work(&mut self, work: Work) {
        match std::mem::replace(self, Self::Empty(None)) {
            Self::Idle(session) => *self = Self::Busy(Box::pin(work.done_by(session))),
            other => *self = other,
        }
    }

    pub(super) fn misread(&mut self, misread: Misread, outbox: &Outbox) {
        match self {
            Self::Idle(session) => session.misread(misread),
            _ => outbox.reply(&misread.into()),
        }
    }

    pub(super) fn count(&self, bytes: usize) {
        if let Self::Idle(session) = self {
            session.received(bytes);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Idle(session) => session.deadline().map(|left| Instant::now() + left),
            _ => None,
        }
    }

    /// Lets the session end what it is doing; the backend may have decided something that is still to be applied.
    pub(super) async fn finish(self) {
        if let Self::Busy(work) = self {
            // Everything a session waits for is bounded in time.
            drop(work.await);
        }
    }
}

impl Work {
    async fn done_by(self, mut session: Box<Session>) -> Outcome {
        match self {
            Self::Command(command) => session.handle(command).await,
            Self::Posted(command, answer) => {
                // Whoever posted may be gone; what it asked for is done all the same.
                let _ = answer.send(session.handle_posted(command).await);
            }
            Self::Tick => session.tick().await,
            Self::CatchUpAgain(hole) => session.catch_up_again(*hole),
            Self::ListAgain(channel) => session.list_again(channel),
            Self::Feed => session.feed().await,
        }
        Ok(session)
    }
}
