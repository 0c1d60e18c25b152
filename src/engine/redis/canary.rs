//! A publication that goes round a server's links all the time: a write, word of it, and back. A server that accepts
//! connections but does nothing is noticed by it within seconds; a ping on one link would notice neither that nor a
//! subscription that went deaf.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::Core;
use super::resp::Value;
use super::script::{self, Call};
use super::server::Server;

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
            if is_back {
                core.deliver.returned();
            }
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
    let digits = number.to_string();
    let words = [name.as_bytes(), core.announce(), digits.as_bytes()];
    let call = Call { script: &script::CANARY, keys: &[name.as_bytes()], arguments: &words };
    let sent = match server.link.ask(call.by_digest()).await {
        Ok(Value::Refusal(why)) if why.starts_with("NOSCRIPT") => server.link.ask(call.by_text()).await,
        other => other,
    };
    match sent {
        Ok(Value::Refusal(why)) => {
            warn!(server = %server.finder, why, "Redis refuses to be written to");
            return false;
        }
        Ok(_) => {}
        Err(error) => {
            // One that left and was not answered: the server hangs.
            if error == crate::engine::Error::Unknown {
                server.given_up.notify_waiters();
            }
            return false;
        }
    }
    let is_back = came_back(core.timeout, server, number).await;
    // A link that is still subscribing to everything has its own clock.
    if !is_back && server.is_listening.load(Ordering::Acquire) {
        server.given_up.notify_waiters();
    }
    is_back
}

async fn came_back(timeout: Duration, server: &Server, number: u64) -> bool {
    let mut returned = server.returned.subscribe();
    let began = Instant::now();
    loop {
        let waiting = returned.wait_for(|it| *it >= number);
        if tokio::time::timeout(timeout, waiting).await.is_ok_and(|it| it.is_ok()) {
            return true;
        }
        if !server.is_held_up.load(Ordering::Acquire) || began.elapsed() > MOST_PATIENCE {
            return false;
        }
    }
}
