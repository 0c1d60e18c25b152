//! `min_interval`: the newest of each interval, for everybody alike.

use super::unsteady::{Client, unsteady};
use super::*;

const INTERVAL: Duration = Duration::from_millis(100);

fn paced() -> Rule {
    Rule { min_interval: Some(INTERVAL), ..rule(WhenSlow::Disconnect) }
}

async fn publish(hub: &Hub) -> u64 {
    hub.publish(draft("a", 10), KEEP).await.unwrap().position.seq
}

#[tokio::test(start_paused = true)]
async fn of_what_is_published_within_an_interval_only_the_newest_is_sent_and_the_last_always_is() {
    let hub = hub(2);
    let paced = [Client::join_by(&hub, "a", None, &paced()).await, Client::join_by(&hub, "a", None, &paced()).await];
    let other = Client::join(&hub, "a", None).await;
    for _ in 0..35 {
        publish(&hub).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(INTERVAL).await;
    assert_eq!(audit(&other.heard())["a"], 35, "whoever joined without an interval gets everything");
    for client in &paced {
        let seqs: Vec<_> = client.story().iter().skip(1).map(|it| it.1).collect();
        assert_eq!(seqs, [1, 11, 21, 31, 35], "at once, then every ten, and the last");
    }
    let sums = hub.ledger().read();
    assert_eq!((sums.expected, sums.queued, sums.dropped[1]), (3 * 35, 0, (Loss::Conflated, 2 * 30)));
}

#[tokio::test(start_paused = true)]
async fn the_receipt_of_one_that_gave_way_says_so() {
    let hub = hub(1);
    let _client = Client::join_by(&hub, "a", None, &paced()).await;
    publish(&hub).await;
    tokio::time::sleep(INTERVAL / 10).await;
    let first = hub.publish_counted(draft("a", 1), KEEP).await.unwrap().delivery.unwrap();
    assert_eq!(first.counted().await.unwrap().matched, 1);
    let second = hub.publish_counted(draft("a", 1), KEEP).await.unwrap().delivery.unwrap();
    let (count, is_flushed) = second.flushed(Duration::from_secs(5)).await;
    assert_eq!((count.matched, count.queued, is_flushed), (1, 1, true), "it waits for the end of the interval");
    let (count, _) = first.flushed(Duration::ZERO).await;
    assert_eq!((count.queued, count.dropped), (0, [0, 1, 0, 0]));
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_gets_the_newest_alone() {
    let hub = hub(1);
    let position = hub.publish(draft("a", 1), KEEP).await.unwrap().position;
    for _ in 0..20 {
        publish(&hub).await;
    }
    let client = Client::join_by(&hub, "a", Some(position), &paced()).await;
    tokio::time::sleep(INTERVAL).await;
    assert_eq!(client.heard()[0]["recovered"], true);
    assert_eq!(client.story(), [("subscribed".to_owned(), 1), ("message".to_owned(), 21)]);
    publish(&hub).await;
    tokio::time::sleep(INTERVAL).await;
    assert_eq!(client.story().last().unwrap().1, 22);
}

#[tokio::test(start_paused = true)]
async fn who_joins_while_one_waits_does_not_get_it_twice() {
    let hub = hub(1);
    let _first = Client::join_by(&hub, "a", None, &paced()).await;
    publish(&hub).await;
    let position = hub.publish(draft("a", 1), KEEP).await.unwrap().position;
    publish(&hub).await;
    let back = Client::join_by(&hub, "a", Some(position), &paced()).await;
    let new = Client::join_by(&hub, "a", None, &paced()).await;
    tokio::time::sleep(INTERVAL * 2).await;
    assert_eq!(back.story(), [("subscribed".to_owned(), 2), ("message".to_owned(), 3)]);
    assert_eq!(new.story(), [("subscribed".to_owned(), 3)]);
}

#[tokio::test(start_paused = true)]
async fn a_newest_one_that_was_not_delivered_is_found_by_the_audit() {
    let (hub, engine) = unsteady(1, 0, 1);
    let client = Client::join_by(&hub, "a", None, &paced()).await;
    publish(&hub).await;
    engine.link.swallows.store(true, std::sync::atomic::Ordering::SeqCst);
    publish(&hub).await;
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(client.story().last().unwrap().1, 2);
}
