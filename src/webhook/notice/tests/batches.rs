use super::*;

fn batching(batch: usize) -> Settings {
    let mut settings = settings();
    settings.notices.batch = batch;
    settings
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_the_same_shape_whatever_its_number() {
    let bench = Bench::with(batching(3));
    let mut client = Client::new(1);
    client.leaves(&bench, &channel());
    client.leaves(&bench, &channel());
    (2..5).for_each(|id| Client::new(id).goes(&bench));
    pass(MOMENT).await;
    let requests = bench.backend.requests();
    let bodies: Vec<Value> = requests.iter().map(|it| serde_json::from_slice(it.1.body()).unwrap()).collect();
    assert!(bodies.iter().all(|it| it["type"] == "batch" && it["timestamp"].is_u64()), "{bodies:?}");
    let counts: Vec<_> = bodies.iter().map(|it| it["notices"].as_array().unwrap().len()).collect();
    assert_eq!(counts, [3, 2]);
    let first = bodies[0]["notices"].as_array().unwrap();
    assert_eq!(shape(first), [("unsubscribe", Some(1)), ("unsubscribe", Some(2)), ("disconnect", Some(1))]);
    let headers = requests[0].1.headers();
    assert_eq!(
        (&headers["outrigger-event"], &bodies[0]["id"]),
        (&"batch".parse().unwrap(), &headers["webhook-id"].to_str().unwrap().into())
    );
    Client::new(9).goes(&bench);
    pass(MOMENT).await;
    let one = &bench.backend.bodies()[0];
    assert_eq!((one["type"].as_str(), one["notices"].as_array().map(Vec::len)), (Some("batch"), Some(1)));
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_repeated_as_it_was() {
    let bench = Bench::with(batching(10));
    bench.backend.then([Take::Status(500)]);
    let mut client = Client::new(1);
    client.leaves(&bench, &channel());
    Client::new(2).goes(&bench);
    pass(MOMENT).await;
    client.goes(&bench);
    pass(Duration::from_secs(5)).await;
    let told = bench.backend.bodies();
    assert_eq!(told.len(), 3);
    assert_eq!((&told[0]["id"], &told[0]["notices"]), (&told[1]["id"], &told[1]["notices"]));
    assert_eq!(shape(told[2]["notices"].as_array().unwrap()), [("disconnect", Some(2))], "it waited for its lane");
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_bounded_in_bytes() {
    let mut settings = batching(1000);
    (settings.notices.max_queued, settings.notices.max_bytes) = (100_000, 64 << 20);
    let bench = Bench::with(settings);
    (0..1000).for_each(|id| Client::new(id).goes(&bench));
    let mut client = Client::new(5000);
    (0..1000).for_each(|_| client.leaves(&bench, &channel()));
    pass(MOMENT).await;
    let requests = bench.backend.requests();
    assert!(requests.iter().all(|it| it.1.body().len() < 600 * 1024));
    let told: usize = requests
        .iter()
        .map(|it| serde_json::from_slice::<Value>(it.1.body()).unwrap()["notices"].as_array().unwrap().len())
        .sum();
    assert_eq!(told, 2000);
}
