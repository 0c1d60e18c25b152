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
