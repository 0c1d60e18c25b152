//! The browser client, built from `client/` and embedded: `client.js` for a script tag, `client.mjs` for an import, their
//! source maps, and each under a name with its own hash, which may be kept for ever.

use std::io::Write;
use std::sync::LazyLock;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};

use super::{Body, method_not_allowed};

/// A file a page may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    Script,
    Module,
    ScriptMap,
    ModuleMap,
}

/// What a request names: a file, and perhaps the hash of the one it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    file: File,
    hash: Option<&'a str>,
}

/// A file ready to be sent.
struct Ready {
    plain: Bytes,
    gzip: Bytes,
    /// The beginning of the contents' SHA-256.
    hash: String,
}

const HASH_BYTES: usize = 8;
/// A file is checked for a newer one at each use, which costs an answer without a body.
const CHECK_EACH_TIME: &str = "no-cache";
const KEEP: &str = "public, max-age=31536000, immutable";

static READY: LazyLock<[Ready; 4]> = LazyLock::new(|| {
    [
        include_bytes!("../../client/dist/client.js").as_slice(),
        include_bytes!("../../client/dist/client.mjs"),
        include_bytes!("../../client/dist/client.js.map"),
        include_bytes!("../../client/dist/client.mjs.map"),
    ]
    .map(Ready::new)
});

impl<'a> Asked<'a> {
    /// Reads the last part of a path: `client.js`, `client.mjs`, a `.map` of these, or one with a hash before its ending.
    pub fn read(name: &'a str) -> Option<Self> {
        let rest = name.strip_prefix("client.")?;
        let (hash, ending) = match rest.split_once('.') {
            Some((hash, ending)) if is_hash(hash) => (Some(hash), ending),
            _ => (None, rest),
        };
        let file = match ending {
            "js" => File::Script,
            "mjs" => File::Module,
            "js.map" => File::ScriptMap,
            "mjs.map" => File::ModuleMap,
            _ => return None,
        };
        Some(Self { file, hash })
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 2 * HASH_BYTES && text.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
}

impl File {
    fn kind(self) -> &'static str {
        match self {
            Self::Script | Self::Module => "text/javascript; charset=utf-8",
            Self::ScriptMap | Self::ModuleMap => "application/json",
        }
    }

    fn ending(self) -> &'static str {
        match self {
            Self::Script => "js",
            Self::Module => "mjs",
            Self::ScriptMap => "js.map",
            Self::ModuleMap => "mjs.map",
        }
    }
}

impl Ready {
    fn new(plain: &'static [u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, plain);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(plain).expect("a Vec takes every byte");
        Self {
            plain: Bytes::from_static(plain),
            gzip: gzip.finish().expect("a Vec takes every byte").into(),
            hash: digest.as_ref()[..HASH_BYTES].iter().map(|it| format!("{it:02x}")).collect(),
        }
    }
}

/// Answers `GET …/client.js` and its kin.
pub(super) fn answer<B>(request: &Request<B>, asked: Asked<'_>) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return method_not_allowed("GET, HEAD");
    }
    let ready = &READY[asked.file as usize];
    let is_gzip = takes_gzip(request.headers());
    let etag = format!("\"{}{}\"", ready.hash, if is_gzip { "-gzip" } else { "" });
    let mut response = Response::new(Body::whole(Bytes::new()));
    set_headers(response.headers_mut(), asked, ready, &etag);
    if has_already(request.headers(), &etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    let body = if is_gzip { &ready.gzip } else { &ready.plain };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(asked.file.kind()));
    headers.insert(CONTENT_LENGTH, body.len().into());
    if is_gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if request.method() == Method::GET {
        *response.body_mut() = Body::whole(body.clone());
    }
    response
}

fn set_headers(headers: &mut HeaderMap, asked: Asked<'_>, ready: &Ready, etag: &str) {
    // While nodes are replaced by newer ones, a page of one may ask the other: what it gets then must not be kept.
    let cache = if asked.hash == Some(&ready.hash) { KEEP } else { CHECK_EACH_TIME };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // It is no secret: pages that isolate themselves may embed it from another origin.
    let resource_policy = HeaderName::from_static("cross-origin-resource-policy");
    headers.insert(resource_policy, HeaderValue::from_static("cross-origin"));
    let location = format!("client.{}.{}", ready.hash, asked.file.ending());
    for (name, text) in [(ETAG, etag), (CONTENT_LOCATION, &location)] {
        headers.insert(name, HeaderValue::from_str(text).expect("a hash is ASCII"));
    }
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|it| it.to_str().ok());
    let mut codings = lists.flat_map(|it| it.split(',')).map(|it| it.split_once(';').unwrap_or((it, "")));
    codings.any(|(name, weight)| name.trim().eq_ignore_ascii_case("gzip") && !is_zero(weight))
}

/// Whether a weight says "never": `q=0`, `q=0.000`.
fn is_zero(weight: &str) -> bool {
    weight.trim().strip_prefix("q=").is_some_and(|it| it.parse::<f32>().is_ok_and(|it| it == 0.0))
}

fn has_already(headers: &HeaderMap, etag: &str) -> bool {
    let lists = headers.get_all(IF_NONE_MATCH).iter().filter_map(|it| it.to_str().ok());
    let mut tags = lists.flat_map(|it| it.split(',')).map(str::trim);
    tags.any(|it| it == "*" || it.strip_prefix("W/").unwrap_or(it) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_client_are_taken() {
        let read = |name| Asked::read(name).map(|it| (it.file, it.hash));
        assert_eq!(read("client.js"), Some((File::Script, None)));
        assert_eq!(read("client.mjs.map"), Some((File::ModuleMap, None)));
        assert_eq!(read("client.0123456789abcdef.js"), Some((File::Script, Some("0123456789abcdef"))));
        assert_eq!(read("client.0123456789ABCDEF.js"), None);
        assert_eq!(read("client.min.js"), None);
        assert_eq!(read("client.json"), None);
        assert_eq!(read("other.js"), None);
    }

    #[test]
    fn gzip_is_for_those_who_take_it() {
        let takes = |text: &'static str| takes_gzip(&HeaderMap::from_iter([(ACCEPT_ENCODING, text.parse().unwrap())]));
        assert!(takes("br, GZIP;q=0.5"));
        assert!(!takes("gzip;q=0.0, br"));
        assert!(!takes("identity"));
    }
}
