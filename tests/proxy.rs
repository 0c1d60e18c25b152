use crate::support::backend::FakeBackend;
use crate::support::client::say;
use crate::support::edge::Edge;

#[tokio::test]
async fn a_request_passes_through() {
    let backend = FakeBackend::start().await;
    let edge = Edge::before(backend.url()).await;
    let answer = say(edge.address, "GET /hello?x=1 HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello from the backend"), "{answer}");
    let seen = backend.next().await;
    assert_eq!((seen.uri.to_string().as_str(), seen.header("host")), ("/hello?x=1", "example.com"));
    edge.drained().await;
}
