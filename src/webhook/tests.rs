//! A backend that records what it is asked and answers as it is told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::sync::Notify;

use super::*;
use crate::backend;
use crate::channel::{ChannelName, ConnectionId, Data};

mod failing;

#[derive(Clone, Default)]
struct FakeBackend(Arc<State>);

#[derive(Default)]
struct State {
    asked: Mutex<Vec<Request<Bytes>>>,
    /// Status and body; it is away without.
    answer: Mutex<Option<(u16, String)>>,
    /// Answers wait for this, if it is slow.
    is_slow: std::sync::atomic::AtomicBool,
    go: Notify,
}

impl FakeBackend {
    fn answering(status: u16, body: &str) -> Self {
        let backend = Self::default();
        *backend.0.answer.lock().unwrap() = Some((status, body.into()));
        backend
    }

    fn slow() -> Self {
        let backend = Self::answering(204, "");
        backend.0.is_slow.store(true, std::sync::atomic::Ordering::Relaxed);
        backend
    }

    fn exchange(&self) -> Exchange {
        let state = self.0.clone();
        Box::new(move |request, _, _| {
            let state = state.clone();
            Box::pin(async move {
                state.asked.lock().unwrap().push(request);
                if state.is_slow.load(std::sync::atomic::Ordering::Relaxed) {
                    state.go.notified().await;
                }
                let answer = state.answer.lock().unwrap().clone();
                let Some((status, body)) = answer else {
                    return Err(backend::Error::Connect(std::io::ErrorKind::ConnectionRefused.into()));
                };
                Ok(Response::builder().status(status).body(body.into()).unwrap())
            })
        })
    }

    fn webhooks(&self, settings: Settings) -> Arc<Webhooks> {
        let metrics = Metrics::register(&mut Registry::default());
        Arc::new(Webhooks::through(self.exchange(), settings, &metrics, None).unwrap())
    }

    fn asked(&self) -> Vec<Request<Bytes>> {
        std::mem::take(&mut *self.0.asked.lock().unwrap())
    }
}

pub(super) fn settings() -> Settings {
    Settings {
        url: Uri::from_static("/webhooks/realtime"),
        secrets: vec!["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into()],
        events: vec![Event::Connect, Event::Publish],
        timeout: Duration::from_secs(5),
        forward_headers: vec![http::header::COOKIE],
        max_in_flight: 2,
        on_error: OnErrors::all(OnError::Deny),
        breaker: BreakerSettings { failures: 10, open: Duration::from_secs(5) },
        notices: NoticeSettings {
            batch: 1,
            grace: Duration::from_secs(3),
            patience: Duration::from_secs(300),
            max_delay: Duration::from_secs(30),
            max_queued: 1000,
            max_bytes: 1 << 20,
            max_dead: 100,
        },
        max_reply: 1 << 20,
        max_data: 1 << 16,
    }
}

fn forwarded() -> Forwarded {
    let mut headers = HeaderMap::new();
    headers.append("cookie", HeaderValue::from_static("session=\"abc\""));
    headers.append("cookie", HeaderValue::from_static("theme=dark"));
    headers.insert("traceparent", HeaderValue::from_static("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    Forwarded::pick(&headers, &[http::header::COOKIE, http::header::ACCEPT_LANGUAGE])
}

fn connection(forwarded: &Forwarded) -> Connection<'_> {
    Connection {
        id: ConnectionId(1 << 96),
        transport: "websocket",
        user: Some("42"),
        ip: "2001:db8::7".parse().unwrap(),
        claims: Some(r#"{"role":"admin"}"#),
        state: Some(r#"{"step":2}"#),
        node: "node-1",
        generation: 3,
        forwarded,
    }
}

fn channel() -> ChannelName {
    ChannelName::parse("room.5").unwrap()
}

async fn ask(webhooks: &Arc<Webhooks>, connection: &Connection<'_>, question: &Question<'_>) -> Answer {
    webhooks.ask(connection, &mut Lane::new(), question).await
}

async fn subscribe(webhooks: &Arc<Webhooks>, connection: &Connection<'_>) -> Answer {
    ask(webhooks, connection, &Question::Subscribe { channel: &channel() }).await
}

#[tokio::test(start_paused = true)]
async fn a_question_is_signed_and_carries_the_clients_cookies_and_trace() {
    let backend = FakeBackend::answering(204, "");
    let webhooks = backend.webhooks(settings());
    let forwarded = forwarded();
    let answer = ask(&webhooks, &connection(&forwarded), &Question::Refresh).await;
    assert!(matches!(answer, Answer::Verdict(it) if it.action == Action::Allow));

    let [request] = &backend.asked()[..] else { panic!("asked once") };
    let header = |name: &str| request.headers()[name].to_str().unwrap();
    assert_eq!((request.method(), request.uri().path()), (&Method::POST, "/webhooks/realtime"));
    assert_eq!((header("content-type"), header("outrigger-event")), ("application/json", "refresh"));
    assert_eq!(request.headers().get_all("cookie").iter().count(), 2);
    assert!(header("user-agent").starts_with("outrigger/"));
    assert_eq!(request.headers().get_all("traceparent").iter().count(), 1);
    assert!(header("traceparent").starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp").parse().unwrap());
    let signing = Signing::build(&settings().secrets).unwrap();
    assert_eq!(signing.verify(id, timestamp, header("webhook-signature"), request.body(), timestamp), Ok(()));
    let body: Value = serde_json::from_slice(request.body()).unwrap();
    assert_eq!((body["id"].as_str(), body["timestamp"].as_u64().map(|it| it / 1000)), (Some(id), Some(timestamp)));
}

/// The bodies as every client of the scheme sees them; what differs from run to run is in braces.
#[test]
fn each_question_is_the_golden_json() {
    let forwarded = forwarded();
    let data = [Data::Json(Bytes::from_static(br#"{"text":"hi"}"#)), Data::Binary(Bytes::from_static(&[0, 255]))];
    let handshake =
        Handshake { path: "/realtime", query: "a=1&%74oken=x&ticket=y&b", origin: Some("https://app.example") };
    let channel = &channel();
    let publish = |data, event, message_id| Question::Publish { channel, event, data, message_id };
    let anonymous = Connection { user: None, claims: None, state: None, ..connection(&forwarded) };
    for (name, connection, question) in [
        ("connect", anonymous, Question::Connect(handshake)),
        ("subscribe", connection(&forwarded), Question::Subscribe { channel }),
        ("publish", connection(&forwarded), publish(&data[0], None, Some("c-18"))),
        ("publish_binary", connection(&forwarded), publish(&data[1], Some("file"), None)),
        ("refresh", connection(&forwarded), Question::Refresh),
    ] {
        let lane = Lane::at(0xfeed, 17);
        let body = question.body(&connection, "msg_1", &lane, Duration::from_millis(1_767_225_600_123));
        assert_eq!(String::from_utf8(body).unwrap(), fixture(&format!("{name}.json")), "{name}");
    }
}

/// `tests/external/standard_webhooks.py` holds the same signatures against the scheme's own library.
#[test]
fn each_golden_body_has_its_golden_signature() {
    let signing = Signing::build(&settings().secrets).unwrap();
    let mut signatures = fixture("signatures.txt");
    signatures.push('\n');
    let mut expected = String::new();
    for name in ["connect", "subscribe", "publish", "publish_binary", "refresh"] {
        let signature = signing.sign("msg_1", 1_767_225_600, fixture(&format!("{name}.json")).as_bytes());
        expected.push_str(&format!("{name} {signature}\n"));
    }
    assert_eq!(signatures, expected);
}

fn fixture(file: &str) -> String {
    let path = format!("{}/tests/fixtures/webhooks/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.trim_end().to_owned()
}

#[test]
fn the_same_publication_has_the_same_id_wherever_it_comes_from() {
    let forwarded = Forwarded::default();
    let data = Data::Json("1".into());
    let (here, other) = (channel(), ChannelName::parse("room.6").unwrap());
    let id = |user, connection_id, channel, message_id| {
        let connection = Connection { user, id: ConnectionId(connection_id), ..connection(&forwarded) };
        Question::Publish { channel, event: None, data: &data, message_id }.id(&connection)
    };
    let first = id(Some("42"), 1, &here, Some("c-1"));
    assert!(first.starts_with("msg_") && first.len() == 36);
    assert_eq!(first, id(Some("42"), 2, &here, Some("c-1")), "the user came back on another connection");
    assert_ne!(first, id(Some("43"), 1, &here, Some("c-1")));
    assert_ne!(first, id(Some("42"), 1, &other, Some("c-1")));
    assert_ne!(first, id(Some("42"), 1, &here, Some("c-2")));
    assert_ne!(id(None, 1, &here, Some("c-1")), id(None, 2, &here, Some("c-1")), "anonymous ones are told apart");
    assert_ne!(id(Some("42"), 1, &here, None), id(Some("42"), 1, &here, None), "without an id each is new");
    let pretender = format!("{:032x}", 1);
    assert_ne!(id(None, 1, &here, Some("c-1")), id(Some(&pretender), 1, &here, Some("c-1")));
}

#[tokio::test(start_paused = true)]
async fn a_lane_counts_what_was_asked() {
    let backend = FakeBackend::answering(204, "");
    let webhooks = backend.webhooks(settings());
    let forwarded = Forwarded::default();
    let mut lane = Lane::new();
    for _ in 0..3 {
        webhooks.ask(&connection(&forwarded), &mut lane, &Question::Refresh).await;
    }
    let bodies: Vec<Value> = backend.asked().iter().map(|it| serde_json::from_slice(it.body()).unwrap()).collect();
    assert_eq!(bodies.iter().map(|it| it["n"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(bodies.iter().all(|it| it["lane"] == bodies[0]["lane"]));
}

#[tokio::test(start_paused = true)]
async fn without_a_usable_answer_the_configured_policy_decides_but_never_a_refresh() {
    let forwarded = Forwarded::default();
    let handshake = Question::Connect(Handshake { path: "/realtime", query: "", origin: None });
    for backend in [FakeBackend::default(), FakeBackend::answering(500, ""), FakeBackend::answering(200, "[]")] {
        let deny = backend.webhooks(settings());
        assert!(matches!(ask(&deny, &connection(&forwarded), &handshake).await, Answer::Unavailable));
        let allow = backend.webhooks(Settings { on_error: OnErrors::all(OnError::Allow), ..settings() });
        let answer = ask(&allow, &connection(&forwarded), &handshake).await;
        assert!(matches!(answer, Answer::Verdict(it) if it.action == Action::Allow));
        assert!(matches!(ask(&allow, &connection(&forwarded), &Question::Refresh).await, Answer::Unavailable));
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_than_max_in_flight_are_asked_and_waiting_counts_as_time() {
    let backend = FakeBackend::slow();
    let webhooks = backend.webhooks(settings());
    let forwarded = Forwarded::default();
    let asking: Vec<_> = (0..3)
        .map(|_| tokio::spawn(webhooks.ask(&connection(&forwarded), &mut Lane::new(), &Question::Refresh)))
        .collect();
    while backend.0.asked.lock().unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!((webhooks.metrics.in_flight.get(), webhooks.metrics.waiting.get()), (2, 1));
    backend.0.go.notify_one();
    let mut answers = Vec::new();
    for asking in asking {
        answers.push(asking.await.unwrap());
    }
    let unavailable = answers.iter().filter(|it| matches!(it, Answer::Unavailable)).count();
    assert_eq!(unavailable, 2, "one was let go, its slot went to the third, and time ended the others");
    assert_eq!(backend.asked().len(), 3);
    assert_eq!((webhooks.metrics.in_flight.get(), webhooks.metrics.waiting.get()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_question_that_never_gets_a_slot_is_unavailable_and_was_never_asked() {
    let backend = FakeBackend::slow();
    let webhooks = backend.webhooks(Settings { max_in_flight: 1, ..settings() });
    let forwarded = Forwarded::default();
    let ask = || webhooks.ask(&connection(&forwarded), &mut Lane::new(), &Question::Refresh);
    let (first, second) = tokio::join!(ask(), ask());
    assert!(matches!((first, second), (Answer::Unavailable, Answer::Unavailable)));
    assert!(backend.asked().len() <= 2);
}

#[tokio::test(start_paused = true)]
async fn a_verdict_on_subscribing_is_remembered_for_its_ttl_and_for_the_same_client_alone() {
    let backend = FakeBackend::answering(200, r#"{"action":"reject","error":{"code":"vip"},"ttl":60}"#);
    let webhooks = backend.webhooks(settings());
    let forwarded = Forwarded::default();
    let mine = connection(&forwarded);
    for _ in 0..3 {
        let Answer::Verdict(verdict) = subscribe(&webhooks, &mine).await else { panic!("a verdict") };
        assert_eq!(verdict.refusal().unwrap().code.as_ref(), "vip");
    }
    assert_eq!(backend.asked().len(), 1);
    assert_eq!(webhooks.metrics.remembered.get(), 2);
    let cookies = self::forwarded();
    for other in [
        Connection { user: Some("43"), ..mine },
        Connection { user: None, ..mine },
        Connection { state: None, ..mine },
        Connection { forwarded: &cookies, ..mine },
    ] {
        subscribe(&webhooks, &other).await;
    }
    assert_eq!(backend.asked().len(), 4);
    tokio::time::advance(Duration::from_secs(60)).await;
    subscribe(&webhooks, &mine).await;
    assert_eq!(backend.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_meant_once_is_not_remembered() {
    let forwarded = Forwarded::default();
    for body in ["", "{}", r#"{"ttl":0}"#, r#"{"ttl":60,"push":[{"channel":"a"}]}"#, r#"{"ttl":60,"state":1}"#] {
        let backend = FakeBackend::answering(200, body);
        let webhooks = backend.webhooks(settings());
        subscribe(&webhooks, &connection(&forwarded)).await;
        subscribe(&webhooks, &connection(&forwarded)).await;
        assert_eq!(backend.asked().len(), 2, "{body}");
    }
}

async fn connect(webhooks: &Arc<Webhooks>, id: u128, query: &str) -> Answer {
    let forwarded = forwarded();
    let connection = Connection {
        id: ConnectionId(id),
        user: None,
        claims: None,
        state: None,
        generation: u64::try_from(id).unwrap(),
        ..connection(&forwarded)
    };
    let handshake = Handshake { path: "/realtime", query, origin: None };
    webhooks.ask_to_connect(&connection, &mut Lane::new(), handshake).await
}

/// So many clients with the same cookies ask at the same moment; the backend answers once all of them wait.
async fn together(backend: &FakeBackend, webhooks: &Arc<Webhooks>, clients: u128) -> Vec<Answer> {
    backend.0.is_slow.store(true, std::sync::atomic::Ordering::Relaxed);
    let crowd = futures_util::future::join_all((0..clients).map(|id| connect(webhooks, id, "token=old&a=1")));
    let answered = async {
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        backend.0.is_slow.store(false, std::sync::atomic::Ordering::Relaxed);
        backend.0.go.notify_waiters();
    };
    tokio::join!(crowd, answered).0
}

fn users(answers: &[Answer]) -> usize {
    answers.iter().filter(|it| matches!(it, Answer::Verdict(it) if it.user.as_deref() == Some("ada"))).count()
}

#[tokio::test(start_paused = true)]
async fn who_asks_to_connect_in_the_same_words_is_asked_about_once_and_not_again_within_the_ttl() {
    let backend = FakeBackend::answering(200, r#"{"userId":"ada","subscribe":["a"],"ttl":30}"#);
    let webhooks = backend.webhooks(settings());
    assert_eq!(users(&together(&backend, &webhooks, 50).await), 50);
    assert_eq!((backend.asked().len(), webhooks.metrics.coalesced.get()), (1, 49));
    connect(&webhooks, 99, "a=1").await;
    assert_eq!((backend.asked().len(), webhooks.metrics.remembered.get()), (0, 1), "a token is no part of the words");
    connect(&webhooks, 99, "a=2").await;
    assert_eq!(backend.asked().len(), 1, "other words");
    tokio::time::advance(Duration::from_secs(30)).await;
    connect(&webhooks, 99, "a=1").await;
    assert_eq!(backend.asked().len(), 1, "the time is over");
    assert_eq!(webhooks.forget("ada"), 2);
    connect(&webhooks, 99, "a=1").await;
    assert_eq!(backend.asked().len(), 1, "the user was forgotten");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_one_connections_alone_is_given_to_no_other() {
    for body in [
        r#"{"userId":"ada"}"#,
        r#"{"userId":"ada","ttl":0}"#,
        r#"{"userId":"ada","ttl":9,"state":{"n":1}}"#,
        r#"{"userId":"ada","ttl":9,"push":[{"channel":"a"}]}"#,
        r#"{"userId":"ada","ttl":9,"expiresAt":1000}"#,
    ] {
        let backend = FakeBackend::answering(200, body);
        let webhooks = backend.webhooks(settings());
        assert_eq!(users(&together(&backend, &webhooks, 5).await), 5);
        assert_eq!(backend.asked().len(), 5, "{body}");
        // Where answers are for one alone nobody waits for another's a second time.
        together(&backend, &webhooks, 5).await;
        assert_eq!((backend.asked().len(), webhooks.metrics.coalesced.get()), (5, 0), "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_wants_to_be_asked_later_is_not_asked_once_for_each() {
    let backend = FakeBackend::answering(429, "");
    let webhooks = backend.webhooks(settings());
    let answers = together(&backend, &webhooks, 20).await;
    assert!(answers.iter().all(|it| matches!(it, Answer::Later { .. })));
    assert_eq!(backend.asked().len(), 1);
}

#[test]
fn only_the_listed_events_are_asked() {
    let webhooks = FakeBackend::default().webhooks(settings());
    let asked = Event::ALL.map(|it| webhooks.asks(it));
    assert_eq!(asked, [true, false, true, false, false, false, false, false, false, false]);
}

#[test]
fn settings_that_cannot_work_say_why() {
    let build = |settings| {
        let metrics = Metrics::register(&mut Registry::default());
        Webhooks::through(FakeBackend::default().exchange(), settings, &metrics, None).map(|_| ()).unwrap_err()
    };
    assert_eq!(build(Settings { secrets: Vec::new(), ..settings() }), Error::Secret(InvalidSecret::None));
    for url in ["ftp://a/", "backend.example", "*"] {
        assert_eq!(build(Settings { url: Uri::from_static(url), ..settings() }), Error::Url, "{url}");
    }
    let host = http::header::HOST;
    assert_eq!(build(Settings { forward_headers: vec![host.clone()], ..settings() }), Error::ForwardHeader(host));
}
