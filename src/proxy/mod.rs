//! Requests that are not ours, to the backend and back, unchanged: both bodies stream under their own backpressure,
//! headers that belong to one hop stay there, upgrades are spliced. Knows nothing of real time; with every engine down
//! the site still works.
//!
//! [`Proxy::forward`] answers with a head and a streaming [`Body`]. Whoever wants to look into an answer
//! (`Outrigger-Push`) takes headers off that head and wraps that body.

mod body;
mod expect;
mod forwarded;
mod headers;
mod metrics;
mod record;
mod upgrade;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;

use crate::backend::{self, Backend, RequestBody};
use crate::peer::{Peer, Takeover};

pub use body::Body;
pub use metrics::Metrics;

use expect::Gate;
use headers::Refusal;
use record::Record;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a client hears when the application said something that cannot be passed on.
const NO_ANSWER: &str = "The application did not answer\n";

#[derive(Clone, Debug)]
pub struct Settings {
    /// Protocols that the backend may upgrade to; every other `Upgrade` is ignored, as HTTP allows.
    pub upgrades: Vec<String>,
    /// One line per request in the log, without its query.
    pub access_log: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { upgrades: vec!["websocket".to_owned()], access_log: false }
    }
}

/// An immutable part of a generation.
#[derive(Debug)]
pub struct Proxy {
    settings: Settings,
    metrics: Arc<Metrics>,
}

impl Proxy {
    pub fn new(settings: Settings, metrics: Arc<Metrics>) -> Self {
        Self { settings, metrics }
    }

    /// Sends a request to the backend and answers with what it says, or with 502, 503 or 504.
    ///
    /// Does not return when the backend upgrades the connection: that leaves HTTP then.
    pub async fn forward(&self, request: Request<Incoming>, backend: &Backend) -> Response<Body> {
        let (mut head, body) = request.into_parts();
        let version = head.version;
        let peer = head.extensions.remove::<Peer>().unwrap_or_else(nobody);
        let takeover = head.extensions.remove::<Takeover>();
        let asks_upgrade = takeover.is_some() && body.is_end_stream();
        let mut record = Record::begin(&self.metrics, self.settings.access_log, &head, &peer);

        let upgrades = if asks_upgrade { &self.settings.upgrades[..] } else { &[] };
        let prepared = match headers::prepare(&mut head, &peer, upgrades) {
            Ok(prepared) => prepared,
            Err(refusal) => return refuse(refusal, record),
        };
        record.request_id = Some(prepared.request_id);

        let gate = expect::is_expected(&head.headers).then(Arc::<Gate>::default);
        let body = outgoing(body, gate.clone());
        headers::frame(&mut head.headers, &body);
        let mut request = Request::from_parts(head, body);
        if let Some(gate) = &gate {
            expect::open_on_continue(&mut request, gate.clone());
        }
        let answer = backend.send(request).await;
        let is_body_unasked = gate.is_some_and(|gate| !gate.is_open());

        match (answer, prepared.upgrade, takeover) {
            (Ok(answer), asked, takeover) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                match upgrade::accept(answer, asked, takeover, record).await {
                    Err(unasked) => unasked,
                }
            }
            (Ok(answer), ..) => {
                let mut answer = pass_back(answer, record);
                // Some clients would now send a next request, some still the body: nobody could tell which it is.
                if is_body_unasked && version < Version::HTTP_2 {
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                answer
            }
            (Err(failure), ..) => fail(&failure, record),
        }
    }
}

/// Requests without a [`Peer`] come from this process itself.
fn nobody() -> Peer {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Peer { socket: loopback, local: loopback, tls: false, client: loopback.ip(), scheme: "http", trusted: false }
}

fn outgoing(body: Incoming, gate: Option<Arc<Gate>>) -> RequestBody {
    match gate {
        _ if body.is_end_stream() => RequestBody::Empty,
        Some(gate) => RequestBody::Streamed(Box::pin(expect::Gated::new(body, gate))),
        None => RequestBody::Streamed(Box::pin(expect::Open(body))),
    }
}

fn pass_back(answer: Response<backend::Body>, mut record: Record) -> Response<Body> {
    if !headers::is_plainly_framed(answer.headers()) {
        record.unusable("transfer_coding");
        return say(StatusCode::BAD_GATEWAY, NO_ANSWER, record);
    }
    record.status = Some(answer.status());
    let mut answer = answer.map(|body| Body::streamed(body, record));
    headers::clean_response(answer.headers_mut());
    *answer.version_mut() = Version::HTTP_11;
    answer
}

/// What a client is told when there is no answer; the cause is for the operator alone.
fn fail(failure: &backend::Failure, record: Record) -> Response<Body> {
    use backend::Error;
    let (status, reason, text) = match &failure.error {
        Error::Connect(_) => (StatusCode::BAD_GATEWAY, "connect", "The application is not reachable\n"),
        Error::ConnectTimeout(_) => {
            (StatusCode::GATEWAY_TIMEOUT, "connect_timeout", "The application is not reachable\n")
        }
        Error::Timeout(_) => (StatusCode::GATEWAY_TIMEOUT, "timeout", "The application did not answer in time\n"),
        Error::Busy { .. } => (StatusCode::SERVICE_UNAVAILABLE, "busy", "The application is busy\n"),
        Error::Broken(_) => (StatusCode::BAD_GATEWAY, "broken", NO_ANSWER),
        Error::TooLarge { .. } => (StatusCode::BAD_GATEWAY, "too_large", NO_ANSWER),
        Error::BadUrl(_) => (StatusCode::BAD_GATEWAY, "bad_url", NO_ANSWER),
        Error::SenderSilent(_) => {
            (StatusCode::REQUEST_TIMEOUT, "client_silent", "The request did not arrive in time\n")
        }
        Error::SenderLeft(_) => (StatusCode::BAD_REQUEST, "client_left", "The request did not arrive\n"),
    };
    record.failed(reason, failure);
    let mut answer = say(status, text, record);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

fn refuse(refusal: Refusal, record: Record) -> Response<Body> {
    let status = match refusal {
        Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
        Refusal::Connect => StatusCode::METHOD_NOT_ALLOWED,
        Refusal::TransferCoding => StatusCode::NOT_IMPLEMENTED,
    };
    let mut answer = say(status, refusal.text(), record);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    answer
}

fn say(status: StatusCode, text: &'static str, mut record: Record) -> Response<Body> {
    record.status = Some(status);
    let request_id = record.request_id.clone();
    let mut answer = Response::new(Body::whole(Bytes::from_static(text.as_bytes()), record));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if let Some(request_id) = request_id {
        answer.headers_mut().insert(X_REQUEST_ID, request_id);
    }
    answer
}
