use super::*;

#[tokio::test(start_paused = true)]
async fn a_disconnect_goes_on_in_the_lane_of_its_connection_and_carries_no_cookie() {
    let bench = Bench::start();
    let mut client = Client::new(7);
    client.lane.advance();
    client.goes(&bench);
    pass(MOMENT).await;
    let requests = bench.backend.requests();
    let [(_, request)] = &requests[..] else { panic!("told once: {requests:?}") };
    let header = |name: &str| request.headers()[name].to_str().unwrap();
    let body: Value = serde_json::from_slice(request.body()).unwrap();
    assert_eq!((header("outrigger-event"), body["type"].as_str()), ("disconnect", Some("disconnect")));
    assert_eq!((body["n"].as_u64(), body["connection"]["generation"].as_u64()), (Some(2), Some(3)));
    assert_eq!((body["code"].as_u64(), body["reason"].as_str()), (Some(1000), Some("bye")));
    assert_eq!(body["durationMs"], 61_000);
    assert_eq!(body["id"], header("webhook-id"));
    assert!(request.headers().get("cookie").is_none());
    let signing = Signing::build(&settings().secrets).unwrap();
    let timestamp = header("webhook-timestamp").parse().unwrap();
    let verified =
        signing.verify(header("webhook-id"), timestamp, header("webhook-signature"), request.body(), timestamp);
    assert_eq!(verified, Ok(()));
}

/// The bodies as every backend sees them; what differs from run to run is replaced.
#[test]
fn each_notice_is_the_golden_json() {
    let mut client = Client::new(1 << 40);
    let mut letters = Vec::new();
    let (lasted, channel) = (Duration::from_millis(1500), &channel());
    let lane = Lane::at(0xfeed, 17);
    client.show(|connection, _| {
        let disconnect = Notice::Disconnect { connection, code: 4001, reason: "Too slow", lasted };
        letters.push(("disconnect", disconnect.letter(&lane)));
        let unsubscribe = Notice::Unsubscribe { connection, channel, reason: "client", lasted };
        letters.push(("unsubscribe", unsubscribe.letter(&lane)));
        let (key, record) = lost::note(connection, &lane);
        letters.push(("disconnect_node_lost", Lost::of_record(&key, &record).unwrap().letter()));
    });
    let of = |change| Letter::of_change(&change, "node-1", &lane);
    letters.push(("occupied", of(Change::Occupied { channel: channel.clone() })));
    letters.push(("vacated", of(Change::Vacated { channel: channel.clone() })));
    letters.push(("joined", of(Change::Joined { channel: channel.clone(), user: "42".into() })));
    letters.push(("left", of(Change::Left { channel: channel.clone(), user: "42".into() })));
    for (name, letter) in letters {
        let body = letter.body.get().replace(&letter.told_at.to_string(), "1767225600123");
        let path = format!("{}/tests/fixtures/webhooks/{name}.json", env!("CARGO_MANIFEST_DIR"));
        if std::env::var("UPDATE").is_ok() {
            std::fs::write(&path, format!("{body}\n")).unwrap();
        }
        assert_eq!(body, std::fs::read_to_string(&path).unwrap_or_default().trim_end(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_the_backend_wants_to_hear_is_told_and_counted() {
    let bench = Bench::with(Settings { events: vec![Event::Disconnect], ..settings() });
    let mut client = Client::new(7);
    client.leaves(&bench, &channel());
    bench.notices.change(Change::Occupied { channel: channel() });
    client.goes(&bench);
    pass(Duration::from_secs(10)).await;
    assert_eq!(shape(&bench.backend.bodies()), [("disconnect", Some(1))]);
}

#[tokio::test(start_paused = true)]
async fn what_cancels_out_within_the_grace_is_not_told() {
    let bench = Bench::start();
    bench.notices.change(Change::Occupied { channel: channel() });
    pass(Duration::from_secs(2)).await;
    bench.notices.change(Change::Vacated { channel: channel() });
    pass(Duration::from_secs(10)).await;
    assert!(bench.backend.bodies().is_empty());
    bench.notices.change(Change::Occupied { channel: channel() });
    bench.notices.change(Change::Joined { channel: channel(), user: "42".into() });
    pass(Duration::from_millis(2990)).await;
    assert!(bench.backend.bodies().is_empty(), "not before the grace is over");
    pass(Duration::from_millis(20)).await;
    let told = bench.backend.bodies();
    assert_eq!(shape(&told), [("occupied", Some(1)), ("joined", Some(2))]);
    assert_eq!((told[1]["userId"].as_str(), &told[0]["lane"]), (Some("42"), &told[1]["lane"]));
    for change in [
        Change::Left { channel: channel(), user: "42".into() },
        Change::Vacated { channel: channel() },
        Change::Left { channel: channel(), user: "43".into() },
    ] {
        bench.notices.change(change);
    }
    pass(Duration::from_secs(4)).await;
    let later = bench.backend.bodies();
    assert_eq!(shape(&later[..2]), [("left", Some(3)), ("vacated", Some(4))]);
    assert_ne!(later[2]["lane"], told[0]["lane"], "after vacated the count begins anew");
}

#[tokio::test(start_paused = true)]
async fn without_grace_each_change_is_told_at_once() {
    let mut settings = settings();
    settings.notices.grace = Duration::ZERO;
    let bench = Bench::with(settings);
    bench.notices.change(Change::Occupied { channel: channel() });
    bench.notices.change(Change::Vacated { channel: channel() });
    pass(MOMENT).await;
    assert_eq!(shape(&bench.backend.bodies()), [("occupied", Some(1)), ("vacated", Some(2))]);
}

#[tokio::test(start_paused = true)]
async fn a_drain_sends_what_waits_grace_and_pauses_or_not() {
    let bench = Bench::start();
    bench.backend.then([Take::Later("200")]);
    Client::new(7).goes(&bench);
    pass(MOMENT).await;
    bench.notices.change(Change::Vacated { channel: channel() });
    let begun = Instant::now();
    assert_eq!(bench.notices.flush(begun + Duration::from_secs(5)).await, 0);
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(
        shape(&bench.backend.bodies()),
        [("disconnect", Some(1)), ("disconnect", Some(1)), ("vacated", Some(1))]
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_drain_cannot_send_is_counted_and_left_in_the_records() {
    let bench = Bench::start();
    bench.backend.always(Take::Hang);
    Client::new(7).goes(&bench);
    Client::new(8).goes(&bench);
    assert_eq!(bench.notices.flush(Instant::now() + Duration::from_secs(2)).await, 2);
    assert_eq!(bench.records.count(Shelf::Notices), 2);
}

#[tokio::test(start_paused = true)]
async fn notices_leave_most_slots_to_questions() {
    let bench = Bench::with(Settings { max_in_flight: 8, ..settings() });
    bench.backend.always(Take::Hang);
    (0..20).for_each(|id| Client::new(id).goes(&bench));
    pass(MOMENT).await;
    assert_eq!(bench.backend.requests().len(), 2);
    assert!(bench.metric("webhook_in_flight 2") && bench.metric(r#"notices_queued{event="disconnect"} 20"#));
}
