//! From the file's sections to each owner's plain settings. Nothing is decided here; a value only changes its shape.

use std::time::Duration;

use crate::channel::Retention;
use crate::config::{self, Config, OneOrMany};
use crate::hub::{Access, Attendance, Publish, Rule, Rules, WhenSlow};
use crate::protocol::wire::Deflate;
use crate::transport::{Heartbeat, Origins, TokenSource};
use crate::{auth, backend, engine, proxy, server, session, transport, webhook};

/// The largest reply to a webhook.
const MAX_REPLY: usize = 1024 * 1024;

pub(crate) fn backend(config: &Config) -> backend::Settings {
    let upstream = &config.upstream;
    backend::Settings {
        targets: upstream.url.0.iter().map(|it| it.0.clone()).collect(),
        connect_timeout: upstream.connect_timeout.0,
        response_timeout: upstream.response_timeout.0,
        idle_timeout: upstream.idle_timeout.0,
        body_timeout: None,
        max_connections: upstream.max_connections,
        ca_file: upstream.ca.clone(),
        trusts_anybody: false,
    }
}

pub(super) fn proxy(config: &Config) -> proxy::Settings {
    let upgrades = config.upstream.upgrades.iter().map(|it| it.to_ascii_lowercase());
    proxy::Settings { upgrades: upgrades.collect(), access_log: config.telemetry.access_log }
}

pub(super) fn server(config: &Config) -> server::Policy {
    server::Policy {
        trusted_proxies: config.trusted_proxies.iter().map(|it| it.0).collect(),
        max_connections: config.limits.connections,
        max_connections_per_ip: config.limits.connections_per_ip,
        refusal: transport::no_room,
        ..server::Policy::default()
    }
}

pub(super) fn pairs(tls: &config::Tls) -> Vec<server::tls::Pair> {
    match tls {
        config::Tls::SelfSigned => vec![server::tls::Pair::SelfSigned],
        config::Tls::Pairs(OneOrMany(pairs)) => {
            let files = |it: &config::Pair| server::tls::Pair::Files { cert: it.cert.clone(), key: it.key.clone() };
            pairs.iter().map(files).collect()
        }
    }
}

pub(super) fn transport(config: &Config) -> transport::Settings {
    let realtime = &config.realtime;
    let origins = &realtime.allowed_origins.0;
    let is_word = |it: &&String| matches!(it.as_str(), "same-origin" | "*");
    transport::Settings {
        allowed_origins: Origins {
            same_origin: origins.iter().any(|it| it == "same-origin"),
            any: origins.iter().any(|it| it == "*"),
            listed: origins.iter().filter(|it| !is_word(it)).cloned().collect(),
        },
        heartbeat: Heartbeat { interval: realtime.heartbeat.interval.0, timeout: realtime.heartbeat.timeout.0 },
        compression: realtime.compression.is_some(),
        max_message: realtime.max_message.0.0,
        outbox: realtime.outbox.0.0,
        token_from: config.auth.token_from.iter().map(|it| token_source(*it)).collect(),
        cookie: config.auth.cookie.clone(),
        path: realtime.path.clone(),
        sse_heartbeat: realtime.sse.heartbeat.0,
        poll_wait: realtime.poll.wait.0,
        poll_session: realtime.poll.session.0,
    }
}

fn token_source(it: config::TokenFrom) -> TokenSource {
    match it {
        config::TokenFrom::Query => TokenSource::Query,
        config::TokenFrom::Header => TokenSource::Header,
        config::TokenFrom::Cookie => TokenSource::Cookie,
        config::TokenFrom::Subprotocol => TokenSource::Subprotocol,
        config::TokenFrom::Message => TokenSource::Message,
    }
}

pub(super) fn deflate(config: &Config) -> Deflate {
    let compression = config.realtime.compression.clone().unwrap_or_default();
    Deflate { threshold: compression.threshold.0.0, level: compression.level }
}

pub(super) fn rules(config: &Config) -> Rules {
    Rules::new(config.channels.iter().map(rule).collect())
}

fn rule(it: &config::Rule) -> Rule {
    Rule {
        pattern: it.pattern.0.clone(),
        subscribe: match it.subscribe {
            config::Subscribe::Public => Access::Public,
            config::Subscribe::User => Access::User,
            config::Subscribe::Grant => Access::Grant,
            config::Subscribe::Webhook => Access::Webhook,
        },
        publish: match it.publish {
            config::Publish::None => Publish { webhook: false, broadcast: false },
            config::Publish::Webhook => Publish { webhook: true, broadcast: false },
            config::Publish::Broadcast => Publish { webhook: false, broadcast: true },
            config::Publish::WebhookAndBroadcast => Publish { webhook: true, broadcast: true },
        },
        history: it.history.as_ref().map_or(Retention::NONE, |it| Retention { size: it.size, ttl: it.ttl.0 }),
        when_slow: match it.when_slow {
            config::WhenSlow::Disconnect => WhenSlow::Disconnect,
            config::WhenSlow::DropOldest => WhenSlow::DropOldest,
            config::WhenSlow::LatestOnly => WhenSlow::LatestOnly,
        },
        presence: it.presence.then_some(Attendance { max_members: it.max_members }),
        min_interval: it.min_interval.map(|it| it.0),
    }
}

pub(super) fn limits(config: &Config) -> session::Limits {
    let messages = &config.limits.messages_per_second;
    session::Limits {
        subscriptions: config.limits.subscriptions_per_connection,
        rate: f64::from(messages.rate),
        burst: f64::from(messages.burst),
        handshakes: f64::from(config.limits.handshakes_per_second),
    }
}

pub(super) fn revocations(config: &Config) -> auth::Keep {
    let revocations = &config.auth.revocations;
    auth::Keep { time: revocations.keep.0, most: revocations.most }
}

pub(crate) fn jwt(jwt: &config::Jwt) -> auth::Settings {
    auth::Settings {
        secrets: jwt.secret.0.iter().map(|it| auth::Named::without_kid(it.reveal().into())).collect(),
        public_keys: jwt.public_key.0.iter().map(|it| auth::Named::without_kid(it.reveal().to_owned())).collect(),
        jwks: jwt.jwks.as_ref().map(|it| it.0.clone()),
        algorithms: jwt.algorithms.iter().map(|it| algorithm(*it)).collect(),
        issuer: jwt.issuer.0.clone(),
        audience: jwt.audience.0.clone(),
        leeway: jwt.leeway.0,
        user_claim: jwt.user_claim.0.clone(),
        info_claim: jwt.info_claim.clone(),
    }
}

fn algorithm(it: config::Algorithm) -> auth::Algorithm {
    use config::Algorithm as From;
    match it {
        From::HS256 => auth::Algorithm::HS256,
        From::HS384 => auth::Algorithm::HS384,
        From::HS512 => auth::Algorithm::HS512,
        From::RS256 => auth::Algorithm::RS256,
        From::RS384 => auth::Algorithm::RS384,
        From::RS512 => auth::Algorithm::RS512,
        From::PS256 => auth::Algorithm::PS256,
        From::PS384 => auth::Algorithm::PS384,
        From::PS512 => auth::Algorithm::PS512,
        From::ES256 => auth::Algorithm::ES256,
        From::ES384 => auth::Algorithm::ES384,
        From::EdDSA => auth::Algorithm::EdDSA,
    }
}

/// None where nothing is asked.
pub(super) fn webhooks(config: &Config) -> Option<webhook::Settings> {
    let section = &config.webhooks;
    let on_error = |it| match it {
        config::OnError::Deny => webhook::OnError::Deny,
        config::OnError::Allow => webhook::OnError::Allow,
    };
    Some(webhook::Settings {
        url: section.url.as_ref()?.0.clone(),
        secrets: section.secret.0.iter().map(|it| it.reveal().into()).collect(),
        events: section.events.iter().map(|it| event(*it)).collect(),
        timeout: section.timeout.0,
        forward_headers: section.forward_headers.iter().map(|it| it.0.clone()).collect(),
        max_in_flight: section.max_in_flight,
        on_error: webhook::OnErrors {
            connect: on_error(section.on_error.connect),
            subscribe: on_error(section.on_error.subscribe),
            publish: on_error(section.on_error.publish),
        },
        breaker: webhook::BreakerSettings { failures: section.breaker.failures, open: section.breaker.open.0 },
        notices: webhook::NoticeSettings {
            batch: section.batch,
            grace: section.grace.0,
            patience: section.retry.patience.0,
            max_delay: section.retry.max_delay.0,
            max_queued: section.queue.notices,
            max_bytes: section.queue.size.0.0,
            max_dead: section.queue.dead_letters,
        },
        max_reply: MAX_REPLY,
        max_data: config.realtime.max_publication.0.0,
    })
}

fn event(it: config::WebhookEvent) -> webhook::Event {
    use config::WebhookEvent as From;
    match it {
        From::Connect => webhook::Event::Connect,
        From::Subscribe => webhook::Event::Subscribe,
        From::Publish => webhook::Event::Publish,
        From::Refresh => webhook::Event::Refresh,
        From::Disconnect => webhook::Event::Disconnect,
        From::Unsubscribe => webhook::Event::Unsubscribe,
        From::Occupied => webhook::Event::Occupied,
        From::Vacated => webhook::Event::Vacated,
        From::Joined => webhook::Event::Joined,
        From::Left => webhook::Event::Left,
    }
}

pub(super) fn api_keys(config: &Config) -> Vec<auth::ApiKey> {
    let scope = |it: &config::Scope| match it {
        config::Scope::Push => auth::Scope::Push,
        config::Scope::Read => auth::Scope::Read,
        config::Scope::Admin => auth::Scope::Admin,
    };
    let key = |it: &config::ApiKey| auth::ApiKey {
        name: it.name.clone(),
        key: it.key.reveal().into(),
        scopes: it.scope.iter().map(scope).collect(),
    };
    config.api.keys.iter().map(key).collect()
}

pub(super) fn engine(config: &Config) -> engine::Settings {
    engine::Settings {
        positions: config.positions.0,
        channels: config.limits.channels,
        idempotency: config.api.idempotency.0,
        idempotency_ids: config.limits.idempotency_ids,
    }
}

/// None where everything lives in memory alone.
pub(super) fn data(config: &Config) -> Option<engine::Data> {
    let data = config.data.as_ref()?;
    let fsync = match data.fsync {
        config::Fsync::EachSecond => engine::Fsync::EachSecond,
        config::Fsync::Always => engine::Fsync::Always,
    };
    Some(engine::Data { path: data.path.clone(), fsync })
}

/// How long each part of the drain takes.
pub(super) struct Drain {
    pub(super) delay: Duration,
    pub(super) spread: Duration,
    /// From the very beginning.
    pub(super) deadline: Duration,
}

pub(super) fn drain(config: &Config) -> Drain {
    let drain = &config.drain;
    Drain { delay: drain.delay.0, spread: drain.spread.0, deadline: drain.deadline.0 }
}
