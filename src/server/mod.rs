//! Sockets in: accept, TLS, HTTP/1.1 and HTTP/2, hand over, let go on drain.
//!
//! Each request reaches the service with a [`Peer`](crate::peer::Peer) in its extensions and, over HTTP/1.1, a
//! [`Takeover`](crate::peer::Takeover) slot. Knows no route and no meaning of a request; public listeners and the
//! internal one are the same to it.

mod admission;
mod connection;
mod forwarded;
mod hand_on;
mod metrics;
mod proxy_protocol;
mod socket;
mod takeover;
pub mod tls;

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use ipnet::IpNet;

use crate::drain::Draining;

pub use admission::{Admission, Refusal};
pub use metrics::Metrics;
pub use socket::{Address, BadAddress};

use connection::Context;
use socket::{Accepted, Socket};
use tls::Certificates;

/// Whatever a response body may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long to wait before accepting again when the process or the system is out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One place to listen at; changing it takes a restart.
#[derive(Clone, Debug)]
pub struct Listener {
    pub address: Address,
    /// Without certificates the listener speaks plain HTTP.
    pub tls: Option<Arc<Certificates>>,
    /// Connections from trusted networks begin with a PROXY header (v1 or v2).
    pub proxy_protocol: bool,
    /// Answer every request with a redirect to this port over https.
    pub redirect_to_https: Option<u16>,
    /// Offer WebSocket over HTTP/2 (RFC 8441).
    pub http2_connect: bool,
}

/// What may change while the server runs; read once per connection and once per request.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Whose forwarding headers and PROXY headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    pub max_connections: usize,
    /// Per IPv4 address or IPv6 /64. Trusted proxies are not counted: everybody's connections come from them.
    pub max_connections_per_ip: usize,
    /// Until TLS is up and the PROXY header has been read.
    pub handshake_timeout: Duration,
    /// Until a whole request head has arrived, idle time included; over HTTP/2 until the first one has. Longer than the 60 s that an AWS ALB keeps its
    /// connections, so that the balancer is the one who closes.
    pub header_timeout: Duration,
    /// How clients hear that there is no room for them.
    pub refusal: Refusal,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            trusted_proxies: Vec::new(),
            max_connections: 100_000,
            max_connections_per_ip: 200,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(75),
            refusal: admission::refusal,
        }
    }
}

impl Policy {
    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&address))
    }
}

/// Where the current policy is read from: the app's generation.
pub type CurrentPolicy = Arc<dyn Fn() -> Arc<Policy> + Send + Sync>;

/// What answers requests. `app` passes `routes`.
pub trait Service: Clone + Send + Sync + 'static {
    type Body: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static;
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Response<Self::Body>> + Send + 'static;
}

impl<F, Answer, B> Service for F
where
    F: Fn(Request<Incoming>) -> Answer + Clone + Send + Sync + 'static,
    Answer: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Body = B;

    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Response<B>> + Send + 'static {
        self(request)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}")]
pub struct BindError {
    pub address: Address,
    pub error: io::Error,
}

/// Bound sockets that accept nothing yet.
pub struct Server {
    listeners: Vec<(Socket, Listener)>,
    policy: CurrentPolicy,
    admission: Arc<Admission>,
    metrics: Metrics,
}

impl Server {
    /// Binds every listener or none. `admission` counts connections; servers that share it share the limits.
    pub fn bind(
        listeners: Vec<Listener>,
        policy: CurrentPolicy,
        admission: Arc<Admission>,
        metrics: Metrics,
    ) -> Result<Self, BindError> {
        let bind = |listener: Listener| {
            let socket = match (&listener.address, &listener.tls) {
                (Address::Unix(_), Some(_)) => Err(io::Error::other("TLS is for TCP listeners")),
                (address, _) => Socket::bind(address),
            };
            match socket {
                Ok(socket) => Ok((socket, listener)),
                Err(error) => Err(BindError { address: listener.address, error }),
            }
        };
        let listeners = listeners.into_iter().map(bind).collect::<Result<_, _>>()?;
        Ok(Self { listeners, policy, admission, metrics })
    }

    /// Where it listens, with the ports the system chose.
    pub fn addresses(&self) -> Vec<Address> {
        self.listeners.iter().map(|(socket, listener)| socket.address().unwrap_or(listener.address.clone())).collect()
    }

    /// Accepts until a stop is requested. Connections live on; each holds a [`Draining`] until it is finished.
    pub async fn run<S: Service>(self, service: S, draining: Draining) {
        let Self { listeners, policy, admission, metrics } = self;
        let loops = listeners.into_iter().map(|(socket, listener)| {
            let context = Context {
                listener,
                policy: policy.clone(),
                admission: admission.clone(),
                metrics: metrics.clone(),
                draining: draining.clone(),
                service: service.clone(),
            };
            accept(socket, Arc::new(context))
        });
        join_all(loops).await;
    }
}

async fn accept<S: Service>(socket: Socket, context: Arc<Context<S>>) {
    let mut draining = context.draining.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            () = draining.requested() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => begin(accepted, &context),
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                context.metrics.accept_errors.inc();
                tracing::error!(%error, address = %context.listener.address, "cannot accept connections, pausing");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn begin<S: Service>(accepted: Accepted, context: &Arc<Context<S>>) {
    let policy = (context.policy)();
    context.metrics.accepted.inc();
    match context.admission.admit(policy.max_connections, &context.draining, &context.metrics.open) {
        Some(permit) => {
            let context = context.clone();
            tokio::spawn(async move { connection::serve(accepted, context, policy, permit).await });
        }
        None => {
            context.metrics.refused_full.inc();
            context.admission.refuse(accepted.stream, context.listener.tls.is_none(), policy.refusal);
        }
    }
}

/// Errors of the connection that was to be accepted (Linux passes them on), as against those of this process.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(error.kind(), ConnectionAborted | ConnectionReset | ConnectionRefused | Interrupted | WouldBlock)
        || matches!(error.kind(), HostUnreachable | NetworkUnreachable | NetworkDown | TimedOut)
}
