//! Requests that pass through: what arrives, in which pieces, and what stays behind.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt, Channel, Empty};
use tokio::io::AsyncWriteExt;

use crate::support::backend::{BoxError, FakeBackend, RawBackend, Reply};
use crate::support::client::{RawClient, say, send, whole};
use crate::support::edge::{Edge, Setup};
use crate::support::{Gate, soon};

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::builder().uri(path).header("host", "example.com").body(Empty::new()).unwrap()
}

#[tokio::test]
async fn a_request_passes_through() {
    let backend = FakeBackend::start().await;
    let edge = Edge::before(backend.url()).await;
    let answer = say(edge.address, "GET /hello?x=1 HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello from the backend"), "{answer}");
    let seen = backend.next().await;
    assert_eq!((seen.uri.to_string().as_str(), seen.header("host")), ("/hello?x=1", "example.com"));
    assert_eq!((seen.header("x-forwarded-for"), seen.header("x-forwarded-proto")), ("127.0.0.1", "http"));
    assert_eq!(seen.header("x-request-id").len(), 32);
    edge.metric_becomes("outrigger_proxy_requests_total{status=\"2xx\"}", "1").await;
    edge.drained().await;
}

#[tokio::test]
async fn both_bodies_stream_while_they_are_written() {
    let backend = FakeBackend::start().await;
    backend.echo_bodies_on("/echo");
    let edge = Edge::before(backend.url()).await;
    let (mut feed, body) = Channel::<Bytes, BoxError>::new(1);
    let request = Request::post("/echo").header("host", "a").body(body).unwrap();
    let mut answer = send(edge.address, request).await;
    for piece in ["one", "two", "three"] {
        feed.send_data(Bytes::from(piece)).await.unwrap();
        let frame = soon("the piece comes back", answer.body_mut().frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    drop(feed);
    assert!(soon("the end comes back", answer.body_mut().frame()).await.is_none());
}

#[tokio::test]
async fn a_client_that_does_not_read_may_still_finish_sending() {
    // The backend answers more than all buffers hold while it reads; a client that sends first must not be stuck.
    const SIZE: usize = 32 * 1024 * 1024;
    let backend = RawBackend::start(|_, mut connection| async move {
        connection.read_head().await;
        let (mut read, mut write) = connection.stream.into_split();
        write.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n").as_bytes()).await.unwrap();
        let answering = tokio::spawn(async move {
            let _ = write.write_all(&vec![b'x'; SIZE]).await;
            write
        });
        tokio::io::copy(&mut read, &mut tokio::io::sink()).await.unwrap();
        answering.abort();
    })
    .await;
    let edge = Edge::before(backend.url()).await;
    let mut client = RawClient::connect(edge.address).await;
    client.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {SIZE}\r\n\r\n")).await;
    client.read_to("\r\n\r\n").await;
    soon("the whole body is taken", client.send(vec![b'y'; SIZE])).await;
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let backend = FakeBackend::start().await;
    backend.on("/", |_| Reply::with_trailers("body", "x-sum", "42"));
    let edge = Edge::before(backend.url()).await;
    let (mut feed, body) = Channel::<Bytes, BoxError>::new(1);
    let request = Request::post("/").header("host", "a").header("te", "trailers").header("trailer", "x-count");
    let request = request.body(body).unwrap();
    feed.send_data(Bytes::from("up")).await.unwrap();
    let sending = tokio::spawn(async move {
        feed.send_trailers(HeaderMap::from_iter([("x-count".parse().unwrap(), HeaderValue::from(7))])).await.unwrap();
    });
    let (text, trailers) = whole(send(edge.address, request).await).await;
    sending.await.unwrap();
    assert_eq!((text.as_str(), trailers["x-sum"].to_str().unwrap()), ("body", "42"));
    let seen = backend.next().await;
    edge.metric_becomes("outrigger_proxy_requests_in_flight", "0").await;
    assert_eq!(edge.metric("outrigger_proxy_incomplete_total"), "0");
    assert_eq!((&seen.body[..], &seen.trailers.unwrap()["x-count"]), (&b"up"[..], &HeaderValue::from(7)));
}

#[tokio::test]
async fn a_head_answer_keeps_its_length_and_has_no_body() {
    let backend = FakeBackend::start().await;
    backend.on("/", |_| Reply::ok("12345"));
    let edge = Edge::before(backend.url()).await;
    let answer = say(edge.address, "HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.contains("content-length: 5\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert_eq!(backend.next().await.method, "HEAD");
}

#[tokio::test]
async fn answers_without_a_body_pass_and_leave_the_connection_usable() {
    let backend = FakeBackend::start().await;
    backend.on("/204", |_| Reply::new(204, ""));
    backend.on("/304", |_| Reply::new(304, "").header("etag", "\"x\""));
    let edge = Edge::before(backend.url()).await;
    let mut client = RawClient::connect(edge.address).await;
    for _ in 0..2 {
        client.send("GET /204 HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(client.read_to("\r\n\r\n").await.starts_with("HTTP/1.1 204 "));
        client.send("GET /304 HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(client.read_to("\r\n\r\n").await.contains("etag: \"x\""));
    }
}

#[tokio::test]
async fn the_body_is_asked_for_only_after_the_backend_wants_it() {
    let wants = Gate::closed();
    let backend = RawBackend::start({
        let wants = wants.clone();
        move |_, mut connection| {
            let wants = wants.clone();
            async move {
                let head = connection.read_head().await;
                assert!(head.contains("expect: 100-continue"), "{head}");
                assert!(connection.buffer.is_empty(), "the body came unasked");
                wants.pass().await;
                connection.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
                while connection.buffer != b"body" {
                    tokio::io::AsyncReadExt::read_buf(&mut connection.stream, &mut connection.buffer).await.unwrap();
                }
                connection.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            }
        }
    })
    .await;
    let edge = Edge::before(backend.url()).await;
    let mut client = RawClient::connect(edge.address).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n").await;
    wants.open();
    assert_eq!(client.read_to("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("body").await;
    assert!(client.read_to("ok").await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn a_refused_expectation_reaches_the_client_before_it_sends() {
    let backend = RawBackend::saying(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno").await;
    let edge = Edge::before(backend.url()).await;
    let mut client = RawClient::connect(edge.address).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n").await;
    let answer = client.read_all().await;
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("connection: close\r\n"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_ignores_the_expectation_gets_the_body_after_a_second() {
    let backend = RawBackend::start(|_, mut connection| async move {
        connection.read_head().await;
        while connection.buffer != b"body" {
            tokio::io::AsyncReadExt::read_buf(&mut connection.stream, &mut connection.buffer).await.unwrap();
        }
        connection.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    })
    .await;
    let edge = Edge::before(backend.url()).await;
    let mut client = RawClient::connect(edge.address).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n").await;
    assert_eq!(client.read_to("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("body").await;
    client.read_to("ok").await;
}

#[tokio::test]
async fn headers_of_the_backends_hop_stay_there() {
    let backend = RawBackend::saying(
        b"HTTP/1.1 200 Fine By Me\r\nconnection: close, x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n\
          outrigger-push: \"a\"\r\nset-cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: 2\r\n\r\nok",
    )
    .await;
    let edge = Edge::before(backend.url()).await;
    let mut client = RawClient::connect(edge.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let head = client.read_to("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 Fine By Me\r\n"), "{head}");
    for gone in ["x-hop", "keep-alive", "connection"] {
        assert!(!head.contains(gone), "{gone} in {head}");
    }
    for kept in ["set-cookie: a=1\r\n", "set-cookie: b=2\r\n", "outrigger-push: \"a\"\r\n"] {
        assert!(head.contains(kept), "no {kept} in {head}");
    }
    client.read_to("ok").await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    client.read_to("ok").await;
}

#[tokio::test]
async fn an_old_client_gets_an_answer_without_chunks() {
    let backend = FakeBackend::start().await;
    let (reply, mut feed) = Reply::fed();
    backend.once("/", reply);
    let edge = Edge::before(backend.url()).await;
    let mut client = RawClient::connect(edge.address).await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    feed.send_data(Bytes::from("streamed")).await.unwrap();
    drop(feed);
    let answer = client.read_all().await;
    assert!(answer.ends_with("\r\n\r\nstreamed") && !answer.contains("chunked"), "{answer}");
    assert_eq!(backend.next().await.header("forwarded"), "for=127.0.0.1;proto=http");
}

#[tokio::test]
async fn a_length_beside_chunks_smuggles_nothing() {
    let backend = FakeBackend::start().await;
    let edge = Edge::before(backend.url()).await;
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let length = smuggled.len();
    let request =
        format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n");
    say(edge.address, request + smuggled).await;
    let seen = backend.next().await;
    assert_eq!((seen.uri.path(), seen.header("content-length"), seen.body.len()), ("/", "", 0));
    assert!(!backend.has_more().await, "the rest of the connection was taken for a request");
}

#[tokio::test]
async fn trusted_hops_are_believed_and_extended() {
    let backend = FakeBackend::start().await;
    let edge = Edge::start(Setup::before(&[backend.url()]).trusting("127.0.0.0/8")).await;
    let headers = "x-forwarded-for: 203.0.113.9\r\nx-forwarded-proto: https\r\nx-request-id: from-the-balancer\r\n";
    say(edge.address, format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n")).await;
    let seen = backend.next().await;
    assert_eq!(seen.header("x-forwarded-for"), "203.0.113.9, 127.0.0.1");
    assert_eq!(seen.header("x-forwarded-proto"), "https");
    assert_eq!(seen.header("forwarded"), "for=203.0.113.9, for=127.0.0.1;host=\"a\";proto=https");
    assert_eq!(seen.header("x-request-id"), "from-the-balancer");
}

#[tokio::test]
async fn a_backend_may_listen_on_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let backend = FakeBackend::start_on_unix(&directory.path().join("app.sock"));
    let edge = Edge::before(backend.url()).await;
    for _ in 0..2 {
        let (text, _) = whole(send(edge.address, get("/")).await).await;
        assert_eq!(text, "hello from the backend");
        assert_eq!(backend.next().await.header("host"), "example.com");
    }
}

#[tokio::test]
async fn several_backends_share_the_work() {
    let backends = [FakeBackend::start().await, FakeBackend::start().await];
    let edge = Edge::start(Setup::before(&[backends[0].url(), backends[1].url()])).await;
    for _ in 0..4 {
        whole(send(edge.address, get("/")).await).await;
    }
    for backend in &backends {
        backend.next().await;
        backend.next().await;
        assert!(!backend.has_more().await);
    }
}

#[tokio::test]
async fn when_the_client_leaves_the_backend_is_told() {
    let backend = FakeBackend::start().await;
    let (reply, mut feed) = Reply::fed();
    backend.once("/", reply);
    let edge = Edge::before(backend.url()).await;
    let mut client = RawClient::connect(edge.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    feed.send_data(Bytes::from("piece")).await.unwrap();
    client.read_to("piece").await;
    drop(client);
    soon("the backend's body is dropped", async {
        while feed.send_data(Bytes::from("more")).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    edge.metric_becomes("outrigger_proxy_incomplete_total", "1").await;
    assert_eq!(edge.metric("outrigger_proxy_requests_in_flight"), "0");
}

#[tokio::test]
async fn json_passes_byte_for_byte() {
    let backend = FakeBackend::start().await;
    backend.on("/api", |seen| Reply::json(201, seen.json()));
    let edge = Edge::before(backend.url()).await;
    let body = r#"{"z":1,"a":"ä"}"#;
    let length = body.len();
    let head = format!("POST /api HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    let answer = say(edge.address, head + body).await;
    assert!(answer.starts_with("HTTP/1.1 201 ") && answer.contains("content-type: application/json"), "{answer}");
    assert_eq!(backend.next().await.body, body);
}

#[tokio::test]
async fn a_connection_that_the_backend_gave_up_is_replaced_unseen() {
    let backend = FakeBackend::start().await;
    let edge = Edge::before(backend.url()).await;
    whole(send(edge.address, get("/")).await).await;
    // The used connection closes without a word; a fresh one answers.
    backend.once("/", Reply::close());
    let (text, _) = whole(send(edge.address, get("/")).await).await;
    assert_eq!(text, "hello from the backend");
}

#[tokio::test]
async fn a_get_may_have_a_body() {
    let backend = FakeBackend::start().await;
    let edge = Edge::before(backend.url()).await;
    for framing in ["transfer-encoding: chunked\r\n\r\n5\r\nquery\r\n0\r\n\r\n", "content-length: 5\r\n\r\nquery"] {
        say(edge.address, format!("GET /search HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{framing}")).await;
        assert_eq!(backend.next().await.body, "query");
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_is_not_served_on() {
    let backend = FakeBackend::start().await;
    let never = Gate::closed();
    backend.on("/", move |_| Reply::ok("").behind(&never));
    let edge = Edge::before(backend.url()).await;
    let mut client = RawClient::connect(edge.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    backend.next().await;
    drop(client);
    edge.metric_becomes("outrigger_proxy_requests_total{status=\"client_left\"}", "1").await;
}
