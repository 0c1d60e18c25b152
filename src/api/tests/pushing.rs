use super::*;
use crate::channel::MAX_DEPTH;
use std::task::Context;

#[tokio::test]
async fn a_push_reaches_its_followers_and_the_receipt_says_so() {
    let bench = Bench::open();
    let client = bench.follow("room.5", Format::Poll).await;
    let answer =
        bench.push(json!({"channel": "room.5", "data": {"text": "hi\nyou"}, "event": "created", "id": "o-1"})).await;
    assert_eq!(answer.status, 200);
    let result = &answer.json["results"][0];
    let expected = json!({"channel": "room.5", "status": "taken", "id": "o-1", "epoch": result["epoch"], "seq": 1,
        "durable": "memory", "duplicate": false, "scope": "node", "matched": 1, "queued": 1, "dropped": {"slow": 0}});
    assert_eq!(result, &expected);
    let heard: Value = serde_json::from_str(&client.read()).unwrap();
    assert_eq!(
        (&heard["data"]["text"], &heard["event"], &heard["seq"]),
        (&json!("hi\nyou"), &json!("created"), &json!(1))
    );
}

#[tokio::test]
async fn a_repeated_id_answers_the_first_receipt_and_sends_nothing() {
    let bench = Bench::open();
    let client = bench.follow("room.5", Format::Poll).await;
    // An id that was made up is as good as one that was given.
    let first = bench.push(json!({"channel": "room.5", "data": 1})).await;
    let id = &first.results("id")[0];
    client.read();
    let second = bench.push(json!({"channel": "room.5", "data": 2, "id": id})).await;
    assert_eq!(second.status, 200);
    let result = &second.json["results"][0];
    assert_eq!((&result["duplicate"], &result["seq"], &result["id"]), (&json!(true), &json!(1), id));
    assert_eq!((&result["matched"], &result["delivery"]), (&Value::Null, &Value::Null));
    assert_eq!(client.read(), "");
}

#[tokio::test]
async fn several_channels_get_the_same_and_each_has_its_receipt() {
    let bench = Bench::open();
    let clients = [bench.follow("room.1", Format::Poll).await, bench.follow("room.2", Format::Poll).await];
    let answer = bench.push(json!({"channels": ["room.1", "room.2"], "data": "x", "id": "same"})).await;
    assert_eq!(answer.results("channel"), [json!("room.1"), json!("room.2")]);
    assert_eq!(answer.results("id"), [json!("same"), json!("same")]);
    for client in clients {
        assert!(client.read().contains(r#""data":"x""#));
    }
}

#[tokio::test]
async fn what_follows_a_failure_in_the_same_channel_is_not_sent() {
    let bench = Bench::open();
    let client = bench.follow("room.1", Format::Poll).await;
    bench.fail("room.1", Error::Unavailable, 1, 1);
    let message = |channel: &str, data: u32| json!({"channel": channel, "data": data});
    let messages = [message("room.1", 1), message("room.1", 2), message("room.2", 3), message("room.1", 4)];
    let answer = bench.push(json!({ "messages": messages })).await;
    assert_eq!(answer.status, 207);
    let statuses = answer.results("status");
    assert_eq!(statuses, [json!("taken"), json!("refused"), json!("taken"), json!("not_sent")]);
    assert!(answer.json["results"][1]["error"].is_string() && answer.json["results"][1]["id"].is_string());
    let heard = client.read();
    assert!(heard.contains(r#""data":1"#) && !heard.contains(r#""data":4"#), "{heard}");
}

#[tokio::test]
async fn the_status_tells_nothing_taken_from_nothing_known() {
    let bench = Bench::open();
    bench.fail("room.1", Error::Unavailable, 0, 1);
    let refused = bench.push(json!({"channel": "room.1", "data": 1})).await;
    assert_eq!((refused.status, &refused.json["results"][0]["status"]), (503, &json!("refused")));
    bench.fail("room.2", Error::Unknown, 0, 1);
    bench.fail("room.3", Error::Unavailable, 0, 1);
    let unknown = bench.push(json!({"channels": ["room.2", "room.3"], "data": 1})).await;
    assert_eq!(unknown.status, 504);
    assert_eq!(unknown.results("status"), [json!("unknown"), json!("refused")]);
}

#[tokio::test]
async fn a_batch_with_one_mistake_publishes_nothing_and_says_where_it_is() {
    let bench = Bench::open();
    let messages = json!({"messages": [
        {"channel": "room.1", "data": 1},
        {"channel": "room 2", "data": 2},
        {"data": 3},
        {"channel": "room.4", "data": 4, "exclude": ["nobody"]},
        5,
    ]});
    let answer = bench.push(messages).await;
    assert_eq!((answer.status, bench.tries()), (422, 0));
    let places: Vec<_> = answer.json["errors"].as_array().unwrap().iter().map(|it| it["field"].clone()).collect();
    let expected = ["messages[1].channel", "messages[2].channel", "messages[3].exclude", "messages[4]"];
    assert_eq!(places, expected);
}

#[tokio::test]
async fn each_line_of_ndjson_is_a_message() {
    let bench = Bench::open();
    let lines = "{\"channel\":\"room.1\",\"data\":1}\r\n\n{\"channel\":\"room.1\",\"data\":2}\n";
    let answer = bench.ask(Method::POST, "/push", "application/x-ndjson; charset=utf-8", lines).await;
    assert_eq!(answer.results("seq"), [json!(1), json!(2)]);
    let broken =
        bench.ask(Method::POST, "/push", "application/x-ndjson", "{\"channel\":\"room.1\",\"data\":1}\n{").await;
    assert_eq!((broken.status, &broken.json["errors"][0]["field"]), (422, &json!("line 2")));
    let wrong = bench.ask(Method::POST, "/push", "application/x-ndjson", "\n{\"channel\":\"a b\",\"data\":1}").await;
    assert_eq!(wrong.json["errors"][0]["field"], "line 2: channel");
}

#[tokio::test]
async fn other_content_is_pushed_as_the_bytes_it_is() {
    let bench = Bench::open();
    let client = bench.follow("room.1", Format::Poll).await;
    let path = "/push?channel=room.1,room.2&channel=room%2e3&event=frame&id=f-1";
    let answer = bench.ask(Method::POST, path, "image/png", vec![0, 1, 255]).await;
    assert_eq!(answer.results("channel"), [json!("room.1"), json!("room.2"), json!("room.3")]);
    let heard: Value = serde_json::from_str(&client.read()).unwrap();
    assert_eq!(
        (&heard["data"], &heard["data_base64"], &heard["event"]),
        (&Value::Null, &json!("AAH/"), &json!("frame"))
    );
    for wrong in ["/push", "/push?channel=", "/push?channel=a%20b", "/push?channel=room.1&id="] {
        let answer = bench.ask(Method::POST, wrong, "image/png", vec![0]).await;
        assert!(matches!(answer.status, 400 | 422), "{wrong}: {}", answer.json);
    }
}

#[tokio::test]
async fn data_in_base64_is_binary_too() {
    let bench = Bench::open();
    let client = bench.follow("room.1", Format::Poll).await;
    bench.push(json!({"channel": "room.1", "data_base64": "AAH/"})).await;
    assert!(client.read().contains(r#""data":null,"data_base64":"AAH/""#));
}

#[tokio::test]
async fn data_too_deep_for_its_subscribers_is_refused_before_anything_is_published() {
    let bench = Bench::open();
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let push = |depth| format!("{{\"channel\":\"room.1\",\"data\":{}}}", nested(depth));
    let deep = bench.ask(Method::POST, "/push", "application/json", push(MAX_DEPTH + 1)).await;
    assert_eq!((deep.status, bench.tries()), (422, 0), "{}", deep.json);
    assert_eq!(deep.json["errors"][0]["field"], "data");
    assert_eq!(bench.ask(Method::POST, "/push", "application/json", push(MAX_DEPTH)).await.status, 200);
}

#[tokio::test]
async fn what_is_too_large_names_the_limit_and_publishes_nothing() {
    let bench = Bench::open();
    let large = "x".repeat(MAX_PUBLICATION);
    let messages = json!({"messages": [{"channel": "room.1", "data": 1}, {"channel": "room.1", "data": large}]});
    let answer = bench.push(messages).await;
    assert_eq!((answer.status, bench.tries()), (413, 0));
    assert_eq!(answer.json["errors"][0]["field"], "messages[1].data");
    assert!(
        answer.json["errors"][0]["detail"].as_str().unwrap().contains("max_publication` = 1000"),
        "{}",
        answer.json
    );
    let raw = bench.ask(Method::POST, "/push?channel=room.1", "text/plain", vec![b'x'; MAX_PUBLICATION + 1]).await;
    assert_eq!((raw.status, bench.tries()), (413, 0));
    let spaced = format!("{{\"channel\":\"room.1\",\"data\":[{}1]}}", " ".repeat(MAX_PUBLICATION));
    assert_eq!(bench.ask(Method::POST, "/push", "application/json", spaced).await.status, 200, "blanks are not sent");
    let many = format!("{{\"messages\":[{}{{\"channel\":\"a\"}}]}}", "{\"channel\":\"a\"},".repeat(10_000));
    let many = bench.ask(Method::POST, "/push", "application/json", many).await;
    assert!(many.status == 413 && many.json["detail"].as_str().unwrap().contains("10000"), "{}", many.json);
}

#[tokio::test]
async fn an_excluded_connection_is_told_a_number_and_no_more() {
    let bench = Bench::open();
    let (author, other) = (bench.follow("room.1", Format::Poll).await, bench.follow("room.1", Format::Poll).await);
    bench.push(json!({"channel": "room.1", "data": "secret", "exclude": [author.outbox.id.to_string()]})).await;
    assert!(other.read().contains("secret"));
    let heard = author.read();
    assert!(heard.contains(r#""type":"skipped""#) && !heard.contains("secret"), "{heard}");
}

#[tokio::test]
async fn a_user_is_reached_on_every_connection_but_the_excluded() {
    let bench = Bench::open();
    let follow = async || bench.follow("room.1", Format::Poll).await.listed(bench.hub.directory(), "42");
    let (one, two, excluded) = (follow().await, follow().await, follow().await);
    let answer = bench.push(json!({"user": 42, "data": "psst", "exclude": [excluded.outbox.id.to_string()]})).await;
    let result = &answer.json["results"][0];
    let expected = json!({"user": "42", "status": "taken", "id": result["id"], "scope": "node",
        "matched": 2, "queued": 2, "dropped": {"slow": 0}});
    assert_eq!((answer.status, result), (200, &expected));
    assert!(one.read().contains("psst") && two.read().contains("psst") && excluded.read().is_empty());
    let connection = one.outbox.id.to_string();
    let answer = bench.push(json!({"connection": connection, "data": 1})).await;
    assert_eq!((&answer.json["results"][0]["connection"], one.read().is_empty()), (&json!(connection), false));
    let gone = bench.push(json!({"user": "nobody", "data": 1})).await;
    assert_eq!((gone.status, &gone.json["results"][0]["matched"]), (200, &json!(0)));
}

#[tokio::test]
async fn a_slow_connection_is_counted_as_such() {
    let bench = Bench::open();
    let slow = bench.follow_with("room.1", Format::Poll, 150).await;
    assert_eq!(
        bench.settings.rules.find(&ChannelName::parse("room.1").unwrap()).unwrap().when_slow,
        WhenSlow::DropOldest
    );
    bench.push(json!({"channel": "room.1", "data": 1})).await;
    let answer = bench.push(json!({"channel": "room.1", "data": "x".repeat(500)})).await;
    assert_eq!(answer.json["results"][0]["dropped"]["slow"], 1);
    assert_eq!(answer.json["results"][0]["queued"], 0);
    drop(slow);
}

#[tokio::test(start_paused = true)]
async fn many_messages_wait_for_the_kernel_no_longer_than_one() {
    let bench = Bench::open();
    let _client = bench.follow("room.1", Format::Poll).await;
    let messages: Vec<_> = (0..10).map(|it| json!({"channel": "room.1", "data": it})).collect();
    let begun = tokio::time::Instant::now();
    let body = json!({ "messages": messages }).to_string();
    let answer = bench.ask(Method::POST, "/push?wait=flushed", "application/json", body).await;
    assert_eq!(begun.elapsed().as_secs(), 5);
    assert!(answer.results("flushed").iter().all(|it| *it == json!(false)), "{}", answer.json);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_kernel_says_what_is_left_after_five_seconds() {
    let bench = Bench::open();
    let client = bench.follow("room.1", Format::Poll).await;
    let push = |data: u32| {
        bench.ask(
            Method::POST,
            "/push?wait=flushed",
            "application/json",
            json!({"channel": "room.1", "data": data}).to_string(),
        )
    };
    let begun = tokio::time::Instant::now();
    let answer = push(1).await;
    assert_eq!(begun.elapsed().as_secs(), 5);
    let result = &answer.json["results"][0];
    assert_eq!((&result["flushed"], &result["waiting"], &result["queued"]), (&json!(false), &json!(1), &json!(1)));
    let (answer, ()) = tokio::join!(push(2), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.read();
    });
    assert_eq!(answer.json["results"][0]["flushed"], true);
    assert_eq!(bench.ask(Method::POST, "/push?wait=long", "application/json", "{}").await.status, 400);
}

#[tokio::test]
async fn what_was_taken_is_published_even_if_the_caller_leaves() {
    let bench = Bench::open();
    let client = bench.follow("room.1", Format::Poll).await;
    let body = json!({"channel": "room.1", "data": 1}).to_string();
    let asked = bench.ask(Method::POST, "/push", "application/json", body);
    {
        let mut asked = std::pin::pin!(asked);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(asked.as_mut().poll(&mut cx).is_pending());
    }
    assert!(bench.heard(&client).await.contains(r#""data":1"#));
}

#[tokio::test(start_paused = true)]
async fn a_user_is_waited_for_and_stands_in_the_books_like_a_channel() {
    let bench = Bench::open();
    let client = bench.follow("room.1", Format::Poll).await.listed(bench.hub.directory(), "42");
    let body = json!({"user": "42", "data": 1}).to_string();
    let answer = bench.ask(Method::POST, "/push?wait=flushed", "application/json", body).await;
    let result = &answer.json["results"][0];
    assert_eq!((&result["flushed"], &result["waiting"], &result["queued"]), (&json!(false), &json!(1), &json!(1)));
    assert_eq!(bench.hub.ledger().read().queued, 1);
    client.outbox.close();
    let sums = bench.hub.ledger().read();
    assert_eq!((sums.expected, sums.queued, sums.dropped[2]), (1, 0, (crate::hub::Loss::Closed, 1)));
}
