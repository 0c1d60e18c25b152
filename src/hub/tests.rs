//! The fan-out under stress: wires that take a few bytes at a time or hold ciphertext back, readers that stall, clients that
//! hop in and out, on few threads. Every client's view is held against the ledger.

mod coming_back;
mod holes;
mod model;
mod paced;
mod slow;
mod unsteady;
mod view;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arc_swap::ArcSwap;
use arc_swap::access::Map;
use bytes::Bytes;
use serde_json::Value;
use tokio::io::ReadBuf;
use tokio::sync::mpsc;

use super::*;
use crate::channel::{Data, Epoch, Pattern};
use crate::engine::BoxFuture;
use crate::protocol::wire::Deflate;
use crate::protocol::{Format, Reply, Subscribed as SubscribedReply};

/// A socket whose kernel takes only as much as its reader made room for.
#[derive(Default)]
struct Pipe {
    received: Vec<u8>,
    /// Taken by the wire but not by the kernel: what a TLS session holds.
    held_back: Vec<u8>,
    room: usize,
    waker: Option<Waker>,
}

struct ChokedWire {
    pipe: Arc<Mutex<Pipe>>,
    is_tls: bool,
}

impl Wire for ChokedWire {
    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &mut &[u8]) -> Poll<io::Result<()>> {
        let mut pipe = self.pipe.lock().unwrap();
        if self.is_tls {
            pipe.held_back.extend_from_slice(bytes);
            *bytes = &[];
        }
        let Pipe { received, held_back, room, waker } = &mut *pipe;
        let from: &mut dyn FnMut(usize) -> Vec<u8> = if self.is_tls {
            &mut |room| held_back.drain(..room.min(held_back.len())).collect()
        } else {
            &mut |room| {
                let (now, later) = bytes.split_at(room.min(bytes.len()));
                *bytes = later;
                now.to_vec()
            }
        };
        let taken = from(*room);
        *room -= taken.len();
        received.extend_from_slice(&taken);
        if bytes.is_empty() && held_back.is_empty() {
            return Poll::Ready(Ok(()));
        }
        *waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_receive(&mut self, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Reads in fits and starts until it is told that this is all.
async fn read(pipe: Arc<Mutex<Pipe>>, mut done: tokio::sync::watch::Receiver<bool>) {
    let mut random = fastrand::Rng::with_seed(7);
    loop {
        let is_done = *done.borrow();
        let waker = {
            let mut pipe = pipe.lock().unwrap();
            pipe.room = if is_done { usize::MAX } else { random.usize(..700) };
            pipe.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        if is_done {
            return;
        }
        tokio::select! {
            _ = done.changed() => {}
            () = tokio::task::yield_now() => {}
        }
    }
}

/// The task of a connection, without a session.
async fn serve(outbox: Arc<Outbox>) {
    serve_and(outbox, |_| {}).await;
}

/// The same for a client that reads on from the history where it is told to.
async fn serve_and(outbox: Arc<Outbox>, mut read_on: impl FnMut(Hole)) {
    std::future::poll_fn(|cx| {
        loop {
            match outbox.drive(cx) {
                Ok(None) => return Poll::Pending,
                Ok(Some(Signal::CatchUpAgain(hole))) => read_on(*hole),
                Ok(Some(signal)) => panic!("{signal:?}"),
                Err(_) => return Poll::Ready(()),
            }
        }
    })
    .await;
}

pub(super) fn hub(shards: usize) -> Arc<Hub> {
    let engine = engine::Settings {
        positions: Duration::from_secs(3600),
        channels: 100_000,
        idempotency: Duration::from_secs(600),
        idempotency_ids: 100_000,
    };
    let deflate = Arc::new(ArcSwap::from_pointee(Deflate::default()));
    Hub::open(Settings { shards, engine }, Box::new(Map::new(deflate, |it: &Deflate| it)))
}

pub(super) fn rule(when_slow: WhenSlow) -> Rule {
    Rule {
        pattern: Pattern::parse("**").unwrap(),
        subscribe: Access::Public,
        publish: Publish::default(),
        history: KEEP,
        when_slow,
        presence: None,
        min_interval: None,
    }
}

const KEEP: Retention = Retention { size: 10_000, ttl: Duration::from_secs(3600) };

pub(super) fn channel(text: &str) -> ChannelName {
    ChannelName::parse(text).unwrap()
}

pub(super) fn draft(name: &str, padding: usize) -> Draft {
    Draft::new(channel(name), Data::Json(Bytes::from(format!("\"{}\"", "x".repeat(padding)))), None)
}

async fn join(hub: &Arc<Hub>, name: &str, since: Option<Position>, outbox: &Arc<Outbox>) -> Subscription {
    join_by(hub, name, since, outbox, &rule(WhenSlow::Disconnect)).await
}

/// Joins as a session does, and says so to the client.
async fn join_by(
    hub: &Arc<Hub>,
    name: &str,
    since: Option<Position>,
    outbox: &Arc<Outbox>,
    rule: &Rule,
) -> Subscription {
    let Subscribed { subscription, position, recovered, catch_up } =
        hub.subscribe(&channel(name), since, outbox, rule).await.unwrap();
    outbox.reply(&greeting(channel(name), &position, recovered));
    match catch_up {
        Some(catch_up) => feed(hub, outbox, &subscription, catch_up).await,
        None => subscription.go_live(position),
    }
    subscription
}

/// What a client hears first of a channel.
pub(super) fn greeting(channel: ChannelName, position: &Position, recovered: Option<bool>) -> Reply {
    Reply::Subscribed(SubscribedReply {
        channel,
        epoch: position.epoch.to_string(),
        seq: position.seq,
        id: position.id.clone(),
        recovered,
        conflated: None,
        roll: None,
        reference: None,
        timestamp: 0,
    })
}

async fn feed(hub: &Arc<Hub>, outbox: &Arc<Outbox>, subscription: &Subscription, mut catch_up: CatchUp) {
    loop {
        if let Fed::Done(caught) = catch_up.feed(hub, outbox).await {
            return subscription.go_on(caught);
        }
        tokio::task::yield_now().await;
    }
}

/// Every whole message of a stream of WebSocket frames; anything left over is a lost byte.
pub(super) fn messages(mut bytes: &[u8]) -> Vec<Value> {
    let mut messages = Vec::new();
    while let [_, len, rest @ ..] = bytes {
        let (len, rest) = match len {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => panic!("no frame is that long"),
            short => (usize::from(*short), rest),
        };
        messages.push(serde_json::from_slice(&rest[..len]).expect("a frame holds one JSON message"));
        bytes = &rest[len..];
    }
    assert!(bytes.is_empty());
    messages
}

/// Holds one client's view against the contract: numbered without a hole from its `subscribed` to its `unsubscribed`.
fn audit(messages: &[Value]) -> HashMap<String, u64> {
    let mut at: HashMap<String, Option<u64>> = HashMap::new();
    let mut last = HashMap::new();
    for message in messages {
        let name = message["channel"].as_str().unwrap_or_default().to_owned();
        match message["type"].as_str().unwrap() {
            "subscribed" => {
                at.insert(name, message["seq"].as_u64());
            }
            "unsubscribed" => {
                at.insert(name, None);
            }
            "message" => {
                let seq = message["seq"].as_u64().unwrap();
                let before = at.get(&name).copied().flatten();
                assert_eq!(before.map(|it| it + 1), Some(seq), "a message out of its place: {message}");
                at.insert(name.clone(), Some(seq));
                last.insert(name, seq);
            }
            other => panic!("unexpected {other}"),
        }
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_up_and_no_byte_is_lost_to_partial_writes_slow_readers_and_a_starved_core() {
    const CLIENTS: usize = 40;
    const PUBLICATIONS: usize = 1500;
    let hub = hub(2);
    // Two cores' worth of somebody else's work beside ours.
    let (starve, starved) = tokio::sync::watch::channel(false);
    let busy: Vec<_> = (0..2)
        .map(|_| {
            let starved = starved.clone();
            std::thread::spawn(move || {
                while !*starved.borrow() {
                    std::hint::spin_loop()
                }
            })
        })
        .collect();
    let (finish, finished) = tokio::sync::watch::channel(false);
    let mut clients = Vec::new();
    let mut tasks = JoinSet::new();
    for at in 0..CLIENTS {
        let pipe = Arc::new(Mutex::new(Pipe::default()));
        let wire = ChokedWire { pipe: pipe.clone(), is_tls: at % 2 == 0 };
        let outbox = Outbox::new(&hub, Format::WebSocketJson, Some(Box::new(wire)), 64 << 20);
        tasks.spawn(read(pipe.clone(), finished.clone()));
        tasks.spawn(serve(outbox.clone()));
        clients.push((pipe, outbox));
    }
    let mut hopping = JoinSet::new();
    for (at, (_, outbox)) in clients.iter().enumerate() {
        let (hub, outbox) = (hub.clone(), outbox.clone());
        hopping.spawn(async move {
            let mut random = fastrand::Rng::with_seed(at as u64);
            let steady = join(&hub, "steady", None, &outbox).await;
            for _ in 0..30 {
                let hop = join(&hub, "hop", None, &outbox).await;
                for _ in 0..random.usize(..40) {
                    tokio::task::yield_now().await;
                }
                hop.leave().await;
                outbox.reply(&Reply::Unsubscribed {
                    channel: channel("hop"),
                    reason: None,
                    reference: None,
                    timestamp: 0,
                });
            }
            steady
        });
    }
    for at in 0..PUBLICATIONS {
        for name in ["steady", "hop"] {
            hub.publish(draft(name, at % 300), KEEP).await.unwrap();
        }
        if at % 7 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut steady = Vec::new();
    while let Some(subscription) = hopping.join_next().await {
        steady.push(subscription.unwrap());
    }
    // One more, whose way through the shards has been waited for: everything before it was offered.
    let last = hub.publish_counted(draft("steady", 1), KEEP).await.unwrap();
    last.delivery.as_ref().unwrap().counted().await.unwrap();
    starve.send_replace(true);
    finish.send_replace(true);
    let (count, is_flushed) = last.delivery.unwrap().flushed(Duration::from_secs(30)).await;
    assert!(is_flushed, "{count:?}");
    assert_eq!(count.matched as usize, CLIENTS);
    for (pipe, outbox) in &clients {
        std::future::poll_fn(|cx| outbox.poll_finish(cx)).await.unwrap();
        let heard = messages(&pipe.lock().unwrap().received);
        assert_eq!(audit(&heard)["steady"], last.receipt.position.seq);
        outbox.close();
    }
    let sums = hub.ledger().read();
    assert_eq!(sums.queued, 0, "{sums:?}");
    drop(steady);
    busy.into_iter().for_each(|it| it.join().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_comes_back_while_much_is_published_gets_all_of_it_once() {
    let hub = hub(2);
    let position = hub.publish(draft("a", 10), KEEP).await.unwrap().position;
    for _ in 0..500 {
        hub.publish(draft("a", 100), KEEP).await.unwrap();
    }
    let mut joining = JoinSet::new();
    for _ in 0..20 {
        let (hub, position) = (hub.clone(), position.clone());
        joining.spawn(async move {
            let pipe = Arc::new(Mutex::new(Pipe { room: usize::MAX, ..Pipe::default() }));
            let wire = ChokedWire { pipe: pipe.clone(), is_tls: false };
            let outbox = Outbox::new(&hub, Format::WebSocketJson, Some(Box::new(wire)), 64 << 20);
            let (more, mut holes) = mpsc::unbounded_channel();
            let served = serve_and(outbox.clone(), move |hole| more.send(hole).expect("somebody reads on"));
            let task = tokio::spawn(served);
            let subscription = join(&hub, "a", Some(position), &outbox).await;
            let client = (pipe, outbox.clone(), task);
            // It may have been sent back to the history: more was published meanwhile than is held.
            let reads_on = tokio::spawn(async move {
                while let Some(hole) = holes.recv().await {
                    let catch_up = hub.catch_up_again(&subscription, hole, KEEP).expect("its own subscription");
                    feed(&hub, &outbox, &subscription, catch_up).await;
                }
            });
            (client, reads_on)
        });
    }
    for _ in 0..1000 {
        hub.publish(draft("a", 100), KEEP).await.unwrap();
    }
    let clients = joining.join_all().await;
    let last = hub.publish(draft("a", 1), KEEP).await.unwrap().position.seq;
    for ((pipe, outbox, _), _reads_on) in &clients {
        let its_seq = format!("\"seq\":{last},");
        let is_there = || {
            let received = &pipe.lock().unwrap().received;
            received.windows(its_seq.len()).rev().take(500).any(|it| it == its_seq.as_bytes())
        };
        let all = async {
            while !is_there() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), all).await.expect("it gets the last one");
        let heard = messages(&pipe.lock().unwrap().received);
        assert_eq!(heard[0]["seq"], 1);
        assert_eq!(audit(&heard)["a"], last);
        outbox.close();
    }
}

#[tokio::test]
async fn a_socket_that_breaks_under_the_shard_ends_its_connection() {
    struct Broken;
    impl Wire for Broken {
        fn poll_send(&mut self, _: &mut Context<'_>, bytes: &mut &[u8]) -> Poll<io::Result<()>> {
            if bytes.is_empty() { Poll::Ready(Ok(())) } else { Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) }
        }
        fn poll_receive(&mut self, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
        fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
    let hub = hub(1);
    let outbox = Outbox::new(&hub, Format::WebSocketJson, Some(Box::new(Broken)), 16 * 1024);
    let task = tokio::spawn(serve(outbox.clone()));
    let subscribed = hub.subscribe(&channel("a"), None, &outbox, &rule(WhenSlow::Disconnect)).await.unwrap();
    subscribed.subscription.go_live(subscribed.position);
    tokio::task::yield_now().await;
    let published = hub.publish_counted(draft("a", 10), KEEP).await.unwrap();
    assert_eq!(published.delivery.unwrap().counted().await.unwrap().matched, 0);
    tokio::time::timeout(Duration::from_secs(20), task).await.expect("the task ends").unwrap();
}

#[tokio::test]
async fn a_poll_at_rest_is_handed_bare_messages() {
    let hub = hub(1);
    let outbox = Outbox::new(&hub, Format::Poll, None, 1 << 20);
    let _subscription = join(&hub, "a", None, &outbox).await;
    let before = outbox.waiting_entries(Waker::noop());
    outbox.confirm(before.serial);
    let position = hub.publish(draft("a", 1), KEEP).await.unwrap().position;
    let handed = std::future::poll_fn(|cx| {
        let handed = outbox.waiting_entries(cx.waker());
        if handed.messages.is_empty() { Poll::Pending } else { Poll::Ready(handed) }
    })
    .await;
    let message: Value = serde_json::from_slice(&handed.messages[0]).expect("a poll hands out bare JSON");
    assert_eq!(message["seq"], position.seq);
}
