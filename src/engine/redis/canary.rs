//! A publication that goes round a server's links all the time: a write, word of it, and back. A server that accepts
//! connections but does nothing is noticed by it within seconds; a ping on one link would notice neither that nor a
//! subscription that went deaf.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Core;
use super::resp::Value;
use super::script::{self, Call};
use super::server::Server;
use crate::engine::Error;

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(1);
/// Before another try while the server is out of reach.
const AGAIN: Duration = Duration::from_millis(100);
/// A node that has no room itself is waited for so long; then its links are made anew all the same.
const MOST_PATIENCE: Duration = Duration::from_secs(30);

/// Sends one canary after the other, for ever, and says whether the server is up.
pub(super) async fn fly(core: Arc<Core>, server: Arc<Server>) {
    let name = core.names.canary(&server.tag, &core.node);
    for number in 1.. {
        let began = Instant::now();
        let is_back = round(&core, &server, &name, number).await;
        if is_back {
            core.metrics.round_trip.set(began.elapsed().as_secs_f64());
        }
        if server.is_up.send_replace(is_back) != is_back {
            match is_back {
                true => info!(server = %server.finder, "Redis is in reach"),
                false => warn!(server = %server.finder, "Redis is out of reach: nothing is published meanwhile"),
            }
            core.reach_changed();
        }
        let pause = if is_back { EVERY } else { AGAIN };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = server.doubted.notified() => {}
        }
    }
}

/// Whether one canary went out and came back in time.
async fn round(core: &Core, server: &Server, name: &str, number: u64) -> bool {
    let began = Instant::now();
    loop {
        if !is_sent(server, name, core.announcing(), number).await {
            return false;
        }
        match came_back(core.timeout, began, server, number).await {
            Back::InTime => return true,
            // The link was made anew meanwhile: what was sent before is not heard on it.
            Back::Elsewhere => {}
            Back::No => break,
        }
    }
    // A link that is still subscribing to everything has its own clock.
    if server.is_listening.load(Ordering::Acquire) {
        server.given_up.notify_waiters();
    }
    false
}

async fn is_sent(server: &Server, name: &str, announce: &[u8], number: u64) -> bool {
    let digits = number.to_string();
    let words = [name.as_bytes(), announce, digits.as_bytes()];
    let call = Call { script: &script::CANARY, keys: &[name.as_bytes()], arguments: &words };
    let sent = match server.link.ask(call.by_digest()).await {
        Ok(Value::Refusal(why)) if why.starts_with("NOSCRIPT") => server.link.ask(call.by_text()).await,
        other => other,
    };
    match sent {
        Ok(Value::Refusal(why)) => {
            warn!(server = %server.finder, why, "Redis refuses to be written to");
            false
        }
        Ok(_) => true,
        Err(error) => {
            // One that left and was not answered: the server hangs.
            if error == Error::Unknown {
                server.given_up.notify_waiters();
            }
            false
        }
    }
}

enum Back {
    InTime,
    Elsewhere,
    No,
}

async fn came_back(timeout: Duration, began: Instant, server: &Server, number: u64) -> Back {
    let mut returned = server.returned.subscribe();
    loop {
        tokio::select! {
            () = heard(&mut returned, number) => return Back::InTime,
            () = server.doubted.notified() => {
                if server.is_listening.load(Ordering::Acquire) && began.elapsed() < timeout {
                    return Back::Elsewhere;
                }
            }
            () = tokio::time::sleep_until(began + timeout) => {
                let is_held_up = server.is_held_up.load(Ordering::Acquire);
                if !is_held_up || began.elapsed() > MOST_PATIENCE {
                    return Back::No;
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn heard(returned: &mut watch::Receiver<u64>, number: u64) {
    // The sender lives as long as the server.
    let _ = returned.wait_for(|it| *it >= number).await;
}
