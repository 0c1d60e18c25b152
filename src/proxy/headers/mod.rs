//! A request's head as the backend may see it, an answer's head as the client may: what belongs to one connection stays
//! there (RFC 9110 section 7.6.1), what only we may say is said by us.

use http::header::{self, CONNECTION, CONTENT_LENGTH, COOKIE, Entry, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};

use super::{X_REQUEST_ID, forwarded};
use crate::backend::RequestBody;
use crate::peer::Peer;

/// Headers of one hop that need not be named in `Connection`. `Trailer` is none: hyper writes trailers only with it.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Ours alone: the backend gives orders in them, a client may not.
const OWN_PREFIX: &str = "outrigger-";

/// Longer request ids are noise in somebody's log.
const MAX_REQUEST_ID: usize = 128;

/// What is known of a request after its head was made ready.
pub(super) struct Prepared {
    pub request_id: HeaderValue,
    /// The protocol that the client asks to change to, where it is one of the allowed.
    pub upgrade: Option<String>,
}

/// A request that goes nowhere.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Malformed(&'static str),
    Connect,
    TransferCoding,
}

impl Refusal {
    pub fn text(&self) -> &'static str {
        match self {
            Self::Malformed(text) => text,
            Self::Connect => "CONNECT is not served here\n",
            Self::TransferCoding => "Only the chunked transfer coding is served here\n",
        }
    }
}

/// Makes a head ready for the backend: origin form, one `Host`, nothing of the client's hop, our own words added last so
/// that no `Connection: x-forwarded-for` can take them away.
pub(super) fn prepare(head: &mut Parts, peer: &Peer, upgrades: &[String]) -> Result<Prepared, Refusal> {
    if head.method == Method::CONNECT {
        return Err(Refusal::Connect);
    }
    if !is_plainly_framed(&head.headers) {
        return Err(Refusal::TransferCoding);
    }
    let host = host(head)?;
    let path = path(head)?;
    let upgrade = asked_upgrade(head, upgrades);
    let wants_trailers = lists(&head.headers, &TE, "trailers");

    strip(&mut head.headers);
    remove_own(&mut head.headers);
    join_cookies(&mut head.headers);
    if let Some(host) = &host {
        head.headers.insert(HOST, host.clone());
    }
    if wants_trailers {
        head.headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(token) = upgrade.as_deref().and_then(|token| HeaderValue::from_str(token).ok()) {
        head.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        head.headers.insert(UPGRADE, token);
    } else if wants_trailers {
        head.headers.insert(CONNECTION, HeaderValue::from_static("TE"));
    }
    forwarded::set(&mut head.headers, peer, host.as_ref());
    let request_id = request_id(&mut head.headers);

    head.uri = Uri::from(path);
    head.version = Version::HTTP_11;
    head.extensions.clear();
    Ok(Prepared { request_id, upgrade })
}

/// A body of unknown length goes in chunks, also where hyper would expect none (`GET`).
pub(super) fn frame(headers: &mut HeaderMap, body: &RequestBody) {
    if matches!(body, RequestBody::Streamed(_)) && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Makes an answer's head ready for the client.
pub(super) fn clean_response(headers: &mut HeaderMap) {
    strip(headers);
}

/// No transfer coding but `chunked`: hyper takes off that one alone, and the others would be lost with their header.
pub(super) fn is_plainly_framed(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// The host that the request is for. An absolute target or `:authority` goes before `Host`; HTTP/1.0 may have neither.
fn host(head: &Parts) -> Result<Option<HeaderValue>, Refusal> {
    const BAD: Refusal = Refusal::Malformed("The request needs one valid Host\n");
    let mut values = head.headers.get_all(HOST).iter();
    let (value, more) = (values.next(), values.next());
    if more.is_some() {
        return Err(BAD);
    }
    let host = match (head.uri.authority(), value) {
        (Some(authority), _) => HeaderValue::from_str(authority.as_str()).map_err(|_| BAD)?,
        (None, Some(value)) => value.clone(),
        (None, None) if head.version < Version::HTTP_11 => return Ok(None),
        (None, None) => return Err(BAD),
    };
    let is_valid = Authority::try_from(host.as_bytes()).is_ok_and(|it| !it.as_str().contains('@'));
    if is_valid { Ok(Some(host)) } else { Err(BAD) }
}

fn path(head: &Parts) -> Result<PathAndQuery, Refusal> {
    const BAD: Refusal = Refusal::Malformed("The request needs a valid path\n");
    let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let text = path.as_str();
    if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(BAD);
    }
    match text {
        _ if text.starts_with('/') => Ok(path),
        "*" if head.method == Method::OPTIONS => Ok(path),
        // `http://host?query`: an empty path is `/`.
        _ if text.starts_with('?') => PathAndQuery::try_from(format!("/{text}")).map_err(|_| BAD),
        _ => Err(BAD),
    }
}

/// The first protocol of `Upgrade` that is allowed, where `Connection` confirms it.
fn asked_upgrade(head: &Parts, allowed: &[String]) -> Option<String> {
    if head.version != Version::HTTP_11 || !lists(&head.headers, &CONNECTION, "upgrade") {
        return None;
    }
    let asked = tokens(&head.headers, &UPGRADE);
    asked.into_iter().find(|token| allowed.iter().any(|it| it.eq_ignore_ascii_case(token))).map(str::to_owned)
}

fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> =
            tokens(headers, &CONNECTION).iter().filter_map(|token| HeaderName::try_from(*token).ok()).collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn remove_own(headers: &mut HeaderMap) {
    let is_own = |name: &&HeaderName| name.as_str().starts_with(OWN_PREFIX) || is_lookalike(name.as_str());
    let own: Vec<HeaderName> = headers.keys().filter(is_own).cloned().collect();
    for name in own {
        headers.remove(name);
    }
}

/// CGI and WSGI backends cannot tell `x_forwarded_for` from `x-forwarded-for`: nobody honest writes what we set that way.
fn is_lookalike(name: &str) -> bool {
    name.contains('_') && {
        let read = name.replace('_', "-");
        let is_one_of = |prefixes: &[&str]| prefixes.iter().any(|prefix| read.starts_with(prefix));
        is_one_of(&[OWN_PREFIX, "x-forwarded-", "x-real-ip", "x-request-id"])
    }
}

/// HTTP/2 may split cookies over several lines; HTTP/1.1 has one (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() < 2 {
        return;
    }
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// The id a request has in every log: the sender's where it is one, otherwise a new one.
fn request_id(headers: &mut HeaderMap) -> HeaderValue {
    let is_sane = |id: &HeaderValue| {
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
        (1..=MAX_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(is_plain)
    };
    if let Entry::Occupied(given) = headers.entry(X_REQUEST_ID)
        && is_sane(given.get())
    {
        let given = given.get().clone();
        headers.insert(X_REQUEST_ID, given.clone());
        return given;
    }
    let made = HeaderValue::try_from(format!("{:032x}", fastrand::u128(..))).expect("hexadecimal is a header value");
    headers.insert(X_REQUEST_ID, made.clone());
    made
}

/// The comma-separated words of a header, over all its lines.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|token| !token.is_empty()).collect()
}

fn lists(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let is_word = |token: &&str| token.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case(word);
    headers.contains_key(name) && tokens(headers, name).iter().any(is_word)
}

#[cfg(test)]
mod tests;
