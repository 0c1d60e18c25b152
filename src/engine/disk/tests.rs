mod away;
mod erased;

use tempfile::TempDir;

use super::*;
use crate::channel::{ConnectionId, Data as Payload};
use crate::engine::tests::{Heard, KEEP_3, SETTINGS, draft, name, seqs};

const KEEP: Retention = Retention { size: 1000, ttl: Duration::from_secs(3600) };

fn data(folder: &TempDir) -> Data {
    Data { path: folder.path().to_owned(), fsync: Fsync::EachSecond }
}

fn start(store: Store) -> (Arc<Disk>, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    let disk = Disk::start(store, SETTINGS, Metrics::default(), heard.clone()).unwrap();
    (disk, heard)
}

fn open(folder: &TempDir) -> Arc<Disk> {
    start(Store::open(&data(folder)).unwrap()).0
}

/// The folder as a process leaves it that is killed now.
fn killed(folder: &TempDir) -> TempDir {
    image(folder.path())
}

fn image(folder: &std::path::Path) -> TempDir {
    let image = tempfile::tempdir().unwrap();
    for file in ["store.sqlite", "store.sqlite-wal", "witness"] {
        std::fs::copy(folder.join(file), image.path().join(file)).unwrap();
    }
    image
}

async fn publish(disk: &Disk, channel: &str, id: &str) -> Receipt {
    disk.publish(draft(channel, Some(id)), KEEP).await.unwrap()
}

async fn read(disk: &Disk, channel: &str, since: Option<Position>) -> Page {
    disk.history(&name(channel), since, 1000, KEEP).await.unwrap()
}

#[tokio::test]
async fn everything_is_there_after_a_clean_end_and_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(&folder);
    let binary = Draft {
        data: Payload::Binary(vec![0, 1, 255].into()),
        event: Some("said".into()),
        user: Some("42".into()),
        subject: Some("43".into()),
        exclude: vec![ConnectionId(7), ConnectionId(8)],
        ..draft("a", None)
    };
    let first = disk.publish(binary, KEEP).await.unwrap();
    assert_eq!((first.durable, first.position.seq), ("written", 1));
    publish(&disk, "a", "x").await;
    publish(&disk, "b", "x").await;
    let before = read(&disk, "a", None).await;
    let image = killed(&folder);
    assert!(disk.close().await);
    for folder in [image, folder] {
        let disk = open(&folder);
        let page = read(&disk, "a", Some(first.position.clone())).await;
        assert_eq!((page.unbroken, seqs(&page), page.head), (true, vec![2], before.head.clone()));
        let stored = &read(&disk, "a", None).await.publications;
        assert_eq!(format!("{stored:?}"), format!("{:?}", before.publications));
        let again = publish(&disk, "a", "x").await;
        assert_eq!((again.duplicate, again.position.seq), (true, 2), "the id is still known");
        assert_eq!(publish(&disk, "b", "y").await.position.seq, 2);
    }
}

/// Looks into the store at each delivery.
struct Suspicious {
    folder: PathBuf,
    /// For each delivery, whether the store had it.
    delivered: Mutex<Vec<bool>>,
}

impl Deliver for Suspicious {
    fn room(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn publication(&self, it: Arc<crate::channel::Publication>) {
        let image = image(&self.folder);
        let tables = tables::Tables::open(&image.path().join("store.sqlite"), Fsync::EachSecond).unwrap().unwrap();
        let mut stored = 0;
        tables.publications(|it| stored = it.seq).unwrap();
        // Judged by the test: nobody may panic under the engine's lock.
        self.delivered.lock().unwrap().push(stored >= it.seq);
    }
}

#[tokio::test]
async fn nothing_is_delivered_before_it_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let deliver = Arc::new(Suspicious { folder: folder.path().to_owned(), delivered: Mutex::default() });
    let store = Store::open(&data(&folder)).unwrap();
    let disk = Disk::start(store, SETTINGS, Metrics::default(), deliver.clone()).unwrap();
    let ids: Vec<_> = (0..20).map(|it| it.to_string()).collect();
    futures_util::future::join_all(ids.iter().map(|it| publish(&disk, "a", it))).await;
    assert_eq!(*deliver.delivered.lock().unwrap(), [true; 20]);
}

#[tokio::test]
async fn many_publishers_at_once_are_numbered_without_a_gap_and_an_id_counts_once() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, heard) = start(Store::open(&data(&folder)).unwrap());
    let publishing = (0..400).map(|at| {
        let disk = disk.clone();
        tokio::spawn(async move { publish(&disk, "a", &(at / 2).to_string()).await })
    });
    let mut taken: Vec<_> = futures_util::future::join_all(publishing).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(taken.iter().filter(|it| it.duplicate).count(), 200);
    taken.retain(|it| !it.duplicate);
    taken.sort_by_key(|it| it.position.seq);
    assert_eq!(taken.iter().map(|it| it.position.seq).collect::<Vec<_>>(), (1..=200).collect::<Vec<_>>());
    let heard: Vec<_> = heard.0.lock().unwrap().iter().map(|it| it.1).collect();
    assert_eq!(heard, (1..=200).collect::<Vec<_>>(), "delivered once each, in order");
}

#[tokio::test]
async fn what_is_published_together_keeps_its_order_and_shares_a_commit() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Metrics::default();
    let heard = Arc::new(Heard::default());
    let disk = Disk::start(Store::open(&data(&folder)).unwrap(), SETTINGS, metrics.clone(), heard.clone()).unwrap();
    let drafts = (0..TOGETHER).map(|at| draft("a", Some(&at.to_string()))).collect();
    let taken = disk.publish_all(drafts, KEEP).await;
    let seqs: Vec<_> = taken.into_iter().map(|it| it.unwrap().position.seq).collect();
    assert_eq!(seqs, (1..=TOGETHER as u64).collect::<Vec<_>>());
    assert_eq!((heard.0.lock().unwrap().len(), metrics.commits.get()), (TOGETHER, 1));
}

#[tokio::test]
async fn a_channel_that_only_has_followers_keeps_its_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(&folder);
    disk.follow(&name("a")).await.unwrap();
    let head = read(&disk, "a", None).await.head;
    assert!(disk.settled().await);
    let image = killed(&folder);
    let disk = open(&image);
    assert!(read(&disk, "a", Some(head)).await.unbroken);
}

#[tokio::test]
async fn what_is_trimmed_is_gone_from_the_store_and_the_numbers_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(&folder);
    for at in 0..50 {
        disk.publish(draft("a", Some(&at.to_string())), KEEP_3).await.unwrap();
        // Neither kept nor recognised: only the number is left.
        disk.publish(draft("b", None), Retention::NONE).await.unwrap();
    }
    disk.publish(draft("c", None), Retention::NONE).await.unwrap();
    assert!(disk.settled().await && disk.settled().await);
    let image = killed(&folder);
    let store = Store::open(&data(&image)).unwrap();
    let (mut kept, mut ids) = (0, 0);
    store.tables.publications(|it| if it.kept.is_some() { kept += 1 } else { ids += 1 }).unwrap();
    assert_eq!((kept, ids), (3, 47 + 1), "three are kept, ids are recognised, the last row vouches for the end");
    let (disk, _) = start(store);
    assert_eq!(seqs(&disk.history(&name("a"), None, 10, KEEP_3).await.unwrap()), [48, 49, 50]);
    assert!(disk.publish(draft("a", Some("0")), KEEP_3).await.unwrap().duplicate);
    assert_eq!(disk.publish(draft("b", None), Retention::NONE).await.unwrap().position.seq, 51);
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(&folder);
    let refused = Store::open(&data(&folder)).err().expect("the folder is taken").to_string();
    assert!(refused.contains("in use") && refused.contains(&folder.path().display().to_string()), "{refused}");
    assert!(disk.close().await);
    open(&folder);
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let data = Data { path: file.join("data"), fsync: Fsync::Always };
    for refused in [data.check().unwrap_err(), Store::open(&data).err().unwrap()] {
        assert!(refused.to_string().contains(&*file.display().to_string()), "{refused}");
    }
    Data { path: folder.path().join("not/there/yet"), fsync: Fsync::Always }.check().unwrap();
    assert!(!folder.path().join("not").exists(), "looking makes nothing");
}

/// Publishes ten, kills the process, spoils what it left, and answers a channel's head before and what is read after.
async fn spoiled(spoil: impl Fn(&std::path::Path)) -> (Position, Page, (Arc<Disk>, TempDir)) {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(&folder);
    for at in 0..10 {
        publish(&disk, "a", &at.to_string()).await;
    }
    let image = killed(&folder);
    spoil(image.path());
    let after = open(&image);
    let head = read(&disk, "a", None).await.head;
    let page = read(&after, "a", Some(Position { seq: 1, id: None, ..head.clone() })).await;
    (head, page, (after, image))
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_its_channels_begin_new_epochs() {
    let (head, page, (disk, _image)) = spoiled(|folder| {
        let log = std::fs::File::options().write(true).open(folder.join("store.sqlite-wal")).unwrap();
        log.set_len(log.metadata().unwrap().len() - 100).unwrap();
    })
    .await;
    assert!(!page.unbroken, "nobody is told that nothing is missing");
    assert_ne!(page.head.epoch, head.epoch);
    assert_eq!(seqs(&read(&disk, "a", None).await), (1..=9).collect::<Vec<_>>(), "what is whole is still there");
}

#[tokio::test]
async fn a_corrupt_tail_is_cut_and_its_channels_begin_new_epochs() {
    let (head, page, _disk) = spoiled(|folder| {
        let path = folder.join("store.sqlite-wal");
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.len() - 5000;
        bytes[at] ^= 0xff;
        std::fs::write(path, bytes).unwrap();
    })
    .await;
    assert!(!page.unbroken);
    assert_ne!(page.head.epoch, head.epoch);
}

#[tokio::test]
async fn what_was_torn_before_it_was_acknowledged_costs_no_epoch() {
    let (head, page, _disk) = spoiled(|folder| {
        let mut log = std::fs::File::options().append(true).open(folder.join("store.sqlite-wal")).unwrap();
        std::io::Write::write_all(&mut log, &[7; 3000]).unwrap();
    })
    .await;
    assert_eq!((page.unbroken, page.head), (true, head));
}

#[test]
fn a_store_of_a_newer_version_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::open(&data(&folder)).unwrap());
    let connection = rusqlite::Connection::open(folder.path().join("store.sqlite")).unwrap();
    connection.pragma_update(None, "user_version", 2).unwrap();
    drop(connection);
    let Err(error) = Store::open(&data(&folder)) else { panic!("it is not ours to read") };
    assert!(error.to_string().ends_with("was written by a newer version of Outrigger"), "{error}");
    assert!(std::fs::read_dir(folder.path()).unwrap().all(|it| !it.unwrap().path().is_dir()), "it was not put aside");
}

#[tokio::test]
async fn a_store_that_is_none_is_put_aside() {
    let (head, page, (disk, _image)) = spoiled(|folder| {
        std::fs::remove_file(folder.join("store.sqlite-wal")).unwrap();
        std::fs::write(folder.join("store.sqlite"), [9; 8192]).unwrap();
    })
    .await;
    assert!(!page.unbroken);
    assert_ne!(page.head.epoch, head.epoch);
    assert_eq!(publish(&disk, "a", "0").await.position.seq, 1);
}

#[tokio::test]
async fn a_store_with_tables_or_publications_that_nobody_can_read_is_put_aside() {
    let change = |folder: &std::path::Path, how: &str| {
        rusqlite::Connection::open(folder.join("store.sqlite")).unwrap().execute_batch(how).unwrap();
    };
    for damage in [
        "ALTER TABLE publications RENAME COLUMN row TO raw",
        "UPDATE publications SET data = '{\"half' WHERE seq = 1",
        "UPDATE publications SET data = x'22ff22' WHERE seq = 1",
    ] {
        let (head, page, _disk) = spoiled(|folder| change(folder, damage)).await;
        assert!(page.head.epoch != head.epoch && page.publications.is_empty(), "{damage}");
    }
}

#[tokio::test]
async fn after_a_power_cut_only_a_store_that_was_synced_goes_on() {
    for (fsync, clean, goes_on) in [("written", "0", false), ("written", "1", true), ("fsync", "0", true)] {
        let (head, page, _disk) = spoiled(|folder| {
            let mut tables = tables::Tables::open(&folder.join("store.sqlite"), Fsync::Always).unwrap().unwrap();
            tables.set_marks(&[("boot", "another"), ("clean", clean), ("fsync", fsync)], Fsync::Always).unwrap();
        })
        .await;
        assert_eq!(page.unbroken, goes_on, "{fsync} {clean}");
        assert_eq!(page.head.epoch == head.epoch, goes_on, "{fsync} {clean}");
    }
}

#[tokio::test]
async fn a_full_store_refuses_and_what_it_refused_was_never_there() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&data(&folder)).unwrap();
    store.tables.limit_to(12);
    let (disk, heard) = start(store);
    let mut taken = 0;
    let large = || Draft { data: Payload::Binary(vec![7; 3000].into()), ..draft("a", None) };
    let refused = loop {
        match disk.publish(large(), KEEP).await {
            Ok(receipt) => taken = receipt.position.seq,
            Err(error) => break error,
        }
    };
    assert!(taken > 0 && refused == Error::Storage && refused.to_string().contains("full"), "{refused}");
    assert!(!disk.is_available());
    assert_eq!(disk.publish(large(), KEEP).await, Err(Error::Storage), "what comes after is refused too");
    assert_eq!(heard.0.lock().unwrap().len() as u64, taken, "nothing refused was delivered");
    assert_eq!(read(&disk, "a", None).await.head.seq, taken);
    assert!(!disk.settled().await);

    let image = killed(&folder);
    let disk = open(&image);
    assert_eq!(disk.publish(large(), KEEP).await.unwrap().position.seq, taken + 1, "numbered without a gap");
}

#[tokio::test]
async fn erasing_a_user_leaves_their_numbers_alone() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(&folder);
    let theirs = Draft { user: Some("42".into()), data: Payload::Json("\"a secret\"".into()), ..draft("a", None) };
    let about = Draft { subject: Some("42".into()), ..draft("b", None) };
    disk.publish(theirs, KEEP).await.unwrap();
    disk.publish(draft("a", None), KEEP).await.unwrap();
    disk.publish(about, KEEP).await.unwrap();
    assert_eq!(disk.erase("42").await, Ok(Erased { publications: 2, channels: 2 }));
    assert_eq!(disk.erase("42").await, Ok(Erased::default()));
    let files = ["store.sqlite", "store.sqlite-wal"].map(|it| std::fs::read(folder.path().join(it)).unwrap()).concat();
    assert!(!String::from_utf8_lossy(&files).contains("a secret"), "it is still on the disk");
    let image = killed(&folder);
    let disk = open(&image);
    let page = read(&disk, "a", None).await;
    assert_eq!(seqs(&page), [1, 2]);
    let erased = &page.publications[0];
    assert_eq!((erased.erased, &erased.data, &erased.user), (true, &Payload::Json("null".into()), &None));
    assert!(!page.publications[1].erased);
}

#[tokio::test]
async fn deleted_history_stays_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(&folder);
    publish(&disk, "a", "x").await;
    disk.publish(draft("a", None), KEEP).await.unwrap();
    disk.delete_history(&name("a")).await.unwrap();
    let image = killed(&folder);
    let disk = open(&image);
    let page = read(&disk, "a", None).await;
    assert_eq!((seqs(&page), page.head.seq), (vec![], 2));
    assert!(publish(&disk, "a", "x").await.duplicate, "ids are no history");
}

#[tokio::test]
async fn a_forgotten_channel_begins_a_new_epoch_after_a_restart_too() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(&folder);
    let first = publish(&disk, "a", "x").await.position;
    for at in 0..3000 {
        disk.follow(&name(&format!("other.{at}"))).await.unwrap();
        disk.unfollow(&name(&format!("other.{at}")));
    }
    assert!(disk.settled().await);
    let image = killed(&folder);
    let disk = open(&image);
    let page = read(&disk, "a", Some(first.clone())).await;
    assert!(!page.unbroken && page.head.epoch != first.epoch && page.head.seq == 0);
    assert!(disk.channels("", 10_000).await.unwrap().len() <= 1100);
}

#[tokio::test]
async fn an_idle_channel_is_forgotten_after_its_time_and_its_rows_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(&folder);
    let first = publish(&disk, "a", "x").await.position;
    let later = Instant::now() + SETTINGS.positions;
    (0..crate::engine::memory::SHARDS).for_each(|at| disk.memory.sweep_shard(at, later));
    publish(&disk, "b", "x").await;
    assert!(disk.settled().await);
    let image = killed(&folder);
    let store = Store::open(&data(&image)).unwrap();
    let mut rows = 0;
    store.tables.publications(|_| rows += 1).unwrap();
    assert_eq!(rows, 1);
    let page = read(&start(store).0, "a", Some(first.clone())).await;
    assert!(!page.unbroken && page.head.epoch != first.epoch);
}

#[tokio::test]
async fn history_grows_old_while_nobody_runs() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(&folder);
    publish(&disk, "a", "x").await;
    let image = killed(&folder);
    let hour = crate::channel::now() - 3_600_000;
    let connection = rusqlite::Connection::open(image.path().join("store.sqlite")).unwrap();
    connection.execute("UPDATE publications SET time = ?", [i64::try_from(hour).unwrap()]).unwrap();
    drop(connection);
    let disk = open(&image);
    let page = read(&disk, "a", None).await;
    assert_eq!((seqs(&page), page.head.seq), (vec![], 1), "the number is all that is left after its hour");
    assert!(!publish(&disk, "a", "x").await.duplicate, "its ten minutes are over too");
}

#[tokio::test]
async fn records_are_found_by_the_next_process_in_the_order_of_their_keys() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(&folder);
    disk.put(Shelf::Notices, "b", vec![2]);
    disk.put(Shelf::Notices, "a", vec![1]);
    disk.put(Shelf::Notices, "c", vec![3]);
    disk.put(Shelf::Revocations, "a", vec![9]);
    disk.put(Shelf::Notices, "b", vec![22]);
    disk.remove(Shelf::Notices, "c");
    assert!(disk.settled().await);
    let image = killed(&folder);
    let disk = open(&image);
    assert_eq!(disk.all(Shelf::Notices), [("a".to_owned(), vec![1]), ("b".to_owned(), vec![22])]);
    assert_eq!(disk.all(Shelf::Revocations), [("a".to_owned(), vec![9])]);
    assert_eq!(disk.all(Shelf::Sessions), []);
}
