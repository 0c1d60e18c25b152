//! Sockets in: limits, PROXY headers, takeover, redirect, drain.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use outrigger::peer::{Peer, Takeover};
use outrigger::server::{Address, Listener, Policy};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::support::Gate;
use crate::support::backend::{FakeBackend, Reply};
use crate::support::client::{RawClient, say};
use crate::support::edge::{Edge, Setup};

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

fn listener() -> Listener {
    let address = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
    Listener { address, tls: None, proxy_protocol: false, redirect_to_https: None, http2_connect: false }
}

/// Takes every connection over: says what came early, then echoes. `/big` is an ordinary large answer.
async fn take_over(request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.uri().path() == "/big" {
        return Response::new(Full::from(vec![b'x'; 16 * 1024 * 1024]));
    }
    let slot = request.extensions().get::<Takeover>().cloned().expect("HTTP/1.1 has a slot");
    let run = |mut stream: outrigger::peer::Stream, early: Bytes| {
        let echo = async move {
            stream.write_all(b"taken over, early: ").await.unwrap();
            stream.write_all(&early).await.unwrap();
            let (mut read, mut write) = tokio::io::split(stream);
            let _ = tokio::io::copy(&mut read, &mut write).await;
        };
        Box::pin(echo) as _
    };
    match slot.leave(Box::new(run)).await {}
}

#[tokio::test]
async fn a_handler_takes_the_connection_with_all_that_came_early() {
    let edge = Edge::serve(listener(), Policy::default(), Registry::with_prefix("outrigger"), take_over).await;
    let mut client = RawClient::connect(edge.address).await;
    client.send(format!("{GET}early")).await;
    client.read_to("taken over, early: early").await;
    client.send("later").await;
    client.read_to("later").await;
    assert_eq!(edge.metric("outrigger_server_connections"), "1", "the connection counts while it lasts");
    drop(client);
    edge.metric_becomes("outrigger_server_connections", "0").await;
    edge.drained().await;
}

#[tokio::test]
async fn an_answer_before_a_takeover_is_written_whole() {
    let edge = Edge::serve(listener(), Policy::default(), Registry::with_prefix("outrigger"), take_over).await;
    let mut client = RawClient::connect(edge.address).await;
    // Both at once, and nothing is read before the server had every chance to take the connection apart.
    client.send(format!("GET /big HTTP/1.1\r\nhost: a\r\n\r\n{GET}early")).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let text = client.read_to("taken over, early: early").await;
    assert_eq!(text.matches('x').count(), 16 * 1024 * 1024);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused_and_room_comes_back() {
    let policy = Policy { max_connections: 1, ..Policy::default() };
    let edge = Edge::serve(listener(), policy, Registry::with_prefix("outrigger"), take_over).await;
    let mut first = RawClient::connect(edge.address).await;
    first.send(GET).await;
    first.read_to("early: ").await;
    let answer = say(edge.address, GET).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: "), "{answer}");
    assert_eq!(edge.metric("outrigger_server_connections_refused_total{reason=\"full\"}"), "1");
    drop(first);
    edge.metric_becomes("outrigger_server_connections", "0").await;
    let mut third = RawClient::connect(edge.address).await;
    third.send(GET).await;
    third.read_to("early: ").await;
}

#[tokio::test]
async fn one_address_has_a_limit_of_its_own_but_a_trusted_proxy_has_none() {
    let backend = FakeBackend::start().await;
    let mut setup = Setup::before(&[backend.url()]);
    setup.policy.max_connections_per_ip = 0;
    let edge = Edge::start(setup).await;
    assert!(say(edge.address, GET).await.starts_with("HTTP/1.1 503 "));
    assert_eq!(edge.metric("outrigger_server_connections_refused_total{reason=\"address\"}"), "1");

    let mut setup = Setup::before(&[backend.url()]).trusting("127.0.0.0/8");
    setup.policy.max_connections_per_ip = 0;
    let edge = Edge::start(setup).await;
    let mut client = RawClient::connect(edge.address).await;
    client.send(GET).await;
    client.read_to("hello from the backend").await;
}

#[tokio::test]
async fn a_trusted_balancer_names_the_client_in_a_proxy_header() {
    let backend = FakeBackend::start().await;
    let mut setup = Setup::before(&[backend.url()]).trusting("127.0.0.0/8");
    setup.proxy_protocol = true;
    let edge = Edge::start(setup).await;
    let mut client = RawClient::connect(edge.address).await;
    client.send("PROXY TCP4 203.0.113.9 10.0.0.1 5000 80\r\n").await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 6.6.6.6\r\n\r\n").await;
    client.read_to("hello from the backend").await;
    assert_eq!(backend.next().await.header("x-forwarded-for"), "203.0.113.9");
    assert_eq!(say(edge.address, GET).await, "", "without a header the balancer is not served");
    assert_eq!(edge.metric("outrigger_server_handshakes_failed_total{reason=\"proxy_header\"}"), "1");
}

#[tokio::test]
async fn nobody_else_may_write_a_proxy_header() {
    let backend = FakeBackend::start().await;
    let mut setup = Setup::before(&[backend.url()]).trusting("10.0.0.0/8");
    setup.proxy_protocol = true;
    let edge = Edge::start(setup).await;
    let answer = say(edge.address, format!("PROXY TCP4 203.0.113.9 10.0.0.1 5000 80\r\n{GET}")).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(!backend.has_more().await);
}

#[tokio::test(start_paused = true)]
async fn an_endless_head_and_an_endless_proxy_header_are_cut_off() {
    let backend = FakeBackend::start().await;
    let mut setup = Setup::before(&[backend.url()]);
    setup.policy.header_timeout = Duration::from_secs(5);
    let edge = Edge::start(setup).await;
    let mut client = RawClient::connect(edge.address).await;
    client.send(format!("{GET}GET / HTTP/1.1\r\nx-slow: a")).await;
    client.read_to("hello from the backend").await;
    // Another byte does not buy more time.
    tokio::time::advance(Duration::from_secs(4)).await;
    client.send("a").await;
    let asked = tokio::time::Instant::now();
    client.read_all().await;
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());

    let mut setup = Setup::before(&[backend.url()]).trusting("127.0.0.0/8");
    setup.proxy_protocol = true;
    let edge = Edge::start(setup).await;
    let mut client = RawClient::connect(edge.address).await;
    client.send("PROXY TCP4 ").await;
    assert_eq!(client.read_all().await, "");
    assert_eq!(edge.metric("outrigger_server_handshakes_failed_total{reason=\"timeout\"}"), "1");
}

#[tokio::test]
async fn plain_requests_are_sent_to_https_where_that_is_wanted() {
    let backend = FakeBackend::start().await;
    let mut setup = Setup::before(&[backend.url()]).trusting("127.0.0.0/8");
    setup.redirect_to_https = Some(8443);
    let edge = Edge::start(setup).await;
    let mut client = RawClient::connect(edge.address).await;
    client.send("POST /form?x=1 HTTP/1.1\r\nhost: example.com:8080\r\ncontent-length: 0\r\n\r\n").await;
    let head = client.read_to("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 308 "), "{head}");
    assert!(head.contains("location: https://example.com:8443/form?x=1\r\n"), "{head}");
    // A trusted proxy that ended TLS before us must not be sent round in circles.
    let mut client = RawClient::connect(edge.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-proto: https\r\nx-forwarded-for: 1.1.1.1\r\n\r\n").await;
    client.read_to("hello from the backend").await;
}

#[tokio::test]
async fn a_drain_finishes_what_is_under_way_and_closes_the_rest() {
    let backend = FakeBackend::start().await;
    let gate = Gate::closed();
    let held = gate.clone();
    backend.on("/slow", move |_| Reply::ok("finished").behind(&held));
    let edge = Edge::before(backend.url()).await;
    let mut idle = RawClient::connect(edge.address).await;
    idle.send(GET).await;
    idle.read_to("hello from the backend").await;
    let mut busy = RawClient::connect(edge.address).await;
    busy.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    backend.next().await;
    backend.next().await;
    edge.begin_drain();
    assert_eq!(idle.read_all().await, "");
    gate.open();
    assert!(busy.read_all().await.ends_with("finished"));
    edge.drained().await;
}

#[tokio::test]
async fn a_unix_socket_is_a_listener_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("edge.sock");
    // What a killed process left behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listener = Listener { address: Address::Unix(path.clone()), ..listener() };
    let who = |request: Request<Incoming>| async move {
        let peer = request.extensions().get::<Peer>().unwrap();
        Response::new(Full::from(format!("{} {}", peer.client, peer.trusted)))
    };
    let server = outrigger::server::Server::bind(
        vec![listener],
        std::sync::Arc::new(std::sync::Arc::<Policy>::default),
        Default::default(),
        outrigger::server::Metrics::register(&mut Registry::default()),
    )
    .unwrap();
    let (drain, draining) = outrigger::drain::Drain::new();
    let accepting = tokio::spawn(server.run(who, draining));
    let mut client = UnixStream::connect(&path).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("127.0.0.1 false"), "{answer}");
    drain.begin();
    accepting.await.unwrap();
    assert!(!path.exists(), "the socket file goes with the listener");
    drain.finished().await;
}
