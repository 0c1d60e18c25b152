use std::sync::Arc;

use super::settings;
use crate::api::{self, Terms};
use crate::auth::{self, ApiKeys, Verifier};
use crate::backend::{self, Backend};
use crate::config::Config;
use crate::protocol::wire::Deflate;
use crate::proxy::{self, Proxy};
use crate::routes::Public;
use crate::server;
use crate::server::tls::{self, Set};
use crate::session::Policy;
use crate::webhook::{self, ClosedPath, Webhooks};

/// Everything a configuration makes, immutable: what runs is one generation, swapped whole.
pub(super) struct Generation {
    pub(super) number: u64,
    pub(super) config: Arc<Config>,
    pub(super) public: Arc<Public>,
    pub(super) policy: Arc<Policy>,
    pub(super) server: Arc<server::Policy>,
    pub(super) api: Arc<api::Settings>,
    pub(super) deflate: Deflate,
    backend: Arc<Backend>,
    /// The certificates of each public listener with TLS, and of the internal one.
    sets: Vec<Option<Arc<Set>>>,
}

/// What counts goes on from generation to generation.
#[derive(Clone)]
pub(super) struct Counters {
    pub(super) proxy: Arc<proxy::Metrics>,
    pub(super) webhook: webhook::Metrics,
}

/// Why a configuration that reads well cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("upstream: {0}")]
    Backend(#[from] backend::BuildError),
    #[error("auth.jwt: {0}")]
    Tokens(#[from] auth::Error),
    #[error("webhooks: {0}")]
    Webhooks(#[from] webhook::Error),
    #[error("api.keys: {0}")]
    ApiKeys(#[from] auth::InvalidApiKey),
    #[error("tls: {0}")]
    Tls(#[from] tls::Error),
    #[error("engine.redis: {0}")]
    Redis(#[from] crate::engine::redis::TlsError),
    #[error("engine.redis: {0}")]
    RedisUrl(#[from] crate::engine::redis::InvalidUrl),
}

impl Generation {
    /// Builds every part or none. What did not change goes on from `previous`: pools, key sets, self-signed certificates.
    pub(super) fn build(config: Arc<Config>, counters: &Counters, previous: Option<&Self>) -> Result<Self, Error> {
        let number = previous.map_or(1, |it| it.number + 1);
        let backend = Arc::new(Backend::build(settings::backend(&config), previous.map(|it| &*it.backend))?);
        let verifier = config.auth.jwt.as_ref().map(|jwt| {
            let known = previous.and_then(|it| it.policy.verifier.as_deref());
            Verifier::build(&settings::jwt(jwt), &backend, known).map(Arc::new)
        });
        let verifier = verifier.transpose()?;
        // A path leads wherever the backend is.
        let same_backend = previous.filter(|it| it.config.upstream.url == config.upstream.url);
        let known = same_backend.and_then(|it| it.policy.webhooks.as_deref());
        let webhooks = settings::webhooks(&config)
            .map(|it| Webhooks::build(it, &backend, &counters.webhook, known).map(Arc::new))
            .transpose()?;
        let webhook_url = config.webhooks.url.as_ref().map(|it| &it.0);
        let rules = Arc::new(settings::rules(&config));
        let sets = listeners_tls(&config).enumerate().map(|(at, tls)| {
            let known = previous.and_then(|it| it.sets.get(at)?.as_deref());
            tls.map(|tls| Set::load(&settings::pairs(tls), known).map(Arc::new)).transpose()
        });
        Ok(Self {
            sets: sets.collect::<Result<_, _>>()?,
            public: Arc::new(Public {
                transport: Arc::new(settings::transport(&config)),
                proxy: Proxy::new(settings::proxy(&config), counters.proxy.clone()),
                backend: backend.clone(),
                announce: Terms {
                    rules: rules.clone(),
                    max_publication: config.realtime.max_publication.0.0,
                    is_honoured: config.upstream.push_header,
                },
                webhook_path: webhook_url.filter(|it| it.host().is_none()).map(|it| ClosedPath::new(it.path())),
            }),
            policy: Arc::new(Policy {
                number,
                rules: rules.clone(),
                verifier,
                webhooks,
                anonymous: config.auth.anonymous,
                ask_connect: config.auth.webhook,
                limits: settings::limits(&config),
                revocations: settings::revocations(&config),
            }),
            server: Arc::new(settings::server(&config)),
            api: Arc::new(api::Settings {
                keys: ApiKeys::build(&settings::api_keys(&config))?,
                rules,
                asked: settings::webhooks(&config).map(|it| it.events).unwrap_or_default(),
                max_publication: config.realtime.max_publication.0.0,
            }),
            deflate: settings::deflate(&config),
            number,
            backend,
            config,
        })
    }

    pub(super) fn set(&self, listener: usize) -> Option<&Arc<Set>> {
        self.sets.get(listener)?.as_ref()
    }
}

/// The TLS section of each public listener, then of the internal one.
fn listeners_tls(config: &Config) -> impl Iterator<Item = Option<&crate::config::Tls>> {
    config.listen.iter().map(|it| it.tls.as_ref()).chain([config.api.tls.as_ref()])
}
