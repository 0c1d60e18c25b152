//! A whole node on free ports, and clients that speak to it as real ones do.

use std::net::SocketAddr;
use std::path::PathBuf;

use futures_util::{SinkExt, StreamExt};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use outrigger::app::App;
use outrigger::auth;
use outrigger::channel::{ChannelName, Data, Draft};
use outrigger::config;
use outrigger::engine::Receipt;
use outrigger::server::Address;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::Message;

use super::backend::FakeBackend;
pub use super::settings;
pub use super::settings::PUSH_KEY;
use super::{client, soon};

/// A node and the backend behind it.
pub struct TestApp {
    pub app: App,
    pub backend: FakeBackend,
    folder: Option<TempDir>,
}

impl TestApp {
    pub async fn start() -> Self {
        Self::with("").await
    }

    /// `more` is YAML whose sections stand in place of those the tests start with.
    pub async fn with(more: &str) -> Self {
        let backend = FakeBackend::start().await;
        let app =
            App::start(settings::loaded(&backend.url(), more)).await.expect("the configuration of a test can be run");
        Self { app, backend, folder: None }
    }

    /// The same from a file, which [`TestApp::write`] changes.
    pub async fn in_file(more: &str) -> Self {
        let backend = FakeBackend::start().await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outrigger.yaml");
        std::fs::write(&path, settings::yaml(&backend.url(), more)).unwrap();
        let loaded = config::load(&path).unwrap_or_else(|error| panic!("{error}"));
        let app = App::start(loaded).await.expect("the configuration of a test can be run");
        Self { app, backend, folder: Some(folder) }
    }

    /// A node whose backend is not the one that does as it is told.
    pub async fn over(app: App) -> Self {
        Self { app, backend: FakeBackend::start().await, folder: None }
    }

    /// Changes the file the node was started with.
    pub fn write(&self, more: &str) {
        let folder = self.folder.as_ref().expect("the node was started from a file");
        std::fs::write(folder.path().join("outrigger.yaml"), settings::yaml(&self.backend.url(), more)).unwrap();
    }

    /// The file the node was started with.
    pub fn file(&self) -> PathBuf {
        self.folder.as_ref().expect("the node was started from a file").path().join("outrigger.yaml")
    }

    pub fn public(&self) -> SocketAddr {
        tcp(&self.app.addresses()[0])
    }

    pub fn api(&self) -> SocketAddr {
        tcp(self.app.api_address())
    }

    /// Opens a WebSocket with a user's token and reads its `connected`.
    pub async fn client(&self, user: &str, channels: &[&str]) -> TestClient {
        let mut client = self.socket(&format!("?token={}", token(user, channels))).await;
        client.expect("connected").await;
        client
    }

    /// Opens a WebSocket with this behind the path.
    pub async fn socket(&self, query: &str) -> TestClient {
        let url = format!("ws://{}/realtime{query}", self.public());
        TestClient::open(self.public(), url.into_client_request().unwrap()).await
    }

    /// Publishes as `POST /push` would.
    pub async fn publish(&self, channel: &str, data: Value) -> Receipt {
        let channel = ChannelName::parse(channel).unwrap();
        let retention = outrigger::channel::Retention { size: 100, ttl: super::PATIENCE };
        let draft = Draft::new(channel, Data::Json(data.to_string().into()), None);
        self.app.hub().publish(draft, retention).await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Response<Incoming> {
        let request = Request::get(path).header("host", "app.test").body(Full::<bytes::Bytes>::default()).unwrap();
        client::send(self.public(), request).await
    }

    /// A call to the internal API with the key that may do everything; its status and its answer. No body for null.
    pub async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "api.test")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {PUSH_KEY}"))
            .body(Full::new(bytes::Bytes::from(body)))
            .unwrap();
        let response = client::send(self.api(), request).await;
        (response.status().as_u16(), json_of(response).await)
    }

    /// A long-poll; its answer as JSON.
    pub async fn poll(&self, query: &str) -> Value {
        let response = soon("the poll", self.get(&format!("/realtime/poll?{query}"))).await;
        json_of(response).await
    }
}

pub async fn json_of(response: Response<Incoming>) -> Value {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("no JSON: {bytes:?}"))
}

fn tcp(address: &Address) -> SocketAddr {
    match address {
        Address::Tcp(address) => *address,
        Address::Unix(path) => panic!("{} is no TCP address", path.display()),
    }
}

/// A token of a user who was granted these channels, for an hour.
pub fn token(user: &str, channels: &[&str]) -> String {
    token_for(user, channels, std::time::Duration::from_secs(3600))
}

pub fn token_for(user: &str, channels: &[&str], ttl: std::time::Duration) -> String {
    let settings = auth::Settings {
        secrets: vec![auth::Named::without_kid(settings::JWT_SECRET.into())],
        user_claim: vec!["sub".into()],
        ..auth::Settings::default()
    };
    let what = auth::ToSign {
        user: Some(user.into()),
        channels: channels.iter().map(ToString::to_string).collect(),
        ttl,
        ..auth::ToSign::default()
    };
    auth::Signer::build(&settings).unwrap().sign(&what)
}

/// A WebSocket client, independent of the server's own code.
pub struct TestClient {
    socket: WebSocketStream<TcpStream>,
}

impl TestClient {
    pub async fn open(address: SocketAddr, request: Request<()>) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let opened = tokio_tungstenite::client_async(request, stream);
        let (socket, _) = soon("the handshake", opened).await.expect("the handshake succeeds");
        Self { socket }
    }

    pub async fn send(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next message, whatever it is.
    pub async fn next(&mut self) -> Value {
        loop {
            match soon("a message", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("expected a message, got {other:?}"),
            }
        }
    }

    /// The next message, or how the connection ended.
    pub async fn next_or_close(&mut self) -> Result<Value, (u16, String)> {
        loop {
            match soon("a message or the close", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(Some(frame)))) => return Err((frame.code.into(), frame.reason.to_string())),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("expected a message or a close, got {other:?}"),
            }
        }
    }

    /// The next message of a client that speaks MessagePack.
    pub async fn next_packed(&mut self) -> rmpv::Value {
        loop {
            match soon("a message", self.socket.next()).await {
                Some(Ok(Message::Binary(bytes))) => return rmpv::decode::read_value(&mut &bytes[..]).unwrap(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("expected a binary message, got {other:?}"),
            }
        }
    }

    pub async fn send_packed(&mut self, message: &rmpv::Value) {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, message).unwrap();
        self.socket.send(Message::binary(bytes)).await.unwrap();
    }

    /// The next message, which must be of this type.
    pub async fn expect(&mut self, kind: &str) -> Value {
        let message = self.next().await;
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    pub async fn subscribe(&mut self, channel: &str) -> Value {
        self.send(json!({ "type": "subscribe", "channel": channel })).await;
        self.expect("subscribed").await
    }

    /// The next message must be this channel's, with this number.
    pub async fn expect_push(&mut self, channel: &str, seq: u64) -> Value {
        let message = self.expect("message").await;
        assert_eq!((&message["channel"], &message["seq"]), (&json!(channel), &json!(seq)), "{message}");
        message
    }

    /// Says goodbye and waits until the other side did too.
    pub async fn close(mut self, code: u16) {
        use tokio_tungstenite::tungstenite::protocol::CloseFrame;
        let frame = CloseFrame { code: code.into(), reason: "".into() };
        self.socket.send(Message::Close(Some(frame))).await.unwrap();
        soon("the goodbye", async { while self.socket.next().await.is_some_and(|it| it.is_ok()) {} }).await;
    }

    /// The connection must end now, without another message.
    pub async fn expect_close(&mut self) -> (u16, String) {
        loop {
            match soon("the close", self.socket.next()).await {
                Some(Ok(Message::Close(Some(frame)))) => return (frame.code.into(), frame.reason.to_string()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("expected a close, got {other:?}"),
            }
        }
    }
}
