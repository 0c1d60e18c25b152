use std::borrow::Cow;

use http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use http::{HeaderMap, Request};

use super::{Settings, header};
use crate::peer::Peer;
use crate::protocol::query::parameter;
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

/// What `Authorization: Bearer` carries.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
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
    fn a_token_is_found_in_a_cookie_among_others() {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, "session=1; outrigger_token=a.b.c; z=2".parse().unwrap());
        assert_eq!(cookie(&headers, "outrigger_token"), Some("a.b.c"));
        assert_eq!(cookie(&headers, "token"), None);
    }
}
