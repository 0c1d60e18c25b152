//! What happens when another server takes over: a promoted replica, a slot of a cluster that moves.

use outrigger::engine::redis::{Login, Settings, Shape};
use outrigger::engine::{Error, Gap};

use crate::support::engines::{Event, Installation, Node, OnCluster, SETTINGS, draft, name, redis_at, redis_node};
use crate::support::service::{RedisServer, Relay};
use crate::support::soon;

/// A master, its replica in step with it, and the sentinel that watches them.
struct Watched {
    master: RedisServer,
    replica: RedisServer,
    /// Between the two.
    relay: Relay,
    sentinel: RedisServer,
}

impl Watched {
    async fn start() -> Self {
        let master = RedisServer::with(&["--repl-diskless-sync-delay", "0"]).await;
        let relay = Relay::to(master.address()).await;
        let replica = RedisServer::with(&["--replicaof", &format!("127.0.0.1 {}", relay.address.port())]).await;
        let sentinel = RedisServer::sentinel(master.port).await;
        let watched = Self { master, replica, relay, sentinel };
        watched.until("the replica is in step", &watched.replica, "master_link_status:up").await;
        soon("the sentinel knows the replica", async {
            while !watched.sentinel.ask(&["INFO", "sentinel"]).await.contains("slaves=1") {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
        watched
    }

    async fn until(&self, what: &str, server: &RedisServer, says: &str) {
        soon(what, async {
            while !server.ask(&["INFO", "replication"]).await.contains(says) {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    async fn node(&self) -> Node {
        let shape = Shape::Sentinel { master: "mymaster".into(), login: Login::default() };
        redis_node(&Settings { shape, ..redis_at(&self.sentinel.url()) }, SETTINGS).await
    }
}

#[tokio::test]
async fn a_promoted_replica_takes_over_and_what_it_has_goes_on() {
    let mut watched = Watched::start().await;
    let node = watched.node().await;
    node.follow("a").await;
    let first = node.publish("a").await.position;
    assert_eq!(watched.master.ask(&["WAIT", "1", "5000"]).await, ":1\r\n");
    watched.master.kill().await;
    let next = node.publish_at_last("a").await.position;
    assert_eq!((next.seq, next.epoch), (2, first.epoch));
    assert!(node.since("a", &first).await.unbroken);
    node.heard.hears("a", [1, 2]).await;
    watched.until("the replica was promoted", &watched.replica, "role:master").await;
}

#[tokio::test]
async fn a_fail_over_that_loses_writes_is_never_called_recovered() {
    let mut watched = Watched::start().await;
    let node = watched.node().await;
    node.follow("a").await;
    node.publish("a").await;
    assert_eq!(watched.master.ask(&["WAIT", "1", "5000"]).await, ":1\r\n");
    // The replica gets nothing more, and does not know.
    watched.relay.swallow();
    let lost = node.publish("a").await.position;
    node.publish("a").await;
    watched.master.kill().await;
    let told = |it: &[Event]| it.iter().any(|it| matches!(it, Event::Gap { seq: 1, why: Gap::Epoch, .. }));
    node.heard.until("the loss is told", told).await;
    for _ in 0..3 {
        node.publish_at_last("a").await;
    }
    assert!(!node.since("a", &lost).await.unbroken);
}

#[tokio::test]
async fn a_channel_whose_slot_moves_loses_nothing_and_keeps_its_order() {
    let on = OnCluster::start().await;
    let (first, second) = (on.node().await, on.node().await);
    for node in [&first, &second] {
        node.follow("a").await;
        node.follow("b").await;
    }
    let (from, slot) = on.cluster.home_of("a").await;
    for _ in 0..10 {
        first.publish("a").await;
    }
    let halfway = async {
        // Some of the channel's keys are there and some never were: the server cannot say yet who has them.
        let outcome = first.try_publish(draft("a", None)).await;
        assert!(matches!(outcome, Ok(_) | Err(Error::Unavailable)), "{outcome:?}");
    };
    on.cluster.move_slot(from, &slot, halfway).await;
    for _ in 0..10 {
        second.publish_at_last("a").await;
    }
    first.publish("b").await;
    for node in [&first, &second] {
        let count = node.newest("a", 50).await.head.seq;
        assert!(count >= 20);
        node.heard.hears("a", 1..=count).await;
        node.heard.hears("b", [1]).await;
        assert!(!node.heard.events().iter().any(|it| matches!(it, Event::Gap { .. })));
    }
    assert_eq!(on.cluster.servers[1 - from].ask(&["EXISTS", "outrigger:{a}"]).await, ":1\r\n");
}

#[tokio::test]
async fn one_server_of_a_cluster_that_hangs_leaves_the_others_channels_alone() {
    let on = OnCluster::start().await;
    let node = on.node().await;
    let mut channels = [Vec::new(), Vec::new()];
    for at in 0..20 {
        let channel = format!("room.{at}");
        channels[on.cluster.home_of(&channel).await.0].push(channel);
    }
    for channel in channels.iter().flatten() {
        node.follow(channel).await;
    }
    on.cluster.servers[1].freeze();
    node.heard.until("the engine is out of reach", |it| it.contains(&Event::Reach(false))).await;
    let (well, hung) = (&channels[0][0], &channels[1][0]);
    node.publish(well).await;
    node.heard.hears(well, [1]).await;
    assert_eq!(node.try_publish(draft(hung, None)).await, Err(Error::Unavailable));
    on.cluster.servers[1].thaw();
    node.heard.until("the engine is back", |it| it.contains(&Event::Reach(true))).await;
    node.publish_at_last(hung).await;
    node.heard.hears(hung, [1]).await;
    node.broker.unfollow(&name(hung));
}
