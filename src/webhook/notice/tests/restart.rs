use super::*;

#[tokio::test(start_paused = true)]
async fn after_a_crash_what_waited_is_told_in_order_under_the_same_ids() {
    let bench = Bench::start();
    bench.backend.always(Take::Status(400));
    let mut client = Client::new(1);
    client.leaves(&bench, &channel());
    client.leaves(&bench, &channel());
    client.goes(&bench);
    pass(MOMENT).await;
    let first = bench.backend.bodies().remove(0);
    let next = Bench::over(bench.kill(), settings());
    pass(MOMENT).await;
    let told = next.backend.bodies();
    assert_eq!(shape(&told), [("unsubscribe", Some(1)), ("unsubscribe", Some(2)), ("disconnect", Some(3))]);
    assert_eq!(told[0], first);
    assert_eq!(next.records.count(Shelf::Notices), 0);
    Client::new(2).goes(&next);
    assert_eq!(next.records.all(Shelf::Notices)[0].0, format!("{:016x}", 4), "numbers go on");
}

#[tokio::test(start_paused = true)]
async fn the_sessions_of_a_dead_process_get_their_disconnect_under_the_id_it_would_have_had() {
    let bench = Bench::start();
    let (mut stays, mut goes) = (Client::new(1), Client::new(2));
    stays.comes(&bench);
    goes.comes(&bench);
    goes.goes(&bench);
    pass(MOMENT).await;
    assert_eq!((bench.backend.bodies().len(), bench.records.count(Shelf::Sessions)), (1, 1));
    let (_, record) = bench.records.all(Shelf::Sessions).remove(0);
    assert!(!String::from_utf8(record).unwrap().contains("secret"), "no header goes to disk");
    let next = Bench::over(bench.kill(), settings());
    pass(MOMENT).await;
    let told = next.backend.bodies();
    let [lost] = &told[..] else { panic!("{told:?}") };
    assert_eq!((lost["reason"].as_str(), lost["connection"]["userId"].as_str()), (Some("node_lost"), Some("42")));
    assert_eq!((lost["connection"]["generation"].as_u64(), lost["n"].as_u64()), (Some(3), None));
    assert_eq!(next.records.count(Shelf::Sessions), 0);
    let id = stays.show(|connection, lane| {
        let notice = Notice::Disconnect { connection, code: 1000, reason: "", lasted: Duration::ZERO };
        notice.letter(lane).id
    });
    assert_eq!(lost["id"].as_str(), Some(&*id));
}

#[tokio::test(start_paused = true)]
async fn an_end_that_was_told_before_the_crash_is_not_told_again_as_lost() {
    let bench = Bench::start();
    bench.backend.always(Take::Hang);
    let mut client = Client::new(1);
    client.comes(&bench);
    let session = bench.records.all(Shelf::Sessions).remove(0);
    client.goes(&bench);
    // The crash came between the two records.
    bench.records.put(Shelf::Sessions, &session.0, session.1);
    let next = Bench::over(bench.kill(), settings());
    pass(MOMENT).await;
    let told = next.backend.bodies();
    assert_eq!((told.len(), told[0]["reason"].as_str()), (1, Some("bye")));
    assert_eq!(next.records.count(Shelf::Sessions), 0);
}

#[tokio::test(start_paused = true)]
async fn lost_sessions_wait_for_room_in_the_queue_and_none_dies_for_want_of_it() {
    let bench = Bench::start();
    (0..50).for_each(|id| Client::new(id).comes(&bench));
    let mut settings = settings();
    settings.notices.max_queued = 10;
    let next = Bench::over(bench.kill(), settings);
    pass(MOMENT).await;
    assert_eq!((next.backend.bodies().len(), next.notices.dead(None, 1).total), (50, 0));
}

#[tokio::test(start_paused = true)]
async fn where_disconnect_is_not_wanted_nothing_is_noted_and_nobody_is_lost() {
    let bench = Bench::start();
    Client::new(1).comes(&bench);
    let records = bench.kill();
    let next = Bench::over(records, Settings { events: vec![Event::Unsubscribe], ..settings() });
    pass(MOMENT).await;
    Client::new(2).comes(&next);
    assert_eq!((next.backend.bodies().len(), next.records.count(Shelf::Sessions)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn dead_letters_survive_and_records_nobody_can_read_are_left_out() {
    let bench = Bench::start();
    bench.backend.always(Take::Later("9999"));
    Client::new(1).goes(&bench);
    pass(MOMENT).await;
    assert_eq!(bench.notices.dead(None, 1).total, 1, "it is asked for longer than anybody waits");
    let dead = bench.notices.state().graveyard.raise(1).unwrap();
    bench.records.put(Shelf::Notices, &dead.key(), dead.record());
    for shelf in [Shelf::Notices, Shelf::DeadLetters, Shelf::Sessions] {
        bench.records.put(shelf, "zz", b"{".into());
    }
    let next = Bench::over(bench.kill(), settings());
    pass(MOMENT).await;
    pass(MOMENT).await;
    let told = next.backend.bodies().len();
    assert_eq!((told, next.notices.dead(None, 1).total), (0, 1), "what is dead is not told, whatever else is found");
    assert_eq!(next.notices.replay(None, None).replayed, 1);
    pass(MOMENT).await;
    assert_eq!(next.backend.bodies().len(), 1);
    assert_eq!(next.records.0.lock().unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_noted_of_a_session_is_small() {
    let bench = Bench::start();
    let large = format!(r#"{{"note":"{}"}}"#, "x".repeat(8000));
    Client::new(1).show(|connection, lane| {
        bench.notices.note(&Connection { state: Some(&large), ..*connection }, lane);
    });
    assert!(bench.records.all(Shelf::Sessions)[0].1.len() < 1000);
    let next = Bench::over(bench.kill(), settings());
    pass(MOMENT).await;
    let told = &next.backend.bodies()[0];
    assert_eq!((told["reason"].as_str(), told["connection"]["state"].to_string()), (Some("node_lost"), "{}".into()));
}

#[tokio::test(start_paused = true)]
async fn channels_and_members_of_a_dead_process_are_taken_back_unless_they_return_within_the_grace() {
    let user = || -> Arc<str> { "ada lovelace".into() };
    let other = || ChannelName::parse("room.6").unwrap();
    let bench = Bench::start();
    for channel in [channel(), other()] {
        bench.notices.change(Change::Occupied { channel: channel.clone() });
        bench.notices.change(Change::Joined { channel, user: user() });
    }
    pass(settings().notices.grace + MOMENT).await;
    assert_eq!((bench.backend.bodies().len(), bench.records.count(Shelf::Believed)), (4, 4));
    bench.notices.change(Change::Left { channel: other(), user: user() });
    let next = Bench::over(bench.kill(), settings());
    next.notices.change(Change::Occupied { channel: other() });
    pass(settings().notices.grace + MOMENT).await;
    let mut told: Vec<_> = next.backend.bodies().iter().map(|it| format!("{} {}", it["type"], it["channel"])).collect();
    told.sort();
    assert_eq!(told, [r#""left" "room.5""#, r#""left" "room.6""#, r#""vacated" "room.5""#]);
    assert_eq!(next.records.count(Shelf::Believed), 1, "room.6 is occupied as before");
    let last = Bench::over(next.kill(), Settings { events: vec![Event::Disconnect], ..settings() });
    pass(settings().notices.grace + MOMENT).await;
    assert_eq!((last.backend.bodies().len(), last.records.count(Shelf::Believed)), (0, 0), "nobody asks any more");
}
