//! The browser client, as pages load it.

use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;

use crate::support::app::TestApp;
use crate::support::client::{self, http2};

fn request(method: Method, path: &str, headers: &[(&str, &str)]) -> Request<Empty<bytes::Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header("host", "app.test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Empty::new()).unwrap()
}

async fn get(app: &TestApp, name: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
    client::send(app.public(), request(Method::GET, &format!("/realtime/{name}"), headers)).await
}

async fn bytes_of(response: Response<Incoming>) -> Vec<u8> {
    response.into_body().collect().await.unwrap().to_bytes().to_vec()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers[name].to_str().unwrap()
}

#[tokio::test]
async fn the_script_is_served_and_checked_for_a_newer_one_each_time() {
    let app = TestApp::start().await;
    let response = get(&app, "client.js", &[]).await;
    let headers = response.headers().clone();
    assert_eq!(text(&headers, "content-type"), "text/javascript; charset=utf-8");
    assert_eq!(text(&headers, "cache-control"), "no-cache");
    let script = String::from_utf8(bytes_of(response).await).unwrap();
    assert!(script.contains("sourceMappingURL=client.js.map"));

    let again = get(&app, "client.js", &[("if-none-match", text(&headers, "etag"))]).await;
    assert_eq!(again.status(), 304);
    assert!(bytes_of(again).await.is_empty());
}

#[tokio::test]
async fn the_name_with_the_hash_may_be_kept_for_ever() {
    let app = TestApp::start().await;
    let plain = get(&app, "client.js", &[]).await;
    let name = text(plain.headers(), "content-location").to_owned();
    let hashed = get(&app, &name, &[]).await;
    assert!(text(hashed.headers(), "cache-control").contains("immutable"));
    assert_eq!(bytes_of(hashed).await, bytes_of(plain).await);
}

#[tokio::test]
async fn another_version_s_name_is_answered_with_this_one_and_not_kept() {
    let app = TestApp::start().await;
    let response = get(&app, "client.0000000000000000.mjs", &[]).await;
    assert_eq!((response.status().as_u16(), text(response.headers(), "cache-control")), (200, "no-cache"));
}

#[tokio::test]
async fn gzip_and_plain_are_the_same_script_under_two_tags() {
    let app = TestApp::start().await;
    let plain = get(&app, "client.js", &[]).await;
    let small = get(&app, "client.js", &[("accept-encoding", "gzip, br")]).await;
    assert_eq!(text(small.headers(), "content-encoding"), "gzip");
    assert_eq!(text(small.headers(), "vary"), "accept-encoding");
    assert_ne!(small.headers()["etag"], plain.headers()["etag"]);
    let small = bytes_of(small).await;
    assert!(small.len() < 10 * 1024, "{} bytes are too much for a page", small.len());
    let mut inflated = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&small[..]), &mut inflated).unwrap();
    assert_eq!(inflated, bytes_of(plain).await);
}

#[tokio::test]
async fn the_source_map_comes_on_request() {
    let app = TestApp::start().await;
    let map = get(&app, "client.mjs.map", &[]).await;
    assert_eq!(text(map.headers(), "content-type"), "application/json");
    let map: serde_json::Value = serde_json::from_slice(&bytes_of(map).await).unwrap();
    assert_eq!(map["version"], 3);
}

#[tokio::test]
async fn head_says_what_get_would_and_nothing_else_is_taken() {
    let app = TestApp::start().await;
    let length = bytes_of(get(&app, "client.js", &[]).await).await.len();
    let head = client::send(app.public(), request(Method::HEAD, "/realtime/client.js", &[])).await;
    assert_eq!(text(head.headers(), "content-length"), length.to_string());
    assert!(bytes_of(head).await.is_empty());
    let post = client::send(app.public(), request(Method::POST, "/realtime/client.js", &[])).await;
    assert_eq!((post.status().as_u16(), text(post.headers(), "allow")), (405, "GET, HEAD"));
}

#[tokio::test]
async fn a_page_of_another_origin_may_load_it_if_that_origin_is_listed() {
    let app = TestApp::with("realtime: { allowed_origins: ['https://other.example'] }").await;
    let listed = get(&app, "client.js", &[("origin", "https://other.example")]).await;
    assert_eq!(text(listed.headers(), "access-control-allow-origin"), "https://other.example");
    let vary: Vec<_> = listed.headers().get_all("vary").iter().collect();
    assert_eq!(vary, ["accept-encoding", "Origin"]);
    let stranger = get(&app, "client.js", &[("origin", "https://evil.example")]).await;
    assert_eq!(stranger.status(), 403);
}

#[tokio::test]
async fn over_http_2_it_is_the_same() {
    let app = TestApp::with("listen: [{ address: '127.0.0.1:0', tls: self_signed }]").await;
    let mut sender = http2::<Empty<bytes::Bytes>>(app.public()).await;
    for (method, is_empty) in [(Method::GET, false), (Method::HEAD, true)] {
        let request = request(method, "https://localhost/realtime/client.js", &[]);
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(bytes_of(response).await.is_empty(), is_empty);
    }
}
