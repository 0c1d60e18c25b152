use std::net::SocketAddr;
use std::pin::Pin;

use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

/// Reads up to the end of one request head and its fixed-length body.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut text = Vec::new();
    loop {
        let head = text.windows(4).position(|it| it == b"\r\n\r\n");
        if let Some(head) = head {
            let string = String::from_utf8(text.clone()).unwrap();
            let length = string.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            if text.len() >= head + 4 + length.parse::<usize>().unwrap() {
                return Some(string);
            }
        }
        if stream.read_buf(&mut text).await.ok()? == 0 {
            return None;
        }
    }
}

/// Runs `serve` on each connection in turn, one after the other; it gets the number of the connection.
async fn serve_each<F>(serve: F) -> SocketAddr
where
    F: Fn(usize, TcpStream) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(number, stream));
        }
    });
    address
}

fn backend(addresses: &[SocketAddr]) -> Backend {
    let targets = addresses.iter().map(|it| Target::Http { host: it.ip().to_string(), port: it.port() }).collect();
    Backend::build(Settings { targets, ..Settings::default() }, None).unwrap()
}

fn request(method: Method, uri: &str, body: &'static str) -> Request<Bytes> {
    Request::builder().method(method).uri(uri).header(HOST, "app").body(Bytes::from(body)).unwrap()
}

async fn exchange(backend: &Backend, request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
    backend.exchange(request, Duration::from_secs(5), 1024).await
}

#[tokio::test]
async fn a_path_goes_to_the_backend_and_its_connection_is_used_again() {
    let (seen, mut requests) = mpsc::unbounded_channel();
    let address = serve_each(move |number, mut stream| {
        let seen = seen.clone();
        Box::pin(async move {
            while let Some(text) = read_request(&mut stream).await {
                seen.send((number, text)).unwrap();
                stream.write_all(OK).await.unwrap();
            }
        })
    })
    .await;
    let backend = backend(&[address]);
    for _ in 0..2 {
        let response = exchange(&backend, request(Method::POST, "/hook?x=1", "body")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.body().as_ref(), b"hi");
        let (number, text) = requests.recv().await.unwrap();
        assert_eq!(number, 0);
        assert!(text.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\nbody"), "{text}");
    }
}

#[tokio::test]
async fn an_absolute_url_goes_to_its_own_host() {
    let (seen, mut requests) = mpsc::unbounded_channel();
    let address = serve_each(move |_, mut stream| {
        let seen = seen.clone();
        Box::pin(async move {
            seen.send(read_request(&mut stream).await.unwrap()).unwrap();
            stream.write_all(OK).await.unwrap();
        })
    })
    .await;
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let response = exchange(&backend(&[nowhere]), request(Method::GET, &format!("http://{address}/keys"), "")).await;
    assert_eq!(response.unwrap().status(), StatusCode::OK);
    let text = requests.recv().await.unwrap();
    assert!(text.starts_with("GET /keys HTTP/1.1\r\n") && text.contains(&format!("host: {address}\r\n")), "{text}");
}

#[tokio::test]
async fn a_reply_beyond_the_limit_is_refused() {
    let address = serve_each(|_, mut stream| {
        Box::pin(async move {
            read_request(&mut stream).await;
            stream.write_all(OK).await.unwrap();
        })
    })
    .await;
    let reply = backend(&[address]).exchange(request(Method::GET, "/", ""), Duration::from_secs(5), 1).await;
    assert!(matches!(reply, Err(Error::TooLarge { limit: 1 })), "{reply:?}");
}

/// The first connection answers once, then closes when it sees the next request; later ones answer.
async fn closes_on_reuse() -> (SocketAddr, mpsc::UnboundedReceiver<usize>) {
    let (seen, requests) = mpsc::unbounded_channel();
    let address = serve_each(move |number, mut stream| {
        let seen = seen.clone();
        Box::pin(async move {
            let mut answered = 0;
            while read_request(&mut stream).await.is_some() {
                seen.send(number).unwrap();
                if number == 0 && answered == 1 {
                    return;
                }
                stream.write_all(OK).await.unwrap();
                answered += 1;
            }
        })
    })
    .await;
    (address, requests)
}

#[tokio::test]
async fn a_harmless_request_is_repeated_when_a_used_connection_closes_silently() {
    let (address, mut requests) = closes_on_reuse().await;
    let backend = backend(&[address]);
    exchange(&backend, request(Method::GET, "/", "")).await.unwrap();
    exchange(&backend, request(Method::GET, "/", "")).await.unwrap();
    let seen = [requests.recv().await, requests.recv().await, requests.recv().await];
    assert_eq!(seen, [Some(0), Some(0), Some(1)]);
}

#[tokio::test]
async fn a_post_that_was_sent_is_never_repeated() {
    let (address, mut requests) = closes_on_reuse().await;
    let backend = backend(&[address]);
    exchange(&backend, request(Method::GET, "/", "")).await.unwrap();
    let answer = exchange(&backend, request(Method::POST, "/", "once")).await;
    assert!(matches!(answer, Err(Error::Broken(_))), "{answer:?}");
    assert_eq!([requests.recv().await, requests.recv().await], [Some(0), Some(0)]);
    assert!(requests.try_recv().is_err());
}

#[tokio::test]
async fn a_post_goes_over_a_fresh_connection_when_the_used_one_is_closed_already() {
    let (closed, mut has_closed) = mpsc::unbounded_channel();
    let address = serve_each(move |_, mut stream| {
        let closed = closed.clone();
        Box::pin(async move {
            read_request(&mut stream).await.unwrap();
            stream.write_all(OK).await.unwrap();
            drop(stream);
            closed.send(()).unwrap();
        })
    })
    .await;
    let backend = backend(&[address]);
    for _ in 0..3 {
        exchange(&backend, request(Method::POST, "/", "body")).await.unwrap();
        has_closed.recv().await.unwrap();
    }
}

#[tokio::test]
async fn a_target_that_refuses_is_passed_over() {
    let address = serve_each(|_, mut stream| {
        Box::pin(async move {
            while read_request(&mut stream).await.is_some() {
                stream.write_all(OK).await.unwrap();
            }
        })
    })
    .await;
    let refuses = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let backend = backend(&[refuses, address]);
    for _ in 0..4 {
        exchange(&backend, request(Method::POST, "/", "body")).await.unwrap();
    }
    assert!(backend.balance.pools()[0].is_left_aside());
    assert!(!backend.balance.pools()[1].is_left_aside());
}

#[tokio::test]
async fn requests_beyond_the_connection_limit_wait_and_then_fail() {
    let address =
        serve_each(|_, mut stream| Box::pin(async move { while read_request(&mut stream).await.is_some() {} })).await;
    let targets = vec![Target::Http { host: address.ip().to_string(), port: address.port() }];
    let connect_timeout = Duration::from_millis(100);
    let settings = Settings { targets, max_connections: 1, connect_timeout, ..Settings::default() };
    let backend = Arc::new(Backend::build(settings, None).unwrap());
    let first = tokio::spawn({
        let backend = backend.clone();
        async move { exchange(&backend, request(Method::GET, "/", "")).await }
    });
    while backend.balance.pools()[0].outstanding() == 0 {
        tokio::task::yield_now().await;
    }
    let second = exchange(&backend, request(Method::GET, "/", "")).await;
    assert!(matches!(second, Err(Error::Busy { limit: 1 })), "{second:?}");
    first.abort();
}

#[tokio::test]
async fn unused_connections_close_by_themselves() {
    let (gone, mut is_gone) = mpsc::unbounded_channel();
    let address = serve_each(move |_, mut stream| {
        let gone = gone.clone();
        Box::pin(async move {
            while read_request(&mut stream).await.is_some() {
                stream.write_all(OK).await.unwrap();
            }
            gone.send(()).unwrap();
        })
    })
    .await;
    let targets = vec![Target::Http { host: address.ip().to_string(), port: address.port() }];
    let settings = Settings { targets, idle_timeout: Duration::from_millis(5), ..Settings::default() };
    let backend = Backend::build(settings, None).unwrap();
    exchange(&backend, request(Method::GET, "/", "")).await.unwrap();
    is_gone.recv().await.expect("the backend sees the connection close");
}

#[tokio::test]
async fn a_reload_keeps_the_connections_of_targets_that_stay() {
    let old = backend(&["127.0.0.1:3000".parse().unwrap(), "127.0.0.1:3001".parse().unwrap()]);
    let targets = ["http://127.0.0.1:3001", "http://127.0.0.1:3002"].map(|it| it.parse().unwrap()).to_vec();
    let new = Backend::build(Settings { targets, ..Settings::default() }, Some(&old)).unwrap();
    assert!(Arc::ptr_eq(&new.balance.pools()[0], &old.balance.pools()[1]));
}

/// Sends its pieces five seconds apart, on the clock of the test.
struct Slow(u32, Pin<Box<tokio::time::Sleep>>);

impl http_body::Body for Slow {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        if self.0 == 0 {
            return std::task::Poll::Ready(None);
        }
        std::task::ready!(self.1.as_mut().poll(cx));
        self.0 -= 1;
        self.1 = Box::pin(tokio::time::sleep(Duration::from_secs(5)));
        std::task::Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(b"piece")))))
    }
}

#[tokio::test(start_paused = true)]
async fn the_response_timeout_counts_from_the_last_piece_that_was_sent() {
    let address = serve_each(|_, mut stream| {
        Box::pin(async move {
            let mut text = Vec::new();
            while !text.ends_with(b"0\r\n\r\n") {
                stream.read_buf(&mut text).await.unwrap();
            }
            stream.write_all(OK).await.unwrap();
            stream.read_buf(&mut text).await.unwrap();
        })
    })
    .await;
    let targets = vec![Target::Http { host: address.ip().to_string(), port: address.port() }];
    let send = async |response_timeout: Duration| {
        let settings = Settings { targets: targets.clone(), response_timeout, ..Settings::default() };
        let slow = Slow(10, Box::pin(tokio::time::sleep(Duration::ZERO)));
        let request = Request::post("/").body(RequestBody::Streamed(Box::pin(slow))).unwrap();
        Backend::build(settings, None).unwrap().send(request).await.map(|response| response.status())
    };
    assert_eq!(send(Duration::from_secs(7)).await.unwrap(), StatusCode::OK);
    let failure = send(Duration::from_secs(2)).await.unwrap_err();
    assert!(matches!(failure.error, Error::SenderSilent(_)), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn a_body_may_pause_no_longer_than_it_may() {
    let address = serve_each(|_, mut stream| {
        Box::pin(async move {
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart").await.unwrap();
            read_request(&mut stream).await;
        })
    })
    .await;
    let targets = vec![Target::Http { host: address.ip().to_string(), port: address.port() }];
    let settings = Settings { targets, body_timeout: Some(Duration::from_secs(9)), ..Settings::default() };
    let backend = Backend::build(settings, None).unwrap();
    let response = backend.send(Request::new(RequestBody::Empty)).await.unwrap();
    let error = response.into_body().collect().await.unwrap_err();
    assert_eq!(error.to_string(), "no answer within 9s");
}

#[tokio::test]
async fn after_trailers_a_connection_is_used_again() {
    let (seen, mut numbers) = mpsc::unbounded_channel();
    let address = serve_each(move |number, mut stream| {
        let seen = seen.clone();
        Box::pin(async move {
            while read_request(&mut stream).await.is_some() {
                seen.send(number).unwrap();
                let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n";
                stream.write_all(format!("{head}2\r\nhi\r\n0\r\nx-sum: 1\r\n\r\n").as_bytes()).await.unwrap();
            }
        })
    })
    .await;
    let backend = backend(&[address]);
    for _ in 0..2 {
        let mut body = backend.send(Request::new(RequestBody::Empty)).await.unwrap().into_body();
        while !body.frame().await.unwrap().unwrap().is_trailers() {}
        assert_eq!(numbers.recv().await, Some(0));
    }
}
