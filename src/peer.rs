//! Who is at the other end, and how a handler takes the whole connection: `server` fills these in, `transport`,
//! `proxy` and `session` read them. Knows neither TLS settings nor routes.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// Who sent a request, as far as it can be believed. In the extensions of every request `server` hands on.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address the connection came from, or what a trusted PROXY header says.
    pub socket: SocketAddr,
    /// Our end of it.
    pub local: SocketAddr,
    /// Whether this connection is encrypted.
    pub tls: bool,
    /// The client's own address: the socket's, or what trusted hops wrote in `Forwarded` / `X-Forwarded-For`.
    pub client: IpAddr,
    /// The scheme the client used, by the same rule: `https` or `http`.
    pub scheme: &'static str,
    /// Whether the hop before us is in `trusted_proxies`, so that its forwarding headers are kept and extended.
    pub trusted: bool,
}

/// A client's byte stream, whichever way it came.
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
    /// A tunnel inside HTTP/2 (RFC 8441), or inside anything hyper upgraded.
    Tunnel(Box<TokioIo<Upgraded>>),
}

impl Stream {
    /// Has the kernel end the connection once its peer has acknowledged nothing of what it was sent for so long (RFC 5482).
    /// A client that only listens never says anything: this is how it is noticed that its network is gone. Only Linux has
    /// it; elsewhere the keepalive of the listening socket remains.
    pub fn end_unacknowledged_after(&self, patience: Duration) {
        let socket = match self {
            Self::Plain(stream) => SockRef::from(stream),
            Self::Tls(stream) => SockRef::from(stream.get_ref().0),
            Self::Unix(_) | Self::Tunnel(_) => return,
        };
        #[cfg(target_os = "linux")]
        if let Err(error) = socket.set_tcp_user_timeout(Some(patience)) {
            tracing::debug!(%error, "the kernel takes no time for unacknowledged data");
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (socket, patience);
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(it) => Pin::new(it).poll_read(cx, buf),
            Self::Tls(it) => Pin::new(it).poll_read(cx, buf),
            Self::Unix(it) => Pin::new(it).poll_read(cx, buf),
            Self::Tunnel(it) => Pin::new(it).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(it) => Pin::new(it).poll_write(cx, buf),
            Self::Tls(it) => Pin::new(it).poll_write(cx, buf),
            Self::Unix(it) => Pin::new(it).poll_write(cx, buf),
            Self::Tunnel(it) => Pin::new(it).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(it) => Pin::new(it).poll_write_vectored(cx, bufs),
            Self::Tls(it) => Pin::new(it).poll_write_vectored(cx, bufs),
            Self::Unix(it) => Pin::new(it).poll_write_vectored(cx, bufs),
            Self::Tunnel(it) => Pin::new(it).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(it) => it.is_write_vectored(),
            Self::Tls(it) => it.is_write_vectored(),
            Self::Unix(it) => it.is_write_vectored(),
            Self::Tunnel(it) => it.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(it) => Pin::new(it).poll_flush(cx),
            Self::Tls(it) => Pin::new(it).poll_flush(cx),
            Self::Unix(it) => Pin::new(it).poll_flush(cx),
            Self::Tunnel(it) => Pin::new(it).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(it) => Pin::new(it).poll_shutdown(cx),
            Self::Tls(it) => Pin::new(it).poll_shutdown(cx),
            Self::Unix(it) => Pin::new(it).poll_shutdown(cx),
            Self::Tunnel(it) => Pin::new(it).poll_shutdown(cx),
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Stream::Plain",
            Self::Tls(_) => "Stream::Tls",
            Self::Unix(_) => "Stream::Unix",
            Self::Tunnel(_) => "Stream::Tunnel",
        })
    }
}

/// What runs on a connection that was taken over: it gets the stream and what was already read from it.
pub type TakenOver = Box<dyn FnOnce(Stream, Bytes) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// The slot in an HTTP/1.1 request's extensions by which a handler takes the connection away from HTTP.
///
/// The handler leaves what is to run and then never answers; `server` sees the slot filled, takes the connection apart
/// and runs it with the bare stream. Absent on HTTP/2, where a stream cannot be taken.
#[derive(Clone, Default)]
pub struct Takeover(Arc<Mutex<Option<TakenOver>>>);

impl Takeover {
    /// Fills the slot. The future never resolves: the handler awaits it and is dropped with the HTTP connection.
    pub async fn leave(self, run: TakenOver) -> std::convert::Infallible {
        *self.0.lock().expect("nothing panics under this lock") = Some(run);
        std::future::pending().await
    }

    /// What a handler left, if one did.
    pub fn take(&self) -> Option<TakenOver> {
        self.0.lock().expect("nothing panics under this lock").take()
    }
}

impl fmt::Debug for Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Takeover")
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_kernel_is_told_how_long_silence_may_last() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = Stream::Plain(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        stream.end_unacknowledged_after(Duration::from_secs(60));
        let Stream::Plain(stream) = stream else { unreachable!() };
        assert_eq!(SockRef::from(&stream).tcp_user_timeout().unwrap(), Some(Duration::from_secs(60)));
    }
}
