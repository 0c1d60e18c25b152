//! Two nodes over one Redis are replaced one after the other while clients listen and a backend pushes: whoever comes back,
//! to whichever node, has missed nothing.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::Message;

use crate::support::app::{PUSH_KEY, TestApp, json_of, token};
use crate::support::service::RedisServer;
use crate::support::{client, soon};

const CLIENTS: usize = 12;
const REPLACED: usize = 4;

/// Where clients and the backend find a node: what a balancer would know.
type Balancer = Arc<Mutex<Vec<(SocketAddr, SocketAddr)>>>;

fn any(balancer: &Balancer) -> (SocketAddr, SocketAddr) {
    let nodes = balancer.lock().unwrap();
    nodes[fastrand::usize(..nodes.len())]
}

async fn node(redis: &RedisServer) -> TestApp {
    let more = format!(
        "engine: {{ redis: {{ url: '{}' }} }}\ndrain: {{ delay: 100ms, spread: 300ms, deadline: 5s }}\n",
        redis.url()
    );
    TestApp::with(&more).await
}

/// Listens until it has the last publication, coming back as often as it is sent away. Answers how often that was.
async fn listen(user: usize, balancer: Balancer, last: watch::Receiver<u64>) -> usize {
    let mut position: Option<Value> = None;
    let mut visits = 0;
    loop {
        visits += 1;
        let _ = visit(user, any(&balancer).0, &mut position, &last).await;
        let has = position.as_ref().and_then(|it| it["seq"].as_u64()).unwrap_or(0);
        if has == *last.borrow() {
            return visits;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One connection, until it ends or everything is there.
async fn visit(
    user: usize,
    address: SocketAddr,
    position: &mut Option<Value>,
    last: &watch::Receiver<u64>,
) -> Option<()> {
    let url = format!("ws://{address}/realtime?token={}", token(&user.to_string(), &[]));
    let stream = TcpStream::connect(address).await.ok()?;
    let request = url.into_client_request().unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.ok()?;
    let subscribe = json!({ "type": "subscribe", "channel": "public.a", "since": position });
    socket.send(Message::text(subscribe.to_string())).await.ok()?;
    loop {
        let Message::Text(text) = socket.next().await?.ok()? else { continue };
        let message: Value = serde_json::from_str(&text).unwrap();
        match message["type"].as_str().unwrap() {
            "subscribed" => {
                assert_ne!(message["recovered"], false, "client {user} lost something: {message}");
                let fields = ["epoch", "seq", "id"].map(|it| (it.to_owned(), message[it].clone()));
                position
                    .get_or_insert_with(|| Value::Object(fields.into_iter().filter(|it| !it.1.is_null()).collect()));
            }
            "message" => {
                let position = position.as_mut().expect("subscribed comes first");
                let expected = position["seq"].as_u64().unwrap() + 1;
                assert_eq!(message["seq"], expected, "client {user} heard something out of its place: {message}");
                (position["seq"], position["id"]) = (message["seq"].clone(), message["id"].clone());
                if expected == *last.borrow() {
                    return Some(());
                }
            }
            "gap" => panic!("client {user} lost something: {message}"),
            _ => {}
        }
    }
}

/// Pushes under one id until some node took it.
async fn push(balancer: &Balancer, at: u64) {
    let body = json!({ "channel": "public.a", "data": at, "id": format!("push-{at}") }).to_string();
    soon("a push is taken", async {
        loop {
            let api = any(balancer).1;
            let request = Request::post("/push")
                .header("host", "api.test")
                .header("content-type", "application/json")
                .header("authorization", format!("Bearer {PUSH_KEY}"));
            let request = request.body(Full::new(body.clone().into())).unwrap();
            // A node that is gone by now refuses the connection.
            if TcpStream::connect(api).await.is_ok()
                && let Ok(response) = tokio::spawn(client::send(api, request)).await
                && response.status() == 200
                && json_of(response).await["results"][0]["seq"] == at
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_are_replaced_under_load_lose_nothing() {
    let redis = RedisServer::start().await;
    let mut nodes = vec![node(&redis).await, node(&redis).await];
    let balancer: Balancer = Arc::default();
    let know = |nodes: &[TestApp]| {
        *balancer.lock().unwrap() = nodes.iter().map(|it| (it.public(), it.api())).collect();
    };
    know(&nodes);
    // Nobody is through before it is known which is the last.
    let (last, lasts) = watch::channel(u64::MAX);
    let mut clients = JoinSet::new();
    for user in 0..CLIENTS {
        clients.spawn(listen(user, balancer.clone(), lasts.clone()));
    }
    let (stop, stopped) = watch::channel(false);
    let pushing = tokio::spawn({
        let balancer = balancer.clone();
        async move {
            let mut at = 0;
            while !*stopped.borrow() || at < 100 {
                at += 1;
                push(&balancer, at).await;
            }
            at
        }
    });
    for _ in 0..REPLACED {
        nodes.push(node(&redis).await);
        let old = nodes.remove(0);
        know(&nodes);
        assert!(old.app.drain().await.is_none(), "everybody was sent away in time");
    }
    stop.send_replace(true);
    let count = pushing.await.unwrap();
    // One more, which everybody waits for.
    last.send_replace(count + 1);
    push(&balancer, count + 1).await;
    let visits = soon("all clients have everything", clients.join_all()).await;
    assert!(visits.iter().all(|it| *it > 1), "everybody was sent away at least once: {visits:?}");
}
