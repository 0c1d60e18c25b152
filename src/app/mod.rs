//! The only place that knows everyone: builds the node from a configuration, swaps generations, drains. Decides nothing
//! that belongs to an owner.

mod ending;
mod generation;
mod metrics;
mod operate;
mod redis;
mod settings;
mod storage;
mod trial;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use arc_swap::access::Map;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use prometheus_client::registry::Registry;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::admin::Admin;
use crate::api::{Announcer, Api};
use crate::auth::Revocations;
use crate::config::watch::Files;
use crate::config::{Config, Loaded};
use crate::drain::Drain;
use crate::engine::{self, OpenError};
use crate::hub::Hub;
use crate::records::Records;
use crate::server::{self, Address, Admission, Listener, Server, tls};
use crate::session::{self, Sessions};
use crate::transport::Transports;
use crate::webhook::Notices;
use crate::{admin, api, proxy, routes, webhook};
pub use ending::Leftovers;
pub use generation::Error as CannotBuild;
use generation::{Counters, Generation};
/// What commands make of a configuration without running it.
pub(crate) use settings::{backend as backend_settings, jwt as token_settings};
pub use trial::try_out;

/// A node, listening.
pub struct App {
    shared: Arc<Shared>,
    addresses: Vec<Address>,
    api_address: Address,
    transports: Arc<Transports>,
    api_metrics: api::Metrics,
    drain: Drain,
    /// Accept connections, until the drain.
    servers: JoinSet<()>,
    /// Accepts calls to the internal API, until the very end: probes and pushes go on during the drain.
    internal: (Drain, JoinSet<()>),
    storage: storage::Storage,
    /// What works for as long as the node does.
    _background: JoinSet<()>,
}

/// What requests, reloads and the drain have in common.
struct Shared {
    generation: Arc<ArcSwap<Generation>>,
    counters: Counters,
    /// The file the configuration came from.
    path: Option<PathBuf>,
    hub: Arc<Hub>,
    notices: Arc<Notices>,
    /// By listener, the internal one last.
    certificates: Vec<Option<Arc<tls::Certificates>>>,
    is_draining: AtomicBool,
    /// Somebody asked for the end of this node over the API.
    drain_wanted: Notify,
    reload_metrics: metrics::Metrics,
    /// One reload after the other.
    reloading: tokio::sync::Mutex<()>,
    /// What was read last, taken or not: a change there is worth another try.
    files: Mutex<Files>,
    /// Why the last reload changed nothing.
    last_error: Mutex<Option<String>>,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Build(#[from] CannotBuild),
    #[error(transparent)]
    Data(#[from] OpenError),
    #[error(transparent)]
    Bind(#[from] server::BindError),
}

/// Connections to the internal listener: backends pool theirs.
const MAX_INTERNAL: usize = 10_000;

impl App {
    /// Builds everything and listens.
    pub async fn start(loaded: Loaded) -> Result<Self, Error> {
        let mut registry = Registry::with_prefix("outrigger");
        let counters = Counters {
            proxy: Arc::new(proxy::Metrics::register(&mut registry)),
            webhook: webhook::Metrics::register(&mut registry),
        };
        let reload_metrics = metrics::Metrics::register(&mut registry);
        let api_metrics = api::Metrics::register(&mut registry);
        let session_metrics = session::Metrics::register(&mut registry);
        let server_metrics = server::Metrics::register(&mut registry);
        let engine_metrics = engine::Metrics::register(&mut registry);
        let first = Generation::build(Arc::new(loaded.config), &counters, None)?;
        let config = first.config.clone();
        let certificates = (0..=config.listen.len())
            .map(|at| first.set(at).map(|set| tls::Certificates::new(set.clone())).transpose())
            .collect::<Result<Vec<_>, _>>()
            .map_err(CannotBuild::Tls)?;
        let generation = Arc::new(ArcSwap::from_pointee(first));

        let deflate = Box::new(Map::new(generation.clone(), |it: &Generation| &it.deflate));
        let redis = redis::settings(&config)?;
        let (hub, storage) = storage::open(&config, redis, deflate, engine_metrics)?;
        hub.checkpoints().live_in(storage.records());
        let policy = Map::new(generation.clone(), |it: &Generation| &it.policy);
        let notices = notices(generation.clone(), &hub, storage.records(), &mut registry);
        let revocations = Revocations::open(storage.records());
        let sessions = Sessions::new(hub.clone(), Box::new(policy), notices.clone(), session_metrics, revocations);
        // Weak: the sessions hold the hub.
        let heard = Arc::downgrade(&sessions);
        hub.on_notice(Box::new(move |notice| heard.upgrade().into_iter().for_each(|it| it.hear(&notice))));
        let (drain, draining) = Drain::new();
        let (internal_drain, internal_draining) = Drain::new();
        let transports = Transports::new(sessions.clone(), drain.holds());
        admin::collect(&mut registry, hub.clone());
        let announcer = Announcer::new(hub.clone(), api_metrics.clone(), drain.holds());
        let api = Api::new(sessions, notices.clone(), api_metrics.clone(), drain.holds());
        let shared = Arc::new(Shared {
            generation,
            counters,
            path: loaded.path,
            hub,
            notices: notices.clone(),
            certificates,
            is_draining: AtomicBool::new(false),
            drain_wanted: Notify::new(),
            reload_metrics,
            reloading: tokio::sync::Mutex::default(),
            files: Mutex::new(loaded.files),
            last_error: Mutex::default(),
        });

        // Clients that come before would only be told that there is nothing yet.
        storage.in_reach().await;
        let public = shared.bind_public(server_metrics.clone())?;
        let internal = shared.bind_internal(server_metrics)?;
        let addresses = public.addresses();
        let api_address = internal.addresses().remove(0);
        let mut background = JoinSet::new();
        background.spawn(transports.clone().sweep());
        background.spawn(notices.work());
        let mut servers = JoinSet::new();
        servers.spawn(public.run(shared.public_service(transports.clone(), announcer), draining));
        let mut internals = JoinSet::new();
        let admin = Arc::new(Admin::new(shared.clone(), Arc::new(registry)));
        internals.spawn(internal.run(shared.internal_service(admin, api), internal_draining));
        Ok(Self {
            shared,
            addresses,
            api_address,
            transports,
            api_metrics,
            drain,
            servers,
            internal: (internal_drain, internals),
            storage,
            _background: background,
        })
    }

    /// The public listeners, with the ports the system chose.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The internal listener.
    pub fn api_address(&self) -> &Address {
        &self.api_address
    }

    pub fn hub(&self) -> &Arc<Hub> {
        &self.shared.hub
    }

    /// Reads the configuration file again, and takes it if it is good. What changed, or why nothing did, is logged.
    pub async fn reload(&self) -> bool {
        let is_taken = self.shared.reload_file(false).await.is_ok();
        let status = if is_taken { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
        api::audit("the file, or a signal", "reload", status, "");
        is_taken
    }

    /// The configuration file and those it named when it was read last, taken or not.
    pub fn files(&self) -> Files {
        self.shared.files.lock().expect("nothing panics under this lock").clone()
    }

    /// What runs.
    pub fn config(&self) -> Arc<Config> {
        self.shared.generation.load().config.clone()
    }

    /// Resolves when the end of this node is asked for over the API.
    pub async fn drain_wanted(&self) {
        self.shared.drain_wanted.notified().await;
    }
}

/// What the backend is told, by the webhooks of whichever generation runs then.
fn notices(
    generation: Arc<ArcSwap<Generation>>,
    hub: &Hub,
    records: Arc<dyn Records>,
    registry: &mut Registry,
) -> Arc<Notices> {
    let current = Box::new(move || generation.load().policy.webhooks.clone());
    let notices = Notices::new(current, &hub.node(), records, registry);
    let tell = notices.clone();
    hub.on_change(Box::new(move |change| tell.change(change)));
    notices
}

impl Shared {
    fn bind_public(self: &Arc<Self>, metrics: server::Metrics) -> Result<Server, server::BindError> {
        let config = self.generation.load().config.clone();
        let https_port = config.listen.iter().find(|it| it.tls.is_some()).and_then(|it| match &it.address.0 {
            Address::Tcp(address) => Some(address.port()),
            Address::Unix(_) => None,
        });
        let listener = |(at, listen): (usize, &crate::config::Listen)| Listener {
            address: listen.address.0.clone(),
            tls: self.certificates[at].clone(),
            proxy_protocol: listen.proxy_protocol,
            redirect_to_https: https_port.filter(|_| listen.redirect_to_https && listen.tls.is_none()),
            http2_connect: config.realtime.http2_websocket,
        };
        let listeners = config.listen.iter().enumerate().map(listener).collect();
        let shared = self.clone();
        let policy: server::CurrentPolicy = Arc::new(move || shared.generation.load().server.clone());
        Server::bind(listeners, policy, Arc::new(Admission::default()), metrics)
    }

    /// The internal listener trusts nobody's headers, and its limits are its own.
    fn bind_internal(self: &Arc<Self>, metrics: server::Metrics) -> Result<Server, server::BindError> {
        let config = self.generation.load().config.clone();
        let listener = Listener {
            address: config.api.listen.0.clone(),
            tls: self.certificates.last().cloned().flatten(),
            proxy_protocol: false,
            redirect_to_https: None,
            http2_connect: false,
        };
        let policy = Arc::new(server::Policy {
            max_connections: MAX_INTERNAL,
            max_connections_per_ip: MAX_INTERNAL,
            ..server::Policy::default()
        });
        Server::bind(vec![listener], Arc::new(move || policy.clone()), Arc::new(Admission::default()), metrics)
    }

    fn public_service(
        self: &Arc<Self>,
        transports: Arc<Transports>,
        announcer: Arc<Announcer>,
    ) -> impl server::Service + use<> {
        let shared = self.clone();
        let current: routes::CurrentPublic = Arc::new(move || shared.generation.load().public.clone());
        move |request: Request<Incoming>| {
            routes::public(request, transports.clone(), announcer.clone(), current.clone())
        }
    }

    fn internal_service(self: &Arc<Self>, admin: Arc<Admin>, api: Arc<Api>) -> impl server::Service + use<> {
        let shared = self.clone();
        move |request: Request<Incoming>| {
            routes::internal(request, admin.clone(), api.clone(), shared.generation.load().api.clone())
        }
    }
}
