//! Readers that do not keep up, and what each rule does with them.

use super::*;

/// A client that reads nothing at all, and what is in its outbox after so many publications of a kilobyte.
async fn stalled(when_slow: WhenSlow, publications: usize) -> (Arc<Hub>, Arc<Mutex<Pipe>>, Arc<Outbox>, Subscription) {
    let hub = hub(1);
    let pipe = Arc::new(Mutex::new(Pipe::default()));
    let wire = ChokedWire { pipe: pipe.clone(), is_tls: false };
    let outbox = Outbox::new(&hub, Format::WebSocketJson, Some(Box::new(wire)), 16 * 1024);
    std::future::poll_fn(|cx| Poll::Ready(outbox.drive(cx))).await.unwrap();
    let subscribed = hub.subscribe(&channel("a"), None, &outbox, &rule(when_slow)).await.unwrap();
    subscribed.subscription.go_live(subscribed.position);
    for _ in 0..publications {
        let published = hub.publish_counted(draft("a", 1000), KEEP).await.unwrap();
        published.delivery.unwrap().counted().await.unwrap();
    }
    (hub, pipe, outbox, subscribed.subscription)
}

async fn drained(pipe: &Mutex<Pipe>, outbox: &Outbox) -> Vec<Value> {
    pipe.lock().unwrap().room = usize::MAX;
    std::future::poll_fn(|cx| outbox.poll_finish(cx)).await.unwrap();
    messages(&pipe.lock().unwrap().received)
}

#[tokio::test]
async fn drop_oldest_keeps_the_newest_and_tells_the_gap_in_its_place() {
    let (hub, pipe, outbox, _subscription) = stalled(WhenSlow::DropOldest, 100).await;
    assert!(outbox.backlog() <= 17 * 1024);
    let heard = drained(&pipe, &outbox).await;
    // The one being written when the client stalled, the gap, and then everything up to the last.
    assert_eq!(heard[0]["seq"], 1);
    assert_eq!(heard[1]["type"], "gap");
    let gap = heard[1]["seq"].as_u64().unwrap();
    let after: Vec<_> = heard[2..].iter().map(|it| it["seq"].as_u64().unwrap()).collect();
    assert_eq!(after, (gap + 1..=100).collect::<Vec<_>>());
    let sums = hub.ledger().read();
    assert_eq!((sums.expected, sums.flushed, sums.dropped[0]), (100, 100 - (gap - 1), (Loss::Slow, gap - 1)));
}

#[tokio::test]
async fn latest_only_keeps_one_publication_however_many_there_were() {
    let (hub, pipe, outbox, _subscription) = stalled(WhenSlow::LatestOnly, 100).await;
    let heard = drained(&pipe, &outbox).await;
    let seqs: Vec<_> = heard.iter().map(|it| it["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [1, 100]);
    assert_eq!(hub.ledger().read().dropped[1], (Loss::Conflated, 98));
}

#[tokio::test]
async fn a_slow_client_is_disconnected_where_the_rule_says_so_and_the_receipt_counts_it() {
    let (hub, _pipe, outbox, _subscription) = stalled(WhenSlow::Disconnect, 30).await;
    let signal = std::future::poll_fn(|cx| Poll::Ready(outbox.drive(cx))).await.unwrap();
    assert_eq!(signal, Some(Signal::Close(crate::protocol::Close::SLOW)));
    let published = hub.publish_counted(draft("a", 1000), KEEP).await.unwrap();
    let count = published.delivery.unwrap().counted().await.unwrap();
    assert_eq!((count.matched, count.queued, count.dropped), (1, 0, [1, 0, 0, 0]));
    outbox.close();
    let sums = hub.ledger().read();
    let dropped: u64 = sums.dropped.iter().map(|(_, count)| count).sum();
    assert_eq!((sums.expected, sums.flushed + dropped, sums.queued), (31, 31, 0));
}

#[tokio::test]
async fn a_client_told_to_go_hears_nothing_newer_than_what_it_missed() {
    let (hub, pipe, outbox, _subscription) = stalled(WhenSlow::Disconnect, 30).await;
    outbox.forget_data();
    hub.publish_counted(draft("a", 1000), KEEP).await.unwrap().delivery.unwrap().counted().await.unwrap();
    let heard = drained(&pipe, &outbox).await;
    let seqs: Vec<_> = heard.iter().map(|it| it["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [1]);
}

#[tokio::test]
async fn an_excluded_connection_is_told_that_nothing_is_missing() {
    let (hub, pipe, outbox, _subscription) = stalled(WhenSlow::Disconnect, 0).await;
    pipe.lock().unwrap().room = usize::MAX;
    hub.publish(draft("a", 1), KEEP).await.unwrap();
    let draft = Draft { exclude: vec![outbox.id], ..draft("a", 1) };
    hub.publish_counted(draft, KEEP).await.unwrap().delivery.unwrap().counted().await.unwrap();
    let heard = drained(&pipe, &outbox).await;
    assert_eq!(
        (&heard[0]["type"], &heard[1]["type"], &heard[1]["seq"]),
        (&"message".into(), &"skipped".into(), &2.into())
    );
}
