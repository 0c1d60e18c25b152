//! The backend of `outrigger demo`: an ordinary program that answers requests, and knows of Outrigger only public URLs.
//! It serves the page, keeps the login cookie, judges what is said in the chat, sells oars, and posts a price each second.

mod cookie;
mod setup;
mod ticker;
mod webhook;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, COOKIE, SET_COOKIE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use cookie::Cookies;
pub use setup::{Addresses, config, welcome};
pub use webhook::InvalidSecret;
use webhook::Webhooks;

/// What the program was told about the Outrigger in front of it.
pub struct Settings {
    /// Where the internal API listens.
    pub api: SocketAddr,
    /// The key for `POST /push`.
    pub key: String,
    /// What webhooks are signed with: `whsec_…`.
    pub webhook_secret: String,
    /// What somebody may try in a terminal; the page shows it.
    pub commands: Vec<String>,
}

/// Everything a request may need. Nothing of it changes.
struct Shop {
    cookies: Cookies,
    webhooks: Webhooks,
    commands: Vec<String>,
}

/// More requests at once wait for one that ends.
const CONNECTIONS: usize = 256;
/// A form or a webhook is smaller than this, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// For a request's head, and again for its body.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// Serves until it is dropped. The only error is a secret that cannot be one.
pub async fn serve(listener: TcpListener, settings: Settings) -> Result<Infallible, InvalidSecret> {
    let Settings { api, key, webhook_secret, commands } = settings;
    let webhooks = Webhooks::signed_with(&webhook_secret)?;
    let shop = Arc::new(Shop { cookies: Cookies::new(), webhooks, commands });
    tokio::select! {
        never = accept(listener, shop) => match never {},
        never = ticker::run(api, &key) => match never {},
    }
}

async fn accept(listener: TcpListener, shop: Arc<Shop>) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => _ = connections.spawn(converse(stream, shop.clone())),
                // Usually no file descriptor is left: one that is freed helps, trying at once does not.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(stream: TcpStream, shop: Arc<Shop>) {
    let service = service_fn(move |request| {
        let shop = shop.clone();
        async move { Ok::<_, Infallible>(shop.answer(request).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(READ_WITHIN);
    // It fails when the other side goes away, which is no concern of ours.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

type Answer = Response<Full<Bytes>>;

impl Shop {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        let is_post = head.method == Method::POST;
        if !is_post && head.method != Method::GET && head.method != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "GET or POST");
        }
        let path = head.uri.path();
        if !is_post {
            return match path {
                "/" => file("text/html; charset=utf-8", include_str!("demo/index.html")),
                "/demo.js" => file("text/javascript; charset=utf-8", include_str!("demo/demo.js")),
                "/style.css" => file("text/css; charset=utf-8", include_str!("demo/style.css")),
                "/icon.svg" => file("image/svg+xml", include_str!("demo/icon.svg")),
                "/session" => self.session(&head.headers),
                _ => text(StatusCode::NOT_FOUND, "there is nothing here"),
            };
        }
        let whole = tokio::time::timeout(READ_WITHIN, Limited::new(body, MAX_BODY).collect());
        let Ok(Ok(body)) = whole.await else {
            return text(StatusCode::BAD_REQUEST, "the body is too long, or did not come");
        };
        let body = body.to_bytes();
        match path {
            "/login" => self.login(&body),
            "/logout" => with_cookie(as_json(StatusCode::OK, &json!({ "nick": null })), &Cookies::removed()),
            "/orders" => self.order(&head.headers, &body),
            "/webhooks/realtime" => self.webhooks.answer(&head.headers, &body, &self.cookies),
            _ => text(StatusCode::NOT_FOUND, "there is nothing here"),
        }
    }

    fn session(&self, headers: &HeaderMap) -> Answer {
        let nick = self.nick(headers);
        as_json(StatusCode::OK, &json!({ "nick": nick, "commands": self.commands }))
    }

    fn login(&self, form: &[u8]) -> Answer {
        match field(form, "nick").as_deref().and_then(cookie::Nick::parse) {
            Some(nick) => {
                with_cookie(as_json(StatusCode::OK, &json!({ "nick": nick.as_str() })), &self.cookies.issue(&nick))
            }
            None => error(StatusCode::UNPROCESSABLE_ENTITY, "bad_name", "A name is 1 to 24 letters, digits, - or _."),
        }
    }

    /// An ordinary form post with an ordinary reply. The one header makes that reply a broadcast.
    fn order(&self, headers: &HeaderMap, form: &[u8]) -> Answer {
        const PRICES: [(&str, u32); 3] = [("oar", 49), ("sail", 320), ("anchor", 180)];
        let item = field(form, "item").unwrap_or_default();
        let Some((item, price)) = PRICES.into_iter().find(|it| it.0 == item) else {
            return error(StatusCode::UNPROCESSABLE_ENTITY, "unknown_item", "We sell oars, sails and anchors.");
        };
        let by = self.nick(headers).unwrap_or_else(|| "somebody".into());
        let order = json!({ "number": fastrand::u32(10_000..100_000), "item": item, "price": price, "by": by });
        let mut answer = as_json(StatusCode::CREATED, &order);
        let push = HeaderValue::from_static(r#""orders";event="created""#);
        answer.headers_mut().insert(HeaderName::from_static("outrigger-push"), push);
        answer
    }

    fn nick(&self, headers: &HeaderMap) -> Option<String> {
        let values = headers.get_all(COOKIE).iter().filter_map(|it| it.to_str().ok());
        values.filter_map(|it| self.cookies.find(it)).next().map(|it| it.as_str().to_owned())
    }
}

/// One field of `application/x-www-form-urlencoded`.
fn field(form: &[u8], name: &str) -> Option<String> {
    let form = std::str::from_utf8(form).ok()?;
    let value = form.split('&').find_map(|it| it.split_once('=').filter(|it| it.0 == name))?.1;
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'%').then(|| after.split_at_checked(2)).flatten();
        let value = escaped.and_then(|it| u8::from_str_radix(std::str::from_utf8(it.0).ok()?, 16).ok());
        rest = if value.is_some() { &after[2..] } else { after };
        decoded.push(value.unwrap_or(if byte == b'+' { b' ' } else { byte }));
    }
    String::from_utf8(decoded).ok()
}

/// No script and no style but our own files, and no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

fn file(kind: &'static str, content: &'static str) -> Answer {
    let mut answer = respond(StatusCode::OK, kind, Bytes::from_static(content.as_bytes()));
    let policy = HeaderName::from_static("content-security-policy");
    answer.headers_mut().insert(policy, HeaderValue::from_static(POLICY));
    answer
}

fn text(status: StatusCode, text: &'static str) -> Answer {
    respond(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

fn as_json(status: StatusCode, value: &serde_json::Value) -> Answer {
    respond(status, "application/json", value.to_string().into())
}

/// A refusal in words for a person.
fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    as_json(status, &json!({ "error": { "code": code, "message": message } }))
}

fn respond(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

fn with_cookie(mut answer: Answer, cookie: &str) -> Answer {
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        answer.headers_mut().insert(SET_COOKIE, cookie);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_field_is_read_as_browsers_write_it() {
        assert_eq!(field(b"a=1&nick=J%C3%BCrgen+B", "nick").as_deref(), Some("Jürgen B"));
        assert_eq!(field(b"nick=100%&x", "nick").as_deref(), Some("100%"));
        assert_eq!(field(b"nick=%FF", "nick"), None);
        assert_eq!(field(b"nickname=x", "nick"), None);
    }

    #[test]
    fn an_order_is_an_ordinary_reply_with_one_header_more() {
        let webhooks = Webhooks::signed_with("whsec_c2VjcmV0").unwrap();
        let shop = Shop { cookies: Cookies::new(), webhooks, commands: Vec::new() };
        let mut headers = HeaderMap::new();
        let answer = shop.order(&headers, b"item=oar");
        assert_eq!(answer.status(), StatusCode::CREATED);
        assert_eq!(answer.headers()["outrigger-push"], r#""orders";event="created""#);
        let login = shop.login(b"nick=ada");
        let cookie = login.headers()[SET_COOKIE].to_str().unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
        headers.insert(COOKIE, cookie.split(';').next().unwrap().parse().unwrap());
        assert_eq!(shop.nick(&headers).as_deref(), Some("ada"));
        assert!(!shop.order(&headers, b"item=castle").headers().contains_key("outrigger-push"));
    }
}
