//! TLS in front and behind: names, protocols, replacement, HTTP/2.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use outrigger::peer::{Stream, Takeover};
use outrigger::server::tls::{Certificates, Pair, Set};
use outrigger::server::{Address, Listener, Policy};
use prometheus_client::registry::Registry;
use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::backend::{FakeBackend, Reply};
use crate::support::client::{self, RawClient, say};
use crate::support::edge::{Edge, Setup};
use crate::support::{Gate, soon};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

/// Writes a self-signed certificate for `name` and answers with its pair.
fn pair(directory: &Path, name: &str) -> Pair {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let (cert, key) = (directory.join(format!("{name}.pem")), directory.join(format!("{name}.key")));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    Pair::Files { cert, key }
}

/// The certificate that a client which asks for `name` is shown, as its bytes.
async fn shown(edge: &Edge, name: &str) -> Vec<u8> {
    let stream = client::tls(edge.address, name, &[]).await;
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

fn contains(certificate: &[u8], name: &str) -> bool {
    certificate.windows(name.len()).any(|it| it == name.as_bytes())
}

#[tokio::test]
async fn each_name_gets_its_certificate_and_they_are_replaced_under_open_connections() {
    let directory = tempfile::tempdir().unwrap();
    let backend = FakeBackend::start().await;
    let load = |names: &[&str]| {
        let pairs: Vec<Pair> = names.iter().map(|name| pair(directory.path(), name)).collect();
        Set::load(&pairs, None).unwrap()
    };
    let certificates = Certificates::new(load(&["one.example", "two.example"]).into()).unwrap();
    let mut setup = Setup::before(&[backend.url()]);
    setup.certificates = Some(certificates.clone());
    let edge = Edge::start(setup).await;
    assert!(contains(&shown(&edge, "one.example").await, "one.example"));
    assert!(contains(&shown(&edge, "two.example").await, "two.example"));
    assert!(contains(&shown(&edge, "unknown.example").await, "one.example"));

    let mut open = client::tls(edge.address, "one.example", &[]).await;
    certificates.replace(load(&["three.example"]).into());
    assert!(contains(&shown(&edge, "three.example").await, "three.example"));
    open.write_all(GET).await.unwrap();
    let mut answer = String::new();
    soon("the answer over the old connection", open.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.ends_with("hello from the backend"), "{answer}");
    assert_eq!(backend.next().await.header("x-forwarded-proto"), "https");
}

#[tokio::test]
async fn the_protocol_is_what_both_sides_know() {
    let backend = FakeBackend::start().await;
    let edge = Edge::start(Setup::before(&[backend.url()]).self_signed()).await;
    for (offered, chosen) in [(&["h2", "http/1.1"][..], Some("h2")), (&["http/1.1"], Some("http/1.1")), (&[], None)] {
        let stream = client::tls(edge.address, "localhost", offered).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen.map(str::as_bytes));
    }
}

#[tokio::test]
async fn http2_requests_pass_side_by_side() {
    let backend = FakeBackend::start().await;
    let all = Gate::closed();
    let held = all.clone();
    backend.on("/", move |_| Reply::with_trailers("answer", "x-sum", "42").behind(&held));
    let edge = Edge::start(Setup::before(&[backend.url()]).self_signed()).await;
    let sender = client::http2(edge.address).await;
    let requests = (0..100).map(|_| {
        let mut sender = sender.clone();
        async move {
            let request = Request::builder().uri("https://example.com/").version(Version::HTTP_2);
            let request = request.header("te", "trailers").header("cookie", "a=1").header("cookie", "b=2");
            let answer = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
            let body = answer.into_body().collect().await.unwrap();
            assert_eq!(body.trailers().unwrap()["x-sum"], "42");
            assert_eq!(body.to_bytes(), "answer");
        }
    });
    let answers = tokio::spawn(join_all(requests.collect::<Vec<_>>()));
    for _ in 0..100 {
        let seen = backend.next().await;
        assert_eq!((seen.header("host"), seen.header("cookie")), ("example.com", "a=1; b=2"));
    }
    all.open();
    soon("every answer", answers).await.unwrap();
    drop(sender);
    edge.drained().await;
}

#[tokio::test]
async fn an_upgrade_is_joined_through_tls() {
    let backend = FakeBackend::start().await;
    backend.echo_upgrades_on("/ws", "websocket");
    let edge = Edge::start(Setup::before(&[backend.url()]).self_signed()).await;
    let mut stream = client::tls(edge.address, "localhost", &[]).await;
    stream
        .write_all(b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhi")
        .await
        .unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"welcome hi") {
        assert!(soon("the echo", stream.read_buf(&mut text)).await.unwrap() > 0);
    }
    stream.shutdown().await.unwrap();
    soon("the end", stream.read_to_end(&mut text)).await.unwrap();
    assert!(text.ends_with(b"welcome hi bye"), "{}", String::from_utf8_lossy(&text));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_come_is_cut_off() {
    let backend = FakeBackend::start().await;
    let edge = Edge::start(Setup::before(&[backend.url()]).self_signed()).await;
    assert_eq!(RawClient::connect(edge.address).await.read_all().await, "");
    assert_eq!(edge.metric("outrigger_server_handshakes_failed_total{reason=\"timeout\"}"), "1");
}

#[tokio::test(start_paused = true)]
async fn an_http2_client_that_says_nothing_is_let_go_and_one_that_asked_is_not() {
    let backend = FakeBackend::start().await;
    let mut setup = Setup::before(&[backend.url()]).self_signed();
    setup.policy.header_timeout = Duration::from_secs(5);
    let edge = Edge::start(setup).await;
    let mut silent = client::tls(edge.address, "localhost", &["h2"]).await;
    soon("the connection closes", silent.read_to_end(&mut Vec::new())).await.unwrap_or_default();
    let mut sender = client::http2(edge.address).await;
    for _ in 0..2 {
        let request = Request::builder().uri("https://localhost/").body(Empty::<Bytes>::new()).unwrap();
        assert_eq!(soon("an answer", sender.send_request(request)).await.unwrap().status(), 200);
        tokio::time::advance(Duration::from_secs(9)).await;
    }
}

#[tokio::test]
async fn plain_http_on_a_tls_listener_fails_as_a_handshake() {
    let backend = FakeBackend::start().await;
    let edge = Edge::start(Setup::before(&[backend.url()]).self_signed()).await;
    say(edge.address, GET).await;
    edge.metric_becomes("outrigger_server_handshakes_failed_total{reason=\"tls\"}", "1").await;
    assert!(!backend.has_more().await);
}

#[tokio::test]
async fn a_websocket_may_come_over_http2_where_that_is_offered() {
    let echo = |mut request: Request<Incoming>| async move {
        assert_eq!(request.extensions().get::<Protocol>().unwrap().as_str(), "websocket");
        assert!(request.extensions().get::<Takeover>().is_none(), "a stream of HTTP/2 cannot be taken");
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = Stream::Tunnel(Box::new(TokioIo::new(upgrade.await.unwrap())));
            let mut buffer = [0; 2];
            stream.read_exact(&mut buffer).await.unwrap();
            stream.write_all(&buffer).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        Response::new(Empty::<Bytes>::new())
    };
    let listener = Listener {
        address: Address::Tcp(([127, 0, 0, 1], 0).into()),
        tls: Some(Certificates::new(Set::load(&[Pair::SelfSigned], None).unwrap().into()).unwrap()),
        proxy_protocol: false,
        redirect_to_https: None,
        http2_connect: true,
    };
    let edge = Edge::serve(listener, Policy::default(), Registry::with_prefix("outrigger"), echo).await;
    let mut sender = client::http2(edge.address).await;
    let mut request = Request::connect("https://localhost/realtime").body(Empty::<Bytes>::new()).unwrap();
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    let answer = soon("the upgrade", sender.send_request(request)).await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut stream = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    stream.write_all(b"hi").await.unwrap();
    let mut text = String::new();
    soon("the echo", stream.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "hi");
}

#[tokio::test]
async fn session_tickets_outlive_a_replaced_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let backend = FakeBackend::start().await;
    let load = |name: &str| Set::load(&[pair(directory.path(), name)], None).unwrap();
    let certificates = Certificates::new(load("one.example").into()).unwrap();
    let mut setup = Setup::before(&[backend.url()]);
    setup.certificates = Some(certificates.clone());
    let edge = Edge::start(setup).await;
    let client = client::TlsClient::new(&[]);
    let visit = async || {
        let mut stream = client.connect(edge.address, "one.example").await;
        stream.write_all(GET).await.unwrap();
        soon("the answer", stream.read_to_end(&mut Vec::new())).await.unwrap();
        stream.get_ref().1.handshake_kind()
    };
    assert_ne!(visit().await, Some(HandshakeKind::Resumed));
    certificates.replace(load("two.example").into());
    assert_eq!(visit().await, Some(HandshakeKind::Resumed));
}

/// An `https` backend that answers each connection once.
async fn https_backend(certified: &rcgen::CertifiedKey<rcgen::KeyPair>) -> u16 {
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret").await;
        }
    });
    port
}

#[tokio::test]
async fn an_https_backend_is_believed_only_with_a_certificate_we_trust() {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let port = https_backend(&certified).await;
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    std::fs::write(&ca_file, certified.cert.pem()).unwrap();

    let mut setup = Setup::before(&[format!("https://localhost:{port}")]);
    setup.backend.ca_file = Some(ca_file.clone());
    let edge = Edge::start(setup).await;
    assert!(say(edge.address, GET).await.ends_with("secret"));

    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&ca_file, other.cert.pem()).unwrap();
    let mut setup = Setup::before(&[format!("https://localhost:{port}")]);
    setup.backend.ca_file = Some(ca_file);
    let edge = Edge::start(setup).await;
    assert!(say(edge.address, GET).await.starts_with("HTTP/1.1 502 "));
}
