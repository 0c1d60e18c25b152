//! Carries frames between one client and its session: WebSocket, event stream, long-poll. Checks where a request comes
//! from and what it shows; never asks whether something is allowed, and never names an engine. Hands out the browser's
//! client, too.

mod body;
mod client_js;
mod credentials;
mod no_room;
mod origin;
mod poll;
mod posts;
mod seat;
mod sse;
mod wanted;
pub mod websocket;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};

use crate::drain::Holds;
use crate::protocol::{Code, Codec, Reply};
use crate::session::{Sessions, Transport, TurnedAway};
pub use body::Body;
pub use credentials::TokenSource;
pub use no_room::no_room;
pub use origin::Origins;
use poll::Polls;
use posts::Posts;

/// Whatever a request body may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What all transports are set up with. Part of a generation.
#[derive(Clone, Debug)]
pub struct Settings {
    pub allowed_origins: Origins,
    pub heartbeat: Heartbeat,
    /// Whether permessage-deflate is agreed to.
    pub compression: bool,
    /// The largest message from a client, in bytes, inflated.
    pub max_message: usize,
    /// Bytes that may wait for a client before it counts as slow.
    pub outbox: usize,
    pub token_from: Vec<TokenSource>,
    /// The cookie a token is looked for in.
    pub cookie: String,
    /// The path everything of ours is under, without a slash at the end.
    pub path: String,
    /// Between two comments on an event stream.
    pub sse_heartbeat: Duration,
    /// How long a poll waits for something to answer.
    pub poll_wait: Duration,
    /// How long a session waits for its client's next poll.
    pub poll_session: Duration,
}

/// How silence is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Between two pings.
    pub interval: Duration,
    /// After this long without a sign of life the connection is over.
    pub timeout: Duration,
}

impl Heartbeat {
    fn told(self) -> crate::protocol::Heartbeat {
        let milliseconds = |it: Duration| u64::try_from(it.as_millis()).unwrap_or(u64::MAX);
        crate::protocol::Heartbeat { interval: milliseconds(self.interval), timeout: milliseconds(self.timeout) }
    }
}

/// The ways in. Lives as long as the node.
#[derive(Debug)]
pub struct Transports {
    sessions: Arc<Sessions>,
    posts: Arc<Posts>,
    polls: Arc<Polls>,
    holds: Holds,
}

/// What a public path means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    WebSocket,
    EventStream,
    Poll,
    Ticket,
    Client(client_js::Asked<'a>),
    Command { connection: &'a str, kind: &'a str },
}

impl<'a> Route<'a> {
    /// The route under `base`, the configured path. A WebSocket's is the base itself, and only with the upgrade.
    pub fn of<B>(request: &'a Request<B>, base: &str) -> Option<Self> {
        let rest = request.uri().path().strip_prefix(base)?;
        match rest {
            "" | "/" => websocket::is_upgrade(request).then_some(Self::WebSocket),
            "/sse" => Some(Self::EventStream),
            "/poll" => Some(Self::Poll),
            "/ticket" => Some(Self::Ticket),
            _ => {
                if let Some(asked) = rest.strip_prefix('/').and_then(client_js::Asked::read) {
                    return Some(Self::Client(asked));
                }
                let (connection, kind) = rest.strip_prefix("/connections/")?.split_once('/')?;
                Some(Self::Command { connection, kind })
            }
        }
    }
}

impl Transports {
    pub fn new(sessions: Arc<Sessions>, holds: Holds) -> Arc<Self> {
        Arc::new(Self { sessions, posts: Arc::default(), polls: Arc::default(), holds })
    }

    /// Tells every client to come back later, each in its own slot within `spread`, and ends their sessions. From now on
    /// nobody is let in.
    pub async fn send_away(&self, spread: Duration) {
        self.sessions.send_away(spread).await;
        self.polls.leave().await;
    }

    /// Lets go of poll sessions whose clients do not come back, for ever. The owner aborts it.
    pub async fn sweep(self: Arc<Self>) {
        self.polls.sweep().await;
    }

    /// Answers a request to one of our routes. A route is found before, by [`Route::of`].
    pub async fn answer<B>(self: &Arc<Self>, request: Request<B>, settings: Arc<Settings>) -> Response<Body>
    where
        B: http_body::Body<Error: Into<BoxError>> + Send + 'static,
    {
        let Some(route) = Route::of(&request, &settings.path) else {
            return text(StatusCode::NOT_FOUND, "there is nothing here");
        };
        if route == Route::WebSocket {
            let Some(hold) = self.holds.hold() else { return text(StatusCode::SERVICE_UNAVAILABLE, "going away") };
            return websocket::upgrade(request, settings, self.sessions.clone(), hold).await.map(Body::from);
        }
        if !credentials::is_from_allowed_origin(&request, &settings) {
            self.sessions.metrics().rejected(Code::NotAllowed);
            return text(StatusCode::FORBIDDEN, "this page's origin may not connect");
        }
        let cross_origin = cross_origin(request.headers(), &settings.allowed_origins);
        if request.method() == Method::OPTIONS {
            return with_headers(text(StatusCode::NO_CONTENT, ""), preflight(cross_origin));
        }
        let response = match route {
            Route::EventStream if request.method() == Method::GET => {
                sse::stream(request, settings, self, &cross_origin).await
            }
            Route::Poll if request.method() == Method::GET => poll::answer(request, &settings, self).await,
            Route::EventStream | Route::Poll => method_not_allowed("GET"),
            Route::Command { connection, kind } => {
                let (id, kind) = (connection.to_owned(), kind.to_owned());
                posts::answer(request, &id, &kind, &self.posts, &self.polls, settings.max_message).await
            }
            Route::Client(asked) => client_js::answer(&request, asked),
            Route::Ticket if request.method() == Method::POST => self.ticket(&request, &settings).await,
            Route::Ticket | Route::WebSocket => method_not_allowed("POST"),
        };
        with_headers(response, cross_origin)
    }

    async fn ticket<B>(&self, request: &Request<B>, settings: &Settings) -> Response<Body> {
        let hello = credentials::hello(request, settings, &self.sessions, Transport::WebSocket, None);
        match self.sessions.ticket(hello).await {
            Ok(ticket) => json_response(StatusCode::OK, &format!(r#"{{"ticket":"{ticket}","expiresIn":30}}"#)),
            Err(turned_away) => come_back_response(&turned_away, turned_away.come_back()),
        }
    }
}

/// Why somebody is turned away, and in a header when coming back may help.
fn come_back_response(turned_away: &TurnedAway, after: Option<Duration>) -> Response<Body> {
    let mut response = reply_response(&turned_away.reply());
    if let Some(after) = after {
        let seconds = after.as_secs_f64().ceil() as u64;
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// What a browser needs to let a page of another origin read the answer. Nothing for a page of our own.
///
/// An origin that only `"*"` allows is not sent its user's cookies: any page at all could then act for the user.
fn cross_origin(headers: &HeaderMap, origins: &Origins) -> Vec<(HeaderName, HeaderValue)> {
    use http::header::{ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, ORIGIN};
    let Some(origin) = headers.get(ORIGIN) else { return Vec::new() };
    let is_listed = origin.to_str().is_ok_and(|it| origins.is_listed(it));
    match (is_listed, origins.any) {
        (true, _) => vec![
            (ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()),
            (ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")),
            (VARY, HeaderValue::from_static("Origin")),
        ],
        (false, true) => vec![(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"))],
        (false, false) => Vec::new(),
    }
}

fn preflight(mut cross_origin: Vec<(HeaderName, HeaderValue)>) -> Vec<(HeaderName, HeaderValue)> {
    use http::header::{ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE};
    if !cross_origin.is_empty() {
        cross_origin.extend([
            (ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST")),
            (ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type, last-event-id")),
            (ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600")),
        ]);
    }
    cross_origin
}

fn with_headers(mut response: Response<Body>, headers: Vec<(HeaderName, HeaderValue)>) -> Response<Body> {
    response.headers_mut().extend(headers);
    response
}

fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::whole(text.into()));
    *response.status_mut() = status;
    response
}

fn method_not_allowed(allowed: &'static str) -> Response<Body> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "this method is not for this path");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// An answer that is never stored on its way.
fn json_response(status: StatusCode, json: &str) -> Response<Body> {
    let mut response = Response::new(Body::whole(Bytes::copy_from_slice(json.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A protocol message as the answer to a request of its own.
fn reply_response(reply: &Reply) -> Response<Body> {
    let status = match reply {
        Reply::Error(error) => status_of(&error.code),
        _ => StatusCode::OK,
    };
    json_response(status, &String::from_utf8_lossy(&Codec::Json.encode(reply)))
}

/// The HTTP status nearest to an error's code. A code of the backend's own is a refusal.
fn status_of(code: &str) -> StatusCode {
    let is = |it: Code| it.name() == code;
    if is(Code::BadMessage) || is(Code::BadChannel) {
        StatusCode::BAD_REQUEST
    } else if is(Code::UnknownType) {
        StatusCode::NOT_FOUND
    } else if is(Code::NotAuthenticated) || is(Code::InvalidToken) || is(Code::Expired) {
        StatusCode::UNAUTHORIZED
    } else if is(Code::TooLarge) {
        StatusCode::PAYLOAD_TOO_LARGE
    } else if is(Code::RateLimited) || is(Code::TooManyConnections) || is(Code::Busy) {
        StatusCode::TOO_MANY_REQUESTS
    } else if is(Code::Unavailable) || is(Code::Draining) {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::FORBIDDEN
    }
}

/// A time within ten percent of the given one, so that clients that came together do not stay together.
fn jittered(time: Duration) -> Duration {
    time.mul_f64(0.9 + fastrand::f64() * 0.2)
}

/// The value of a header that is text, if there is one.
fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|it| it.to_str().ok())
}
