use super::*;

#[tokio::test(start_paused = true)]
async fn a_lane_keeps_its_order_over_retries_and_holds_nobody_else_up() {
    let bench = Bench::start();
    bench.backend.then([Take::Status(400), Take::Status(204), Take::Refuse]);
    let (mut failing, mut other) = (Client::new(1), Client::new(2));
    failing.leaves(&bench, &channel());
    failing.leaves(&bench, &channel());
    failing.goes(&bench);
    other.goes(&bench);
    pass(MOMENT).await;
    let at_once = bench.backend.bodies();
    assert_eq!(at_once.len(), 2, "each lane has one on its way: {at_once:?}");
    assert_ne!(at_once[0]["lane"], at_once[1]["lane"]);
    pass(Duration::from_secs(10)).await;
    let later = bench.backend.bodies();
    let again = [("unsubscribe", Some(1)), ("unsubscribe", Some(1)), ("unsubscribe", Some(2)), ("disconnect", Some(3))];
    assert_eq!(shape(&later), again);
    assert_eq!(bench.records.count(Shelf::Notices), 0);
    assert!(bench.metric(r#"notices_delivered_total{event="unsubscribe"} 2"#));
    assert!(bench.metric(r#"notices_retried_total{event="unsubscribe"} 2"#));
}

#[tokio::test(start_paused = true)]
async fn each_try_is_signed_with_the_secrets_of_its_time_under_the_same_id() {
    let bench = Bench::start();
    bench.backend.then([Take::Status(500)]);
    Client::new(1).goes(&bench);
    pass(MOMENT).await;
    let renewed = vec!["whsec_bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3".into()];
    bench.reload(Settings { secrets: renewed.clone(), ..settings() });
    pass(Duration::from_secs(2)).await;
    let requests = bench.backend.requests();
    let [(_, first), (_, second)] = &requests[..] else { panic!("{requests:?}") };
    let header = |it: &Request<Bytes>, name: &str| it.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header(first, "webhook-id"), header(second, "webhook-id"));
    assert_eq!(first.body(), second.body());
    let verify = |it: &Request<Bytes>, secrets: &[_]| {
        let timestamp = header(it, "webhook-timestamp").parse().unwrap();
        let signature = header(it, "webhook-signature");
        Signing::build(secrets).unwrap().verify(&header(it, "webhook-id"), timestamp, &signature, it.body(), timestamp)
    };
    assert_eq!((verify(first, &settings().secrets), verify(second, &renewed)), (Ok(()), Ok(())));
    assert!(verify(second, &settings().secrets).is_err());
}

#[test]
fn pauses_are_full_jitter_under_a_ceiling_that_doubles() {
    use super::super::queue::delay;
    let most = Duration::from_secs(30);
    let ceilings: Vec<_> = (1..=8).map(|tries| delay(tries, most, 1.0).as_secs()).collect();
    assert_eq!(ceilings, [1, 2, 4, 8, 16, 30, 30, 30]);
    assert_eq!(delay(5, most, 0.0), Duration::ZERO);
    assert_eq!(delay(5, most, 0.5), Duration::from_secs(8));
    assert_eq!(delay(u32::MAX, most, 1.0), most);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_says_when_is_not_asked_before() {
    let bench = Bench::start();
    bench.backend.then([Take::Later("60")]);
    Client::new(1).goes(&bench);
    pass(Duration::from_secs(100)).await;
    let requests = bench.backend.requests();
    let [first, second] = &requests[..] else { panic!("{requests:?}") };
    assert!(second.0 - first.0 >= Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn while_the_breaker_is_open_notices_wait_and_one_finds_out_when_it_is_over() {
    let bench = Bench::start();
    bench.backend.always(Take::Refuse);
    (0..40).for_each(|id| Client::new(id).goes(&bench));
    pass(Duration::from_secs(4)).await;
    assert!(bench.backend.requests().len() <= 16, "what was on its way when it opened, and no more");
    assert!(bench.metric("webhook_breaker_state 2"));
    pass(Duration::from_secs(20)).await;
    let probes = bench.backend.requests().len();
    assert!((3..=5).contains(&probes), "one every five seconds, not {probes}");
    let held = r#"webhook_duration_seconds_count{event="disconnect",outcome="open"} 15"#;
    assert!(bench.metric(held), "those in the other slots when it opened, and none runs against it later");
    bench.backend.always(Take::Status(200));
    pass(Duration::from_secs(40)).await;
    let told: HashSet<_> = bench.backend.bodies().iter().map(|it| it["id"].to_string()).collect();
    assert_eq!(told.len(), 40, "all are told once it is back");
    assert!(bench.metric("webhook_breaker_state 0") && bench.metric("dead_letters 0"));
}

#[tokio::test(start_paused = true)]
async fn a_webhook_url_that_comes_with_a_reload_gets_what_waits() {
    let bench = Bench::start();
    bench.backend.always(Take::Status(400));
    Client::new(1).goes(&bench);
    pass(MOMENT).await;
    *bench.current.lock().unwrap() = None;
    bench.backend.always(Take::Status(200));
    pass(Duration::from_secs(60)).await;
    bench.backend.requests();
    bench.reload(settings());
    pass(Duration::from_secs(2)).await;
    assert_eq!(bench.backend.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_hangs_while_the_breaker_may_be_tried_keeps_nobody_busy() {
    let mut settings = settings();
    settings.breaker = BreakerSettings { failures: 1, open: Duration::from_secs(1) };
    let bench = Bench::with(settings);
    bench.backend.then([Take::Hang, Take::Refuse]);
    (0..3).for_each(|id| Client::new(id).goes(&bench));
    // A loop that spins would never let the clock go on.
    pass(Duration::from_secs(20)).await;
    let told: HashSet<_> = bench.backend.bodies().iter().map(|it| it["id"].to_string()).collect();
    assert_eq!((told.len(), bench.records.count(Shelf::Notices)), (3, 0));
}
