use super::*;

fn ids(dead: &DeadLetters) -> Vec<String> {
    let json = serde_json::to_value(dead).unwrap();
    json["dead"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_never_taken_becomes_a_dead_letter_and_is_replayed_under_its_id() {
    let bench = Bench::start();
    bench.backend.always(Take::Status(418));
    let (mut first, mut second) = (Client::new(1), Client::new(2));
    first.leaves(&bench, &channel());
    first.goes(&bench);
    second.goes(&bench);
    // The second of a lane is tried for as long as the first.
    pass(PATIENCE * 2 + Duration::from_secs(60)).await;
    let told: HashSet<_> = bench.backend.bodies().iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect();
    let dead = bench.notices.dead(None, 10);
    assert_eq!((dead.total, bench.records.count(Shelf::DeadLetters), bench.records.count(Shelf::Notices)), (3, 3, 0));
    assert_eq!(ids(&dead).into_iter().collect::<HashSet<_>>(), told);
    let json = serde_json::to_value(&dead).unwrap();
    assert_eq!((&json["dead"][0]["event"], &json["dead"][0]["notice"]["n"]), (&"unsubscribe".into(), &1.into()));
    assert!(json["dead"][0]["tries"].as_u64().unwrap() > 5, "{json}");
    assert!(json["dead"][0]["reason"].as_str().unwrap().contains("418"), "{json}");
    assert!(bench.metric(r#"notices_dead_total{event="disconnect"} 2"#) && bench.metric("dead_letters 3"));

    bench.backend.always(Take::Status(200));
    let [unsubscribe, disconnect, other] = &ids(&dead)[..] else { panic!("three") };
    assert_eq!(ids(&bench.notices.dead(Some(unsubscribe), 1)), std::slice::from_ref(disconnect));
    let one = bench.notices.replay(Some(&HashSet::from([other.clone()])), None);
    assert_eq!(one, Replayed { replayed: 1, left: 0 });
    pass(MOMENT).await;
    assert_eq!(bench.backend.bodies()[0]["id"], **other);
    assert_eq!(bench.notices.replay(None, Some(1)), Replayed { replayed: 0, left: 0 }, "none is that old");
    assert_eq!(bench.notices.replay(None, None), Replayed { replayed: 2, left: 0 });
    pass(MOMENT).await;
    let told = bench.backend.bodies();
    assert_eq!(shape(&told), [("unsubscribe", Some(1)), ("disconnect", Some(2))], "in the order they had");
    assert_eq!((told[0]["id"].as_str(), bench.records.count(Shelf::DeadLetters)), (Some(&**unsubscribe), 0));
}

#[tokio::test(start_paused = true)]
async fn what_the_queue_cannot_hold_is_dead_at_once_and_the_oldest_dead_make_room() {
    let mut settings = settings();
    (settings.notices.max_queued, settings.notices.max_dead) = (2, 3);
    let bench = Bench::with(settings.clone());
    bench.backend.always(Take::Hang);
    (0..7).for_each(|id| Client::new(id).goes(&bench));
    assert_eq!(bench.notices.dead(None, 10).total, 3);
    assert_eq!((bench.records.count(Shelf::Notices), bench.records.count(Shelf::DeadLetters)), (2, 3));
    assert!(bench.metric("dead_letters_forgotten_total 2"));
    let json = serde_json::to_value(bench.notices.dead(None, 10)).unwrap();
    assert_eq!(json["dead"][2]["notice"]["connection"]["id"], ConnectionId(6).to_string(), "the newest is kept");
    assert_eq!(bench.notices.replay(None, None), Replayed { replayed: 0, left: 3 }, "there is no room yet");
    settings.notices.max_bytes = 100;
    let tiny = Bench::with(settings);
    Client::new(1).goes(&tiny);
    assert_eq!(tiny.records.count(Shelf::Notices), 0, "bytes are bounded too");
}

#[tokio::test(start_paused = true)]
async fn while_the_backend_fails_what_waits_too_long_dies_untried_and_what_comes_later_does_not() {
    let bench = Bench::start();
    bench.backend.always(Take::Refuse);
    (0..100).for_each(|id| Client::new(id).goes(&bench));
    pass(PATIENCE / 2).await;
    Client::new(1000).goes(&bench);
    pass(PATIENCE / 2 + Duration::from_secs(30)).await;
    assert_eq!(bench.notices.dead(None, 1).total, 100);
    bench.backend.requests();
    bench.backend.always(Take::Status(200));
    pass(Duration::from_secs(40)).await;
    let told = bench.backend.bodies();
    assert_eq!(told.last().unwrap()["connection"]["id"], ConnectionId(1000).to_string());
    assert!(bench.metric(r#"notices_queued{event="disconnect"} 0"#));
}
