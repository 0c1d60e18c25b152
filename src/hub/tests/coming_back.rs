//! Many clients that come back at once.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::unsteady::unsteady;
use super::*;

/// A socket that only notes where the bytes it is given lie in memory.
#[derive(Clone, Default)]
struct Witness {
    seen: Arc<Mutex<HashSet<usize>>>,
    bytes: Arc<AtomicUsize>,
}

impl Wire for Witness {
    fn poll_send(&mut self, _: &mut Context<'_>, bytes: &mut &[u8]) -> Poll<io::Result<()>> {
        // Replies are short, and each client's own.
        if bytes.len() > 1000 {
            self.seen.lock().unwrap().insert(bytes.as_ptr().addr());
            self.bytes.fetch_add(bytes.len(), Ordering::Relaxed);
        }
        *bytes = &[];
        Poll::Ready(Ok(()))
    }

    fn poll_receive(&mut self, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_clients_that_come_back_read_the_store_a_few_times_and_share_one_encoding() {
    const CLIENTS: usize = 10_000;
    const MISSED: usize = 100;
    for late in [0, 30] {
        let (hub, engine) = unsteady(2, late, 1);
        let position = hub.publish(draft("a", 10), KEEP).await.unwrap().position;
        for _ in 0..MISSED {
            hub.publish(draft("a", 100), KEEP).await.unwrap();
        }
        let witness = Witness::default();
        let mut coming = JoinSet::new();
        for _ in 0..CLIENTS {
            let (hub, position) = (hub.clone(), position.clone());
            let outbox = Outbox::new(&hub, Format::WebSocketJson, Some(Box::new(witness.clone())), 1 << 20);
            coming.spawn(async move {
                let subscription = join(&hub, "a", Some(position), &outbox).await;
                std::future::poll_fn(|cx| outbox.poll_finish(cx)).await.unwrap();
                (outbox, subscription)
            });
        }
        let clients = coming.join_all().await;
        let reads = engine.reads.load(Ordering::Relaxed);
        assert!(reads <= 5, "{reads} reads of an engine that is up to {late} ms late");
        assert_eq!(witness.seen.lock().unwrap().len(), 1, "everybody is written the same bytes, in one go");
        let sums = hub.ledger().read();
        assert_eq!((sums.expected, sums.flushed, sums.queued), ((CLIENTS * MISSED) as u64, sums.expected, 0));
        let last = hub.publish_counted(draft("a", 1), KEEP).await.unwrap();
        assert_eq!(last.delivery.unwrap().flushed(Duration::from_secs(60)).await.0.matched as usize, CLIENTS);
        drop(clients);
    }
}

#[tokio::test(start_paused = true)]
async fn clients_with_many_different_positions_do_not_ask_the_engine_all_at_once() {
    let (hub, engine) = unsteady(1, 20, 2);
    let mut positions = Vec::new();
    for _ in 0..500 {
        positions.push(hub.publish(draft("a", 10), KEEP).await.unwrap().position);
    }
    let mut coming = JoinSet::new();
    for position in positions {
        let hub = hub.clone();
        coming.spawn(async move {
            let outbox = Outbox::new(&hub, Format::WebSocketJson, None, 1 << 20);
            join(&hub, "a", Some(position), &outbox).await
        });
    }
    coming.join_all().await;
    let at_once = engine.most_at_once.load(Ordering::Relaxed);
    assert!((2..=16).contains(&at_once), "{at_once} reads at the same time");
}

#[tokio::test(start_paused = true)]
async fn what_was_read_for_others_is_let_go_after_a_moment() {
    let (hub, engine) = unsteady(1, 0, 3);
    let position = hub.publish(draft("a", 10), KEEP).await.unwrap().position;
    hub.publish(draft("a", 10), KEEP).await.unwrap();
    let come_back = async || {
        let outbox = Outbox::new(&hub, Format::WebSocketJson, None, 1 << 20);
        join(&hub, "a", Some(position.clone()), &outbox).await
    };
    let _first = come_back().await;
    let _second = come_back().await;
    assert_eq!(engine.reads.load(Ordering::Relaxed), 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let _third = come_back().await;
    assert_eq!(engine.reads.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn history_that_was_deleted_is_not_given_to_anybody_any_more() {
    let (hub, _) = unsteady(1, 0, 4);
    let position = hub.publish(draft("a", 10), KEEP).await.unwrap().position;
    hub.publish(draft("a", 10), KEEP).await.unwrap();
    let outbox = Outbox::new(&hub, Format::WebSocketJson, None, 1 << 20);
    let recovered = async || {
        let rule = rule(WhenSlow::Disconnect);
        hub.subscribe(&channel("a"), Some(position.clone()), &outbox, &rule).await.unwrap().recovered
    };
    assert_eq!(recovered().await, Some(true));
    hub.delete_history(&channel("a")).await.unwrap();
    assert_eq!(recovered().await, Some(false));
}

/// A read that was under way before a client joined may lack what was published in between.
#[tokio::test(start_paused = true)]
async fn a_client_that_shares_an_older_read_misses_nothing_that_came_after_it() {
    for seed in 0..40 {
        let (hub, _) = unsteady(1, 20, seed);
        let position = hub.publish(draft("a", 10), KEEP).await.unwrap().position;
        let mut coming = JoinSet::new();
        for _ in 0..20 {
            let (for_it, position) = (hub.clone(), position.clone());
            coming.spawn(async move { unsteady::Client::join(&for_it, "a", Some(position)).await });
            tokio::time::sleep(Duration::from_millis(7)).await;
            hub.publish(draft("a", 10), KEEP).await.unwrap();
        }
        let clients = coming.join_all().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        for client in &clients {
            assert_eq!(audit(&client.heard())["a"], 21, "seed {seed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_joins_while_the_engine_is_told_to_follow_waits_for_it_too() {
    for seed in 0..20 {
        let (hub, engine) = unsteady(1, 50, seed);
        let mut coming = JoinSet::new();
        for _ in 0..3 {
            let (hub, engine) = (hub.clone(), engine.clone());
            let outbox = Outbox::new(&hub, Format::WebSocketJson, None, 1 << 20);
            coming.spawn(async move {
                let name = channel("a");
                let _subscribed = hub.subscribe(&name, None, &outbox, &rule(WhenSlow::Disconnect)).await.unwrap();
                // Before it, a publication would not have been delivered here.
                assert!(!engine.read_too_early.load(Ordering::SeqCst), "seed {seed}");
                std::future::pending::<()>().await;
            });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        while let Some(ended) = coming.try_join_next() {
            ended.unwrap();
        }
    }
}
