//! The public table: a path of ours goes to a transport, the webhook's own path to nobody, everything else to the backend.
//! The generation is loaded once per request, here, and its parts are handed down.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use crate::backend::Backend;
use crate::proxy::{self, Proxy};
use crate::transport::{self, Route, Transports};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What public requests are served with, all of one generation.
pub struct Public {
    pub transport: Arc<transport::Settings>,
    pub proxy: Proxy,
    pub backend: Arc<Backend>,
    /// The path of the webhooks on the backend, which is nobody else's to call.
    pub webhook_path: Option<String>,
}

/// The public parts of the current generation.
pub type CurrentPublic = Arc<dyn Fn() -> Arc<Public> + Send + Sync>;

/// Answers one request of a public listener.
pub async fn public(request: Request<Incoming>, transports: Arc<Transports>, current: CurrentPublic) -> Response<Body> {
    let parts = current();
    if Route::of(&request, &parts.transport.path).is_some() {
        return transports.answer(request, parts.transport.clone()).await.map(Body::Transport);
    }
    if parts.webhook_path.as_deref() == Some(request.uri().path()) {
        let mut response = Response::new(Body::Transport(transport::Body::from(http_body_util::Full::default())));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    }
    parts.proxy.forward(request, &parts.backend).await.map(Body::Proxied)
}

/// What a public listener answers with.
#[derive(Debug)]
pub enum Body {
    Transport(transport::Body),
    Proxied(proxy::Body),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Transport(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|it| it.map_err(|never| match never {})))
            }
            Self::Proxied(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Transport(body) => body.is_end_stream(),
            Self::Proxied(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Transport(body) => body.size_hint(),
            Self::Proxied(body) => body.size_hint(),
        }
    }
}
