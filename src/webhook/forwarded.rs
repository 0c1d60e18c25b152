use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::trace::TRACEPARENT;

/// The headers of a client's handshake that webhooks carry on, so that cookie sessions just work.
///
/// One is kept per connection: one allocation, none without headers.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Forwarded(Box<[u8]>);

/// Headers that are ours to write, or that describe one hop.
const RESERVED: [&str; 12] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "traceparent",
];

impl Forwarded {
    /// Those of `headers` that are called one of `names`, and the trace the client is part of.
    pub fn pick(headers: &HeaderMap, names: &[HeaderName]) -> Self {
        // A header value contains no line break, so lines keep them apart.
        let mut lines = Vec::new();
        for name in names.iter().chain([&TRACEPARENT]) {
            for value in headers.get_all(name) {
                lines.extend_from_slice(name.as_str().as_bytes());
                lines.push(b':');
                lines.extend_from_slice(value.as_bytes());
                lines.push(b'\n');
            }
        }
        Self(lines.into())
    }

    /// Name and value of each, without the trace.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.lines().filter(|(name, _)| *name != TRACEPARENT.as_str())
    }

    pub(super) fn traceparent(&self) -> Option<&str> {
        let (_, value) = self.lines().find(|(name, _)| *name == TRACEPARENT.as_str())?;
        std::str::from_utf8(value).ok()
    }

    /// Adds them to a request of ours, which may already have some of its own.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        for (name, value) in self.iter() {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value)) {
                headers.append(name, value);
            }
        }
    }

    /// All of it but the trace, to tell whether two connections forward the same.
    pub(super) fn without_trace(&self) -> &[u8] {
        // The trace was picked last.
        let is_trace = |(name, _): (&str, &[u8])| name == TRACEPARENT.as_str();
        let trace: usize =
            self.lines().filter(|it| is_trace(*it)).map(|(name, value)| name.len() + value.len() + 2).sum();
        &self.0[..self.0.len() - trace]
    }

    fn lines(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.split(|it| *it == b'\n').filter_map(|line| {
            let colon = line.iter().position(|it| *it == b':')?;
            Some((std::str::from_utf8(&line[..colon]).ok()?, &line[colon + 1..]))
        })
    }
}

impl fmt::Debug for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names alone: cookies and authorization are among the values.
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

/// Whether a header may be forwarded at all.
pub(super) fn is_forwardable(name: &HeaderName) -> bool {
    let name = name.as_str();
    !RESERVED.contains(&name) && !name.starts_with("webhook-") && !name.starts_with("outrigger-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake() -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [("cookie", "a=1"), ("cookie", "b=2: x"), ("x-secret", "no"), ("traceparent", "00-t")] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers.insert("user-agent", HeaderValue::from_bytes(b"caf\xe9").unwrap());
        headers
    }

    #[test]
    fn only_the_named_headers_are_kept_each_value_as_it_was() {
        let names = [http::header::COOKIE, http::header::USER_AGENT, http::header::ACCEPT];
        let forwarded = Forwarded::pick(&handshake(), &names);
        let kept: Vec<_> = forwarded.iter().collect();
        assert_eq!(kept, [("cookie", b"a=1" as &[u8]), ("cookie", b"b=2: x"), ("user-agent", b"caf\xe9")]);
        assert_eq!(forwarded.traceparent(), Some("00-t"));
        let mut request = HeaderMap::new();
        forwarded.add_to(&mut request);
        assert_eq!(request.get_all("cookie").iter().count(), 2);
        assert!(!format!("{forwarded:?}").contains("a=1"));
    }

    #[test]
    fn two_visits_of_one_browser_forward_the_same_whatever_their_traces() {
        let names = [http::header::COOKIE];
        let mut other = handshake();
        other.insert("traceparent", HeaderValue::from_static("00-another-one"));
        let [one, two] = [handshake(), other].map(|it| Forwarded::pick(&it, &names));
        assert_ne!(one, two);
        assert_eq!(one.without_trace(), two.without_trace());
        assert_eq!(one.without_trace(), b"cookie:a=1\ncookie:b=2: x\n");
    }

    #[test]
    fn nothing_to_forward_costs_nothing() {
        assert_eq!(Forwarded::pick(&HeaderMap::new(), &[http::header::COOKIE]), Forwarded::default());
        assert_eq!(Forwarded::default().iter().count(), 0);
    }

    #[test]
    fn headers_that_are_ours_cannot_be_forwarded() {
        for name in ["host", "content-length", "webhook-signature", "outrigger-event", "transfer-encoding"] {
            assert!(!is_forwardable(&HeaderName::from_static(name)), "{name}");
        }
        assert!(is_forwardable(&http::header::COOKIE));
    }
}
