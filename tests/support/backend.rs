//! A backend that records what it is asked and answers as it is told.
//!
//! [`FakeBackend`] speaks HTTP through hyper; [`RawBackend`] hands each connection to the test, for what no decent server
//! does.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Channel, Full, StreamBody, channel};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::{Gate, soon};

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type ReplyBody = UnsyncBoxBody<Bytes, BoxError>;
type Answering = Pin<Box<dyn Future<Output = Result<Response<ReplyBody>, BoxError>> + Send>>;
type Handler = Arc<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>;

/// A request as the backend got it, whole.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

/// What to answer with.
pub struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: ReplyBody,
    gate: Option<Gate>,
    closes: bool,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Bytes>) -> Self {
        let body = Full::new(body.into()).map_err(|never: Infallible| match never {}).boxed_unsync();
        Self {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body,
            gate: None,
            closes: false,
        }
    }

    pub fn ok(body: impl Into<Bytes>) -> Self {
        Self::new(200, body)
    }

    pub fn json(status: u16, body: serde_json::Value) -> Self {
        Self::new(status, body.to_string()).header("content-type", "application/json")
    }

    /// Closes the connection without a word.
    pub fn close() -> Self {
        Self { closes: true, ..Self::ok("") }
    }

    /// A chunked body that the test feeds, piece by piece. Dropping the feed ends it, `abort` breaks it off.
    pub fn fed() -> (Self, channel::Sender<Bytes, BoxError>) {
        let (feed, body) = Channel::new(1);
        (Self { body: body.boxed_unsync(), ..Self::ok("") }, feed)
    }

    /// A chunked body with trailers behind it, announced as HTTP/1.1 wants it.
    pub fn with_trailers(body: &'static str, name: &'static str, value: &'static str) -> Self {
        let trailers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
        let frames = [Frame::data(Bytes::from(body)), Frame::trailers(trailers)].map(Ok::<_, BoxError>);
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
        Self { body, ..Self::ok("") }.header("trailer", name)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        self
    }

    /// Answers only once the gate is open.
    pub fn behind(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    async fn send(self) -> Result<Response<ReplyBody>, BoxError> {
        if let Some(gate) = &self.gate {
            gate.pass().await;
        }
        if self.closes {
            return Err("told to close".into());
        }
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        Ok(response)
    }
}

pub struct FakeBackend {
    url: String,
    paths: Arc<Mutex<HashMap<String, Handler>>>,
    seen: tokio::sync::Mutex<mpsc::UnboundedReceiver<Seen>>,
    record: mpsc::UnboundedSender<Seen>,
    accepting: AbortHandle,
}

impl FakeBackend {
    /// Answers every path with `200` and `hello from the backend` until told otherwise.
    pub async fn start() -> Self {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        Self::serve(format!("http://{}", listener.local_addr().unwrap()), move || {
            let listener = listener.clone();
            async move { listener.accept().await.unwrap().0 }
        })
    }

    pub fn start_on_unix(path: &Path) -> Self {
        let listener = Arc::new(UnixListener::bind(path).unwrap());
        Self::serve(format!("unix:{}", path.display()), move || {
            let listener = listener.clone();
            async move { listener.accept().await.unwrap().0 }
        })
    }

    fn serve<S, F>(url: String, accept: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Future<Output = S> + Send + 'static,
    {
        let (record, seen) = mpsc::unbounded_channel();
        let paths = Arc::<Mutex<HashMap<String, Handler>>>::default();
        let fallback = replying(record.clone(), |_| Reply::ok("hello from the backend"));
        let handlers = paths.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let stream = accept().await;
                let (handlers, fallback) = (handlers.clone(), fallback.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let handler = handlers.lock().unwrap().get(request.uri().path()).cloned();
                    handler.unwrap_or_else(|| fallback.clone())(request)
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades());
            }
        });
        Self { url, paths, seen: tokio::sync::Mutex::new(seen), record, accepting: accepting.abort_handle() }
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// What to answer to whole requests of a path.
    pub fn on(&self, path: &str, reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
        self.insert(path, replying(self.record.clone(), reply));
    }

    /// The same reply to the first request of a path; later ones are answered as before.
    pub fn once(&self, path: &str, reply: Reply) {
        let reply = Mutex::new(Some(reply));
        self.on(path, move |_| reply.lock().unwrap().take().unwrap_or_else(|| Reply::ok("hello from the backend")));
    }

    /// Takes requests of a path as they stream in; these are not recorded.
    pub fn on_request<F>(&self, path: &str, answer: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<Response<ReplyBody>, BoxError>> + Send + 'static,
    {
        self.insert(path, Arc::new(move |request| Box::pin(answer(request))));
    }

    /// Sends every body back as it comes.
    pub fn echo_bodies_on(&self, path: &str) {
        self.on_request(path, |request| async {
            Ok(Response::new(request.into_body().map_err(Into::into).boxed_unsync()))
        });
    }

    /// Upgrades to `protocol`, greets, and sends every byte back; says `bye` when the other side stops sending.
    pub fn echo_upgrades_on(&self, path: &str, protocol: &'static str) {
        self.on_request(path, move |mut request| async move {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut stream = TokioIo::new(upgrade.await.unwrap());
                stream.write_all(b"welcome ").await.unwrap();
                let mut buffer = [0; 1024];
                loop {
                    match stream.read(&mut buffer).await.unwrap() {
                        0 => break,
                        read => stream.write_all(&buffer[..read]).await.unwrap(),
                    }
                }
                stream.write_all(b" bye").await.unwrap();
                stream.shutdown().await.unwrap();
            });
            let mut response = Reply::new(101, "").send().await?;
            response.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
            response.headers_mut().insert("upgrade", HeaderValue::from_static(protocol));
            Ok(response)
        });
    }

    /// The next request that was recorded.
    pub async fn next(&self) -> Seen {
        soon("a request reaches the backend", async { self.seen.lock().await.recv().await.unwrap() }).await
    }

    /// Whether requests were recorded that nobody looked at.
    pub async fn has_more(&self) -> bool {
        !self.seen.lock().await.is_empty()
    }

    fn insert(&self, path: &str, handler: Handler) {
        self.paths.lock().unwrap().insert(path.to_owned(), handler);
    }
}

impl Drop for FakeBackend {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn replying(record: mpsc::UnboundedSender<Seen>, reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Handler {
    let reply = Arc::new(reply);
    Arc::new(move |request| {
        let (record, reply) = (record.clone(), reply.clone());
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?;
            let trailers = body.trailers().cloned();
            let seen =
                Seen { method: head.method, uri: head.uri, headers: head.headers, body: body.to_bytes(), trailers };
            let reply = reply(&seen);
            // The test may be over.
            let _ = record.send(seen);
            reply.send().await
        })
    })
}

/// Runs what the test says on each connection.
pub struct RawBackend {
    pub address: SocketAddr,
    accepting: AbortHandle,
}

impl RawBackend {
    /// `serve` gets the connections, numbered from 0.
    pub async fn start<F>(serve: impl Fn(usize, RawConnection) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::over(TcpListener::bind("127.0.0.1:0").await.unwrap(), serve)
    }

    /// The same over a listener of the test's own.
    pub fn over<F>(listener: TcpListener, serve: impl Fn(usize, RawConnection) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(async move {
            for number in 0.. {
                let stream = listener.accept().await.unwrap().0;
                tokio::spawn(serve(number, RawConnection { stream, buffer: Vec::new() }));
            }
        });
        Self { address, accepting: accepting.abort_handle() }
    }

    /// Says the same bytes after each request head and closes.
    pub async fn saying(bytes: &'static [u8]) -> Self {
        Self::start(move |_, mut connection| async move {
            connection.read_head().await;
            connection.stream.write_all(bytes).await.unwrap();
        })
        .await
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for RawBackend {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

pub struct RawConnection {
    pub stream: TcpStream,
    /// Read and not taken yet.
    pub buffer: Vec<u8>,
}

impl RawConnection {
    /// The next request head, with the empty line behind it; empty at the end of the connection.
    pub async fn read_head(&mut self) -> String {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|it| it == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..at + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return String::new();
            }
        }
    }
}
