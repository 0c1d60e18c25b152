//! What happens when Redis is killed, hangs, vanishes or forgets. Nothing is lost without a word, and it is noticed within
//! seconds.

use std::time::Duration;

use outrigger::channel::{Position, Retention};
use outrigger::engine::{Error, Gap};

use crate::support::engines::{Event, KEEP, Node, SETTINGS, draft, name, redis_at, redis_node, seqs};
use crate::support::service::{RedisServer, Relay};
use crate::support::soon;

async fn on(server: &RedisServer) -> Node {
    redis_node(&redis_at(&server.url()), SETTINGS).await
}

async fn out_of_reach(node: &Node) {
    node.heard.until("the engine is out of reach", |it| it.contains(&Event::Reach(false))).await;
}

async fn back(node: &Node) {
    node.heard.until("the engine is back", |it| it.contains(&Event::Reach(true))).await;
}

#[tokio::test]
async fn a_killed_server_is_noticed_and_nothing_is_taken_until_it_is_back() {
    let mut redis = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let node = on(&redis).await;
    node.follow("a").await;
    node.publish("a").await;
    redis.kill().await;
    out_of_reach(&node).await;
    assert_eq!(node.try_publish(draft("a", None)).await, Err(Error::Unavailable));
    assert!(!node.broker.is_available());
    assert_eq!(node.broker.follow(&name("b")).await, Err(Error::Unavailable));
    redis.restart().await;
    back(&node).await;
    assert_eq!(node.publish("a").await.position.seq, 2);
    node.heard.hears("a", [1, 2]).await;
}

#[tokio::test]
async fn a_server_that_hangs_is_noticed_within_seconds_and_what_had_left_is_unknown() {
    let redis = RedisServer::start().await;
    let node = on(&redis).await;
    node.follow("a").await;
    redis.freeze();
    assert_eq!(node.try_publish(draft("a", Some("x"))).await, Err(Error::Unknown));
    out_of_reach(&node).await;
    assert_eq!(node.try_publish(draft("a", None)).await, Err(Error::Unavailable));
    redis.thaw();
    back(&node).await;
    // Whether it was taken is told by repeating it; either way it is there once.
    node.publish_as("a", "x").await;
    assert_eq!(node.newest("a", 10).await.publications.len(), 1);
    node.heard.hears("a", [1]).await;
}

#[tokio::test]
async fn what_was_published_while_a_node_was_cut_off_is_filled_in_when_it_returns() {
    let redis = RedisServer::start().await;
    let relay = Relay::to(redis.address()).await;
    let (cut, other) = (redis_node(&redis_at(&relay.url()), SETTINGS).await, on(&redis).await);
    cut.follow("a").await;
    cut.follow("quiet").await;
    other.publish("a").await;
    cut.heard.hears("a", [1]).await;
    relay.swallow();
    out_of_reach(&cut).await;
    for _ in 0..90 {
        other.publish("a").await;
    }
    other.publish("quiet").await;
    relay.pass_on();
    back(&cut).await;
    other.publish("a").await;
    cut.heard.hears("a", 1..=92).await;
    cut.heard.hears("quiet", [1]).await;
    assert!(!cut.heard.events().iter().any(|it| matches!(it, Event::Gap { .. })));
}

#[tokio::test]
async fn what_the_history_does_not_hold_is_told_as_a_gap() {
    let redis = RedisServer::start().await;
    let relay = Relay::to(redis.address()).await;
    let (cut, other) = (redis_node(&redis_at(&relay.url()), SETTINGS).await, on(&redis).await);
    cut.follow("a").await;
    relay.swallow();
    out_of_reach(&cut).await;
    for _ in 0..5 {
        other.broker.publish(draft("a", None), Retention { size: 2, ..KEEP }).await.unwrap();
    }
    relay.pass_on();
    let told = |it: &[Event]| it.iter().any(|it| matches!(it, Event::Gap { seq: 5, why: Gap::Engine, .. }));
    cut.heard.until("the gap is told", told).await;
    other.publish("a").await;
    cut.heard.hears("a", [6]).await;
}

#[tokio::test]
async fn a_server_that_lost_everything_starts_new_epochs_and_says_so() {
    let mut redis = RedisServer::start().await;
    let node = on(&redis).await;
    node.follow("a").await;
    let before = node.publish("a").await.position;
    redis.restart_empty().await;
    let told = |it: &[Event]| it.iter().any(|it| matches!(it, Event::Gap { why: Gap::Epoch, .. }));
    node.heard.until("the new epoch is told", told).await;
    let page = node.since("a", &before).await;
    assert!(!page.unbroken && page.head.epoch != before.epoch);
    let after = node.publish_at_last("a").await.position;
    assert_eq!((after.seq, after.epoch), (1, page.head.epoch));
    node.heard.hears("a", [1, 1]).await;
}

#[tokio::test]
async fn a_server_that_lost_its_newest_writes_is_never_called_recovered() {
    let mut redis = RedisServer::start().await;
    let node = on(&redis).await;
    node.follow("a").await;
    node.publish("a").await;
    node.publish("a").await;
    // What a replica has that is promoted too early: everything but the newest.
    redis.ask(&["CONFIG", "SET", "save", "3600 1"]).await;
    redis.ask(&["SAVE"]).await;
    node.publish("a").await;
    let lost = node.publish("a").await.position;
    let stranger = Position { id: None, ..lost.clone() };
    redis.restart().await;
    let told = |it: &[Event]| it.iter().any(|it| matches!(it, Event::Gap { seq: 2, why: Gap::Epoch, .. }));
    node.heard.until("the loss is told", told).await;
    for _ in 0..3 {
        node.publish_at_last("a").await;
    }
    assert!(!node.since("a", &lost).await.unbroken, "another publication has its number");
    assert!(!node.since("a", &stranger).await.unbroken, "even for one who does not name it: the epoch is over");
    assert_eq!(seqs(&node.newest("a", 10).await), [1, 2, 3, 4, 5], "what survived is kept");
}

#[tokio::test]
async fn many_channels_are_followed_again_and_compared_after_a_return() {
    let mut redis = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let (node, other) = (on(&redis).await, on(&redis).await);
    let names: Vec<_> = (0..1000).map(|at| format!("room.{at}")).collect();
    let following = names.iter().map(|it| node.follow(it));
    futures_util::future::join_all(following).await;
    redis.kill().await;
    out_of_reach(&node).await;
    out_of_reach(&other).await;
    redis.restart().await;
    back(&other).await;
    futures_util::future::join_all(names.iter().map(|it| other.publish(it))).await;
    for it in &names {
        node.heard.hears(it, [1]).await;
    }
}

#[tokio::test]
async fn a_server_that_refuses_writes_is_out_of_reach() {
    let redis = RedisServer::start().await;
    let node = on(&redis).await;
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]).await;
    assert_eq!(node.try_publish(draft("a", None)).await, Err(Error::Unavailable));
    out_of_reach(&node).await;
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
    back(&node).await;
    node.publish("a").await;
}

#[tokio::test]
async fn scripts_that_a_server_forgot_are_sent_again() {
    let redis = RedisServer::start().await;
    let node = on(&redis).await;
    node.publish("a").await;
    redis.ask(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(node.publish("a").await.position.seq, 2);
}

#[tokio::test]
async fn a_password_and_an_acl_user_are_enough_with_the_prefix_alone() {
    let redis = RedisServer::with(&["--requirepass", "secret of the tests"]).await;
    let url = format!("redis://:secret%20of%20the%20tests@127.0.0.1:{}/2", redis.port);
    let node = redis_node(&redis_at(&url), SETTINGS).await;
    node.follow("a").await;
    node.publish("a").await;
    node.heard.hears("a", [1]).await;
    let redis = RedisServer::start().await;
    let rights = ["on", ">pw", "~outrigger:*", "&outrigger:*", "+@all", "-@dangerous", "-@admin"];
    assert_eq!(redis.ask(&[&["ACL", "SETUSER", "app"], &rights[..]].concat()).await, "+OK\r\n");
    let url = format!("redis://app:pw@127.0.0.1:{}", redis.port);
    let node = redis_node(&redis_at(&url), SETTINGS).await;
    node.follow("a").await;
    node.publish("a").await;
    node.heard.hears("a", [1]).await;
    assert_eq!(node.broker.channels("", 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_publication_waits_for_its_answer_no_longer_than_its_time() {
    let redis = RedisServer::start().await;
    let mut settings = redis_at(&redis.url());
    settings.timeout = Duration::from_millis(300);
    let node = redis_node(&settings, SETTINGS).await;
    redis.freeze();
    let publishing = (0..50).map(|_| node.try_publish(draft("a", None)));
    let outcomes = soon("all are answered", futures_util::future::join_all(publishing)).await;
    assert!(outcomes.iter().all(Result::is_err));
    assert!(outcomes.contains(&Err(Error::Unknown)), "some had left");
}

#[tokio::test]
async fn servers_are_spoken_to_through_tls_if_their_certificate_holds() {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let cert = file("cert.pem", certified.cert.pem());
    let key = file("key.pem", certified.signing_key.serialize_pem());
    let port = crate::support::service::free_port().to_string();
    let options = ["--tls-port", &port, "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &cert];
    let _redis = RedisServer::with(&[&options[..], &["--tls-auth-clients", "no"]].concat()).await;
    let mut settings = redis_at(&format!("rediss://localhost:{port}"));
    settings.tls = outrigger::engine::redis::trust(Some(cert.as_ref())).unwrap();
    let node = redis_node(&settings, SETTINGS).await;
    node.follow("a").await;
    node.publish("a").await;
    node.heard.hears("a", [1]).await;
    // Nobody vouches for this name.
    let mut stranger = redis_at(&format!("rediss://127.0.0.1:{port}"));
    stranger.tls = settings.tls;
    let heard = std::sync::Arc::new(crate::support::engines::Heard::default());
    let mut work = tokio::task::JoinSet::new();
    let redis = outrigger::engine::Redis::open(&stranger, SETTINGS, Default::default(), heard, &mut work);
    assert!(tokio::time::timeout(Duration::from_secs(1), redis.reached()).await.is_err());
}
