//! The opening handshake: RFC 6455 over HTTP/1.1, RFC 8441 over HTTP/2, and what permessage-deflate is agreed on.

use http::header::{
    CONNECTION, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, Method, Request, StatusCode, Version};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::protocol::{Codec, Format};

/// The prefix of a subprotocol that is really a token: `new WebSocket(url, ['outrigger.v1.json', 'outrigger.token.' + jwt])`.
pub(super) const TOKEN_PROTOCOL: &str = "outrigger.token.";

/// What was agreed with the client.
#[derive(Debug)]
pub(super) struct Agreed {
    pub(super) codec: Codec,
    pub(super) deflate: Option<Deflated>,
    /// The token that travelled as a subprotocol.
    pub(super) token: Option<String>,
    subprotocol: Option<String>,
    /// Of HTTP/1.1; HTTP/2 has none.
    accept: Option<String>,
}

/// permessage-deflate, always without context takeover on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deflated {
    /// The client asked for a smaller window than our shared frames are made with.
    server_bits: Option<u8>,
}

/// Whether a request wants a WebSocket at all.
pub fn is_upgrade<B>(request: &Request<B>) -> bool {
    match request.version() {
        Version::HTTP_2 => {
            request.extensions().get::<hyper::ext::Protocol>().is_some_and(|it| it.as_str() == "websocket")
        }
        _ => has_token(request.headers(), UPGRADE, "websocket"),
    }
}

impl Agreed {
    /// Reads a handshake. An error is the status and the sentence it is refused with.
    pub(super) fn read<B>(request: &Request<B>, may_deflate: bool) -> Result<Self, (StatusCode, &'static str)> {
        let headers = request.headers();
        let bad = |text| (StatusCode::BAD_REQUEST, text);
        let mut accept = None;
        if request.version() != Version::HTTP_2 {
            if request.method() != Method::GET {
                return Err((StatusCode::METHOD_NOT_ALLOWED, "a WebSocket is opened with GET"));
            }
            if !has_token(headers, CONNECTION, "upgrade") {
                return Err(bad("`Connection: Upgrade` is missing"));
            }
            let key = headers.get(SEC_WEBSOCKET_KEY).filter(|it| it.len() == 24);
            accept =
                Some(derive_accept_key(key.ok_or(bad("`Sec-WebSocket-Key` is missing or no 16 bytes"))?.as_bytes()));
        }
        if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|it| it != "13") {
            return Err((StatusCode::UPGRADE_REQUIRED, "only WebSocket version 13 is spoken here"));
        }
        let offered = || values(headers, SEC_WEBSOCKET_PROTOCOL);
        let codec = Codec::negotiate(offered());
        let token = offered().find_map(|it| it.strip_prefix(TOKEN_PROTOCOL)).map(str::to_owned);
        let subprotocol = match codec {
            Some(codec) => Some(codec.subprotocol().to_owned()),
            // Browsers fail a connection that picks none of what they offered.
            None => offered().find(|it| it.starts_with(TOKEN_PROTOCOL)).map(str::to_owned),
        };
        let codec = codec.unwrap_or(Codec::Json);
        let deflate = (may_deflate && codec == Codec::Json)
            .then(|| values(headers, SEC_WEBSOCKET_EXTENSIONS).find_map(Deflated::accept))
            .flatten();
        Ok(Self { codec, deflate, token, subprotocol, accept })
    }

    /// What is said to the client in answer, as header lines.
    pub(super) fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        if let Some(accept) = &self.accept {
            headers.push(("Upgrade", "websocket".to_owned()));
            headers.push(("Connection", "Upgrade".to_owned()));
            headers.push(("Sec-WebSocket-Accept", accept.clone()));
        }
        if let Some(subprotocol) = &self.subprotocol {
            headers.push(("Sec-WebSocket-Protocol", subprotocol.clone()));
        }
        if let Some(deflate) = &self.deflate {
            headers.push(("Sec-WebSocket-Extensions", deflate.answer()));
        }
        headers
    }

    /// How publications are written for this client.
    pub(super) fn format(&self) -> Format {
        match (self.codec, self.deflate) {
            (Codec::Msgpack, _) => Format::WebSocketMsgpack,
            // A shared frame may refer further back than such a client remembers.
            (Codec::Json, Some(Deflated { server_bits: None })) => Format::WebSocketJsonDeflate,
            (Codec::Json, _) => Format::WebSocketJson,
        }
    }
}

impl Deflated {
    /// Takes one offer of the extension, or passes it by (RFC 7692, 7.1).
    fn accept(offer: &str) -> Option<Self> {
        let mut parts = offer.split(';').map(str::trim);
        if parts.next() != Some("permessage-deflate") {
            return None;
        }
        let mut server_bits = None;
        let mut seen = Vec::new();
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
                None => (part, None),
            };
            if seen.contains(&name) {
                return None;
            }
            seen.push(name);
            match (name, value) {
                ("server_no_context_takeover" | "client_no_context_takeover" | "client_max_window_bits", None) => {}
                ("client_max_window_bits", Some(bits)) => {
                    window_bits(bits)?;
                }
                // A window of 8 bits is one zlib cannot make.
                ("server_max_window_bits", Some(bits)) => server_bits = Some(window_bits(bits).filter(|it| *it > 8)?),
                _ => return None,
            }
        }
        Some(Self { server_bits: server_bits.filter(|it| *it < 15) })
    }

    fn answer(self) -> String {
        let mut answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover".to_owned();
        if let Some(bits) = self.server_bits {
            answer.push_str(&format!("; server_max_window_bits={bits}"));
        }
        answer
    }

    /// How far back a frame for this client may refer, as bits.
    #[cfg(feature = "conformance")]
    pub(super) fn window_bits(self) -> u8 {
        self.server_bits.unwrap_or(15)
    }
}

fn window_bits(text: &str) -> Option<u8> {
    text.parse().ok().filter(|it| (8..=15).contains(it) && !text.starts_with('0'))
}

/// The comma-separated values of all lines of a header.
pub(super) fn values(headers: &HeaderMap, name: http::HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|it| it.to_str().ok());
    lines.flat_map(|it| it.split(',')).map(str::trim).filter(|it| !it.is_empty())
}

fn has_token(headers: &HeaderMap, name: http::HeaderName, token: &str) -> bool {
    values(headers, name).any(|it| it.eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(more: &[(&'static str, &str)]) -> Request<()> {
        let mut request = Request::get("/realtime")
            .header("upgrade", "WebSocket")
            .header("connection", "keep-alive, Upgrade")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-version", "13");
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn the_sample_of_the_rfc_is_answered_as_it_says() {
        let agreed = Agreed::read(&request(&[]), true).unwrap();
        assert!(is_upgrade(&request(&[])));
        let accept = ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned());
        assert!(agreed.headers().contains(&accept));
        assert_eq!(agreed.format(), Format::WebSocketJson);
    }

    #[test]
    fn deflate_is_agreed_on_without_context_takeover_or_passed_by() {
        let agree = |offer| Agreed::read(&request(&[("sec-websocket-extensions", offer)]), true).unwrap();
        let agreed = agree("permessage-deflate; client_max_window_bits");
        assert_eq!(agreed.format(), Format::WebSocketJsonDeflate);
        assert!(agreed.headers().iter().any(|(_, it)| it.contains("server_no_context_takeover")));
        let small = agree("permessage-deflate; server_max_window_bits=9");
        assert_eq!(small.format(), Format::WebSocketJson);
        assert!(small.headers().iter().any(|(_, it)| it.ends_with("server_max_window_bits=9")));
        for bad in [
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; x",
            "permessage-deflate; server_max_window_bits=16",
            "x-webkit-deflate-frame",
        ] {
            assert_eq!(agree(bad).deflate, None, "{bad}");
        }
        assert!(agree("permessage-deflate; x, permessage-deflate").deflate.is_some(), "the second offer");
    }

    #[test]
    fn a_token_may_travel_as_a_subprotocol() {
        let agreed =
            Agreed::read(&request(&[("sec-websocket-protocol", "outrigger.v1.msgpack, outrigger.token.a.b.c")]), true);
        let agreed = agreed.unwrap();
        assert_eq!((agreed.codec, agreed.token.as_deref()), (Codec::Msgpack, Some("a.b.c")));
        assert!(agreed.headers().iter().any(|(_, it)| it == "outrigger.v1.msgpack"));
    }

    #[test]
    fn a_broken_handshake_says_what_is_missing() {
        let mut no_key = request(&[]);
        no_key.headers_mut().remove("sec-websocket-key");
        assert_eq!(Agreed::read(&no_key, true).unwrap_err().0, StatusCode::BAD_REQUEST);
        let mut old = request(&[]);
        old.headers_mut().insert("sec-websocket-version", http::HeaderValue::from_static("8"));
        assert_eq!(Agreed::read(&old, true).unwrap_err().0, StatusCode::UPGRADE_REQUIRED);
    }
}
