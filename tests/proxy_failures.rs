//! What a client is told when there is no answer, and that it is told nothing else.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::support::Gate;
use crate::support::backend::{FakeBackend, RawBackend, Reply};
use crate::support::client::{RawClient, say};
use crate::support::edge::{Edge, Setup};

const GET: &str = "GET /secret-path?token=secret HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n\r\n";

/// The status of an answer that must say nothing about what is behind.
fn discreet(answer: &str) -> &str {
    for secret in ["127.0.0.1", "secret", "refused", "hyper", "os error"] {
        assert!(!answer.contains(secret), "{secret} in {answer}");
    }
    assert!(answer.contains("x-request-id: "), "{answer}");
    &answer["HTTP/1.1 ".len()..][..3]
}

async fn refusing_address() -> String {
    format!("http://{}", TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap())
}

#[tokio::test]
async fn a_backend_that_is_not_there_is_a_bad_gateway() {
    let edge = Edge::before(refusing_address().await).await;
    assert_eq!(discreet(&say(edge.address, GET).await), "502");
    edge.metric_becomes("outrigger_proxy_failures_total{reason=\"connect\"}", "1").await;
    edge.metric_becomes("outrigger_proxy_requests_total{status=\"5xx\"}", "1").await;
}

#[tokio::test]
async fn an_answer_that_is_none_is_a_bad_gateway() {
    let coded = b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n";
    for bytes in [&b""[..], b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-le", coded] {
        let backend = RawBackend::saying(bytes).await;
        let edge = Edge::before(backend.url()).await;
        assert_eq!(discreet(&say(edge.address, GET).await), "502");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_backend_is_a_gateway_timeout() {
    let backend = FakeBackend::start().await;
    let never = Gate::closed();
    backend.on("/secret-path", move |_| Reply::ok("").behind(&never));
    let mut setup = Setup::before(&[backend.url()]);
    setup.backend.response_timeout = Duration::from_secs(3);
    let edge = Edge::start(setup).await;
    assert_eq!(discreet(&say(edge.address, GET).await), "504");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_sending_is_told_so() {
    let backend = FakeBackend::start().await;
    let mut setup = Setup::before(&[backend.url()]);
    setup.backend.response_timeout = Duration::from_secs(3);
    let edge = Edge::start(setup).await;
    let mut client = RawClient::connect(edge.address).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf").await;
    assert_eq!(discreet(&client.read_all().await), "408");
}

#[tokio::test(start_paused = true)]
async fn when_all_connections_are_busy_the_client_may_come_back() {
    let backend = FakeBackend::start().await;
    let never = Gate::closed();
    backend.on("/busy", move |_| Reply::ok("").behind(&never));
    let mut setup = Setup::before(&[backend.url()]);
    setup.backend.max_connections = 1;
    let edge = Edge::start(setup).await;
    let mut first = RawClient::connect(edge.address).await;
    first.send("GET /busy HTTP/1.1\r\nhost: a\r\n\r\n").await;
    backend.next().await;
    let answer = say(edge.address, GET).await;
    assert_eq!(discreet(&answer), "503");
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_made_to_look_whole() {
    let breaks = Gate::closed();
    let broken = breaks.clone();
    let backend = RawBackend::start(move |_, mut connection| {
        let broken = broken.clone();
        async move {
            connection.read_head().await;
            let head_and_part = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n";
            connection.stream.write_all(head_and_part).await.unwrap();
            broken.pass().await;
        }
    })
    .await;
    let edge = Edge::before(backend.url()).await;
    let mut client = RawClient::connect(edge.address).await;
    client.send(GET).await;
    client.read_to("part").await;
    breaks.open();
    let rest = client.read_all().await;
    assert!(!rest.contains("0\r\n"), "the last chunk was made up: {rest}");
    edge.metric_becomes("outrigger_proxy_failures_total{reason=\"broken_body\"}", "1").await;
    edge.metric_becomes("outrigger_proxy_incomplete_total", "1").await;
}

#[tokio::test]
async fn another_backend_answers_for_one_that_refuses() {
    let backend = FakeBackend::start().await;
    let edge = Edge::start(Setup::before(&[refusing_address().await, backend.url()])).await;
    for _ in 0..4 {
        let post = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbody";
        let answer = say(edge.address, post).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(backend.next().await.body, "body");
    }
}

#[tokio::test]
async fn what_is_not_served_is_refused() {
    let backend = FakeBackend::start().await;
    let edge = Edge::before(backend.url()).await;
    for (request, status) in [
        ("CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n\r\n", "405"),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "400"),
    ] {
        let mut client = RawClient::connect(edge.address).await;
        client.send(request).await;
        let answer = client.read_to("\r\n\r\n").await;
        assert_eq!(&answer["HTTP/1.1 ".len()..][..3], status, "{request}");
    }
    assert!(!backend.has_more().await);
}
