use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::*;
use crate::auth::{ApiKey, Keep, Revocations};
use crate::channel::{Draft, Pattern, Position, Retention};
use crate::drain::Drain;
use crate::engine::{self, BoxFuture, Broker, Deliver, Erased, Error, Page, Receipt};
use crate::hub::{Access, Directory, Listed, Outbox, Owner, Publish, Rule, Subscription, WhenSlow};
use crate::protocol::Format;
use crate::protocol::wire::Deflate;
use crate::records::Forgetful;
use crate::session;

mod announcing;
mod looking;
mod pushing;
mod revoking;

pub(super) const MAX_PUBLICATION: usize = 1000;

/// An API over a real hub, whose engine fails when told to.
pub(super) struct Bench {
    pub api: Arc<Api>,
    pub drain: Drain,
    pub hub: Arc<Hub>,
    pub settings: Arc<Settings>,
    pub metrics: Metrics,
    pub registry: Registry,
    engine: Arc<Flaky>,
}

impl Bench {
    pub fn open() -> Self {
        let mut flaky = None;
        let deflate = Box::new(arc_swap::access::Constant(Deflate::default()));
        let hub = Hub::open_over(2, deflate, |deliver: Arc<dyn Deliver>, _| {
            let day = Duration::from_secs(86_400);
            let settings =
                engine::Settings { positions: day, channels: 10_000, idempotency: day, idempotency_ids: 100_000 };
            let engine = Arc::new(Flaky::over(Arc::new(engine::Memory::new(settings, deliver))));
            flaky.insert(engine).clone()
        });
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let key = |name: &str, scopes: &[Scope]| ApiKey {
            name: name.into(),
            key: format!("the-key-called-{name}").as_str().into(),
            scopes: scopes.into(),
        };
        let keys = [key("push", &[Scope::Push]), key("read", &[Scope::Read]), key("all", &[Scope::Admin])];
        let rule = Rule {
            pattern: Pattern::parse("room.*").unwrap(),
            subscribe: Access::Public,
            publish: Publish::default(),
            history: Retention { size: 100, ttl: Duration::from_secs(600) },
            when_slow: WhenSlow::DropOldest,
            presence: None,
            min_interval: None,
        };
        let (drain, _) = Drain::new();
        let rules = Arc::new(Rules::new(vec![rule]));
        let notices = Notices::new(Box::new(|| None), "tests", Arc::new(Forgetful), &mut registry);
        let sessions = Sessions::new(
            hub.clone(),
            Box::new(arc_swap::access::Constant(Arc::new(policy(rules.clone())))),
            notices.clone(),
            session::Metrics::register(&mut registry),
            Revocations::open(Arc::new(Forgetful)),
        );
        let settings = Settings {
            keys: ApiKeys::build(&keys).unwrap(),
            rules,
            asked: vec![Event::Publish],
            max_publication: MAX_PUBLICATION,
        };
        Self {
            api: Api::new(sessions, notices, metrics.clone(), drain.holds()),
            drain,
            hub,
            settings: Arc::new(settings),
            metrics,
            registry,
            engine: flaky.unwrap(),
        }
    }

    /// The next so many publishes to the channel after `after` successful ones fail.
    pub fn fail(&self, channel: &str, error: Error, after: u32, times: u32) {
        self.engine.plans.lock().unwrap().push(Plan { channel: channel.into(), error, after, times });
    }

    pub fn tries(&self) -> u32 {
        self.engine.tries.load(Ordering::SeqCst)
    }

    pub async fn follow(&self, channel: &str, format: Format) -> Client {
        self.follow_with(channel, format, 1024 * 1024).await
    }

    pub async fn follow_with(&self, channel: &str, format: Format, limit: usize) -> Client {
        let outbox = Outbox::new(&self.hub, format, None, limit);
        let channel = ChannelName::parse(channel).unwrap();
        let rule = self.settings.rules.find(&ChannelName::parse("room.1").unwrap()).unwrap();
        let joined = self.hub.subscribe(&channel, None, &outbox, rule).await.unwrap();
        joined.subscription.go_live(joined.position);
        Client { outbox, _subscription: joined.subscription, _listed: None }
    }

    /// The answer to a request of the key with every scope.
    pub async fn ask(&self, method: Method, path: &str, content: &str, body: impl Into<Bytes>) -> Answer {
        let request = Request::builder().method(method).uri(path).header("content-type", content);
        self.send(request.header("authorization", "Bearer the-key-called-all"), body).await
    }

    pub async fn send(&self, request: http::request::Builder, body: impl Into<Bytes>) -> Answer {
        let request = request.body(Full::new(body.into())).unwrap();
        let (head, body) = self.api.answer(request, self.settings.clone()).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            json: serde_json::from_slice(&body).unwrap_or_default(),
        }
    }

    /// What a client hears of something that goes on by itself.
    pub async fn heard(&self, client: &Client) -> String {
        for _ in 0..1000 {
            let heard = client.read();
            if !heard.is_empty() {
                return heard;
            }
            tokio::task::yield_now().await;
        }
        String::new()
    }

    pub async fn push(&self, message: Value) -> Answer {
        self.ask(Method::POST, "/push", "application/json", message.to_string()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, "", "").await
    }
}

fn policy(rules: Arc<Rules>) -> session::Policy {
    session::Policy {
        number: 1,
        rules,
        verifier: None,
        webhooks: None,
        anonymous: true,
        ask_connect: false,
        limits: session::Limits { subscriptions: 9, rate: 9.0, burst: 9.0, handshakes: 9.0 },
        revocations: Keep { time: Duration::from_secs(3600), most: 2 },
    }
}

pub(super) struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub json: Value,
}

impl Answer {
    pub fn results(&self, field: &str) -> Vec<Value> {
        self.json["results"].as_array().unwrap().iter().map(|it| it[field].clone()).collect()
    }
}

/// Somebody who follows a channel and reads when asked.
pub(super) struct Client {
    pub outbox: Arc<Outbox>,
    _subscription: Subscription,
    _listed: Option<Listed>,
}

impl Client {
    pub fn listed(mut self, directory: &Arc<Directory>, user: &str) -> Self {
        self._listed = Some(directory.list(&self.outbox, Owner::new(Some(user.into()), [127, 0, 0, 1].into(), None)));
        self
    }

    /// What has come, as one text.
    pub fn read(&self) -> String {
        let handed = self.outbox.waiting_entries(Waker::noop());
        self.outbox.confirm(handed.serial);
        String::from_utf8(handed.messages.join(&b","[..])).unwrap()
    }
}

struct Plan {
    channel: String,
    error: Error,
    after: u32,
    times: u32,
}

/// The memory engine, failing by plan.
struct Flaky {
    memory: Arc<engine::Memory>,
    plans: std::sync::Mutex<Vec<Plan>>,
    tries: AtomicU32,
}

impl Flaky {
    fn over(memory: Arc<engine::Memory>) -> Self {
        Self { memory, plans: Default::default(), tries: AtomicU32::new(0) }
    }

    fn planned(&self, channel: &str) -> Option<Error> {
        self.tries.fetch_add(1, Ordering::SeqCst);
        let mut plans = self.plans.lock().unwrap();
        let plan = plans.iter_mut().find(|it| it.channel == channel && it.times > 0)?;
        if plan.after > 0 {
            plan.after -= 1;
            return None;
        }
        plan.times -= 1;
        Some(plan.error.clone())
    }
}

impl Broker for Flaky {
    fn heads<'a>(&'a self, channels: &'a [ChannelName]) -> BoxFuture<'a, Result<Vec<Position>, Error>> {
        self.memory.heads(channels)
    }
    fn publish(&self, draft: Draft, retention: Retention) -> BoxFuture<'_, Result<Receipt, Error>> {
        match self.planned(draft.channel.as_str()) {
            Some(error) => Box::pin(std::future::ready(Err(error))),
            // Not at once: no engine over a network is.
            None => Box::pin(async move {
                tokio::task::yield_now().await;
                self.memory.publish(draft, retention).await
            }),
        }
    }

    fn follow(&self, channel: &ChannelName) -> BoxFuture<'_, Result<(), Error>> {
        self.memory.follow(channel)
    }

    fn unfollow(&self, channel: &ChannelName) {
        self.memory.unfollow(channel);
    }

    fn history(
        &self,
        channel: &ChannelName,
        since: Option<Position>,
        limit: usize,
        retention: Retention,
    ) -> BoxFuture<'_, Result<Page, Error>> {
        self.memory.history(channel, since, limit, retention)
    }

    fn delete_history(&self, channel: &ChannelName) -> BoxFuture<'_, Result<(), Error>> {
        self.memory.delete_history(channel)
    }

    fn erase(&self, user: &str) -> BoxFuture<'_, Result<Erased, Error>> {
        match self.planned(user) {
            Some(error) => Box::pin(std::future::ready(Err(error))),
            None => self.memory.erase(user),
        }
    }

    fn channels(&self, prefix: &str, limit: usize) -> BoxFuture<'_, Result<Vec<ChannelName>, Error>> {
        self.memory.channels(prefix, limit)
    }
}

#[test]
fn every_route_is_described_for_machines_and_nothing_else_is() {
    let openapi: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
    let mut described = Vec::new();
    for (path, methods) in openapi["paths"].as_object().unwrap() {
        described.extend(methods.as_object().unwrap().keys().map(|it| (it.to_uppercase(), path.clone())));
    }
    described.sort();
    let admin = [
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
        ("GET", "/config"),
        ("POST", "/reload"),
        ("POST", "/drain"),
    ];
    let ours = ROUTES.iter().map(|it| (it.0, it.1)).chain(admin);
    let mut ours: Vec<_> = ours.map(|(method, path)| (method.to_owned(), path.to_owned())).collect();
    ours.sort();
    assert_eq!(described, ours);
}

#[test]
fn every_listed_route_is_found_and_asks_for_the_scope_it_says() {
    for (method, path, scope) in ROUTES {
        let path = path
            .replace("{channel}", "room.5")
            .replace("/connections/{id}", "/connections/00000000000000000000000000000001");
        let path = path.replace("{id}", "42");
        let route = Route::of(&method.parse().unwrap(), &path).unwrap_or_else(|_| panic!("{method} {path}"));
        assert_eq!(route.scope(), *scope, "{method} {path}");
    }
}

#[test]
fn a_channel_in_a_path_is_decoded() {
    let route = Route::of(&Method::GET, "/channels/room%2F5/history").unwrap();
    assert_eq!(route, Route::History(ChannelName::parse("room/5").unwrap()));
    assert!(Route::of(&Method::PUT, "/push").is_err());
    assert!(Route::of(&Method::GET, "/channels/%ff").is_err());
}

#[tokio::test]
async fn a_key_opens_what_its_scope_allows_and_nothing_else() {
    let bench = Bench::open();
    let with = |key: &str| Request::post("/push").header("authorization", format!("Bearer the-key-called-{key}"));
    let message = json!({"channel": "room.5", "data": 1}).to_string();
    assert_eq!(bench.send(with("push"), message.clone()).await.status, 200);
    assert_eq!(bench.send(with("all"), message.clone()).await.status, 200);
    let denied = bench.send(with("read"), message.clone()).await;
    assert_eq!((denied.status, &denied.json["status"]), (403, &json!(403)));
    assert!(denied.json["detail"].as_str().unwrap().contains("scope `push`"), "{}", denied.json);
    for request in [with("wrong"), Request::post("/push")] {
        let denied = bench.send(request, message.clone()).await;
        assert_eq!(denied.status, 401);
        assert!(denied.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
        assert_eq!(denied.headers["content-type"], "application/problem+json");
    }
}
