use http::header::{HOST, ORIGIN};
use http::{HeaderMap, Uri};

use super::header;

/// Whose pages may connect. Browsers send `Origin` and cannot be made to lie; other clients need none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// Pages of the host the request itself names.
    pub same_origin: bool,
    pub any: bool,
    /// As browsers write them: `https://app.example.com`, without a slash at the end.
    pub listed: Vec<String>,
}

impl Origins {
    /// Whether a request may be served. One without `Origin` comes from no page.
    pub fn allow(&self, headers: &HeaderMap, authority: Option<&str>) -> bool {
        let mut origins = headers.get_all(ORIGIN).iter();
        let Some(origin) = origins.next() else { return true };
        let Ok(origin) = origin.to_str() else { return false };
        if origins.next().is_some() {
            return false;
        }
        self.any
            || self.is_listed(origin)
            || (self.same_origin && is_same(origin, authority.or_else(|| header(headers, &HOST))))
    }

    pub(super) fn is_listed(&self, origin: &str) -> bool {
        self.listed.iter().any(|it| it.eq_ignore_ascii_case(origin))
    }
}

/// Compares hosts and ports; the scheme's own port may be left out on either side. The scheme itself is not compared:
/// a proxy in front of us may have ended TLS.
fn is_same(origin: &str, host: Option<&str>) -> bool {
    let Ok(origin) = origin.parse::<Uri>() else { return false };
    let default = if origin.scheme_str() == Some("https") { 443 } else { 80 };
    let host = host.and_then(|it| it.parse::<http::uri::Authority>().ok());
    match (origin.authority(), host) {
        (Some(ours), Some(theirs)) => {
            let port = |it: &http::uri::Authority| it.port_u16().unwrap_or(default);
            ours.host().eq_ignore_ascii_case(theirs.host()) && port(ours) == port(&theirs)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origins: &Origins, origin: &str, host: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, origin.parse().unwrap());
        headers.insert(HOST, host.parse().unwrap());
        origins.allow(&headers, None)
    }

    #[test]
    fn only_pages_of_the_same_host_or_a_listed_one_may_connect() {
        let origins = Origins { same_origin: true, any: false, listed: vec!["https://admin.example.com".into()] };
        assert!(allowed(&origins, "https://app.example.com", "app.example.com"));
        assert!(allowed(&origins, "https://app.example.com", "app.example.com:443"));
        assert!(allowed(&origins, "http://localhost:8080", "localhost:8080"));
        assert!(allowed(&origins, "https://admin.example.com", "app.example.com"));
        assert!(!allowed(&origins, "https://evil.example.com", "app.example.com"));
        assert!(!allowed(&origins, "http://localhost:9000", "localhost:8080"));
        assert!(!allowed(&origins, "null", "app.example.com"));
        assert!(!allowed(&origins, "https://app.example.com.evil.com", "app.example.com"));
    }

    #[test]
    fn a_client_that_is_no_browser_sends_no_origin() {
        assert!(Origins::default().allow(&HeaderMap::new(), None));
    }
}
