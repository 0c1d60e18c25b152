//! What Redis costs: printed, not promised. `cargo test --release --test main redis_costs -- --ignored --nocapture`

use std::time::Instant;

use futures_util::StreamExt;
use outrigger::channel::Retention;

use crate::support::engines::{InMemory, Installation, KEEP, Node, OnRedis, draft};

async fn used_memory(on: &OnRedis) -> u64 {
    let info = on.server.ask(&["INFO", "memory"]).await;
    let line = info.lines().find_map(|it| it.strip_prefix("used_memory:")).unwrap();
    line.parse().unwrap()
}

async fn fill(node: &Node, channels: usize, each: usize, retention: Retention) {
    let drafts = (0..channels * each).map(|at| draft(&format!("room.{}", at % channels), None));
    let publishing = drafts.map(|draft| node.broker.publish(draft, retention));
    let outcomes: Vec<_> = futures_util::stream::iter(publishing).buffer_unordered(256).collect().await;
    assert!(outcomes.iter().all(Result::is_ok));
}

#[tokio::test]
#[ignore = "prints what a channel takes of Redis's memory"]
async fn memory_per_channel() {
    const CHANNELS: usize = 2000;
    for (what, each, retention) in [
        ("published to once, no history", 1, Retention::NONE),
        ("published to ten times, no history", 10, Retention::NONE),
        ("history of 50 small publications", 50, KEEP),
    ] {
        let on = OnRedis::start().await;
        let node = on.node().await;
        let before = used_memory(&on).await;
        fill(&node, CHANNELS, each, retention).await;
        println!("{what}: {} bytes a channel", (used_memory(&on).await - before) / CHANNELS as u64);
    }
}

async fn rate(node: &Node, publications: usize) -> f64 {
    let began = Instant::now();
    fill(node, 100, publications / 100, KEEP).await;
    publications as f64 / began.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints publications a second through each engine"]
async fn publications_per_second() {
    let (memory, redis) = (InMemory::start().await, OnRedis::start().await);
    for (name, node) in [("memory", memory.node().await), ("redis", redis.node().await)] {
        rate(&node, 2000).await;
        println!("{name}: {:.0} publications a second, 256 in flight", rate(&node, 20_000).await);
    }
}
