//! Who the client is behind trusted hops. Headers are read from the right, one hop at a time, and only as long as the
//! hop that wrote the entry is trusted: the first address that is not is the client.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};

use super::Policy;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What can be believed about a request's origin.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub client: IpAddr,
    pub scheme: &'static str,
    pub is_trusted: bool,
}

pub(super) fn origin(socket: IpAddr, is_tls: bool, headers: &HeaderMap, policy: &Policy) -> Origin {
    let own_scheme = if is_tls { "https" } else { "http" };
    if !policy.trusts(socket) {
        return Origin { client: socket, scheme: own_scheme, is_trusted: false };
    }
    let mut origin = Origin { client: socket, scheme: own_scheme, is_trusted: true };
    // Most proxies write X-Forwarded-For and pass a client's own Forwarded through, so the latter counts only alone.
    if headers.contains_key(X_FORWARDED_FOR) {
        for hop in entries(headers, X_FORWARDED_FOR).map(address) {
            let Some(hop) = hop else { break };
            origin.client = hop;
            if !policy.trusts(hop) {
                break;
            }
        }
        let scheme = entries(headers, X_FORWARDED_PROTO).next().and_then(scheme);
        origin.scheme = scheme.unwrap_or(own_scheme);
    } else {
        for hop in entries(headers, http::header::FORWARDED) {
            let Some(client) = parameter(hop, "for").and_then(address) else { break };
            origin.client = client;
            origin.scheme = parameter(hop, "proto").and_then(scheme).unwrap_or(origin.scheme);
            if !policy.trusts(client) {
                break;
            }
        }
    }
    origin
}

/// The entries of a list header over all its lines, the last first. Forwarding headers hold no quoted comma.
fn entries(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines: Vec<&str> = headers.get_all(name).iter().map(|line| line.to_str().unwrap_or("")).collect();
    lines.into_iter().rev().flat_map(|line| line.rsplit(',')).map(str::trim)
}

/// One parameter of a `Forwarded` element, without its quotes.
fn parameter<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    element.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

/// An address as proxies write it: bare, with a port, in brackets.
fn address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip().to_canonical());
    }
    let bare = text.strip_prefix('[')?.strip_suffix(']')?;
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn scheme(text: &str) -> Option<&'static str> {
    match text {
        _ if text.eq_ignore_ascii_case("https") || text.eq_ignore_ascii_case("wss") => Some("https"),
        _ if text.eq_ignore_ascii_case("http") || text.eq_ignore_ascii_case("ws") => Some("http"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(socket: &str, headers: &[(&'static str, &'static str)]) -> (String, &'static str, bool) {
        let policy = Policy { trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()], ..Policy::default() };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let origin = origin(socket.parse().unwrap(), false, &map, &policy);
        (origin.client.to_string(), origin.scheme, origin.is_trusted)
    }

    #[test]
    fn nobody_else_is_believed() {
        let headers = [("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=1.1.1.1;proto=https")];
        assert_eq!(seen("203.0.113.9", &headers), ("203.0.113.9".into(), "http", false));
    }

    #[test]
    fn the_client_is_the_last_address_that_no_trusted_hop_has() {
        let headers = [("x-forwarded-for", "6.6.6.6, 203.0.113.9"), ("x-forwarded-for", "10.0.0.2")];
        let proto = ("x-forwarded-proto", "https");
        assert_eq!(seen("10.0.0.1", &[headers[0], headers[1], proto]), ("203.0.113.9".into(), "https", true));
    }

    #[test]
    fn forwarded_is_read_when_it_is_alone() {
        let forwarded = ("forwarded", "for=6.6.6.6, for=\"[2001:db8::7]:80\";proto=https, for=10.0.0.2;proto=http");
        assert_eq!(seen("10.0.0.1", &[forwarded]), ("2001:db8::7".into(), "https", true));
        let both = [forwarded, ("x-forwarded-for", "203.0.113.9")];
        assert_eq!(seen("10.0.0.1", &both), ("203.0.113.9".into(), "http", true));
    }

    #[test]
    fn what_cannot_be_read_ends_the_walk() {
        assert_eq!(seen("10.0.0.1", &[("x-forwarded-for", "6.6.6.6, unknown")]).0, "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &[("x-forwarded-for", "")]).0, "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &[]).0, "10.0.0.1");
    }
}
