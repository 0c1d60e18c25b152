use super::*;

#[tokio::test]
async fn a_folder_that_is_taken_away_takes_nothing_more_until_it_is_back() {
    let above = tempfile::tempdir().unwrap();
    let (path, elsewhere) = (above.path().join("data"), above.path().join("elsewhere"));
    let store = Store::open(&Data { path: path.clone(), fsync: Fsync::Always }).unwrap();
    let (disk, heard) = start(store);
    std::fs::rename(&path, &elsewhere).unwrap();
    // What is written within a second of the last look is with the folder, wherever that is.
    let refused = loop {
        match disk.publish(draft("a", None), KEEP).await {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert_eq!((refused, disk.is_available()), (Error::Storage, false));
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("lock"), "").unwrap();
    let taken = heard.0.lock().unwrap().len();
    assert_eq!(disk.publish(draft("a", None), KEEP).await, Err(Error::Storage), "another folder is not ours");
    std::fs::remove_dir_all(&path).unwrap();
    std::fs::rename(&elsewhere, &path).unwrap();
    let seq = loop {
        if let Ok(receipt) = disk.publish(draft("a", None), KEEP).await {
            break receipt.position.seq;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(seq, taken as u64 + 1, "numbered without a gap");
}

#[test]
fn what_came_and_went_while_the_store_failed_is_not_owed() {
    let folder = tempfile::tempdir().unwrap();
    let mut tables = tables::Tables::open(&folder.path().join("store.sqlite"), Fsync::EachSecond).unwrap().unwrap();
    let key = |it: &str| (Shelf::Sessions, it.to_owned());
    let mut owed = crate::engine::changes::Owed::default();
    owed.records.insert(key("stored"), Some(vec![1]));
    tables.write(&owed, &[]).unwrap();
    owed.records = [(key("stored"), None), (key("came and went"), None), (key("came"), Some(vec![1]))].into();
    owed.channels.insert(7, None);
    tables.forget_absent(&mut owed).unwrap();
    assert_eq!(owed.records, [(key("stored"), None), (key("came"), Some(vec![1]))].into());
    assert!(owed.channels.is_empty());
}
