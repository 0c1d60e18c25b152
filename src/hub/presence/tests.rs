//! What each client believes of who is there is held against the truth, over many interleavings of joining, leaving,
//! stalling and publishing. The clock is paused: "once it is quiet" costs nothing.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::channel::{Change, Retention};
use crate::hub::tests::{channel, draft, hub, messages, rule};
use crate::hub::{Outbox, Rule, Signal, Subscription, WhenSlow};
use crate::protocol::{Format, Present as Shown, Reply, Roll as Told, Subscribed};

/// Longer than anything is gathered.
const QUIET: Duration = Duration::from_secs(10);

fn member(user: &str) -> Option<Member> {
    Some(Member { user: user.into(), info: None })
}

fn presence(max_members: usize) -> Rule {
    Rule { presence: Some(Attendance { max_members }), ..rule(WhenSlow::DropOldest) }
}

/// What a client thinks.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Belief {
    Nothing,
    Everybody(BTreeSet<String>),
    Number(u64),
}

/// A client that does what a session and its transport do, with nothing in between.
struct Client {
    hub: Arc<Hub>,
    outbox: Arc<Outbox>,
    user: Option<Member>,
    rule: Rule,
    following: Option<(Box<Present>, Subscription)>,
    belief: Belief,
    wants_list: bool,
    /// How long it takes for each step; without it no time at all.
    chance: Option<fastrand::Rng>,
}

impl Client {
    fn new(hub: &Arc<Hub>, user: Option<Member>, max_members: usize, outbox: usize) -> Self {
        let outbox = Outbox::new(hub, Format::WebSocketJson, None, outbox);
        let (hub, rule) = (hub.clone(), presence(max_members));
        Self { hub, outbox, user, rule, following: None, belief: Belief::Nothing, wants_list: false, chance: None }
    }

    fn attendance(&self) -> Attendance {
        self.rule.presence.unwrap()
    }

    async fn pause(&mut self) {
        let Some(chance) = &mut self.chance else { return };
        match chance.u8(0..6) {
            0 => tokio::time::sleep(Duration::from_millis(chance.u64(0..300))).await,
            1..=3 => tokio::task::yield_now().await,
            _ => {}
        }
    }

    /// Joins, or joins anew and stays present.
    async fn join(&mut self) {
        let mut kept = None;
        if let Some((present, subscription)) = self.following.take() {
            subscription.leave().await;
            kept = Some(present);
        }
        let room = channel("room");
        let subscribed = self.hub.subscribe(&room, None, &self.outbox, &self.rule).await.unwrap();
        self.pause().await;
        let (present, roll) = match kept {
            Some(mut kept) => {
                let roll = kept.renew(self.user.clone(), self.attendance()).await.unwrap();
                (kept, roll)
            }
            None => self.hub.attend(&room, self.outbox.id, self.user.clone(), self.attendance()).await.unwrap(),
        };
        self.pause().await;
        let shown = |all: &[Arc<Member>]| all.iter().map(|it| Shown::from(&**it)).collect();
        self.outbox.reply(&Reply::Subscribed(Subscribed {
            channel: room,
            epoch: String::new(),
            seq: subscribed.position.seq,
            id: None,
            recovered: None,
            conflated: None,
            roll: Some(Box::new(match &roll {
                Roll::Everybody(all) => Told::Everybody(shown(all)),
                Roll::Number(total) => Told::Number(*total),
            })),
            reference: None,
            timestamp: 0,
        }));
        present.go_on();
        self.pause().await;
        subscribed.subscription.go_live(subscribed.position);
        self.following = Some((present, subscribed.subscription));
    }

    async fn leave(&mut self) {
        if let Some((present, subscription)) = self.following.take() {
            present.end();
            subscription.leave().await;
            let (channel, timestamp) = (channel("room"), 0);
            self.outbox.reply(&Reply::Unsubscribed { channel, reason: None, reference: None, timestamp });
        }
    }

    /// Takes what waits, hears it, and asks for the list where there was no room for the changes: after what waits, or
    /// before it, as a reader that stalls does.
    async fn read(&mut self) {
        if self.chance.as_mut().is_some_and(|it| it.bool()) {
            self.list_again().await;
        }
        for message in waiting(&self.outbox) {
            self.hear(&message);
        }
        self.list_again().await;
    }

    async fn list_again(&mut self) {
        while let Some(signal) = self.outbox.take_signal() {
            assert!(matches!(signal, Signal::ListAgain(_)), "{signal:?}");
            self.wants_list = true;
        }
        if std::mem::take(&mut self.wants_list)
            && let Some((present, _)) = &self.following
        {
            let (members, total) = match present.roll(self.attendance()).await.unwrap() {
                Roll::Everybody(all) => (Some(all.iter().map(|it| Shown::from(&**it)).collect()), all.len()),
                Roll::Number(total) => (None, total),
            };
            self.outbox.reply(&Reply::Members { channel: channel("room"), members, total });
            present.go_on();
        }
    }

    fn hear(&mut self, message: &Value) {
        let listed = || {
            let all = message["members"].as_array()?;
            Some(Belief::Everybody(all.iter().map(|it| it["userId"].as_str().unwrap().to_owned()).collect()))
        };
        let kind = message["type"].as_str().unwrap();
        match kind {
            "subscribed" => {
                self.belief =
                    listed().unwrap_or_else(|| Belief::Number(message["membersTotal"].as_u64().expect("a number")));
            }
            "unsubscribed" => self.belief = Belief::Nothing,
            "message" | "gap" => assert_ne!(self.belief, Belief::Nothing, "{message}"),
            _ => assert_ne!(self.belief, Belief::Nothing, "overtook `subscribed`: {message}"),
        }
        match (kind, &mut self.belief) {
            ("members", belief) => *belief = listed().unwrap_or(Belief::Number(message["total"].as_u64().unwrap())),
            ("joined", Belief::Everybody(all)) => {
                all.insert(message["userId"].as_str().unwrap().to_owned());
            }
            ("left", Belief::Everybody(all)) => {
                all.remove(message["userId"].as_str().unwrap());
            }
            _ => {}
        }
    }
}

/// What waits for a client, control answers first.
fn waiting(outbox: &Outbox) -> Vec<Value> {
    let cx = &mut Context::from_waker(Waker::noop());
    let mut waiting = Vec::new();
    while let Poll::Ready(Some(bytes)) = outbox.poll_pull(cx) {
        waiting.extend(messages(&bytes));
    }
    waiting
}

async fn settled(clients: &mut [Client]) {
    // The second round fetches the lists that the first asked for.
    for _ in 0..2 {
        tokio::time::sleep(QUIET).await;
        for client in &mut *clients {
            client.read().await;
        }
    }
}

async fn truth(hub: &Hub) -> BTreeSet<String> {
    let members = hub.members(&channel("room"), usize::MAX).await.unwrap();
    members.members.iter().map(|it| it.user.to_string()).collect()
}

/// One history of many clients at once, as chance has it.
async fn live_through(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let hub = hub(random.usize(1..4));
    let max_members = random.usize(0..10);
    let mut living = JoinSet::new();
    for at in 0..random.usize(2..16) {
        // A few users have several connections, and a few clients are nobody.
        let user = random.usize(0..9);
        let user = if user == 8 { None } else { member(&format!("user{user}")) };
        let outbox = if random.bool() { 1 << 20 } else { random.usize(200..1500) };
        let mut client = Client::new(&hub, user, max_members, outbox);
        let seed = seed.wrapping_mul(1000) + at as u64;
        living.spawn(async move {
            let mut random = fastrand::Rng::with_seed(seed);
            client.chance = Some(random.fork());
            for _ in 0..random.usize(1..20) {
                match random.u8(0..10) {
                    0..=3 => client.join().await,
                    4..=5 => client.leave().await,
                    6 => drop(client.hub.publish(draft("room", 40), Retention::NONE).await.unwrap()),
                    _ => client.read().await,
                }
                client.pause().await;
            }
            client
        });
    }
    let mut clients = living.join_all().await;
    settled(&mut clients).await;
    let there = truth(&hub).await;
    let following = clients.iter().filter(|it| it.following.is_some());
    let users: BTreeSet<_> = following.filter_map(|it| Some(it.user.as_ref()?.user.to_string())).collect();
    assert_eq!(there, users, "seed {seed}: whoever follows is there, and nobody else");
    for client in &clients {
        match &client.belief {
            Belief::Nothing => assert!(client.following.is_none(), "seed {seed}"),
            Belief::Everybody(all) => {
                assert_eq!(*all, there, "seed {seed}");
                assert!(all.len() <= max_members, "seed {seed}");
            }
            Belief::Number(total) => {
                assert_eq!(*total, there.len() as u64, "seed {seed}");
                assert!(there.len() > max_members - max_members / 4, "seed {seed}");
            }
        }
    }
    clients.clear();
    assert_eq!(truth(&hub).await, BTreeSet::new(), "seed {seed}");
    let sums = hub.ledger().read();
    assert_eq!(sums.queued, 0, "seed {seed}: {sums:?}");
}

#[tokio::test(start_paused = true)]
async fn what_every_client_believes_is_the_truth_once_it_is_quiet() {
    for seed in 0..500 {
        live_through(seed).await;
    }
}

/// A client that joined and heard everything.
async fn present(hub: &Arc<Hub>, user: &str, max_members: usize) -> Client {
    let mut client = Client::new(hub, member(user), max_members, 1 << 20);
    client.join().await;
    client
}

#[tokio::test(start_paused = true)]
async fn a_crowd_that_comes_at_once_is_counted_and_not_named() {
    const CROWD: usize = 2000;
    let hub = hub(2);
    let mut first = present(&hub, "first", 100).await;
    let mut crowd = Vec::new();
    for at in 0..CROWD {
        let mut client = present(&hub, &format!("u{at}"), 100).await;
        // Its own bytes are not what is counted here.
        client.outbox.close();
        client.rule.presence = None;
        crowd.push(client);
    }
    tokio::time::sleep(QUIET).await;
    let told = first.outbox.backlog();
    first.read().await;
    assert_eq!(first.belief, Belief::Number(CROWD as u64 + 1));
    assert!(told < 100 * 100, "{told} bytes for {CROWD} who came");
    // All but a few go, and those who stay are named.
    crowd.truncate(10);
    settled(std::slice::from_mut(&mut first)).await;
    assert_eq!(first.belief, Belief::Everybody(truth(&hub).await));
}

#[tokio::test(start_paused = true)]
async fn a_crowd_that_comes_on_other_nodes_is_counted_too() {
    let hub = hub(1);
    let mut ada = present(&hub, "ada", 2).await;
    for at in 0..5 {
        let remote = Member { user: format!("remote{at}").into(), info: None };
        hub.presence.join(&channel("room"), ConnectionId(at), remote).await.unwrap();
    }
    settled(std::slice::from_mut(&mut ada)).await;
    assert_eq!(ada.belief, Belief::Number(6));
}

#[tokio::test(start_paused = true)]
async fn changes_are_told_once_each_and_in_order_to_whoever_wants_them() {
    let hub = hub(1);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = heard.clone();
    hub.on_change(Box::new(move |change| hears.lock().unwrap().push(change)));
    let room = channel("room");
    let mut first = present(&hub, "ada", 10).await;
    let second = present(&hub, "ada", 10).await;
    first.join().await;
    drop(first);
    drop(second);
    let (occupied, vacated) = (Change::Occupied { channel: room.clone() }, Change::Vacated { channel: room.clone() });
    let joined = Change::Joined { channel: room.clone(), user: "ada".into() };
    let left = Change::Left { channel: room, user: "ada".into() };
    assert_eq!(*heard.lock().unwrap(), [occupied, joined, left, vacated]);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_channel_tells_at_once_and_a_busy_one_the_last_word_about_each() {
    let hub = hub(1);
    let mut ada = present(&hub, "ada", 10).await;
    tokio::time::sleep(QUIET).await;
    ada.read().await;
    let kinds = |client: &Client| {
        let said = |it: &Value| format!("{} {}", it["type"].as_str().unwrap(), it["userId"].as_str().unwrap());
        waiting(&client.outbox).iter().map(said).collect::<Vec<_>>()
    };
    let bob = present(&hub, "bob", 10).await;
    tokio::task::yield_now().await;
    assert_eq!(kinds(&ada), ["joined bob"]);
    let carl = present(&hub, "carl", 10).await;
    drop(bob);
    drop(carl);
    let _bob = present(&hub, "bob", 10).await;
    tokio::task::yield_now().await;
    assert!(kinds(&ada).is_empty());
    tokio::time::sleep(QUIET).await;
    assert_eq!(kinds(&ada), ["left carl", "joined bob"]);
}
