//! The console: a few static files that read the API with the operator's key. Everything it shows comes from the same
//! routes anybody else may call.

use bytes::Bytes;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;

/// Path, media type and content of every file.
const FILES: &[(&str, &str, &str)] = &[
    ("/console/", "text/html; charset=utf-8", include_str!("console/index.html")),
    ("/console/style.css", "text/css; charset=utf-8", include_str!("console/style.css")),
    ("/console/icon.svg", "image/svg+xml", include_str!("console/icon.svg")),
    ("/console/main.js", JAVASCRIPT, include_str!("console/main.js")),
    ("/console/node.js", JAVASCRIPT, include_str!("console/node.js")),
    ("/console/numbers.js", JAVASCRIPT, include_str!("console/numbers.js")),
    ("/console/page.js", JAVASCRIPT, include_str!("console/page.js")),
    ("/console/overview.js", JAVASCRIPT, include_str!("console/overview.js")),
    ("/console/channels.js", JAVASCRIPT, include_str!("console/channels.js")),
    ("/console/connections.js", JAVASCRIPT, include_str!("console/connections.js")),
    ("/console/tail.js", JAVASCRIPT, include_str!("console/tail.js")),
    ("/console/explain.js", JAVASCRIPT, include_str!("console/explain.js")),
    ("/console/dead.js", JAVASCRIPT, include_str!("console/dead.js")),
    ("/console/config.js", JAVASCRIPT, include_str!("console/config.js")),
];

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Nothing from elsewhere is loaded, nothing inline runs, and no other page may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/// Answers for a file of the console, and at `/` for whoever reads HTML; none means that the path is another's.
pub(super) fn answer(path: &str, headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
    let is_browser = || headers.get(ACCEPT).and_then(|it| it.to_str().ok()).is_some_and(|it| it.contains("text/html"));
    if path == "/console" || (path == "/" && is_browser()) {
        return Some(redirect());
    }
    let (_, media_type, content) = FILES.iter().find(|(it, ..)| *it == path)?;
    let etag = HeaderValue::from_static(concat!("\"", env!("CARGO_PKG_VERSION"), "\""));
    // Files change with the program alone; a debug build is changed without a new version.
    let is_known = !cfg!(debug_assertions) && headers.get(IF_NONE_MATCH) == Some(&etag);
    let mut response = Response::new(if is_known { Full::default() } else { Full::from(*content) });
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    for (name, value) in [
        (CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (ETAG, etag),
    ] {
        response.headers_mut().insert(name, value);
    }
    Some(response)
}

fn redirect() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("/console/"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(accept: &'static str) -> HeaderMap {
        [(ACCEPT, HeaderValue::from_static(accept))].into_iter().collect()
    }

    #[test]
    fn a_browser_is_led_to_the_console_and_a_program_is_not() {
        let browser = answer("/", &asking("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"));
        assert_eq!(browser.unwrap().headers()[LOCATION], "/console/");
        assert!(answer("/", &asking("*/*")).is_none());
        assert!(answer("/metrics", &asking("text/html")).is_none());
    }

    #[test]
    fn every_file_that_is_imported_or_linked_is_there_and_nothing_comes_from_elsewhere() {
        for (path, _, content) in FILES {
            for named in content.split("./").skip(1).filter_map(|it| it.split(['"', '\'']).next()) {
                assert!(FILES.iter().any(|(it, ..)| *it == format!("/console/{named}")), "{path} names {named}");
            }
            assert!(!content.contains("https://") && !content.contains("innerHTML"), "{path}");
        }
    }
}
