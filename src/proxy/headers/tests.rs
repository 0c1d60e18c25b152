use http::Request;

use super::*;

fn peer() -> Peer {
    let socket = "203.0.113.9:5000".parse().unwrap();
    let local = "10.0.0.1:80".parse().unwrap();
    Peer { socket, local, tls: false, client: "203.0.113.9".parse().unwrap(), scheme: "http", trusted: false }
}

fn head(method: &str, uri: &str, version: Version, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(uri).version(version);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn get(headers: &[(&str, &str)]) -> Parts {
    head("GET", "/", Version::HTTP_11, &[&[("host", "example.com")], headers].concat())
}

fn prepared(mut head: Parts) -> (Parts, Prepared) {
    let prepared = prepare(&mut head, &peer(), &["websocket".to_owned()]).map_err(|it| it.text()).unwrap();
    (head, prepared)
}

fn refused(mut head: Parts) -> Refusal {
    prepare(&mut head, &peer(), &[]).err().expect("the request is refused")
}

#[test]
fn headers_of_one_hop_stay_there() {
    let (head, _) = prepared(get(&[
        ("connection", "close, X-One"),
        ("connection", "x-two"),
        ("x-one", "1"),
        ("x-two", "2"),
        ("x-three", "3"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic x"),
        ("te", "gzip"),
        ("upgrade", "h2c"),
        ("trailer", "x-sum"),
    ]));
    let mut names: Vec<_> = head.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    let expected = ["forwarded", "host", "trailer", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
    assert_eq!(names, [&expected[..], &["x-request-id", "x-three"]].concat());
}

#[test]
fn connection_cannot_take_our_own_headers_away() {
    let (head, _) = prepared(get(&[("connection", "x-forwarded-for, host, x-request-id, forwarded")]));
    assert_eq!(head.headers["x-forwarded-for"], "203.0.113.9");
    assert_eq!(head.headers["host"], "example.com");
    assert!(head.headers.contains_key("x-request-id") && head.headers.contains_key("forwarded"));
}

#[test]
fn clients_cannot_speak_for_the_backend() {
    let (head, _) = prepared(get(&[("outrigger-push", "\"a\""), ("Outrigger-Event", "publish")]));
    assert!(head.headers.keys().all(|name| !name.as_str().starts_with("outrigger-")));
}

#[test]
fn a_name_that_reads_like_ours_to_a_wsgi_backend_is_removed() {
    let claims = ["outrigger_event", "x_forwarded_for", "x-forwarded_proto", "x_real_ip", "x_request-id"];
    let (head, _) = prepared(get(&[claims.map(|name| (name, "1")).as_slice(), &[("my_own", "2")]].concat()));
    assert!(claims.iter().all(|name| !head.headers.contains_key(*name)), "{:?}", head.headers);
    assert_eq!(head.headers["my_own"], "2");
}

#[test]
fn only_trailers_remain_of_te() {
    let (head, _) = prepared(get(&[("te", "gzip;q=0.5, trailers")]));
    assert_eq!(head.headers["te"], "trailers");
    assert_eq!(head.headers["connection"], "TE");
}

#[test]
fn only_allowed_protocols_are_upgraded_to() {
    let (head, prepared) = self::prepared(get(&[("connection", "keep-alive, Upgrade"), ("upgrade", "h2c, WebSocket")]));
    assert_eq!(prepared.upgrade.as_deref(), Some("WebSocket"));
    assert_eq!(head.headers["upgrade"], "WebSocket");
    assert_eq!(head.headers["connection"], "Upgrade");
    for headers in [&[("connection", "upgrade"), ("upgrade", "h2c")][..], &[("upgrade", "websocket")]] {
        let (head, prepared) = self::prepared(get(headers));
        assert_eq!(prepared.upgrade, None);
        assert!(!head.headers.contains_key("upgrade") && !head.headers.contains_key("connection"));
    }
}

#[test]
fn a_request_has_one_valid_host() {
    let one = |uri, version, headers: &[_]| head("GET", uri, version, headers);
    for bad in [
        one("/", Version::HTTP_11, &[]),
        one("/", Version::HTTP_11, &[("host", "a"), ("host", "a")]),
        one("/", Version::HTTP_11, &[("host", "a b")]),
        one("/", Version::HTTP_11, &[("host", "user@a")]),
        one("/", Version::HTTP_11, &[("host", "")]),
    ] {
        assert!(matches!(refused(bad), Refusal::Malformed(_)));
    }
    let (absolute, _) = prepared(one("http://real.example/x?y", Version::HTTP_11, &[("host", "other")]));
    assert_eq!((absolute.headers["host"].to_str().unwrap(), absolute.uri.to_string()), ("real.example", "/x?y".into()));
    let (bare, _) = prepared(one("http://real.example?y", Version::HTTP_11, &[]));
    assert_eq!(bare.uri.to_string(), "/?y");
    let (old, _) = prepared(one("/", Version::HTTP_10, &[]));
    assert!(!old.headers.contains_key("host"));
}

#[test]
fn http2_becomes_http1() {
    let headers = [("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers")];
    let (head, _) = prepared(head("GET", "https://example.com/x", Version::HTTP_2, &headers));
    assert_eq!(head.headers["host"], "example.com");
    assert_eq!(head.headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    assert_eq!((head.uri.to_string(), head.version), ("/x".to_owned(), Version::HTTP_11));
}

#[test]
fn what_is_not_served_is_refused() {
    assert_eq!(refused(head("CONNECT", "example.com:443", Version::HTTP_11, &[])), Refusal::Connect);
    for headers in [&[("transfer-encoding", "gzip, chunked")][..], &[("transfer-encoding", "identity")]] {
        assert_eq!(refused(get(headers)), Refusal::TransferCoding);
    }
    let twice = [("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")];
    assert_eq!(refused(get(&twice)), Refusal::TransferCoding);
    assert!(matches!(refused(head("GET", "*", Version::HTTP_11, &[("host", "a")])), Refusal::Malformed(_)));
}

#[test]
fn a_request_id_is_kept_when_it_is_one() {
    let id = |given: &[(&str, &str)]| prepared(get(given)).1.request_id.to_str().unwrap().to_owned();
    assert_eq!(id(&[("x-request-id", "Root=1-67891233-abcdef")]), "Root=1-67891233-abcdef");
    for bad in ["", "a b", "x\"y", &"x".repeat(129)] {
        assert_eq!(id(&[("x-request-id", bad)]).len(), 32, "{bad:?}");
    }
    assert_ne!(id(&[]), id(&[]));
}

#[test]
fn an_answer_loses_its_hop_and_keeps_our_orders() {
    let mut headers =
        get(&[("connection", "x-one"), ("x-one", "1"), ("keep-alive", "x"), ("outrigger-push", "\"a\"")]).headers;
    clean_response(&mut headers);
    let names: Vec<_> = headers.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["host", "outrigger-push"]);
}
