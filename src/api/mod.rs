//! REST for the backend and the operator on the internal listener. A caller is trusted once its key is, so no rules are
//! asked: `session` asks always, this never.

mod announce;
mod audit;
mod body;
mod connections;
mod dead;
mod describe;
mod explain;
mod inspect;
mod metrics;
mod problem;
mod push;
mod receipt;
mod request;
mod tail;
#[cfg(test)]
mod tests;
mod users;
mod why;

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde::Serialize;

use crate::auth::{ApiKeys, Denied, Scope};
use crate::channel::{ChannelName, ConnectionId};
use crate::drain::Holds;
use crate::hub::{Hub, Rules};
use crate::protocol::query::{decoded, decoded_value, pairs, parameter};
use crate::session::Sessions;
use crate::webhook::{Event, Notices};
pub use announce::{Announced, Announcer, Terms};
pub use audit::write as audit;
pub use body::Body;
pub use metrics::Metrics;
pub use problem::Problem;

/// Whatever a request body may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Who may call, and what publications must keep to. An immutable part of a generation.
#[derive(Debug)]
pub struct Settings {
    pub keys: ApiKeys,
    pub rules: Arc<Rules>,
    /// What the backend is asked about.
    pub asked: Vec<Event>,
    /// The largest publication, in bytes.
    pub max_publication: usize,
}

/// The API of a node.
#[derive(Debug)]
pub struct Api {
    hub: Arc<Hub>,
    sessions: Arc<Sessions>,
    notices: Arc<Notices>,
    metrics: Metrics,
    holds: Holds,
}

/// What a path means.
#[derive(Debug, PartialEq, Eq)]
enum Route {
    Push,
    Tail,
    Channels,
    Channel(ChannelName),
    History(ChannelName),
    DeleteHistory(ChannelName),
    Members(ChannelName),
    Connections,
    Connection(ConnectionId),
    DisconnectConnection(ConnectionId),
    DisconnectUser(String),
    Explain,
    DeadLetters,
    ReplayDeadLetters,
    RevokeUser(String),
    EraseUser(String),
    RevokeToken,
    OpenApi,
    Index,
}

/// The API described for machines.
const OPENAPI: &str = include_str!("openapi.json");

/// Method, path and needed scope of every route, for the index, the errors and the test that holds `openapi.json` to it.
pub const ROUTES: &[(&str, &str, Option<Scope>)] = &[
    ("GET", "/", None),
    ("POST", "/push", Some(Scope::Push)),
    ("GET", "/tail", Some(Scope::Read)),
    ("GET", "/channels", Some(Scope::Read)),
    ("GET", "/channels/{channel}", Some(Scope::Read)),
    ("GET", "/channels/{channel}/history", Some(Scope::Read)),
    ("DELETE", "/channels/{channel}/history", Some(Scope::Admin)),
    ("GET", "/channels/{channel}/members", Some(Scope::Read)),
    ("GET", "/connections", Some(Scope::Read)),
    ("GET", "/connections/{id}", Some(Scope::Read)),
    ("POST", "/connections/{id}/disconnect", Some(Scope::Push)),
    ("POST", "/users/{id}/disconnect", Some(Scope::Push)),
    ("GET", "/explain", Some(Scope::Read)),
    ("GET", "/webhooks/dead", Some(Scope::Read)),
    ("POST", "/webhooks/dead/replay", Some(Scope::Admin)),
    ("POST", "/users/{id}/revoke", Some(Scope::Admin)),
    ("DELETE", "/users/{id}", Some(Scope::Admin)),
    ("POST", "/tokens/revoke", Some(Scope::Admin)),
    ("GET", "/openapi.json", None),
];

impl Route {
    fn of(method: &Method, path: &str) -> Result<Self, Problem> {
        let segments = path.trim_start_matches('/').split('/').map(decoded).collect::<Option<Vec<_>>>();
        let segments = segments.ok_or_else(|| Problem::bad_request("the path is not UTF-8"))?;
        let segments: Vec<&str> = segments.iter().map(|it| &**it).collect();
        let channel = |name: &str| {
            ChannelName::parse(name).map_err(|error| Problem::not_found(format!("no such channel: {error}")))
        };
        let connection = |id: &str| {
            crate::protocol::connection_id(id).ok_or_else(|| Problem::not_found("no such connection on this node"))
        };
        Ok(match (method.as_str(), &segments[..]) {
            ("POST", ["push"]) => Self::Push,
            ("GET", ["tail"]) => Self::Tail,
            ("GET", ["channels"]) => Self::Channels,
            ("GET", ["channels", name]) => Self::Channel(channel(name)?),
            ("GET", ["channels", name, "history"]) => Self::History(channel(name)?),
            ("DELETE", ["channels", name, "history"]) => Self::DeleteHistory(channel(name)?),
            ("GET", ["channels", name, "members"]) => Self::Members(channel(name)?),
            ("GET", ["connections"]) => Self::Connections,
            ("GET", ["connections", id]) => Self::Connection(connection(id)?),
            ("POST", ["connections", id, "disconnect"]) => Self::DisconnectConnection(connection(id)?),
            ("POST", ["users", user, "disconnect"]) => Self::DisconnectUser((*user).to_owned()),
            ("GET", ["explain"]) => Self::Explain,
            ("GET", ["webhooks", "dead"]) => Self::DeadLetters,
            ("POST", ["webhooks", "dead", "replay"]) => Self::ReplayDeadLetters,
            ("POST", ["users", user, "revoke"]) => Self::RevokeUser((*user).to_owned()),
            ("DELETE", ["users", user]) => Self::EraseUser((*user).to_owned()),
            ("POST", ["tokens", "revoke"]) => Self::RevokeToken,
            ("GET", ["openapi.json"]) => Self::OpenApi,
            ("GET", [""]) => Self::Index,
            _ => return Err(elsewhere(&segments)),
        })
    }

    /// Whether who called it, and what came of it, is written down.
    fn leaves_a_line(&self) -> bool {
        let is_disconnect = matches!(self, Self::DisconnectConnection(_) | Self::DisconnectUser(_));
        is_disconnect || self.scope() == Some(Scope::Admin)
    }

    fn scope(&self) -> Option<Scope> {
        match self {
            // A backend that may speak to a client may also send it away.
            Self::Push | Self::DisconnectConnection(_) | Self::DisconnectUser(_) => Some(Scope::Push),
            Self::DeleteHistory(_) | Self::ReplayDeadLetters => Some(Scope::Admin),
            Self::RevokeUser(_) | Self::EraseUser(_) | Self::RevokeToken => Some(Scope::Admin),
            Self::OpenApi | Self::Index => None,
            _ => Some(Scope::Read),
        }
    }
}

/// The path under another method, or no path at all.
fn elsewhere(segments: &[&str]) -> Problem {
    let fits = |pattern: &str| {
        let pattern: Vec<_> = pattern.trim_start_matches('/').split('/').collect();
        pattern.len() == segments.len() && pattern.iter().zip(segments).all(|(a, b)| a == b || a.starts_with('{'))
    };
    let allowed: Vec<_> = ROUTES.iter().filter(|it| fits(it.1)).map(|it| it.0).collect();
    if allowed.is_empty() {
        return Problem::not_found("GET / lists what there is");
    }
    Problem::method_not_allowed(allowed.join(", "))
}

impl Api {
    /// What is being published holds the drain up.
    pub fn new(sessions: Arc<Sessions>, notices: Arc<Notices>, metrics: Metrics, holds: Holds) -> Arc<Self> {
        Arc::new(Self { hub: sessions.hub().clone(), sessions, notices, metrics, holds })
    }

    /// Answers one call.
    pub async fn answer<B>(self: &Arc<Self>, request: Request<B>, settings: Arc<Settings>) -> Response<Body>
    where
        B: http_body::Body<Error: Into<BoxError>> + Send,
    {
        let response = self.try_answer(request, &settings).await.unwrap_or_else(Into::into);
        self.metrics.answered(response.status());
        response
    }

    async fn try_answer<B>(&self, request: Request<B>, settings: &Arc<Settings>) -> Result<Response<Body>, Problem>
    where
        B: http_body::Body<Error: Into<BoxError>> + Send,
    {
        let route = Route::of(request.method(), request.uri().path())?;
        if let Some(scope) = route.scope().filter(|_| route.leaves_a_line()) {
            return self.audited(route, scope, request, settings).await;
        }
        if let Some(scope) = route.scope() {
            settings.keys.authorize(request.headers(), scope)?;
        }
        self.perform(route, request, settings).await
    }

    /// What takes something from somebody leaves a line, whatever comes of it.
    async fn audited<B>(
        &self,
        route: Route,
        scope: Scope,
        request: Request<B>,
        settings: &Arc<Settings>,
    ) -> Result<Response<Body>, Problem>
    where
        B: http_body::Body<Error: Into<BoxError>> + Send,
    {
        let act = format!("{} {}", request.method(), request.uri().path());
        let who = match settings.keys.authorize(request.headers(), scope) {
            Ok(name) => name.to_owned(),
            Err(denied) => {
                if let Denied::Scope { name, .. } = &denied {
                    audit::write(name, &act, StatusCode::FORBIDDEN, "the key's scope does not cover this");
                }
                return Err(denied.into());
            }
        };
        let response = self.perform(route, request, settings).await.unwrap_or_else(Into::into);
        audit::answered(&who, &act, &response);
        Ok(response)
    }

    async fn perform<B>(
        &self,
        route: Route,
        request: Request<B>,
        settings: &Arc<Settings>,
    ) -> Result<Response<Body>, Problem>
    where
        B: http_body::Body<Error: Into<BoxError>> + Send,
    {
        let query = Query(request.uri().query().unwrap_or_default().to_owned());
        match route {
            Route::Push => push::push(request, &query, self, settings).await,
            Route::Tail => tail::tail(&query, &self.hub, settings).await,
            Route::Channels => inspect::channels(&query, &self.hub).await,
            Route::Channel(channel) => inspect::channel(&channel, &self.hub, settings).await,
            Route::History(channel) => inspect::history(&channel, &query, &self.hub, settings).await,
            Route::DeleteHistory(channel) => inspect::delete_history(&channel, &self.hub).await,
            Route::Members(channel) => inspect::members(&channel, &query, &self.hub, settings).await,
            Route::Connections => connections::list(&query, &self.hub).await,
            Route::Connection(id) => connections::one(id, &self.hub, settings).await,
            Route::Explain => explain::explain(&query, &self.hub, settings).await,
            Route::DisconnectConnection(id) => connections::disconnect(request, id, &self.hub).await,
            Route::DisconnectUser(user) => connections::disconnect_user(request, &user, &self.hub).await,
            Route::DeadLetters => dead::list(&query, &self.notices),
            Route::ReplayDeadLetters => dead::replay(request, &self.notices).await,
            Route::RevokeUser(user) => users::revoke(request, &user, &self.sessions).await,
            Route::EraseUser(user) => users::erase(&user, &self.sessions).await,
            Route::RevokeToken => users::revoke_token(request, &self.sessions).await,
            Route::OpenApi => Ok(text(OPENAPI)),
            Route::Index => Ok(json(StatusCode::OK, &index())),
        }
    }
}

fn index() -> serde_json::Value {
    let route = |(method, path, scope): &(&str, &str, Option<Scope>)| {
        let scope = scope.map(|it| it.to_string());
        serde_json::json!({ "method": method, "path": path, "scope": scope })
    };
    serde_json::json!({ "outrigger": env!("CARGO_PKG_VERSION"), "routes": ROUTES.iter().map(route).collect::<Vec<_>>() })
}

/// The parameters of a call.
struct Query(String);

impl Query {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        parameter(&self.0, name)
    }

    fn all<'a>(&'a self, name: &'static str) -> impl Iterator<Item = Cow<'a, str>> {
        self.pairs().filter(move |(it, _)| *it == name).filter_map(|(_, value)| decoded_value(value))
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        pairs(&self.0)
    }

    /// A number, within bounds; without the parameter it is `default`.
    fn number(&self, name: &str, default: usize, most: usize) -> Result<usize, Problem> {
        match self.get(name) {
            None => Ok(default),
            Some(text) => match text.parse() {
                Ok(number) if number <= most => Ok(number),
                _ => Err(Problem::bad_request(format!("`{name}` must be a number up to {most}"))),
            },
        }
    }
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let bytes = serde_json::to_vec(value).expect("an answer holds nothing that JSON cannot");
    let mut response = Response::new(Body::whole(bytes.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn text(json: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::whole(json.into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
