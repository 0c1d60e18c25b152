//! Between hyper and the service: each request gets its [`Peer`] and its takeover slot, or is redirected to https.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, LOCATION};
use http::uri::Authority;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use prometheus_client::metrics::counter::Counter;

use super::Service;
use super::connection::{Context, Ends};
use super::forwarded;
use crate::peer::{Peer, Takeover};

pub(super) struct HandOn<S> {
    pub ends: Ends,
    pub context: Arc<Context<S>>,
    /// One slot per HTTP/1.1 connection: it serves one request at a time.
    pub slot: Option<Takeover>,
    pub requests: Counter,
    /// Set by the first request.
    pub has_asked: Arc<AtomicBool>,
}

/// The service's own body, or the few words of a redirect.
pub(super) type Answer<B> = Either<B, Full<Bytes>>;

impl<S: Service> hyper::service::Service<Request<Incoming>> for HandOn<S> {
    type Response = Response<Answer<S::Body>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.requests.inc();
        self.has_asked.store(true, Relaxed);
        let peer = self.peer(&request);
        if let Some(port) = self.context.listener.redirect_to_https
            && peer.scheme == "http"
        {
            return Box::pin(ready(Ok(redirect(&request, port).map(Either::Right))));
        }
        request.extensions_mut().insert(peer);
        if let Some(slot) = &self.slot {
            request.extensions_mut().insert(slot.clone());
        }
        let answer = self.context.service.answer(request);
        Box::pin(async move { Ok(answer.await.map(Either::Left)) })
    }
}

impl<S: Service> HandOn<S> {
    fn peer(&self, request: &Request<Incoming>) -> Peer {
        let Ends { from, local, is_tls } = self.ends;
        let origin = forwarded::origin(from.ip(), is_tls, request.headers(), &(self.context.policy)());
        Peer {
            socket: from,
            local,
            tls: is_tls,
            client: origin.client,
            scheme: origin.scheme,
            trusted: origin.is_trusted,
        }
    }
}

/// The same URL over https. 308 keeps method and body.
fn redirect<B>(request: &Request<B>, port: u16) -> Response<Full<Bytes>> {
    let host = match request.uri().authority() {
        Some(authority) => Some(authority.clone()),
        None => request.headers().get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok()),
    };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let location = host.filter(|_| path.starts_with('/')).and_then(|host| {
        let port = if port == 443 { String::new() } else { format!(":{port}") };
        HeaderValue::try_from(format!("https://{}{port}{path}", host.host())).ok()
    });
    let (status, text) = match &location {
        Some(_) => (StatusCode::PERMANENT_REDIRECT, "This site is served over https\n"),
        None => (StatusCode::BAD_REQUEST, "No host to redirect to\n"),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if let Some(location) = location {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(host: &str, uri: &str, port: u16) -> Option<String> {
        let request = Request::builder().uri(uri).header(HOST, host).body(()).unwrap();
        let response = redirect(&request, port);
        response.headers().get(LOCATION).map(|it| it.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_redirect_keeps_host_path_and_query() {
        assert_eq!(location("example.com:8080", "/a?b=c", 443).unwrap(), "https://example.com/a?b=c");
        assert_eq!(location("[::1]:8080", "/", 8443).unwrap(), "https://[::1]:8443/");
        assert_eq!(location("other", "http://example.com/x", 443).unwrap(), "https://example.com/x");
    }

    #[test]
    fn without_a_host_there_is_nowhere_to_redirect_to() {
        assert_eq!(location("", "/", 443), None);
        assert_eq!(location("exa mple", "/", 443), None);
        assert_eq!(location("example.com", "*", 443), None);
    }
}
