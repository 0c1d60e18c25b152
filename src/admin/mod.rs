//! The operator's view on the internal listener: health, metrics, the console, the configuration that runs. Everything it shows reaches
//! it as values or through [`Operator`]; it decides nothing.

mod console;
mod health;
mod live;
mod metrics;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use prometheus_client::registry::Registry;
use serde::Serialize;

pub use health::{Health, Readiness};
pub use live::Body;
pub use metrics::collect;

/// What only the app can do or know.
pub trait Operator: Send + Sync {
    fn health(&self) -> Health;
    fn readiness(&self) -> Readiness;
    /// Reads the configuration again; `dry_run` only says what would change. The answer is JSON.
    fn reload(
        &self,
        dry_run: bool,
    ) -> Pin<Box<dyn Future<Output = Result<serde_json::Value, serde_json::Value>> + Send + '_>>;
    /// The configuration that runs, secrets masked.
    fn config(&self) -> serde_json::Value;
    /// Begins to end the node, as SIGTERM does.
    fn drain(&self);
    /// The name of the operator's key that these headers carry; if there is none, 401 or 403 and why.
    fn authorize(&self, headers: &http::HeaderMap) -> Result<String, (StatusCode, String)>;
    /// Writes down who did what, by the name of the key, and what came of it.
    fn acted(&self, who: &str, act: &str, status: StatusCode);
}

/// The operator's routes.
pub struct Admin {
    operator: Arc<dyn Operator>,
    registry: Arc<Registry>,
}

/// The paths of the operator, and the methods each has.
const ROUTES: [(&str, &str); 6] = [
    ("/healthz", "GET, HEAD"),
    ("/readyz", "GET, HEAD"),
    ("/metrics", "GET"),
    ("/config", "GET"),
    ("/reload", "POST"),
    ("/drain", "POST"),
];

impl Admin {
    pub fn new(operator: Arc<dyn Operator>, registry: Arc<Registry>) -> Self {
        Self { operator, registry }
    }

    /// Answers one of the operator's routes; none means that the path is another's.
    pub async fn answer<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        let is_read = matches!(request.method(), &Method::GET | &Method::HEAD);
        if is_read && let Some(file) = console::answer(request.uri().path(), request.headers()) {
            return Some(file.map(Body::Whole));
        }
        if request.method() == Method::GET && request.uri().path() == "/metrics" && live::is_wanted(request.headers()) {
            return Some(live::stream(&self.registry));
        }
        self.whole(request).await.map(|it| it.map(Body::Whole))
    }

    async fn whole<B>(&self, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
        let query = request.uri().query().unwrap_or_default();
        let has = |pair: &str| query.split('&').any(|it| it == pair);
        let answer = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/healthz") => json(StatusCode::OK, &self.operator.health()),
            (&Method::GET | &Method::HEAD, "/readyz") => {
                let readiness = self.operator.readiness();
                let is_ready = if has("for=site") { readiness.serves_site() } else { readiness.is_ready() };
                json(if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &readiness)
            }
            (&Method::GET, "/metrics") => metrics::render(&self.registry),
            (&Method::GET, "/config") => self.guarded(request, |_| json(StatusCode::OK, &self.operator.config())),
            (&Method::POST, "/reload") => match self.operator.authorize(request.headers()) {
                Ok(who) => {
                    let is_dry_run = has("dry_run=true");
                    let answer = match self.operator.reload(is_dry_run).await {
                        Ok(report) => json(StatusCode::OK, &report),
                        Err(report) => problem(StatusCode::UNPROCESSABLE_ENTITY, &report),
                    };
                    if !is_dry_run {
                        self.operator.acted(&who, "POST /reload", answer.status());
                    }
                    answer
                }
                Err((status, why)) => denied(status, &why),
            },
            (&Method::POST, "/drain") => self.guarded(request, |who| {
                self.operator.drain();
                self.operator.acted(who, "POST /drain", StatusCode::ACCEPTED);
                json(StatusCode::ACCEPTED, &serde_json::json!({ "draining": true }))
            }),
            (_, path) => method_not_allowed(ROUTES.iter().find(|(it, _)| *it == path)?.1),
        };
        Some(answer)
    }

    fn guarded<B>(
        &self,
        request: &Request<B>,
        answer: impl FnOnce(&str) -> Response<Full<Bytes>>,
    ) -> Response<Full<Bytes>> {
        match self.operator.authorize(request.headers()) {
            Ok(who) => answer(&who),
            Err((status, why)) => denied(status, &why),
        }
    }
}

fn denied(status: StatusCode, why: &str) -> Response<Full<Bytes>> {
    let told = serde_json::json!({
        "title": "A key with the scope `admin` is needed",
        "status": status.as_u16(),
        "detail": why,
    });
    let mut response = problem(status, &told);
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn method_not_allowed(allowed: &'static str) -> Response<Full<Bytes>> {
    let status = StatusCode::METHOD_NOT_ALLOWED;
    let told = serde_json::json!({ "title": "This method is not for this path", "status": status.as_u16() });
    let mut response = problem(status, &told);
    response.headers_mut().insert(http::header::ALLOW, HeaderValue::from_static(allowed));
    response
}

fn problem(status: StatusCode, told: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = json(status, told);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Full<Bytes>> {
    let bytes = serde_json::to_vec(value).expect("an answer holds nothing that JSON cannot");
    let mut response = Response::new(Full::from(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
