use super::*;

#[tokio::test]
async fn watching_a_channel_leaves_its_history_as_it_is() {
    let bench = Bench::open();
    bench.push(json!({"channel": "room.1", "data": "kept"})).await;
    let request = Request::get("/tail?channel=room.1").header("authorization", "Bearer the-key-called-read");
    let response = bench.api.answer(request.body(Full::<Bytes>::default()).unwrap(), bench.settings.clone()).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &HeaderValue::from_static("text/event-stream"))
    );
    let history = bench.get("/channels/room.1/history").await;
    assert_eq!(history.json["messages"][0]["data"], "kept", "{}", history.json);
    bench.push(json!({"channel": "room.1", "data": "new"})).await;
    let mut body = response.into_body();
    let mut heard = String::new();
    while !heard.contains("new") {
        let frame = body.frame().await.unwrap().unwrap();
        heard += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
    }
    assert!(!heard.contains("kept") && heard.contains("event: message\ndata: {"), "{heard}");
}

#[tokio::test]
async fn connections_are_found_by_user_and_by_what_they_follow() {
    let bench = Bench::open();
    let mine = bench.follow("room.1", Format::EventStream).await.listed(bench.hub.directory(), "42");
    let others = bench.follow("room.1", Format::WebSocketJson).await.listed(bench.hub.directory(), "43");
    let _elsewhere = bench.follow("room.2", Format::Poll).await.listed(bench.hub.directory(), "42");
    let ids = async |path: &str| {
        let answer = bench.get(path).await;
        let mut ids: Vec<_> = answer.json["connections"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["id"].as_str().unwrap().to_owned())
            .collect();
        ids.sort();
        ids
    };
    let mut both = [mine.outbox.id.to_string(), others.outbox.id.to_string()];
    both.sort();
    assert_eq!(ids("/connections").await.len(), 3);
    assert_eq!(ids("/connections?user=42").await.len(), 2);
    assert_eq!(ids("/connections?channel=room.1").await, both);
    assert_eq!(ids("/connections?channel=room.1&user=42").await, [mine.outbox.id.to_string()]);
    assert_eq!(bench.get("/connections?channel=a+b").await.status, 400);
    let one = bench.get(&format!("/connections/{}", mine.outbox.id)).await;
    assert_eq!(
        (&one.json["user"], &one.json["transport"], &one.json["dropped"]["slow"]),
        (&json!("42"), &json!("sse"), &json!(0))
    );
    assert!(one.json["connectedAt"].as_u64().unwrap() > 1_700_000_000_000, "{}", one.json);
}

#[tokio::test]
async fn a_list_that_was_cut_says_so() {
    let bench = Bench::open();
    let _clients = [bench.follow("room.1", Format::Poll).await, bench.follow("room.2", Format::Poll).await];
    let cut = bench.get("/channels?limit=1").await;
    assert_eq!((&cut.json["channels"][0]["channel"], &cut.json["truncated"]), (&json!("room.1"), &json!(true)));
    assert_eq!(bench.get("/channels?limit=2").await.json["truncated"], false);
}
