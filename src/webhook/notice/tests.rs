//! Notices on a clock that stands still, against a backend that does as it is told, over shelves that outlive a process.

use std::collections::{BTreeMap, HashSet};
use std::pin::Pin;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::super::tests::settings as webhook_settings;
use super::super::{BreakerSettings, Forwarded, Metrics as WebhookMetrics, Settings, Signing};
use super::*;
use crate::backend;
use crate::channel::ConnectionId;

mod batches;
mod graveyard;
mod restart;
mod retries;
mod telling;

/// How the backend takes a request.
#[derive(Clone, Debug)]
enum Take {
    Status(u16),
    Later(&'static str),
    Refuse,
    Hang,
}

/// Records what it is told, and when.
#[derive(Default)]
struct Backend {
    told: Mutex<Vec<(Instant, Request<Bytes>)>>,
    next: Mutex<VecDeque<Take>>,
    /// What it does once `next` is empty; it takes everything without.
    usual: Mutex<Option<Take>>,
}

impl Backend {
    fn then(&self, takes: impl IntoIterator<Item = Take>) {
        self.next.lock().unwrap().extend(takes);
    }

    fn always(&self, take: Take) {
        *self.usual.lock().unwrap() = Some(take);
    }

    fn take(&self, request: Request<Bytes>) -> Take {
        self.told.lock().unwrap().push((Instant::now(), request));
        let next = self.next.lock().unwrap().pop_front();
        next.or_else(|| self.usual.lock().unwrap().clone()).unwrap_or(Take::Status(204))
    }

    fn requests(&self) -> Vec<(Instant, Request<Bytes>)> {
        self.told.lock().unwrap().drain(..).collect()
    }

    /// What it was told, as JSON.
    fn bodies(&self) -> Vec<Value> {
        self.requests().iter().map(|(_, it)| serde_json::from_slice(it.body()).unwrap()).collect()
    }

    fn exchange(self: &Arc<Self>) -> super::super::delivery::Exchange {
        let backend = self.clone();
        Box::new(move |request, timeout, _| -> Pin<Box<dyn Future<Output = _> + Send>> {
            let take = backend.take(request);
            Box::pin(async move {
                let mut response = Response::new(Bytes::new());
                match take {
                    Take::Status(status) => *response.status_mut() = status.try_into().unwrap(),
                    Take::Later(after) => {
                        *response.status_mut() = http::StatusCode::TOO_MANY_REQUESTS;
                        response.headers_mut().insert("retry-after", HeaderValue::from_static(after));
                    }
                    Take::Refuse => {
                        return Err(backend::Error::Connect(std::io::ErrorKind::ConnectionRefused.into()));
                    }
                    Take::Hang => {
                        tokio::time::sleep(timeout).await;
                        return Err(backend::Error::Timeout(timeout));
                    }
                }
                Ok(response)
            })
        })
    }
}

/// Records that outlive the notices over them.
#[derive(Debug, Default)]
struct Shelves(Mutex<BTreeMap<(Shelf, String), Vec<u8>>>);

impl Shelves {
    fn count(&self, shelf: Shelf) -> usize {
        self.0.lock().unwrap().keys().filter(|it| it.0 == shelf).count()
    }
}

impl Records for Shelves {
    fn is_lasting(&self) -> bool {
        true
    }

    fn put(&self, shelf: Shelf, key: &str, value: Vec<u8>) {
        self.0.lock().unwrap().insert((shelf, key.into()), value);
    }

    fn remove(&self, shelf: Shelf, key: &str) {
        self.0.lock().unwrap().remove(&(shelf, key.into()));
    }

    fn all(&self, shelf: Shelf) -> Vec<(String, Vec<u8>)> {
        let records = self.0.lock().unwrap();
        records.iter().filter(|(it, _)| it.0 == shelf).map(|((_, key), value)| (key.clone(), value.clone())).collect()
    }

    fn settled(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(std::future::ready(true))
    }
}

/// A node's notices.
struct Bench {
    notices: Arc<Notices>,
    backend: Arc<Backend>,
    records: Arc<Shelves>,
    current: Arc<Mutex<Option<Arc<Webhooks>>>>,
    webhook_metrics: WebhookMetrics,
    registry: Registry,
    work: JoinHandle<()>,
}

fn settings() -> Settings {
    Settings { events: Event::ALL.into(), max_in_flight: 64, ..webhook_settings() }
}

impl Bench {
    fn start() -> Self {
        Self::with(settings())
    }

    fn with(settings: Settings) -> Self {
        Self::over(Arc::default(), settings)
    }

    /// A process that finds these records.
    fn over(records: Arc<Shelves>, settings: Settings) -> Self {
        let mut registry = Registry::default();
        let webhook_metrics = WebhookMetrics::register(&mut registry);
        let backend = Arc::<Backend>::default();
        let first = Webhooks::through(backend.exchange(), settings, &webhook_metrics, None).unwrap();
        let current = Arc::new(Mutex::new(Some(Arc::new(first))));
        let read = current.clone();
        let notices =
            Notices::new(Box::new(move || read.lock().unwrap().clone()), "node-1", records.clone(), &mut registry);
        let work = tokio::spawn(notices.clone().work());
        Self { notices, backend, records, current, webhook_metrics, registry, work }
    }

    fn reload(&self, settings: Settings) {
        let previous = self.current.lock().unwrap().clone();
        let next =
            Webhooks::through(self.backend.exchange(), settings, &self.webhook_metrics, previous.as_deref()).unwrap();
        *self.current.lock().unwrap() = Some(Arc::new(next));
    }

    /// The process is gone from one moment to the next.
    fn kill(self) -> Arc<Shelves> {
        self.work.abort();
        self.records
    }

    fn metric(&self, line: &str) -> bool {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text.lines().any(|it| it == line)
    }
}

/// One client; each has its lane.
struct Client {
    id: u128,
    lane: Lane,
}

impl Client {
    fn new(id: u128) -> Self {
        Self { id, lane: Lane::at(u64::try_from(id).unwrap(), 0) }
    }

    fn show<T>(&mut self, show: impl FnOnce(&Connection, &mut Lane) -> T) -> T {
        let mut headers = HeaderMap::new();
        headers.insert("cookie", HeaderValue::from_static("session=secret"));
        let forwarded = Forwarded::pick(&headers, &[http::header::COOKIE]);
        let connection = Connection {
            id: ConnectionId(self.id),
            transport: "websocket",
            user: Some("42"),
            ip: "2001:db8::7".parse().unwrap(),
            claims: Some(r#"{"role":"admin"}"#),
            state: Some(r#"{"step":2}"#),
            node: "node-1",
            generation: 3,
            forwarded: &forwarded,
        };
        show(&connection, &mut self.lane)
    }

    fn comes(&mut self, bench: &Bench) {
        self.show(|connection, lane| bench.notices.note(connection, lane));
    }

    fn leaves(&mut self, bench: &Bench, channel: &ChannelName) {
        let lasted = Duration::from_millis(1500);
        self.show(|connection, lane| {
            bench.notices.tell(&Notice::Unsubscribe { connection, channel, reason: "client", lasted }, lane);
        });
    }

    fn goes(&mut self, bench: &Bench) {
        let lasted = Duration::from_millis(61_000);
        self.show(|connection, lane| bench.notices.ended(connection, lane, 1000, "bye", lasted));
    }
}

fn channel() -> ChannelName {
    ChannelName::parse("room.5").unwrap()
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

const MOMENT: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(300);

/// Type and place of each.
fn shape(bodies: &[Value]) -> Vec<(&str, Option<u64>)> {
    bodies.iter().map(|it| (it["type"].as_str().unwrap(), it["n"].as_u64())).collect()
}
