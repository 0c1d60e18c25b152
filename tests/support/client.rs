//! Clients: bytes over TCP for what a decent client does not do, and HTTP/1.1 or HTTP/2 by hyper.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::soon;

/// A connection that says what the test says.
pub struct RawClient {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl RawClient {
    pub async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), buffer: Vec::new() }
    }

    pub async fn send(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).await.unwrap();
    }

    /// Reads until what was read ends with `end`, and takes it.
    pub async fn read_to(&mut self, end: &str) -> String {
        soon(&format!("the client reads {end:?}"), async {
            loop {
                let found = self.buffer.windows(end.len()).position(|it| it == end.as_bytes());
                if let Some(at) = found {
                    return String::from_utf8(self.buffer.drain(..at + end.len()).collect()).unwrap();
                }
                let read = self.stream.read_buf(&mut self.buffer).await.unwrap();
                assert!(read > 0, "closed before {end:?}: {}", String::from_utf8_lossy(&self.buffer));
            }
        })
        .await
    }

    /// Everything until the end of the connection, however it ends.
    pub async fn read_all(mut self) -> String {
        soon("the connection closes", async { while self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) > 0 {} })
            .await;
        String::from_utf8_lossy(&self.buffer).into_owned()
    }
}

/// Says one thing and reads everything until the connection closes.
pub async fn say(address: SocketAddr, text: impl AsRef<[u8]>) -> String {
    let mut client = RawClient::connect(address).await;
    client.send(text).await;
    client.read_all().await
}

/// One request over a connection of its own; the answer streams.
pub async fn send<B>(address: SocketAddr, request: Request<B>) -> Response<Incoming>
where
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    soon("an answer", sender.send_request(request)).await.unwrap()
}

/// The body of an answer; none where there is nobody to give it.
pub async fn try_send(address: SocketAddr, request: Request<http_body_util::Full<Bytes>>) -> Option<Incoming> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    Some(soon("an answer or its end", sender.send_request(request)).await.ok()?.into_body())
}

/// An answer's body and trailers, whole.
pub async fn whole(response: Response<Incoming>) -> (String, HeaderMap) {
    let body = soon("the whole body", response.into_body().collect()).await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    (String::from_utf8(body.to_bytes().to_vec()).unwrap(), trailers)
}

pub type Http2<B> = http2::SendRequest<B>;

pub async fn http2<B>(address: SocketAddr) -> Http2<B>
where
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static,
{
    let stream = tls(address, "localhost", &["h2"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// A TLS connection that asks for `name` and believes whatever certificate comes.
pub async fn tls(address: SocketAddr, name: &str, protocols: &[&str]) -> TlsStream<TcpStream> {
    TlsClient::new(protocols).connect(address, name).await
}

/// Remembers its sessions between connections.
pub struct TlsClient(TlsConnector);

impl TlsClient {
    pub fn new(protocols: &[&str]) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous))
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        Self(TlsConnector::from(Arc::new(config)))
    }

    pub async fn connect(&self, address: SocketAddr, name: &str) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        soon("a TLS handshake", self.0.connect(name, stream)).await.unwrap()
    }
}

#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
