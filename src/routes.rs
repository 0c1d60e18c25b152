//! The two tables. Public: a path of ours goes to a transport, the webhook's own path to nobody, everything else to the
//! backend. Internal: the operator's routes, then the API; the public table never reaches either. The generation is
//! loaded once per request, here, and its parts are handed down.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;

use crate::admin::{self, Admin};
use crate::api::{self, Announced, Announcer, Api, Terms};
use crate::backend::Backend;
use crate::proxy::{self, Proxy};
use crate::transport::{self, Route, Transports};
use crate::webhook::ClosedPath;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What public requests are served with, all of one generation.
pub struct Public {
    pub transport: Arc<transport::Settings>,
    pub proxy: Proxy,
    pub backend: Arc<Backend>,
    /// How replies that announce something are published.
    pub announce: Terms,
    /// Where the backend takes webhooks.
    pub webhook_path: Option<ClosedPath>,
}

/// What is read of a body nobody wants, and for how long.
const MAX_IGNORED: usize = 64 * 1024;
const IGNORED_WITHIN: Duration = Duration::from_secs(1);

/// The public parts of the current generation.
pub type CurrentPublic = Arc<dyn Fn() -> Arc<Public> + Send + Sync>;

/// Answers one request of a public listener.
pub async fn public(
    request: Request<Incoming>,
    transports: Arc<Transports>,
    announcer: Arc<Announcer>,
    current: CurrentPublic,
) -> Response<Body> {
    let parts = current();
    if Route::of(&request, &parts.transport.path).is_some() {
        return transports.answer(request, parts.transport.clone()).await.map(Body::Transport);
    }
    if parts.webhook_path.as_ref().is_some_and(|it| it.covers(request.uri().path())) {
        return not_found(request).await;
    }
    let response = parts.proxy.forward(request, &parts.backend).await;
    announcer.take(response, &parts.announce).map(Body::Proxied)
}

/// An HTTP/2 client whose body is not read may see its stream reset before it sees the answer.
async fn not_found(request: Request<Incoming>) -> Response<Body> {
    let body = Limited::new(request.into_body(), MAX_IGNORED).collect();
    let _ = tokio::time::timeout(IGNORED_WITHIN, body).await;
    let mut response = Response::new(Body::Whole(Full::default()));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

/// Answers one request of the internal listener.
pub async fn internal(
    request: Request<Incoming>,
    admin: Arc<Admin>,
    api: Arc<Api>,
    settings: Arc<api::Settings>,
) -> Response<Body> {
    match admin.answer(&request).await {
        Some(response) => response.map(Body::Admin),
        None => api.answer(request, settings).await.map(Body::Api),
    }
}

/// What a listener answers with.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "most answers are proxied ones; a box for each would cost more than the room"
)]
pub enum Body {
    Transport(transport::Body),
    Proxied(Announced<proxy::Body>),
    Api(api::Body),
    Admin(admin::Body),
    Whole(Full<Bytes>),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        fn sure<T>(frame: Poll<Option<Result<T, Infallible>>>) -> Poll<Option<Result<T, BoxError>>> {
            frame.map(|frame| frame.map(|it| it.map_err(|never| match never {})))
        }
        match self.get_mut() {
            Self::Transport(body) => sure(Pin::new(body).poll_frame(cx)),
            Self::Proxied(body) => Pin::new(body).poll_frame(cx),
            Self::Api(body) => sure(Pin::new(body).poll_frame(cx)),
            Self::Admin(body) => sure(Pin::new(body).poll_frame(cx)),
            Self::Whole(body) => sure(Pin::new(body).poll_frame(cx)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Transport(body) => body.is_end_stream(),
            Self::Proxied(body) => body.is_end_stream(),
            Self::Api(body) => body.is_end_stream(),
            Self::Admin(body) => body.is_end_stream(),
            Self::Whole(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Transport(body) => body.size_hint(),
            Self::Proxied(body) => body.size_hint(),
            Self::Api(body) => body.size_hint(),
            Self::Admin(body) => body.size_hint(),
            Self::Whole(body) => body.size_hint(),
        }
    }
}
