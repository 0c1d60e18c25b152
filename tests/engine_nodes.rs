//! What engines promise that nodes share: every node hears, positions hold on all of them, and a node hears only what it
//! follows.

use std::time::Duration;

use outrigger::channel::Retention;
use outrigger::engine;

use crate::support::engines::{Event, Installation, KEEP, OnRedis, SETTINGS, draft, name, seqs};
use crate::support::soon;

#[tokio::test]
async fn what_one_node_publishes_every_node_hears_in_one_order() {
    let redis = OnRedis::start().await;
    let (first, second) = (redis.node().await, redis.node().await);
    first.follow("a").await;
    second.follow("a").await;
    let publishing = (0..100).map(|at| if at % 2 == 0 { first.publish("a") } else { second.publish("a") });
    futures_util::future::join_all(publishing).await;
    first.heard.hears("a", 1..=100).await;
    second.heard.hears("a", 1..=100).await;
    let ids = |node: &crate::support::engines::Node| {
        node.heard.publications().iter().map(|it| it.id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&first), ids(&second));
}

#[tokio::test]
async fn positions_and_ids_hold_on_every_node() {
    let redis = OnRedis::start().await;
    let (first, second) = (redis.node().await, redis.node().await);
    let position = first.publish_as("a", "x").await.position;
    first.publish("a").await;
    let page = second.since("a", &position).await;
    assert_eq!((page.unbroken, seqs(&page)), (true, vec![2]));
    let again = second.publish_as("a", "x").await;
    assert_eq!((again.duplicate, again.position), (true, position));
}

#[tokio::test]
async fn a_node_hears_only_what_it_follows() {
    let redis = OnRedis::start().await;
    let (first, second) = (redis.node().await, redis.node().await);
    second.follow("a").await;
    second.follow("b").await;
    first.publish("b").await;
    second.heard.hears("b", [1]).await;
    second.broker.unfollow(&name("b"));
    soon("Redis hears of it", async {
        while redis.server.ask(&["PUBSUB", "NUMSUB", "outrigger:{b}"]).await.ends_with(":1\r\n") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    first.publish("b").await;
    first.publish("a").await;
    second.heard.hears("a", [1]).await;
    assert_eq!(second.heard.seqs("b"), [1]);
}

#[tokio::test]
async fn a_channel_that_is_let_go_and_followed_again_in_one_breath_is_heard() {
    let redis = OnRedis::start().await;
    let node = redis.node().await;
    for at in 0..50 {
        node.follow("a").await;
        node.publish("a").await;
        node.heard.until("it is heard", |it| it.len() == at + 1).await;
        node.broker.unfollow(&name("a"));
    }
    node.heard.hears("a", 1..=50).await;
}

#[tokio::test]
async fn a_node_without_room_is_waited_for_and_misses_nothing() {
    let redis = OnRedis::start().await;
    let (fast, slow) = (redis.node().await, redis.node().await);
    slow.follow("a").await;
    fast.follow("a").await;
    let gate = slow.heard.fill_up();
    for _ in 0..300 {
        fast.publish("a").await;
    }
    fast.heard.hears("a", 1..=300).await;
    assert!(slow.heard.seqs("a").is_empty());
    gate.open();
    slow.heard.hears("a", 1..=300).await;
}

#[tokio::test]
async fn a_channel_nobody_uses_is_forgotten_and_starts_a_new_epoch() {
    let redis = OnRedis::start().await;
    let node = redis.open(engine::Settings { positions: Duration::from_secs(1), ..SETTINGS }).await;
    let position = node.broker.publish(draft("a", None), Retention { ttl: Duration::from_secs(1), ..KEEP }).await;
    let position = position.unwrap().position;
    soon("it is forgotten", async {
        while !node.broker.channels("a", 10).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let page = node.since("a", &position).await;
    assert!(!page.unbroken && page.head.epoch != position.epoch && page.head.seq == 0);
}

#[tokio::test]
async fn two_installations_share_a_server_under_their_own_prefixes() {
    let redis = OnRedis::start().await;
    let settings = |prefix: &str| outrigger::engine::redis::Settings {
        prefix: prefix.into(),
        ..crate::support::engines::redis_at(&redis.server.url())
    };
    let first = crate::support::engines::redis_node(&settings("first"), SETTINGS).await;
    let second = crate::support::engines::redis_node(&settings("second"), SETTINGS).await;
    first.follow("a").await;
    second.follow("a").await;
    first.publish("a").await;
    first.publish("a").await;
    assert_eq!(second.publish("a").await.position.seq, 1);
    first.heard.hears("a", [1, 2]).await;
    second.heard.hears("a", [1]).await;
}

#[tokio::test]
async fn what_a_node_announces_every_other_node_hears_once_and_it_does_not() {
    let redis = OnRedis::start().await;
    let (first, second, third) = (redis.node().await, redis.node().await, redis.node().await);
    let notice = bytes::Bytes::from_static(b"all \n hear");
    first.broker.announce(notice.clone(), false).await.unwrap();
    for node in [&second, &third] {
        node.heard.until("it is heard", |it| *it == [Event::Control(notice.clone())]).await;
    }
    second.broker.announce(notice.clone(), false).await.unwrap();
    first.heard.until("it is heard", |it| *it == [Event::Control(notice.clone())]).await;
    assert!(first.broker.channels("", 10).await.unwrap().is_empty(), "the nodes' own channels are nobody's");
}

#[tokio::test]
async fn what_lasts_is_heard_by_nodes_that_start_later_too() {
    let redis = OnRedis::start().await;
    let first = redis.node().await;
    first.broker.announce(bytes::Bytes::from_static(b"gone at once"), false).await.unwrap();
    first.broker.announce(bytes::Bytes::from_static(b"lasts"), true).await.unwrap();
    let later = redis.node().await;
    let lasts = Event::Control(bytes::Bytes::from_static(b"lasts"));
    later.heard.until("it is heard", |it| it.contains(&lasts)).await;
    assert_eq!(later.heard.events(), [lasts]);
}
