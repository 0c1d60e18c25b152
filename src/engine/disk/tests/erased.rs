use super::*;

#[tokio::test]
async fn what_was_erased_is_in_no_file_however_large_and_whether_or_not_the_history_still_had_it() {
    const SECRET: &str = "what nobody is to know of 42";
    let folder = tempfile::tempdir().unwrap();
    let disk = open(&folder);
    let write = |id: String, size: usize| {
        let data = Payload::Json(format!("\"{}\"", SECRET.repeat(size)).into());
        Draft { data, user: Some("42".into()), ..draft("a", Some(&id)) }
    };
    for at in 0..20 {
        // Larger than a page, and smaller; the history keeps three.
        disk.publish(write(at.to_string(), if at % 2 == 0 { 1000 } else { 10 }), KEEP_3).await.unwrap();
    }
    assert!(disk.settled().await);
    assert_eq!(disk.erase("42").await.unwrap().publications, 3);
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes.windows(SECRET.len()).filter(|it| *it == SECRET.as_bytes()).count();
        assert_eq!(found, 0, "{}", path.display());
    }
}
