//! The backend's own upgrades: joined after its 101, and never before.

use tokio::io::AsyncWriteExt;

use crate::support::backend::{FakeBackend, RawBackend};
use crate::support::client::{RawClient, say};
use crate::support::edge::Edge;

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";

#[tokio::test]
async fn both_sides_talk_after_the_upgrade_and_each_may_stop_first() {
    let backend = FakeBackend::start().await;
    backend.echo_upgrades_on("/ws", "websocket");
    let edge = Edge::before(backend.url()).await;
    let mut client = RawClient::connect(edge.address).await;
    // What follows the head at once belongs to the new protocol.
    client.send(format!("{UPGRADE}early ")).await;
    let head = client.read_to("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert!(head.contains("upgrade: websocket\r\n") && head.contains("connection: Upgrade\r\n"), "{head}");
    client.read_to("welcome early ").await;
    client.send("late").await;
    client.read_to("late").await;
    edge.metric_becomes("outrigger_proxy_tunnels", "1").await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.read_all().await, " bye");
    edge.metric_becomes("outrigger_proxy_tunnels", "0").await;
    edge.metric_becomes("outrigger_server_connections", "0").await;
}

#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_answer() {
    let backend = FakeBackend::start().await;
    let edge = Edge::before(backend.url()).await;
    let mut client = RawClient::connect(edge.address).await;
    client.send(format!("{UPGRADE}GET /next HTTP/1.1\r\nhost: a\r\n\r\n")).await;
    client.read_to("hello from the backend").await;
    client.read_to("hello from the backend").await;
    assert_eq!(backend.next().await.header("upgrade"), "websocket");
    // The bytes behind the head were a request to us, seen as such, not smuggled to the backend unseen.
    let next = backend.next().await;
    assert_eq!((next.uri.path(), next.header("x-forwarded-for")), ("/next", "127.0.0.1"));
}

#[tokio::test]
async fn nothing_is_sent_behind_the_head_before_the_backend_agreed() {
    let backend = RawBackend::start(|_, mut connection| async move {
        connection.read_head().await;
        let mut more = [0; 1];
        // Anything that was sent along is here by now: it would have left with the head.
        assert!(connection.buffer.is_empty() && connection.stream.try_read(&mut more).is_err());
        connection.stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
        assert_eq!(connection.read_head().await, "", "a second request came over this connection");
    })
    .await;
    let edge = Edge::before(backend.url()).await;
    let mut client = RawClient::connect(edge.address).await;
    client.send(format!("{UPGRADE}\x01\x02\x03\x04")).await;
    assert!(client.read_to("no").await.starts_with("HTTP/1.1 403 "));
}

#[tokio::test]
async fn only_what_was_asked_for_is_upgraded_to() {
    let wrong = FakeBackend::start().await;
    wrong.echo_upgrades_on("/ws", "other");
    let edge = Edge::before(wrong.url()).await;
    let mut client = RawClient::connect(edge.address).await;
    client.send(UPGRADE).await;
    assert!(client.read_to("\r\n\r\n").await.starts_with("HTTP/1.1 502 "));

    let unasked =
        RawBackend::saying(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
            .await;
    let edge = Edge::before(unasked.url()).await;
    let answer = say(edge.address, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    edge.metric_becomes("outrigger_proxy_failures_total{reason=\"unasked_upgrade\"}", "1").await;
}

#[tokio::test]
async fn protocols_that_are_not_listed_are_not_asked_for() {
    let backend = FakeBackend::start().await;
    let edge = Edge::before(backend.url()).await;
    let request = UPGRADE.replace("websocket", "h2c").replace("Upgrade\r\n", "Upgrade, close\r\n");
    let answer = say(edge.address, request).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(backend.next().await.header("upgrade"), "");
}
