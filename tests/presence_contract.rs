//! What every engine promises about who is in a channel, and what nodes that share one promise besides.

use std::time::Duration;

use outrigger::channel::Change;

use crate::support::engines::{
    Event, Installation, OnRedis, SETTINGS, name, promised_by_every_engine, redis_at, redis_node,
};
use crate::support::service::{RedisServer, Relay};
use crate::support::soon;

promised_by_every_engine! {
    a_user_comes_with_the_first_connection_and_goes_with_the_last
    the_newest_info_counts_and_is_told_without_anybody_coming_anew
    a_list_is_cut_to_its_limit_and_says_how_many_there_are
    a_connection_that_leaves_and_comes_back_in_one_breath_is_there
    nobody_is_somebody_else_on_a_live_connection
}

fn joined(channel: &str, user: &str, members: usize) -> Event {
    Event::Joined { channel: channel.into(), user: user.into(), members }
}

fn left(channel: &str, user: &str, members: usize) -> Event {
    Event::Left { channel: channel.into(), user: user.into(), members }
}

fn caused(events: &[Event]) -> Vec<Change> {
    let change = |it: &Event| match it {
        Event::Caused(change) => Some(change.clone()),
        _ => None,
    };
    events.iter().filter_map(change).collect()
}

fn told(events: &[Event]) -> Vec<Event> {
    events.iter().filter(|it| matches!(it, Event::Joined { .. } | Event::Left { .. })).cloned().collect()
}

async fn a_user_comes_with_the_first_connection_and_goes_with_the_last(on: impl Installation) {
    let node = on.node().await;
    node.follow("room").await;
    for connection in [1, 2, 2] {
        node.join("room", connection, "ada", None).await;
    }
    node.join("room", 3, "bob", None).await;
    assert_eq!(node.roll("room").await, ["ada", "bob"]);
    for connection in [1, 1, 9, 2] {
        node.leave("room", connection).await;
    }
    assert_eq!(node.roll("room").await, ["bob"]);
    let expected = [joined("room", "ada", 1), joined("room", "bob", 2), left("room", "ada", 1)];
    node.heard.until("all are told", |it| told(it).len() >= 3).await;
    assert_eq!(told(&node.heard.events()), expected);
    let (channel, ada, bob) = (name("room"), "ada".into(), "bob".into());
    let expected = [
        Change::Joined { channel: channel.clone(), user: Clone::clone(&ada) },
        Change::Joined { channel: channel.clone(), user: bob },
        Change::Left { channel, user: ada },
    ];
    assert_eq!(caused(&node.heard.events()), expected);
}

async fn the_newest_info_counts_and_is_told_without_anybody_coming_anew(on: impl Installation) {
    let node = on.node().await;
    node.follow("room").await;
    node.join("room", 1, "ada", None).await;
    node.join("room", 2, "ada", Some("{\"name\":\"Ada\"}")).await;
    node.leave("room", 2).await;
    assert_eq!(node.roll("room").await, ["ada={\"name\":\"Ada\"}"]);
    node.heard.until("both are told", |it| told(it).len() == 2).await;
    assert_eq!(caused(&node.heard.events()).len(), 1);
}

async fn a_list_is_cut_to_its_limit_and_says_how_many_there_are(on: impl Installation) {
    let node = on.node().await;
    for at in [3, 1, 4, 0, 2] {
        node.join("room", at, &format!("u{at}"), None).await;
    }
    let members = node.presence.members(&name("room"), 2).await.unwrap();
    let users: Vec<_> = members.members.iter().map(|it| it.user.to_string()).collect();
    assert_eq!((users, members.total), (vec!["u0".to_owned(), "u1".to_owned()], 5));
    let members = node.presence.members(&name("room"), 0).await.unwrap();
    assert_eq!((members.members.len(), members.total), (0, 5));
    assert!(node.roll("empty").await.is_empty());
}

async fn a_connection_that_leaves_and_comes_back_in_one_breath_is_there(on: impl Installation) {
    let node = on.node().await;
    for _ in 0..50 {
        tokio::join!(node.join("room", 1, "ada", None), node.leave("room", 1), node.join("room", 1, "ada", None));
        assert_eq!(node.roll("room").await, ["ada"]);
    }
    node.leave("room", 1).await;
    assert!(node.roll("room").await.is_empty());
}

async fn nobody_is_somebody_else_on_a_live_connection(on: impl Installation) {
    let node = on.node().await;
    node.join("room", 1, "ada", Some("1")).await;
    node.join("room", 1, "bob", None).await;
    assert_eq!(node.roll("room").await, ["bob"]);
    node.leave("room", 1).await;
    assert!(node.roll("room").await.is_empty());
}

#[tokio::test]
async fn members_of_all_nodes_are_one_list_and_exactly_one_node_causes_each_change() {
    let redis = OnRedis::start().await;
    let (first, second) = (redis.node().await, redis.node().await);
    second.follow("room").await;
    first.join("room", 1, "ada", None).await;
    second.join("room", 2, "ada", None).await;
    second.join("room", 3, "bob", None).await;
    assert_eq!(first.roll("room").await, ["ada", "bob"]);
    first.leave("room", 1).await;
    assert_eq!(first.roll("room").await, ["ada", "bob"], "she is still there on the other node");
    second.leave("room", 2).await;
    let expected = [joined("room", "ada", 1), joined("room", "bob", 2), left("room", "ada", 1)];
    second.heard.until("all are told", |it| told(it).len() >= 3).await;
    assert_eq!(told(&second.heard.events()), expected);
    assert!(told(&first.heard.events()).is_empty(), "it does not follow");
    assert_eq!((caused(&first.heard.events()).len(), caused(&second.heard.events()).len()), (1, 2));
}

#[tokio::test]
async fn a_node_that_dies_leaves_no_members_past_its_lease() {
    let redis = OnRedis::start().await;
    let (dies, lives) = (redis.node().await, redis.node().await);
    lives.follow("room").await;
    for at in 0..5 {
        dies.join("room", at, "ghost", None).await;
        dies.join(&format!("other.{at}"), 10 + at, "ghost", None).await;
    }
    lives.join("room", 9, "bob", None).await;
    // All its tasks end at once: as after SIGKILL, nothing says goodbye.
    drop(dies);
    lives.heard.until("the ghost is gone", |it| told(it).contains(&left("room", "ghost", 1))).await;
    assert_eq!(lives.roll("room").await, ["bob"]);
    soon("the others too", async {
        for at in 0..5 {
            while !lives.roll(&format!("other.{at}")).await.is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    })
    .await;
    assert_eq!(caused(&lives.heard.events()).len(), 1 + 6, "whoever clears up says so");
    soon("nothing is left of it", async {
        while redis.server.ask(&["ZCARD", "outrigger:leases:{nodes}"]).await != ":1\r\n" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_node_that_was_cut_off_past_its_lease_is_there_again_when_it_returns() {
    let redis = RedisServer::start().await;
    let relay = Relay::to(redis.address()).await;
    let cut = redis_node(&redis_at(&relay.url()), SETTINGS).await;
    let other = redis_node(&redis_at(&redis.url()), SETTINGS).await;
    other.follow("room").await;
    cut.join("room", 1, "ada", Some("1")).await;
    cut.join("room", 2, "eve", None).await;
    relay.swallow();
    other
        .heard
        .until("she counts as gone", |it| {
            told(it).iter().any(|it| *it == left("room", "ada", 0) || *it == left("room", "ada", 1))
        })
        .await;
    // Meanwhile one of the two really goes.
    let leaving = cut.presence.leave(&name("room"), outrigger::channel::ConnectionId(2));
    assert!(soon("it is answered", leaving).await.is_err());
    relay.pass_on();
    soon("she is there again", async {
        while other.roll("room").await != ["ada=1"] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn members_come_back_after_redis_forgot_them() {
    let mut redis = RedisServer::start().await;
    let node = redis_node(&redis_at(&redis.url()), SETTINGS).await;
    node.join("room", 1, "ada", None).await;
    redis.restart_empty().await;
    soon("she is there again", async {
        while node.presence.members(&name("room"), 0).await.map_or(0, |it| it.total) != 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_outage_longer_than_a_lease_makes_nobody_leave() {
    let redis = OnRedis::start().await;
    let (first, second) = (redis.node().await, redis.node().await);
    for node in [&first, &second] {
        node.follow("room").await;
    }
    first.join("room", 1, "ada", None).await;
    second.join("room", 2, "bob", None).await;
    // Noticed after more than the two seconds of a lease.
    redis.server.freeze();
    for node in [&first, &second] {
        node.heard.until("the engine is out of reach", |it| it.contains(&Event::Reach(false))).await;
    }
    redis.server.thaw();
    for node in [&first, &second] {
        node.heard.until("the engine is back", |it| it.contains(&Event::Reach(true))).await;
    }
    second.join("room", 3, "eve", None).await;
    for node in [&first, &second] {
        node.heard.until("eve has come", |it| told(it).contains(&joined("room", "eve", 3))).await;
        assert!(told(&node.heard.events()).iter().all(|it| matches!(it, Event::Joined { .. })));
    }
}
