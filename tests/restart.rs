//! One node with a data folder is stopped, killed and started again; its clients miss nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use http::Request;
use http_body_util::{BodyExt, Full};
use rustix::process::{Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::Message;

use crate::support::app::{TestClient, token};
use crate::support::client;
use crate::support::events::{Event, Events};
use crate::support::node::{self, Node};
use crate::support::soon;

async fn socket(node: &Node) -> TestClient {
    let url = format!("ws://{}/realtime", node.public);
    let mut client = TestClient::open(node.public, url.into_client_request().unwrap()).await;
    client.expect("connected").await;
    client
}

async fn poll(node: &Node, query: &str) -> Value {
    let request = Request::get(format!("/realtime/poll?{query}")).header("host", "app.test");
    let (_, bytes) = node::call(node.public, request.body(Full::default()).unwrap()).await.expect("an answer");
    serde_json::from_slice(&bytes).unwrap()
}

async fn until(events: &mut Events, name: &str) -> Event {
    loop {
        let event = events.next().await.expect("the stream goes on");
        if event.name == name {
            return event;
        }
    }
}

async fn push(node: &Node, id: &str, n: u64) -> Value {
    let (status, answer) = node.push(json!({ "channel": "public.a", "data": n, "id": id })).await;
    assert_eq!(status, 200, "{answer}");
    answer["results"][0].clone()
}

#[tokio::test]
async fn clients_of_all_transports_come_back_to_the_whole_gap_after_an_end_and_after_a_kill() {
    for is_killed in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let node = Node::start(folder.path(), "1s").await;
        let mut web_socket = socket(&node).await;
        let subscribed = web_socket.subscribe("public.a").await;
        let mut events = Events::open(node.public, "/realtime/sse?channels=public.a", &[]).await;
        events.expect("connected").await;
        events.expect("subscribed").await;
        let first = poll(&node, "channels=public.a").await;
        let receipt = push(&node, "one", 1).await;
        assert_eq!(receipt["durable"], "written");
        let heard = web_socket.expect_push("public.a", 1).await;
        let last_event_id = events.expect("message").await.last_id;
        let second = poll(&node, &format!("cursor={}", first["cursor"].as_str().unwrap())).await;
        assert_eq!(second["messages"][0]["seq"], 1);
        // Nobody of them hears these.
        drop((web_socket, events));
        push(&node, "two", 2).await;
        push(&node, "three", 3).await;
        if is_killed {
            node.kill().await;
        } else {
            assert!(node.stop().await.success());
        }

        let node = Node::start(folder.path(), "1s").await;
        let again = push(&node, "two", 2).await;
        assert_eq!((&again["duplicate"], &again["seq"]), (&json!(true), &json!(2)), "the id is still known");
        let since = json!({ "epoch": subscribed["epoch"], "seq": heard["seq"], "id": heard["id"] });
        let mut web_socket = socket(&node).await;
        web_socket.send(json!({ "type": "subscribe", "channel": "public.a", "since": since })).await;
        assert_eq!(web_socket.expect("subscribed").await["recovered"], true);
        let headers = [("last-event-id", &*last_event_id)];
        let mut events = Events::open(node.public, "/realtime/sse?channels=public.a", &headers).await;
        events.expect("connected").await;
        assert_eq!(events.expect("subscribed").await.data["recovered"], true);
        assert_eq!(events.expect("resumed").await.data["complete"], true);
        let polled = poll(&node, &format!("channels=public.a&cursor={}", second["cursor"].as_str().unwrap())).await;
        let polled = polled["messages"].as_array().unwrap();
        let subscribed = polled.iter().find(|it| it["type"] == "subscribed").expect("a new session says so");
        assert_eq!(subscribed["recovered"], true);
        let mut polled = polled.iter().filter(|it| it["type"] == "message");
        for seq in [2, 3] {
            web_socket.expect_push("public.a", seq).await;
            assert_eq!(events.expect("message").await.data["seq"], seq);
            assert_eq!(polled.next().expect("the gap")["seq"], seq);
        }
    }
}

#[tokio::test]
async fn a_clients_own_message_id_counts_once_for_its_user_and_channel_over_a_restart_too() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path(), "1s").await;
    let say = async |node: &Node, user: &str, channel: &str, id: Option<&str>| {
        let url = format!("ws://{}/realtime?token={}", node.public, token(user, &[]));
        let mut client = TestClient::open(node.public, url.into_client_request().unwrap()).await;
        client.expect("connected").await;
        client.subscribe(channel).await;
        client.send(json!({ "type": "publish", "channel": channel, "data": 1, "id": id, "ref": 1 })).await;
        loop {
            let message = client.next().await;
            if message["type"] == "ack" {
                break message["seq"].as_u64().unwrap();
            }
        }
    };
    assert_eq!(say(&node, "42", "public.a", Some("m")).await, 1);
    assert_eq!(say(&node, "42", "public.a", Some("m")).await, 1, "a repetition from another connection");
    assert_eq!(say(&node, "43", "public.a", Some("m")).await, 2, "another user's");
    assert_eq!(say(&node, "42", "public.b", Some("m")).await, 1, "another channel's");
    assert_eq!(say(&node, "42", "public.a", None).await, 3, "none of the client's");
    node.kill().await;
    let node = Node::start(folder.path(), "1s").await;
    assert_eq!(say(&node, "42", "public.a", Some("m")).await, 1, "still known");
    assert_eq!(say(&node, "42", "public.a", Some("n")).await, 4);
}

#[tokio::test]
async fn a_second_process_on_the_same_folder_ends_with_1_and_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path(), "always").await;
    assert_eq!(push(&node, "one", 1).await["durable"], "fsync");
    let second = tokio::process::Command::new(env!("CARGO_BIN_EXE_outrigger"))
        .args(["run", "--config"])
        .arg(folder.path().join("outrigger.yaml"))
        .output();
    let second = soon("the second process ends", second).await.unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    let names_it = said.contains("in use by another process") && said.contains(&*folder.path().display().to_string());
    assert_eq!((second.status.code(), names_it), (Some(1), true), "{said}");
    assert_eq!(push(&node, "two", 2).await["seq"], 2, "the first one is none the worse");
}

#[tokio::test]
async fn a_full_disk_refuses_pushes_with_503_and_goes_on_by_itself_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::start_cramped(folder.path(), 256).await;
    let mut client = socket(&node).await;
    client.subscribe("public.a").await;
    let padding = "x".repeat(20_000);
    let body =
        |n: u64| json!({ "channel": "public.a", "data": { "n": n, "padding": padding }, "id": format!("id-{n}") });
    let mut taken = 0;
    let refused = loop {
        let (status, answer) = node.push(body(taken + 1)).await;
        match status.as_u16() {
            200 => taken += 1,
            503 => break answer,
            _ => panic!("{status} {answer}"),
        }
        client.expect_push("public.a", taken).await;
    };
    assert!(taken > 0);
    let receipt = &refused["results"][0];
    assert_eq!(receipt["status"], "refused");
    assert!(receipt["error"].as_str().unwrap().contains("full or failing"), "{refused}");
    node.says("full or failing").await;
    assert_eq!(node.get("/readyz").await, (503.try_into().unwrap(), r#"{"accepting":true,"engine":false}"#.to_owned()));
    assert_eq!(node.get("/readyz?for=site").await.0, 200);
    assert!(node.get("/metrics").await.1.contains("outrigger_store_failing 1"));

    let unlimited = Rlimit { current: None, maximum: None };
    prlimit(Some(node.pid()), Resource::Fsize, unlimited).unwrap();
    node.says("can be written again").await;
    assert_eq!(node.get("/readyz").await.0, 200);
    let (status, answer) = node.push(body(taken + 1)).await;
    assert_eq!((status.as_u16(), &answer["results"][0]["seq"]), (200, &json!(taken + 1)), "nothing was skipped");
    client.expect_push("public.a", taken + 1).await;
    node.kill().await;

    let node = Node::start(folder.path(), "1s").await;
    let (_, answer) = node.push(body(taken + 2)).await;
    assert_eq!(answer["results"][0]["seq"], taken + 2);
}

#[tokio::test]
async fn a_node_that_starts_on_a_full_disk_serves_what_it_has_and_refuses_pushes_until_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path(), "1s").await;
    push(&node, "one", 1).await;
    node.kill().await;

    let mut node = Node::start_cramped(folder.path(), 0).await;
    let mut client = socket(&node).await;
    client.send(json!({ "type": "subscribe", "channel": "public.a", "since": null })).await;
    assert_eq!(client.expect("subscribed").await["seq"], 1);
    assert_eq!(node.push(json!({ "channel": "public.a", "data": 2 })).await.0, 503);
    assert_eq!(
        (node.get("/readyz").await.0, node.get("/readyz?for=site").await.0.as_u16()),
        (503.try_into().unwrap(), 200)
    );

    prlimit(Some(node.pid()), Resource::Fsize, Rlimit { current: None, maximum: None }).unwrap();
    node.says("can be written again").await;
    assert_eq!(push(&node, "two", 2).await["seq"], 2);
    client.expect_push("public.a", 2).await;
    node.kill().await;
    let node = Node::start(folder.path(), "1s").await;
    assert_eq!(push(&node, "two", 2).await["duplicate"], true);
}

/// Where the node is just now.
type Where = watch::Receiver<(SocketAddr, SocketAddr)>;

/// What each client heard since it subscribed.
#[derive(Clone)]
struct Ledger(watch::Sender<BTreeMap<String, Vec<u64>>>);

impl Ledger {
    fn subscribed(&self, client: &str) {
        self.0.send_modify(|it| {
            it.entry(client.to_owned()).or_default();
        });
    }

    fn heard(&self, client: &str, n: u64) {
        self.0.send_modify(|it| it.get_mut(client).expect("it is subscribed").push(n));
    }
}

const CHANNELS: [&str; 3] = ["public.a", "public.b", "public.c"];
const LAST: u64 = 600;

/// Pushes 1 to `LAST` in order, each again and again under its id until it is acknowledged.
async fn publisher(channel: &'static str, mut place: Where, acknowledged: watch::Sender<u64>) {
    for n in 1..=LAST {
        let body = json!({ "channel": channel, "data": n, "id": format!("id-{n}") });
        loop {
            let (_, api) = *place.borrow_and_update();
            match node::push(api, &body).await {
                Some((status, answer)) if status == 200 => {
                    assert_eq!(answer["results"][0]["seq"], n, "numbers are neither skipped nor given twice: {answer}");
                    break acknowledged.send_modify(|it| *it += 1);
                }
                _ => soon("another node", place.changed()).await.unwrap(),
            }
        }
    }
}

async fn web_socket_client(channel: &'static str, mut place: Where, ledger: Ledger) {
    let mut position: Option<Value> = None;
    loop {
        let (public, _) = *place.borrow_and_update();
        let url = format!("ws://{public}/realtime").into_client_request().unwrap();
        let stream = TcpStream::connect(public).await;
        let opened = async { tokio_tungstenite::client_async(url, stream.ok()?).await.ok() };
        if let Some((mut socket, _)) = soon("a handshake or its end", opened).await {
            let subscribe = json!({ "type": "subscribe", "channel": channel, "since": position });
            // A node that was killed meanwhile shows in the reading.
            let _ = socket.send(Message::text(subscribe.to_string())).await;
            while let Some(Ok(message)) = soon("a message or the end", socket.next()).await {
                let Message::Text(text) = message else { continue };
                let message: Value = serde_json::from_str(&text).unwrap();
                match message["type"].as_str().unwrap() {
                    "subscribed" => {
                        assert_ne!(message["recovered"], false, "{channel}: {message}");
                        ledger.subscribed(&format!("ws {channel}"));
                        let known = position.take().map_or(message["seq"].clone(), |it| it["seq"].clone());
                        position = Some(json!({ "epoch": message["epoch"], "seq": known }));
                    }
                    "message" => {
                        ledger.heard(&format!("ws {channel}"), message["data"].as_u64().unwrap());
                        let position = position.as_mut().expect("it is subscribed");
                        (position["seq"], position["id"]) = (message["seq"].clone(), message["id"].clone());
                        if message["data"] == LAST {
                            return;
                        }
                    }
                    "connected" | "reconnect" => {}
                    other => panic!("unexpected {other}: {message}"),
                }
            }
        }
        soon("another node", place.changed()).await.unwrap();
    }
}

async fn event_stream_client(channel: &'static str, mut place: Where, ledger: Ledger) {
    let mut last_event_id = String::new();
    loop {
        let (public, _) = *place.borrow_and_update();
        let request = Request::get(format!("/realtime/sse?channels={channel}"))
            .header("host", "app.test")
            .header("last-event-id", &last_event_id)
            .body(Full::<bytes::Bytes>::default())
            .unwrap();
        if let Some(mut body) = client::try_send(public, request).await {
            let mut text = String::new();
            while let Some(Ok(frame)) = soon("an event or the end", body.frame()).await {
                text += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
                while let Some((block, rest)) = text.split_once("\n\n") {
                    let field = |name: &str| block.lines().find_map(|it| it.strip_prefix(name)).map(str::to_owned);
                    let data = field("data: ").map(|it| serde_json::from_str::<Value>(&it).unwrap());
                    let id = field("id: ");
                    text = rest.to_owned();
                    last_event_id = id.unwrap_or(last_event_id);
                    let Some(data) = data else { continue };
                    assert_ne!(data["recovered"], false, "{channel}: {data}");
                    if data["type"] == "subscribed" {
                        ledger.subscribed(&format!("sse {channel}"));
                    }
                    if data["type"] == "message" {
                        ledger.heard(&format!("sse {channel}"), data["data"].as_u64().unwrap());
                        if data["data"] == LAST {
                            return;
                        }
                    }
                }
            }
        }
        soon("another node", place.changed()).await.unwrap();
    }
}

async fn polling_client(channel: &'static str, mut place: Where, ledger: Ledger) {
    let mut cursor = String::new();
    loop {
        let (public, _) = *place.borrow_and_update();
        let path = format!("/realtime/poll?channels={channel}&cursor={cursor}");
        let request = Request::get(path).header("host", "app.test").body(Full::default()).unwrap();
        let Some((_, bytes)) = node::call(public, request).await else {
            soon("another node", place.changed()).await.unwrap();
            continue;
        };
        let answer: Value = serde_json::from_slice(&bytes).unwrap();
        for message in answer["messages"].as_array().unwrap_or_else(|| panic!("no answer to a poll: {answer}")) {
            assert_ne!(message["recovered"], false, "{channel}: {message}");
            if message["type"] == "subscribed" {
                ledger.subscribed(&format!("poll {channel}"));
            }
            if message["type"] == "message" {
                ledger.heard(&format!("poll {channel}"), message["data"].as_u64().unwrap());
            }
            if message["data"] == LAST {
                return;
            }
        }
        answer["cursor"].as_str().expect("an answer has a cursor").clone_into(&mut cursor);
    }
}

#[tokio::test]
async fn killed_over_and_over_under_load_no_client_misses_or_repeats_what_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::start(folder.path(), "1s").await;
    let (moved, place) = watch::channel((node.public, node.api));
    let (acknowledged, mut count) = watch::channel(0);
    let ledger = Ledger(watch::Sender::default());
    let mut everybody = tokio::task::JoinSet::new();
    for channel in CHANNELS {
        everybody.spawn(web_socket_client(channel, place.clone(), ledger.clone()));
        everybody.spawn(event_stream_client(channel, place.clone(), ledger.clone()));
        everybody.spawn(polling_client(channel, place.clone(), ledger.clone()));
    }
    let is_everybody_here = |it: &BTreeMap<_, _>| it.len() == 3 * CHANNELS.len();
    soon("everybody is subscribed", ledger.0.subscribe().wait_for(is_everybody_here)).await.unwrap();
    for channel in CHANNELS {
        everybody.spawn(publisher(channel, place.clone(), acknowledged.clone()));
    }
    let rounds = 7;
    for round in 1..rounds {
        let enough = LAST * CHANNELS.len() as u64 * round / rounds;
        soon("pushes are acknowledged", count.wait_for(|it| *it >= enough)).await.unwrap();
        if round == 3 {
            assert!(node.stop().await.success());
        } else {
            node.kill().await;
        }
        node = Node::start(folder.path(), "1s").await;
        moved.send_replace((node.public, node.api));
    }
    while let Some(done) = everybody.join_next().await {
        done.unwrap();
    }
    let heard = ledger.0.borrow();
    for (client, heard) in &*heard {
        assert_eq!(heard, &(1..=LAST).collect::<Vec<_>>(), "{client} heard every publication once, in order");
    }
}

#[tokio::test]
async fn a_stream_with_more_channels_than_a_cursor_holds_comes_back_to_the_whole_gap_or_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path(), "1s").await;
    let names: Vec<_> = (0..60).map(|at| format!("public.{at:02}.{}", "x".repeat(60))).collect();
    let path = format!("/realtime/sse?channels={}", names.join(","));
    let mut events = Events::open(node.public, &path, &[]).await;
    while until(&mut events, "subscribed").await.data["channel"] != names[59] {}
    node.push(json!({ "channel": names[7], "data": 1 })).await;
    let last_event_id = loop {
        // Its cursor comes with the next block.
        node.push(json!({ "channel": names[8], "data": 1 })).await;
        let message = until(&mut events, "message").await;
        if message.data["channel"] == names[8] {
            break message.last_id;
        }
    };
    assert!(last_event_id.len() < 2100 && last_event_id.starts_with('c'), "{last_event_id}");
    drop(events);
    for name in [&names[7], &names[30]] {
        node.push(json!({ "channel": name, "data": 2 })).await;
    }
    node.kill().await;

    let node = Node::start(folder.path(), "1s").await;
    let headers = [("last-event-id", &*last_event_id)];
    let mut events = Events::open(node.public, "/realtime/sse", &headers).await;
    assert_eq!(until(&mut events, "resumed").await.data["complete"], true);
    let mut heard = Vec::new();
    while heard.len() < 2 {
        let message = until(&mut events, "message").await.data;
        if message["data"] == 2 {
            heard.push(message["channel"].as_str().unwrap().to_owned());
        }
    }
    heard.sort();
    assert_eq!(heard, [names[7].clone(), names[30].clone()]);

    // One that nobody knows any more: not a word of it would be a loss without a word.
    let forgotten = "c00000000000000000000000000000000~1";
    let headers = [("last-event-id", forgotten)];
    let mut events = Events::open(node.public, "/realtime/sse?channels=public.a", &headers).await;
    assert_eq!(until(&mut events, "subscribed").await.data["recovered"], false);
    assert_eq!(until(&mut events, "resumed").await.data["complete"], false);
    let answer = poll(&node, &format!("cursor={forgotten}")).await;
    let resumed = answer["messages"].as_array().unwrap().iter().find(|it| it["type"] == "resumed");
    assert_eq!(resumed.unwrap()["complete"], false, "{answer}");
}
