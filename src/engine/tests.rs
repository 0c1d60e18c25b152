use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::memory::SHARDS;
use super::*;
use crate::channel::{Data, Epoch};

#[derive(Default)]
pub(super) struct Heard(pub(super) Mutex<Vec<(ChannelName, u64)>>);

impl Deliver for Heard {
    fn room(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
    fn publication(&self, it: Arc<Publication>) {
        self.0.lock().unwrap().push((it.channel.clone(), it.seq));
    }
}

pub(super) const KEEP_3: Retention = Retention { size: 3, ttl: Duration::from_secs(60) };

pub(super) const SETTINGS: Settings = Settings {
    positions: Duration::from_secs(3600),
    channels: 1000,
    idempotency: Duration::from_secs(600),
    idempotency_ids: 10_000,
};

fn engine(channels: usize) -> (Memory, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    (Memory::new(Settings { channels, ..SETTINGS }, heard.clone()), heard)
}

pub(super) fn name(text: &str) -> ChannelName {
    ChannelName::parse(text).unwrap()
}

pub(super) fn draft(channel: &str, id: Option<&str>) -> Draft {
    Draft::new(name(channel), Data::Json(Bytes::from_static(b"1")), id.map(Arc::from))
}

pub(super) fn seqs(page: &Page) -> Vec<u64> {
    page.publications.iter().map(|it| it.seq).collect()
}

#[tokio::test(start_paused = true)]
async fn two_channels_are_numbered_each_on_its_own_and_delivered_in_order() {
    let (engine, heard) = engine(1000);
    for _ in 0..2 {
        engine.publish(draft("a", None), KEEP_3).await.unwrap();
        engine.publish(draft("b", None), KEEP_3).await.unwrap();
    }
    let expected = [("a", 1), ("b", 1), ("a", 2), ("b", 2)].map(|(channel, seq)| (name(channel), seq));
    assert_eq!(*heard.0.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_id_answers_the_first_receipt_and_is_not_delivered_again() {
    let (engine, heard) = engine(1000);
    let first = engine.publish(draft("a", Some("x")), KEEP_3).await.unwrap();
    engine.publish(draft("a", None), KEEP_3).await.unwrap();
    let again = engine.publish(draft("a", Some("x")), KEEP_3).await.unwrap();
    assert_eq!((again.position, again.duplicate), (first.position, true));
    assert!(!engine.publish(draft("b", Some("x")), KEEP_3).await.unwrap().duplicate, "ids are per channel");
    assert_eq!(heard.0.lock().unwrap().len(), 3);
    tokio::time::advance(Duration::from_secs(600)).await;
    assert!(!engine.publish(draft("a", Some("x")), KEEP_3).await.unwrap().duplicate, "the window is over");
}

#[tokio::test(start_paused = true)]
async fn history_gives_the_whole_gap_or_says_that_it_cannot() {
    let (engine, _) = engine(1000);
    let mut last = None;
    for _ in 0..5 {
        last = Some(engine.publish(draft("a", None), KEEP_3).await.unwrap().position);
    }
    let at = |seq| Position { seq, id: None, ..last.clone().unwrap() };
    let read = async |since| engine.history(&name("a"), since, 10, KEEP_3).await.unwrap();
    let page = read(Some(at(2))).await;
    assert_eq!((seqs(&page), page.unbroken), (vec![3, 4, 5], true));
    assert!(!read(Some(at(1))).await.unbroken, "2 is gone");
    assert!(!read(Some(at(6))).await.unbroken, "beyond the head");
    assert!(!read(Some(Position { epoch: Epoch(7), ..at(4) })).await.unbroken, "another epoch");
    assert!(!read(Some(Position { id: Some("no".into()), ..at(4) })).await.unbroken, "another publication");
    assert!(read(last.clone()).await.unbroken);
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(!read(Some(at(4))).await.unbroken, "expired");
    assert!(read(last).await.unbroken, "who is at the head misses nothing");
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_channel_starts_a_new_epoch() {
    let (engine, _) = engine(SHARDS);
    let first = engine.publish(draft("a", None), KEEP_3).await.unwrap().position;
    for at in 0..1000 {
        tokio::time::advance(Duration::from_millis(1)).await;
        engine.publish(draft(&format!("other.{at}"), None), KEEP_3).await.unwrap();
    }
    let page = engine.history(&name("a"), Some(first.clone()), 10, KEEP_3).await.unwrap();
    assert!(!page.unbroken);
    assert_ne!(page.head.epoch, first.epoch);
    assert!(engine.channels("", 10_000).await.unwrap().len() <= SHARDS);
}

#[tokio::test(start_paused = true)]
async fn an_idle_channel_is_forgotten_after_its_time() {
    let (engine, _) = engine(1000);
    let first = engine.publish(draft("a", None), KEEP_3).await.unwrap().position;
    tokio::time::advance(Duration::from_secs(3600)).await;
    (0..SHARDS).for_each(|at| engine.sweep_shard(at, Instant::now()));
    let page = engine.history(&name("a"), Some(first.clone()), 10, KEEP_3).await.unwrap();
    assert!(!page.unbroken && page.head.epoch != first.epoch);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_ids_are_forgotten_first_and_counted_where_there_are_too_many() {
    let heard = Arc::new(Heard::default());
    let metrics = Metrics::default();
    let settings = Settings { idempotency_ids: 100, channels: 100_000, ..SETTINGS };
    let engine = Memory::new(settings, heard).counting(metrics.clone());
    for channel in ["busy".to_owned()].into_iter().chain((0..50).map(|it| format!("quiet.{it}"))) {
        engine.publish(draft(&channel, Some("first")), KEEP_3).await.unwrap();
    }
    for at in 0..1000 {
        tokio::time::advance(Duration::from_millis(1)).await;
        engine.publish(draft("busy", Some(&at.to_string())), KEEP_3).await.unwrap();
    }
    assert!(metrics.ids_forgotten.get() >= 900, "{} were forgotten", metrics.ids_forgotten.get());
    let is_known =
        async |channel: &str, id: &str| engine.publish(draft(channel, Some(id)), KEEP_3).await.unwrap().duplicate;
    assert!(is_known("busy", "999").await && !is_known("busy", "first").await);
    let mut quiet = 0;
    for at in 0..50 {
        quiet += u32::from(is_known(&format!("quiet.{at}"), "first").await);
    }
    assert!(quiet > 40, "whoever fills the room pays: {quiet} of 50 quiet channels still know theirs");
}

#[tokio::test(start_paused = true)]
async fn ids_are_bounded_over_many_channels_too() {
    let heard = Arc::new(Heard::default());
    let engine = Memory::new(Settings { idempotency_ids: 100, channels: 100_000, ..SETTINGS }, heard);
    for at in 0..5000 {
        tokio::time::advance(Duration::from_millis(1)).await;
        engine.publish(draft(&format!("user.{at}"), Some("x")), Retention::NONE).await.unwrap();
    }
    assert!((80..=100).contains(&engine.ids()), "{} ids are remembered", engine.ids());
}

#[tokio::test(start_paused = true)]
async fn an_erased_publication_keeps_its_number_and_nothing_else() {
    let (engine, _) = engine(1000);
    engine
        .publish(Draft { user: Some("42".into()), event: Some("said".into()), ..draft("a", None) }, KEEP_3)
        .await
        .unwrap();
    engine.publish(draft("a", None), KEEP_3).await.unwrap();
    assert_eq!(engine.erase("42").await, Ok(Erased { publications: 1, channels: 1 }));
    let page = engine.history(&name("a"), None, 10, KEEP_3).await.unwrap();
    assert_eq!(seqs(&page), [1, 2]);
    let it = &page.publications[0];
    assert_eq!((it.erased, &it.user, &it.event, &it.data), (true, &None, &None, &Data::Json("null".into())));
}
