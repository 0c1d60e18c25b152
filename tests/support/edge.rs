//! Server, proxy and backend put together by hand: everything of Outrigger that passes requests through, nothing else.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use hyper::body::Incoming;
use outrigger::backend::{self, Backend};
use outrigger::drain::Drain;
use outrigger::proxy::{self, Proxy};
use outrigger::server::tls::{Certificates, Pair, Set};
use outrigger::server::{self, Address, Admission, Listener, Policy, Server};
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;

use super::soon;

/// What a test wants different from the defaults.
#[derive(Default)]
pub struct Setup {
    pub policy: Policy,
    pub proxy: proxy::Settings,
    pub backend: backend::Settings,
    pub certificates: Option<Arc<Certificates>>,
    pub proxy_protocol: bool,
    pub redirect_to_https: Option<u16>,
}

impl Setup {
    pub fn before(urls: &[String]) -> Self {
        let targets = urls.iter().map(|url| url.parse().unwrap()).collect();
        Self { backend: backend::Settings { targets, ..Default::default() }, ..Default::default() }
    }

    pub fn trusting(mut self, network: &str) -> Self {
        self.policy.trusted_proxies = vec![network.parse().unwrap()];
        self
    }

    pub fn self_signed(mut self) -> Self {
        self.certificates = Some(Certificates::new(Set::load(&[Pair::SelfSigned], None).unwrap().into()).unwrap());
        self
    }
}

pub struct Edge {
    pub address: SocketAddr,
    registry: Mutex<Registry>,
    drain: Option<Drain>,
    accepting: JoinHandle<()>,
}

impl Edge {
    /// A plain listener on a free port with the defaults.
    pub async fn before(url: String) -> Self {
        Self::start(Setup::before(&[url])).await
    }

    pub async fn start(setup: Setup) -> Self {
        let mut registry = Registry::with_prefix("outrigger");
        let proxy = Proxy::new(setup.proxy, Arc::new(proxy::Metrics::register(&mut registry)));
        let backend = Backend::build(setup.backend, None).unwrap();
        let parts = Arc::new((proxy, backend));
        let service = move |request| {
            let parts = parts.clone();
            async move { parts.0.forward(request, &parts.1).await }
        };
        let listener = Listener {
            address: Address::Tcp(([127, 0, 0, 1], 0).into()),
            tls: setup.certificates,
            proxy_protocol: setup.proxy_protocol,
            redirect_to_https: setup.redirect_to_https,
            http2_connect: false,
        };
        Self::serve(listener, setup.policy, registry, service).await
    }

    /// Any service behind a server of ours.
    pub async fn serve<S, F, B>(listener: Listener, policy: Policy, mut registry: Registry, service: S) -> Self
    where
        S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: http_body::Body<Data = bytes::Bytes, Error: Into<server::BoxError>> + Send + 'static,
    {
        let policy = Arc::new(policy);
        let metrics = server::Metrics::register(&mut registry);
        let server =
            Server::bind(vec![listener], Arc::new(move || policy.clone()), Arc::<Admission>::default(), metrics)
                .unwrap();
        let Address::Tcp(address) = server.addresses()[0] else { panic!("a TCP listener") };
        let (drain, draining) = Drain::new();
        let accepting = tokio::spawn(server.run(service, draining));
        Self { address, registry: Mutex::new(registry), drain: Some(drain), accepting }
    }

    /// The value of one line of `/metrics`, its labels included in the name.
    pub fn metric(&self, name: &str) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry.lock().unwrap()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).to_owned()
    }

    /// Waits until a metric has a value: it is counted after the client has its answer.
    pub async fn metric_becomes(&self, name: &str, value: &str) {
        soon(&format!("{name} becomes {value}"), async {
            while self.metric(name) != value {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    pub fn begin_drain(&self) {
        self.drain.as_ref().unwrap().begin();
    }

    /// Waits until the last connection is gone.
    pub async fn drained(mut self) {
        let drain = self.drain.take().unwrap();
        drain.begin();
        soon("the edge lets go of every connection", drain.finished()).await;
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
