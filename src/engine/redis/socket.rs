//! One connection to one server: opened, encrypted, logged in. What is asked on it here is answered one by one; the links
//! take it over for more.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls_platform_verifier::Verifier;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::resp::{self, Malformed, Value};
use super::script::Script;
use super::settings::{Login, Place};

/// Whatever carries the bytes.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that is logged in, and what it has read ahead.
pub(super) struct Socket {
    pub(super) stream: Box<dyn Stream>,
    pub(super) input: BytesMut,
}

/// Opens connections to any server of one installation.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    pub(super) login: Login,
    pub(super) database: u32,
    /// Shown by `CLIENT LIST`.
    pub(super) name: Arc<str>,
    pub(super) timeout: Duration,
    pub(super) tls: Arc<ClientConfig>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// The server's own words, which hold no secret of ours.
    #[error("the server refused: {0}")]
    Refused(String),
    #[error("`{0}` is no name of a server that a certificate can be checked for")]
    Name(String),
    #[error("{0}")]
    Elsewhere(&'static str),
}

/// Why encryption cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read certificates from {path}: {error}")]
    CaFile { path: String, error: pem::Error },
    #[error("cannot check certificates of servers: {0}")]
    Trust(rustls::Error),
}

/// Quicker than the kernel's two hours to notice a peer that vanished without a word.
const KEEPALIVE: Duration = Duration::from_secs(15);

impl Dialer {
    /// Connects and logs in.
    pub(super) async fn open(&self, place: &Place) -> Result<Socket, Error> {
        let opened = tokio::time::timeout(self.timeout, async {
            let mut socket = Socket { stream: self.connect(place).await?, input: BytesMut::new() };
            self.log_in(&mut socket).await?;
            Ok(socket)
        });
        opened.await.unwrap_or(Err(Error::Timeout(self.timeout)))
    }

    async fn connect(&self, place: &Place) -> Result<Box<dyn Stream>, Error> {
        let (host, port, is_tls) = match place {
            Place::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            Place::Tcp { host, port, is_tls } => (host, *port, *is_tls),
        };
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))?;
        if !is_tls {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(host.clone()).map_err(|_| Error::Name(host.clone()))?;
        Ok(Box::new(TlsConnector::from(self.tls.clone()).connect(name, stream).await?))
    }

    async fn log_in(&self, socket: &mut Socket) -> Result<(), Error> {
        let mut hello: Vec<&[u8]> = vec![b"HELLO", b"3"];
        if let Some(password) = &self.login.password {
            let username = self.login.username.as_deref().unwrap_or("default");
            hello.extend([&b"AUTH"[..], username.as_bytes(), password.as_bytes()]);
        }
        hello.extend([&b"SETNAME"[..], self.name.as_bytes()]);
        socket.ask(&hello).await?;
        if self.database != 0 {
            socket.ask(&[b"SELECT", self.database.to_string().as_bytes()]).await?;
        }
        Ok(())
    }
}

impl Socket {
    /// One question, one answer. A refusal is an error.
    pub(super) async fn ask(&mut self, words: &[&[u8]]) -> Result<Value, Error> {
        self.stream.write_all(&resp::command(words)).await?;
        self.stream.flush().await?;
        loop {
            match resp::take(&mut self.input)? {
                Some(Value::Refusal(why)) => return Err(Error::Refused(why)),
                // Nothing was subscribed to; some servers push news of their own.
                Some(Value::Push(_)) => {}
                Some(value) => return Ok(value),
                None => self.read().await?,
            }
        }
    }

    /// Makes scripts known to the server.
    pub(super) async fn load(&mut self, scripts: &[&Script], within: Duration) -> Result<(), Error> {
        let loading = async {
            for script in scripts {
                self.ask(&[b"SCRIPT", b"LOAD", script.text().as_bytes()]).await?;
            }
            Ok(())
        };
        tokio::time::timeout(within, loading).await.unwrap_or(Err(Error::Timeout(within)))
    }

    pub(super) async fn read(&mut self) -> Result<(), Error> {
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }
}

/// What servers' certificates are checked against: the system's and, where configured, one more file of them.
pub fn trust(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = match ca_file {
        None => Verifier::new(provider.clone()),
        Some(path) => {
            let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect)
                .map_err(|error| TlsError::CaFile { path: path.display().to_string(), error })?;
            Verifier::new_with_extra_roots(certificates, provider.clone())
        }
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Trust)?
        .dangerous() // Named so by rustls for any verifier of one's own; this one checks as the system does.
        .with_custom_certificate_verifier(Arc::new(verifier.map_err(TlsError::Trust)?))
        .with_no_client_auth();
    Ok(Arc::new(config))
}
