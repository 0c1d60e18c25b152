//! Every client of this node hears when the engine goes out of reach, and when it is back: once for each change.

use std::sync::Arc;

use tokio::sync::watch;

use super::directory::Directory;
use crate::channel::now;
use crate::protocol::{Reply, Shared};

/// After so many clients others get a turn.
const PER_TURN: usize = 512;

/// Tells of each change, for ever. The hub aborts it. Of changes that come while one is being told, the last counts.
pub(super) async fn tell(mut reach: watch::Receiver<bool>, directory: Arc<Directory>) {
    let mut told = *reach.borrow_and_update();
    while reach.changed().await.is_ok() {
        let is_in_reach = *reach.borrow_and_update();
        if std::mem::replace(&mut told, is_in_reach) == is_in_reach {
            continue;
        }
        let reply = Shared::new(vec![reply(is_in_reach)]);
        for clients in directory.all().chunks(PER_TURN) {
            for client in clients {
                client.control(reply.wire(client.format()).clone());
            }
            tokio::task::yield_now().await;
        }
    }
}

pub(super) fn reply(is_in_reach: bool) -> Reply {
    match is_in_reach {
        true => Reply::Restored { timestamp: now() },
        false => Reply::Degraded { timestamp: now() },
    }
}
