//! Commands for a live event stream or poll session, POSTed beside it: `POST /realtime/connections/{id}/{command}`,
//! authorised by the secret its `connected` carried.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use tokio::sync::oneshot;

use super::credentials;
use super::poll::Polls;
use super::seat::Work;
use super::{BoxError, Reply, json_response, reply_response};
use crate::channel::ConnectionId;
use crate::hub::Outbox;
use crate::protocol::{Code, Codec, Command};

/// The sessions of this node that commands can be posted to.
#[derive(Debug, Default)]
pub struct Posts(Mutex<HashMap<ConnectionId, Entry>>);

/// Commands on their way to one session, whose task is woken through its outbox: a channel would cost every idle event
/// stream a kilobyte.
#[derive(Debug)]
pub(super) struct Mailbox {
    /// None once the session is gone.
    waiting: Mutex<Option<VecDeque<Work>>>,
    outbox: Arc<Outbox>,
}

/// Why a command is not delivered.
enum Undelivered {
    Full,
    Gone,
}

impl Mailbox {
    fn put(&self, work: Work) -> Result<(), Undelivered> {
        let mut waiting = self.lock();
        let Some(waiting) = waiting.as_mut() else { return Err(Undelivered::Gone) };
        if waiting.len() >= MAILBOX {
            return Err(Undelivered::Full);
        }
        waiting.push_back(work);
        self.outbox.wake();
        Ok(())
    }

    /// The next command. Whoever finds none is woken for one, if its waker is with the outbox.
    pub(super) fn take(&self) -> Option<Work> {
        self.lock().as_mut()?.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, Option<VecDeque<Work>>> {
        self.waiting.lock().expect("nothing panics under this lock")
    }
}

#[derive(Debug)]
struct Entry {
    secret: Box<str>,
    mailbox: Arc<Mailbox>,
}

/// A session's place among them; dropping it closes the mailbox.
#[derive(Debug)]
pub(super) struct Reachable {
    posts: Arc<Posts>,
    id: ConnectionId,
    pub(super) secret: Box<str>,
    pub(super) mailbox: Arc<Mailbox>,
}

/// Commands of one session that may wait; beyond that the client is told to slow down.
const MAILBOX: usize = 16;
/// For a command to be read and acted on; a webhook's own time is part of it.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

impl Posts {
    pub(super) fn open(self: &Arc<Self>, outbox: &Arc<Outbox>) -> Reachable {
        let mut secret = [0; 18];
        aws_lc_rs::rand::fill(&mut secret).expect("the system has randomness");
        let secret: Box<str> = secret.iter().map(|it| format!("{it:02x}")).collect::<String>().into();
        let waiting = Mutex::new(Some(VecDeque::new()));
        let mailbox = Arc::new(Mailbox { waiting, outbox: outbox.clone() });
        let id = outbox.id;
        self.lock().insert(id, Entry { secret: secret.clone(), mailbox: mailbox.clone() });
        Reachable { posts: self.clone(), id, secret, mailbox }
    }

    fn find(&self, id: ConnectionId, secret: &str) -> Option<Arc<Mailbox>> {
        let entries = self.lock();
        let entry = entries.get(&id)?;
        let is_same = aws_lc_rs::constant_time::verify_slices_are_equal(entry.secret.as_bytes(), secret.as_bytes());
        is_same.is_ok().then(|| entry.mailbox.clone())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ConnectionId, Entry>> {
        self.0.lock().expect("nothing panics under this lock")
    }
}

impl Drop for Reachable {
    fn drop(&mut self) {
        // Whoever waits for an answer learns that there will be none.
        *self.mailbox.lock() = None;
        self.posts.lock().remove(&self.id);
    }
}

/// Answers one POST: the body is the command as a WebSocket would send it, without its `type`.
pub(super) async fn answer<B>(
    request: Request<B>,
    id: &str,
    kind: &str,
    posts: &Posts,
    polls: &Polls,
    max_message: usize,
) -> Response<super::Body>
where
    B: Body<Error: Into<BoxError>>,
{
    if request.method() != Method::POST {
        return json_response(StatusCode::METHOD_NOT_ALLOWED, r#"{"error":"use POST"}"#);
    }
    if !matches!(kind, "subscribe" | "unsubscribe" | "publish" | "refresh" | "history" | "presence") {
        return reply_response(&Reply::error(Code::UnknownType, "there is no such command"));
    }
    let secret = credentials::bearer(request.headers()).unwrap_or_default().to_owned();
    let found = crate::protocol::connection_id(id).and_then(|id| Some((id, posts.find(id, &secret)?)));
    let Some((id, mailbox)) = found else {
        let text = "no such connection here, or not its secret (`Authorization: Bearer …`, from `connected`)";
        return reply_response(&Reply::error(Code::NotAuthenticated, text));
    };
    let work = async {
        let body = Limited::new(request.into_body(), max_message).collect().await;
        let Ok(body) = body.map(http_body_util::Collected::to_bytes) else {
            return reply_response(&Reply::error(Code::TooLarge, format!("at most {max_message} bytes")));
        };
        match command(kind, &body) {
            Ok(command) => deliver(command, &mailbox, polls.attend(id)).await,
            Err(misread) => reply_response(&misread.into()),
        }
    };
    match tokio::time::timeout(ANSWER_WITHIN, work).await {
        Ok(response) => response,
        Err(_) => reply_response(&Reply::error(Code::Unavailable, "no answer in time")),
    }
}

async fn deliver(command: Command, mailbox: &Mailbox, attend: impl Future<Output = ()>) -> Response<super::Body> {
    let (answer, answered) = oneshot::channel();
    match mailbox.put(Work::Posted(command, answer)) {
        Ok(()) => {}
        Err(Undelivered::Full) => {
            return reply_response(&Reply::error(Code::RateLimited, "too many commands are waiting"));
        }
        Err(Undelivered::Gone) => {
            return reply_response(&Reply::error(Code::NotAuthenticated, "the connection is gone"));
        }
    }
    let answered = async {
        let mut answered = std::pin::pin!(answered);
        tokio::select! {
            answer = &mut answered => answer,
            () = attend => answered.await,
        }
    };
    match answered.await {
        Ok(replies) => match replies.last() {
            Some(reply) => reply_response(reply),
            None => json_response(StatusCode::OK, "{}"),
        },
        Err(_) => reply_response(&Reply::error(Code::NotAuthenticated, "the connection is gone")),
    }
}

fn command(kind: &str, body: &[u8]) -> Result<Command, crate::protocol::Misread> {
    let mut text = format!(r#"{{"type":"{kind}""#).into_bytes();
    let rest = body.trim_ascii();
    match rest.strip_prefix(b"{") {
        Some(fields) if fields.trim_ascii_start().starts_with(b"}") => text.push(b'}'),
        Some(fields) => {
            text.push(b',');
            text.extend_from_slice(fields);
        }
        None => text = rest.to_vec(),
    }
    Codec::Json.decode(&text)
}
