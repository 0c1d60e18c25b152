//! The nodes of an installation, each with a lease on Redis's clock. One whose lease ran out is dead: whoever finds it
//! clears up what it left in the channels that its record names.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;
use tracing::{info, warn};

use super::Core;
use super::presence::RedisPresence;
use super::resp::{self, Value};
use super::script::{self, Call};
use crate::channel::ChannelName;
use crate::engine::Error;

/// What all nodes' leases stand under.
const TAG: &str = "nodes";

/// Renews this node's lease for ever, and clears up after others.
pub(super) async fn live(core: Arc<Core>, presence: Arc<RedisPresence>) {
    let mut every = tokio::time::interval(core.lease / 4);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Since when it was renewed without a break. After an outage all leases have run out: nobody is called dead before
    // everybody had the time to come back.
    let mut steady: Option<Instant> = None;
    loop {
        every.tick().await;
        let may_claim = steady.is_some_and(|it| it.elapsed() > core.lease);
        match renew(&core, may_claim).await {
            Ok((is_new, dead)) => {
                if is_new || steady.is_none() {
                    presence.settle().await;
                }
                steady.get_or_insert_with(Instant::now);
                for node in dead {
                    clear_up(&core, &presence, node).await;
                }
            }
            Err(_) => {
                steady = None;
                core.is_leased.store(false, Ordering::Release);
            }
        }
    }
}

/// Takes a lease, if there is none yet: nobody clears up after a node that never had one.
pub(super) async fn begin(core: &Core) -> Result<(), Error> {
    if !core.is_leased.load(Ordering::Acquire) {
        renew(core, false).await?;
    }
    Ok(())
}

/// Whether Redis did not know this node, and those that are dead.
async fn renew(core: &Core, may_claim: bool) -> Result<(bool, Vec<Arc<str>>), Error> {
    let (key, lease) = (core.names.leases(TAG), core.lease.as_millis().to_string());
    let words = [core.node.as_bytes(), lease.as_bytes(), if may_claim { b"1" } else { b"0" }];
    let call = Call { script: &script::LEASE, keys: &[key.as_bytes()], arguments: &words };
    let answer = core.call(TAG, &call).await?.list().unwrap_or_default();
    let [is_new, Value::List(dead)] = &answer[..] else { return Err(Error::Unknown) };
    core.is_leased.store(true, Ordering::Release);
    Ok((*is_new == Value::Integer(1), dead.iter().filter_map(|it| it.text().map(Arc::from)).collect()))
}

async fn clear_up(core: &Core, presence: &RedisPresence, node: Arc<str>) {
    info!(%node, "a node's lease has run out; its members are taken out");
    // A node that could not be cleared up after is claimed again, by whoever comes first.
    if let Err(error) = try_clear_up(core, presence, &node).await {
        warn!(%node, %error, "a dead node's members could not all be taken out yet");
    }
}

async fn try_clear_up(core: &Core, presence: &RedisPresence, node: &Arc<str>) -> Result<(), Error> {
    let key = core.names.node(node);
    loop {
        let words: [&[u8]; 3] = [b"SRANDMEMBER", key.as_bytes(), b"256"];
        let channels = core.ask(node, resp::command(&words)).await?.list().unwrap_or_default();
        if channels.is_empty() {
            break;
        }
        let names: Vec<_> = channels.iter().filter_map(Value::text).collect();
        for name in names.iter().filter_map(|it| ChannelName::parse(it).ok()) {
            presence.clear(name, node.clone()).await?;
        }
        core.ask_words(node, "SREM", &key, names.into_iter()).await?;
    }
    core.ask_words(TAG, "ZREM", &core.names.leases(TAG), std::iter::once(&**node)).await.map(drop)
}
