//! One byte stream to a target, and what it has seen so far: the pool's right to repeat a request rests on that.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::target::Target;

/// A connection to the backend, once it is bytes alone: after an upgrade.
#[derive(Debug)]
pub struct Stream {
    transport: Transport,
    traffic: Arc<Traffic>,
}

#[derive(Debug)]
enum Transport {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

/// What happened on a connection since the request in flight began. Written by the stream and the request's body, read
/// by whoever waits for the answer.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// A byte of the request was given to the kernel.
    pub written: AtomicBool,
    /// A byte of an answer arrived.
    pub heard: AtomicBool,
    /// The request's body has pieces to come.
    pub is_uploading: AtomicBool,
    /// The body's sender is who we wait for.
    pub awaits_sender: AtomicBool,
    /// The body's sender failed.
    pub sender_left: AtomicBool,
    /// Grows with each piece of the body.
    pub pieces: AtomicU32,
}

impl Traffic {
    pub fn begin(&self) {
        for flag in [&self.written, &self.heard, &self.is_uploading, &self.awaits_sender, &self.sender_left] {
            flag.store(false, Relaxed);
        }
    }
}

impl Stream {
    pub(super) async fn connect(target: &Target, tls: Option<&Arc<ClientConfig>>) -> io::Result<(Self, Arc<Traffic>)> {
        let transport = match target {
            Target::Unix(path) => Transport::Unix(UnixStream::connect(path).await?),
            Target::Http { host, port } => Transport::Tcp(tcp(host, *port).await?),
            Target::Https { host, port } => {
                let config = tls.ok_or_else(|| io::Error::other("no TLS settings for an https target"))?;
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                let stream = TlsConnector::from(config.clone()).connect(name, tcp(host, *port).await?).await?;
                Transport::Tls(Box::new(stream))
            }
        };
        let traffic = Arc::<Traffic>::default();
        Ok((Self { transport, traffic: traffic.clone() }, traffic))
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

macro_rules! on_transport {
    ($self:expr, $stream:ident => $call:expr) => {
        match &mut $self.transport {
            Transport::Tcp($stream) => $call,
            Transport::Tls($stream) => $call,
            Transport::Unix($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = on_transport!(this, it => Pin::new(it).poll_read(cx, buf));
        if buf.filled().len() > before {
            this.traffic.heard.store(true, Relaxed);
        }
        result
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = on_transport!(this, it => Pin::new(it).poll_write(cx, buf));
        this.note_written(&result);
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = on_transport!(this, it => Pin::new(it).poll_write_vectored(cx, bufs));
        this.note_written(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Tcp(it) => it.is_write_vectored(),
            Transport::Tls(it) => it.is_write_vectored(),
            Transport::Unix(it) => it.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_transport!(self.get_mut(), it => Pin::new(it).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_transport!(self.get_mut(), it => Pin::new(it).poll_shutdown(cx))
    }
}

impl Stream {
    fn note_written(&self, result: &Poll<io::Result<usize>>) {
        if matches!(result, Poll::Ready(Ok(written)) if *written > 0) {
            self.traffic.written.store(true, Relaxed);
        }
    }
}
