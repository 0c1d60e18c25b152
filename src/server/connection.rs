//! The life of one connection: PROXY header, TLS, then HTTP by what was negotiated.

use std::future::pending;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::admission::{Admission, Permit};
use super::hand_on::HandOn;
use super::proxy_protocol;
use super::socket::Accepted;
use super::tls::Certificates;
use super::{CurrentPolicy, Listener, Metrics, Policy, Service, takeover};
use crate::drain::Draining;
use crate::peer::Stream;

/// TLS records waiting for a slow client; rustls would hold 64 KiB.
const TLS_BUFFER: usize = 16 * 1024;

/// Per stream, so that many streams with slow readers stay cheap.
const H2_SEND_BUFFER: usize = 16 * 1024;
const H2_STREAM_WINDOW: u32 = 64 * 1024;
const H2_CONNECTION_WINDOW: u32 = 1024 * 1024;
const H2_STREAMS: u32 = 250;
const H2_HEADERS: u32 = 64 * 1024;

/// A browser's idle connection is asked whether it still lives.
const H2_PING: Duration = Duration::from_secs(45);
const H2_PONG: Duration = Duration::from_secs(20);

/// What all connections of a listener share.
pub(super) struct Context<S> {
    pub listener: Listener,
    pub policy: CurrentPolicy,
    pub admission: Arc<Admission>,
    pub metrics: Metrics,
    pub draining: Draining,
    pub service: S,
}

/// Both ends of a connection, and how it is protected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub from: SocketAddr,
    pub local: SocketAddr,
    pub is_tls: bool,
}

pub(super) async fn serve<S: Service>(
    accepted: Accepted,
    context: Arc<Context<S>>,
    policy: Arc<Policy>,
    mut permit: Permit,
) {
    let Accepted { mut stream, from, local } = accepted;
    let mut ends = Ends { from, local, is_tls: context.listener.tls.is_some() };
    let deadline = Instant::now() + policy.handshake_timeout;

    if context.listener.proxy_protocol && policy.trusts(from.ip()) {
        match timeout_at(deadline, proxy_protocol::read(&mut stream)).await {
            Ok(Ok(Some(proxied))) => (ends.from, ends.local) = (proxied.from, proxied.local),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                context.metrics.failed_proxy_header.inc();
                tracing::debug!(%from, %error, "connection without a PROXY header");
                return;
            }
            Err(_) => {
                context.metrics.failed_timeout.inc();
                return;
            }
        }
    }

    let is_counted = matches!(stream, Stream::Plain(_)) && !policy.trusts(ends.from.ip());
    if is_counted && !permit.claim(ends.from.ip(), policy.max_connections_per_ip) {
        context.metrics.refused_address.inc();
        return permit.admission().refuse(stream, !ends.is_tls, policy.refusal);
    }

    match (stream, &context.listener.tls) {
        (Stream::Plain(socket), Some(certificates)) => {
            // Boxed, so that a plain connection does not carry the room for a TLS one.
            Box::pin(serve_tls(socket, certificates.clone(), ends, deadline, context.clone(), policy, permit)).await;
        }
        (stream, _) => Box::pin(takeover::serve_http1(stream, ends, context, policy, permit)).await,
    }
}

async fn serve_tls<S: Service>(
    socket: TcpStream,
    certificates: Arc<Certificates>,
    ends: Ends,
    deadline: Instant,
    context: Arc<Context<S>>,
    policy: Arc<Policy>,
    permit: Permit,
) {
    let handshake = TlsAcceptor::from(certificates.config()).accept(socket);
    let mut stream = match timeout_at(deadline, handshake).await {
        Ok(Ok(stream)) => Box::new(stream),
        Ok(Err(error)) => {
            context.metrics.failed_tls.inc();
            tracing::debug!(from = %ends.from, %error, "TLS handshake failed");
            return;
        }
        Err(_) => {
            context.metrics.failed_timeout.inc();
            return;
        }
    };
    let session = stream.get_mut().1;
    session.set_buffer_limit(Some(TLS_BUFFER));
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    let stream = Stream::Tls(stream);
    if is_http2 {
        Box::pin(serve_http2(stream, ends, context, policy, permit)).await;
    } else {
        Box::pin(takeover::serve_http1(stream, ends, context, policy, permit)).await;
    }
}

async fn serve_http2<S: Service>(
    stream: Stream,
    ends: Ends,
    context: Arc<Context<S>>,
    policy: Arc<Policy>,
    _permit: Permit,
) {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_send_buf_size(H2_SEND_BUFFER)
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_concurrent_streams(H2_STREAMS)
        .max_header_list_size(H2_HEADERS)
        .keep_alive_interval(H2_PING)
        .keep_alive_timeout(H2_PONG);
    if context.listener.http2_connect {
        builder.enable_connect_protocol();
    }
    let mut draining = context.draining.clone();
    let requests = context.metrics.requests_http2.clone();
    let has_asked = Arc::<AtomicBool>::default();
    let service = HandOn { ends, context, slot: None, requests, has_asked: has_asked.clone() };
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // hyper waits for a client's first words without end, and pings it only afterwards.
    let says_nothing = async {
        sleep(policy.header_timeout).await;
        if has_asked.load(Relaxed) {
            pending::<()>().await;
        }
    };
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = says_nothing => return,
        () = draining.requested() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(from = %ends.from, %error, "HTTP/2 connection ended");
    }
}
