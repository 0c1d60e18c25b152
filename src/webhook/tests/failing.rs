//! A backend that fails: what opens the breaker, what does not, and who is heard meanwhile.

use super::*;

type Exchanged = Result<Response<Bytes>, backend::Error>;
/// What a backend always does, and how it is called.
type Habit = (&'static str, fn() -> Exchanged);

/// Asks a backend that always does the same, as often as it takes to open a breaker; then whether it is asked once more.
async fn is_open_after(settings: Settings, does: fn() -> Exchanged) -> bool {
    let asked = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counting = asked.clone();
    let exchange: Exchange = Box::new(move |_, _, _| {
        counting.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Box::pin(async move { does() })
    });
    let metrics = Metrics::register(&mut Registry::default());
    let failures = settings.breaker.failures;
    let webhooks = Arc::new(Webhooks::through(exchange, settings, &metrics, None).unwrap());
    let forwarded = Forwarded::default();
    for _ in 0..failures {
        subscribe(&webhooks, &connection(&forwarded)).await;
    }
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), failures, "each is asked before it opens");
    subscribe(&webhooks, &connection(&forwarded)).await;
    let is_open = asked.load(std::sync::atomic::Ordering::Relaxed) == failures;
    assert_eq!(metrics.breaker.state.get(), if is_open { 2 } else { 0 });
    is_open
}

fn answer(status: u16, body: &'static str) -> Exchanged {
    let response = Response::builder().status(status).header("retry-after", "7");
    Ok(response.body(body.into()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_failure_opens_the_breaker_and_no_decision_does() {
    use backend::Error;
    use std::io::ErrorKind;
    let failures: [Habit; 10] = [
        ("a time-out", || Err(Error::Timeout(Duration::from_secs(5)))),
        ("a connection that takes too long", || Err(Error::ConnectTimeout(Duration::from_secs(5)))),
        ("a connection refused", || Err(Error::Connect(ErrorKind::ConnectionRefused.into()))),
        ("a reset", || Err(Error::Broken("reset".into()))),
        ("a reply without end", || Err(Error::TooLarge { limit: 1 << 20 })),
        ("500", || answer(500, "")),
        ("502", || answer(502, "<html>")),
        ("503 that says when", || answer(503, "")),
        ("a page", || answer(200, "<html>please log in</html>")),
        ("a verdict that cannot be meant", || answer(200, r#"{"action":"perhaps"}"#)),
    ];
    for (name, failure) in failures {
        assert!(is_open_after(settings(), failure).await, "{name}");
    }
    let decisions: [Habit; 7] = [
        ("yes", || answer(200, "")),
        ("no", || answer(403, "")),
        ("not found", || answer(404, "")),
        ("later", || answer(429, "")),
        ("a redirect", || answer(302, "")),
        ("a bad request", || answer(400, "")),
        ("no room in our own pool", || Err(Error::Busy { limit: 1 })),
    ];
    for (name, decision) in decisions {
        assert!(!is_open_after(settings(), decision).await, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_breaker_is_open_the_policy_of_each_event_answers_at_once() {
    let backend = FakeBackend::default();
    let on_error = OnErrors { publish: OnError::Allow, ..OnErrors::default() };
    let webhooks = backend.webhooks(Settings { on_error, ..settings() });
    let forwarded = Forwarded::default();
    let mine = connection(&forwarded);
    for _ in 0..10 {
        ask(&webhooks, &mine, &Question::Refresh).await;
    }
    assert_eq!(backend.asked().len(), 10);
    let begun = Instant::now();
    let handshake = Question::Connect(Handshake { path: "/realtime", query: "", origin: None });
    let (channel, data) = (channel(), Data::Json("1".into()));
    let publish = Question::Publish { channel: &channel, event: None, data: &data, message_id: None };
    assert!(matches!(ask(&webhooks, &mine, &handshake).await, Answer::Unavailable));
    assert!(matches!(ask(&webhooks, &mine, &publish).await, Answer::Verdict(it) if it.action == Action::Allow));
    assert!(matches!(subscribe(&webhooks, &mine).await, Answer::Unavailable));
    assert_eq!((begun.elapsed(), backend.asked().len()), (Duration::ZERO, 0), "nobody waited and nobody was asked");
    *backend.0.answer.lock().unwrap() = Some((204, String::new()));
    tokio::time::advance(Duration::from_secs(5)).await;
    assert!(matches!(subscribe(&webhooks, &mine).await, Answer::Verdict(_)), "and it closes when the backend is back");
    assert_eq!(webhooks.metrics.breaker.state.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_survives_reloads_that_keep_the_url() {
    let backend = FakeBackend::default();
    let webhooks = backend.webhooks(settings());
    let forwarded = Forwarded::default();
    for _ in 0..10 {
        subscribe(&webhooks, &connection(&forwarded)).await;
    }
    let metrics = webhooks.metrics.clone();
    let reload =
        |settings| Arc::new(Webhooks::through(backend.exchange(), settings, &metrics, Some(&webhooks)).unwrap());
    backend.asked();
    subscribe(&reload(Settings { timeout: Duration::from_secs(1), ..settings() }), &connection(&forwarded)).await;
    assert_eq!(backend.asked().len(), 0, "it is still open");
    let elsewhere = reload(Settings { url: Uri::from_static("/hooks"), ..settings() });
    subscribe(&elsewhere, &connection(&forwarded)).await;
    assert_eq!(backend.asked().len(), 1, "another URL is another matter");
}

#[tokio::test(start_paused = true)]
async fn time_spent_waiting_for_a_slot_is_not_the_backends_fault() {
    let backend = FakeBackend::slow();
    let breaker = BreakerSettings { failures: 2, open: Duration::from_secs(5) };
    let webhooks = backend.webhooks(Settings { max_in_flight: 1, breaker, ..settings() });
    let forwarded = Forwarded::default();
    let ask = || webhooks.ask(&connection(&forwarded), &mut Lane::new(), &Question::Refresh);
    let let_go = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        backend.0.go.notify_one();
    };
    let (first, second, ()) = tokio::join!(ask(), ask(), let_go);
    assert!(matches!((first, second), (Answer::Verdict(_), Answer::Unavailable)));
    assert!(!webhooks.breaker().is_open());
    assert!(matches!(ask().await, Answer::Unavailable));
    assert!(!webhooks.breaker().is_open(), "one failure that counts, of three that failed");
}

#[tokio::test(start_paused = true)]
async fn where_too_many_wait_the_next_is_told_to_come_back_at_once() {
    let backend = FakeBackend::slow();
    let webhooks = backend.webhooks(Settings { max_in_flight: 1, ..settings() });
    let forwarded = Forwarded::default();
    let ask = || webhooks.ask(&connection(&forwarded), &mut Lane::new(), &Question::Refresh);
    let _waiting: Vec<_> = (0..65).map(|_| tokio::spawn(ask())).collect();
    while webhooks.metrics.waiting.get() < 64 {
        tokio::task::yield_now().await;
    }
    let begun = Instant::now();
    assert!(matches!(ask().await, Answer::Later { .. }));
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(webhooks.metrics.waiting.get(), 64);
}

#[tokio::test(start_paused = true)]
async fn a_client_with_many_connections_waits_for_itself() {
    let backend = FakeBackend::slow();
    let webhooks = backend.webhooks(Settings { max_in_flight: 1, ..settings() });
    let forwarded = Forwarded::default();
    let ask = |user: &'static str| {
        let connection = Connection { user: Some(user), ..connection(&forwarded) };
        tokio::spawn(webhooks.ask(&connection, &mut Lane::new(), &Question::Refresh))
    };
    let mut asking: Vec<_> = (0..10).map(|_| ask("greedy")).collect();
    while webhooks.metrics.waiting.get() < 9 {
        tokio::task::yield_now().await;
    }
    asking.push(ask("modest"));
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        backend.0.go.notify_one();
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    let bodies: Vec<Value> = backend.asked().iter().map(|it| serde_json::from_slice(it.body()).unwrap()).collect();
    let users: Vec<_> = bodies.iter().map(|it| it["connection"]["userId"].as_str().unwrap()).collect();
    assert_eq!(users, ["greedy", "greedy", "modest", "greedy"]);
}
