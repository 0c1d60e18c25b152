use std::borrow::Cow;

use http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use http::{HeaderMap, Request};

use super::{Settings, header};
use crate::peer::Peer;
use crate::session::{Hello, Sessions, Transport};

/// Where a token may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// `?token=…`
    Query,
    /// `Authorization: Bearer …`
    Header,
    Cookie,
    /// `Sec-WebSocket-Protocol: outrigger.token.…`
    Subprotocol,
    /// The first message of a WebSocket: `{"type":"auth","token":"…"}`
    Message,
}

/// Reads what a request shows of its client. `subprotocol` is a token that was found there.
pub(super) fn hello<B>(
    request: &Request<B>,
    settings: &Settings,
    sessions: &Sessions,
    transport: Transport,
    subprotocol: Option<String>,
) -> Hello {
    let headers = request.headers();
    let query = request.uri().query().unwrap_or_default();
    let found = |source: &TokenSource| match source {
        TokenSource::Query => parameter(query, "token").map(Cow::into_owned),
        TokenSource::Header => bearer(headers).map(str::to_owned),
        TokenSource::Cookie => cookie(headers, &settings.cookie).map(str::to_owned),
        TokenSource::Subprotocol => subprotocol.clone(),
        TokenSource::Message => None,
    };
    Hello {
        transport,
        token: settings.token_from.iter().find_map(found).filter(|it| !it.is_empty()),
        ticket: parameter(query, "ticket").map(Cow::into_owned),
        ip: request.extensions().get::<Peer>().map_or(std::net::Ipv4Addr::UNSPECIFIED.into(), |it| it.client),
        path: request.uri().path().into(),
        query: query.into(),
        origin: header(headers, &ORIGIN).map(Into::into),
        forwarded: sessions.forwarded(headers),
    }
}

/// Whether the request's page may talk to us.
pub(super) fn is_from_allowed_origin<B>(request: &Request<B>, settings: &Settings) -> bool {
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let authority = authority.or_else(|| header(request.headers(), &HOST));
    settings.allowed_origins.allow(request.headers(), authority)
}

/// The first value of a query parameter, decoded.
pub(super) fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.find(|(it, _)| *it == name)?;
    decoded(value)
}

/// Percent-encoded text, with `+` for a space as forms write it. None if it is not UTF-8.
fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(text.into());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(out).ok().map(Into::into)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = header(headers, &AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|it| it.to_str().ok());
    let mut pairs = lines.flat_map(|it| it.split(';')).filter_map(|it| it.trim().split_once('='));
    pairs.find(|(it, _)| *it == name).map(|(_, value)| value.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        assert_eq!(parameter("a=1&channels=room.5%2Cz%C3%BC&x", "channels").as_deref(), Some("room.5,zü"));
        assert_eq!(parameter("a=1", "b"), None);
        assert_eq!(parameter("a=%", "a"), None);
        assert_eq!(parameter("a=%ff", "a"), None);
    }

    #[test]
    fn a_token_is_found_in_a_cookie_among_others() {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, "session=1; outrigger_token=a.b.c; z=2".parse().unwrap());
        assert_eq!(cookie(&headers, "outrigger_token"), Some("a.b.c"));
        assert_eq!(cookie(&headers, "token"), None);
    }
}
