//! The position audit: an engine that swallows publications or loses its past, and subscribers that are healed or told.

use std::sync::atomic::Ordering;

use super::unsteady::{Client, Unsteady, unsteady};
use super::*;

const NONE: Retention = Retention::NONE;

async fn publish(hub: &Hub, retention: Retention) -> u64 {
    hub.publish(draft("a", 10), retention).await.unwrap().position.seq
}

async fn swallowed(hub: &Hub, engine: &Unsteady, retention: Retention) {
    engine.link.swallows.store(true, Ordering::SeqCst);
    publish(hub, retention).await;
    engine.link.swallows.store(false, Ordering::SeqCst);
}

/// Everything that was set going has come to an end, short of the next round of the audit.
async fn settled() {
    tokio::time::sleep(Duration::from_secs(2)).await;
}

fn said(story: &[(&str, u64)]) -> Vec<(String, u64)> {
    story.iter().map(|(kind, seq)| ((*kind).to_owned(), *seq)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_publication_that_was_not_delivered_is_written_before_the_next_one() {
    let (hub, engine) = unsteady(2, 0, 1);
    let clients = [Client::join(&hub, "a", None).await, Client::join(&hub, "a", None).await];
    publish(&hub, KEEP).await;
    swallowed(&hub, &engine, KEEP).await;
    publish(&hub, KEEP).await;
    settled().await;
    publish(&hub, KEEP).await;
    settled().await;
    for client in &clients {
        assert_eq!(audit(&client.heard())["a"], 4);
    }
    assert_eq!(hub.ledger().read().queued, 0);
    assert!(hub.ledger().read().holes > 0);
}

#[tokio::test(start_paused = true)]
async fn a_publication_that_nothing_follows_is_found_by_the_next_round() {
    let (hub, engine) = unsteady(2, 0, 2);
    let client = Client::join(&hub, "a", None).await;
    publish(&hub, KEEP).await;
    swallowed(&hub, &engine, KEEP).await;
    settled().await;
    assert_eq!(client.story().last().unwrap().1, 1);
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(audit(&client.heard())["a"], 2);
    publish(&hub, KEEP).await;
    settled().await;
    assert_eq!(audit(&client.heard())["a"], 3, "and goes on from there");
}

#[tokio::test(start_paused = true)]
async fn the_return_of_the_link_starts_a_round() {
    let (hub, engine) = unsteady(2, 0, 3);
    let client = Client::join(&hub, "a", None).await;
    swallowed(&hub, &engine, KEEP).await;
    engine.link.return_to_hub();
    settled().await;
    assert_eq!(audit(&client.heard())["a"], 1);
}

#[tokio::test(start_paused = true)]
async fn what_history_does_not_have_is_told_as_a_gap() {
    let (hub, engine) = unsteady(1, 0, 4);
    let client = Client::join(&hub, "a", None).await;
    publish(&hub, NONE).await;
    swallowed(&hub, &engine, NONE).await;
    publish(&hub, NONE).await;
    settled().await;
    publish(&hub, NONE).await;
    settled().await;
    assert_eq!(client.story(), said(&[("subscribed", 0), ("message", 1), ("gap", 3), ("message", 4)]));
    assert_eq!(client.heard()[2]["reason"], "engine");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_lost_its_past_is_told_as_another_epoch() {
    for is_published_to in [true, false] {
        let (hub, engine) = unsteady(2, 0, 5);
        let client = Client::join(&hub, "a", None).await;
        publish(&hub, KEEP).await;
        publish(&hub, KEEP).await;
        engine.memory.forget(&channel("a"));
        if is_published_to {
            publish(&hub, KEEP).await;
        }
        tokio::time::sleep(Duration::from_secs(40)).await;
        let told = u64::from(is_published_to);
        publish(&hub, KEEP).await;
        settled().await;
        let story = [("subscribed", 0), ("message", 1), ("message", 2), ("gap", told), ("message", told + 1)];
        assert_eq!(client.story(), said(&story));
        let heard = client.heard();
        assert_eq!(heard[3]["reason"], "epoch");
        assert_ne!(heard[3]["epoch"], heard[0]["epoch"]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_merely_late_troubles_nobody() {
    let (hub, _) = unsteady(2, 300, 6);
    let client = Client::join(&hub, "a", None).await;
    for _ in 0..300 {
        publish(&hub, KEEP).await;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(audit(&client.heard())["a"], 300);
    assert_eq!(hub.ledger().read().holes, 0);
}
