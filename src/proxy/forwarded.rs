//! `Forwarded` and `X-Forwarded-*` as the backend gets them: written anew, unless the hop before us is trusted; then its
//! own are kept and extended.

use std::fmt::Write;
use std::net::IpAddr;

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::peer::Peer;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

pub(super) fn set(headers: &mut HeaderMap, peer: &Peer, host: Option<&HeaderValue>) {
    if !peer.trusted {
        remove_claims(headers);
    }
    let hop = peer.socket.ip();
    // One of the two chains is believed and the other follows it: proxies that write X-Forwarded-For let a client's own
    // Forwarded through, and a backend that reads that one would be lied to.
    let hops = chain(headers, X_FORWARDED_FOR);
    let forwarded = match chain(headers, FORWARDED) {
        Some(before) if hops.is_none() => format!("{before}, {}", element(hop, peer.scheme, host)),
        _ => rebuilt(hops.as_deref(), hop, peer.scheme, host),
    };
    let hops = match hops {
        Some(before) => format!("{before}, {hop}"),
        None if peer.client != hop => format!("{}, {hop}", peer.client),
        None => hop.to_string(),
    };
    // Both are made of visible ASCII that came out of valid header values.
    insert(headers, X_FORWARDED_FOR, &hops);
    insert(headers, FORWARDED, &forwarded);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(peer.scheme));
    if let Some(host) = host
        && !headers.contains_key(X_FORWARDED_HOST)
    {
        headers.insert(X_FORWARDED_HOST, host.clone());
    }
}

/// Everything a client could say about where it comes from, `X-Forwarded-Port` and its like included.
fn remove_claims(headers: &mut HeaderMap) {
    headers.remove(FORWARDED);
    headers.remove(X_REAL_IP);
    let is_claim = |name: &&HeaderName| name.as_str().starts_with("x-forwarded-");
    let claims: Vec<HeaderName> = headers.keys().filter(is_claim).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// All lines of a list header as one.
fn chain(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let lines: Vec<&str> = headers.get_all(name).iter().filter_map(|line| line.to_str().ok()).collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

/// `Forwarded` with the same hops as `X-Forwarded-For`.
fn rebuilt(before: Option<&str>, hop: IpAddr, scheme: &str, host: Option<&HeaderValue>) -> String {
    let mut text = String::new();
    for entry in before.unwrap_or("").split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let node = entry.parse().map_or_else(|_| "unknown".to_owned(), node);
        let _ = write!(text, "for={node}, ");
    }
    text + &element(hop, scheme, host)
}

fn element(hop: IpAddr, scheme: &str, host: Option<&HeaderValue>) -> String {
    // A valid host holds no quote, so it needs no escaping.
    let host = host.and_then(|host| host.to_str().ok()).map(|host| format!(";host=\"{host}\"")).unwrap_or_default();
    format!("for={}{host};proto={scheme}", node(hop))
}

/// RFC 7239 section 6: IPv6 in brackets and quotes.
fn node(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(socket: &str, trusted: bool, headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let socket = format!("{socket}:1").parse().unwrap();
        let local = "10.0.0.1:443".parse().unwrap();
        let peer = Peer { socket, local, tls: true, client: socket.ip(), scheme: "https", trusted };
        let mut map: HeaderMap = headers.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect();
        set(&mut map, &peer, Some(&HeaderValue::from_static("example.com")));
        map
    }

    #[test]
    fn a_clients_claims_are_replaced() {
        let claims = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-port", "22"),
            ("x-real-ip", "1.1.1.1"),
            ("forwarded", "for=1.1.1.1"),
        ];
        let map = forwarded("[2001:db8::7]", false, &claims);
        assert_eq!(map["x-forwarded-for"], "2001:db8::7");
        assert_eq!(map["x-forwarded-proto"], "https");
        assert_eq!(map["x-forwarded-host"], "example.com");
        assert_eq!(map["forwarded"], "for=\"[2001:db8::7]\";host=\"example.com\";proto=https");
        assert!(!map.contains_key("x-forwarded-port") && !map.contains_key("x-real-ip"));
    }

    #[test]
    fn a_trusted_hops_chain_is_extended() {
        let map = forwarded("10.0.0.2", true, &[("x-forwarded-for", "203.0.113.9"), ("x-forwarded-host", "shop.org")]);
        assert_eq!(map["x-forwarded-for"], "203.0.113.9, 10.0.0.2");
        assert_eq!(map["forwarded"], "for=203.0.113.9, for=10.0.0.2;host=\"example.com\";proto=https");
        assert_eq!(map["x-forwarded-host"], "shop.org");
    }

    #[test]
    fn forwarded_alone_is_extended_and_beside_the_other_it_is_rebuilt() {
        let alone = forwarded("10.0.0.2", true, &[("forwarded", "for=203.0.113.9")]);
        assert_eq!(alone["forwarded"], "for=203.0.113.9, for=10.0.0.2;host=\"example.com\";proto=https");
        let lied = forwarded("10.0.0.2", true, &[("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "203.0.113.9")]);
        assert_eq!(lied["forwarded"], "for=203.0.113.9, for=10.0.0.2;host=\"example.com\";proto=https");
    }
}
