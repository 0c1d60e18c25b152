//! The end of a node as its clients hear it: each is told in a slot of its own, so that they do not all knock at the next
//! door at once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Sessions, TurnedAway};
use crate::hub::Signal;
use crate::protocol::Format;

/// A client that is told to go comes back within this: elsewhere if there is another node. Its slot already sets it apart
/// from the others, so this only covers clients that share one.
const COME_BACK_WITHIN: Duration = Duration::from_secs(1);

impl Sessions {
    /// Sends every client away, evenly over `spread`. From now on nobody is let in.
    ///
    /// A poll is answered at once, with its slot as the time to come back: it would only wait here for nothing.
    pub async fn send_away(&self, spread: Duration) {
        self.is_closing.store(true, Ordering::SeqCst);
        let (polls, live): (Vec<_>, Vec<_>) =
            self.hub.directory().all().into_iter().partition(|it| it.format() == Format::Poll);
        for (slot, outbox) in slots(&polls, spread) {
            outbox.signal(Signal::Reconnect { after: slot + soon() });
        }
        let begun = Instant::now();
        for (slot, outbox) in slots(&live, spread) {
            sleep_until(begun + slot).await;
            outbox.signal(Signal::Reconnect { after: soon() });
        }
    }

    /// Whether there still is somebody to stay with.
    pub(super) fn stay(&self) -> Result<(), TurnedAway> {
        match self.is_closing.load(Ordering::SeqCst) {
            true => Err(TurnedAway::Draining(soon())),
            false => Ok(()),
        }
    }
}

/// When each is told: one after the other, each somewhere within its own share of the time.
fn slots<T>(told: &[T], spread: Duration) -> impl Iterator<Item = (Duration, &T)> {
    let share = spread.div_f64(told.len().max(1) as f64);
    told.iter().enumerate().map(move |(at, it)| (share.mul_f64(at as f64 + fastrand::f64()), it))
}

fn soon() -> Duration {
    COME_BACK_WITHIN.mul_f64(0.1 + 0.9 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use arc_swap::access::Constant;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::auth::{Keep, Revocations};
    use crate::engine;
    use crate::hub::{self, Hub, Outbox, Rules};
    use crate::protocol::wire::Deflate;
    use crate::records::Forgetful;
    use crate::session::{Hello, Limits, Metrics, Policy, Transport};
    use crate::webhook::{Forwarded, Notices};

    fn sessions() -> Arc<Sessions> {
        let day = Duration::from_secs(86_400);
        let engine = engine::Settings { positions: day, channels: 100, idempotency: day, idempotency_ids: 9 };
        let hub = Hub::open(hub::Settings { shards: 1, engine }, Box::new(Constant(Deflate::default())));
        let policy = Policy {
            number: 1,
            rules: Arc::new(Rules::new(Vec::new())),
            verifier: None,
            webhooks: None,
            anonymous: true,
            ask_connect: false,
            limits: Limits { subscriptions: 9, rate: 9.0, burst: 9.0, handshakes: 900.0 },
            revocations: Keep { time: day, most: 9 },
        };
        let mut registry = Registry::default();
        let notices = Notices::new(Box::new(|| None), "tests", Arc::new(Forgetful), &mut registry);
        let metrics = Metrics::register(&mut registry);
        let revocations = Revocations::open(Arc::new(Forgetful));
        Sessions::new(hub, Box::new(Constant(Arc::new(policy))), notices, metrics, revocations)
    }

    fn hello() -> Hello {
        Hello {
            transport: Transport::WebSocket,
            token: None,
            ticket: None,
            ip: Ipv4Addr::LOCALHOST.into(),
            path: "/realtime".into(),
            query: "".into(),
            origin: None,
            forwarded: Forwarded::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_while_the_node_goes_away_is_told_to_come_back_and_is_not_let_in() {
        let sessions = sessions();
        let outbox = |format| Outbox::new(sessions.hub(), format, None, 1024);
        let (socket, poll) = (outbox(Format::WebSocketJson), outbox(Format::Poll));
        let _here = (sessions.open(hello(), &socket).await.unwrap(), sessions.open(hello(), &poll).await.unwrap());
        sessions.send_away(Duration::from_secs(20)).await;
        let Some(Signal::Reconnect { after }) = socket.take_signal() else { panic!("it was told") };
        assert!(after <= COME_BACK_WITHIN, "its slot has come: {after:?}");
        assert!(matches!(poll.take_signal(), Some(Signal::Reconnect { .. })));
        let late = outbox(Format::WebSocketJson);
        let turned_away = sessions.open(hello(), &late).await.unwrap_err();
        assert!(matches!(turned_away, TurnedAway::Draining(_)), "{turned_away:?}");
        assert_eq!((turned_away.close().code, turned_away.code().name()), (4003, "draining"));
        assert!(turned_away.come_back().is_some());
        assert!(sessions.ticket(hello()).await.is_err());
    }

    #[test]
    fn the_time_is_shared_evenly_and_nobody_leaves_its_share() {
        let clients: Vec<u32> = (0..1000).collect();
        for (slot, client) in slots(&clients, Duration::from_secs(20)) {
            let share = Duration::from_millis(20);
            assert!((share * *client..share * (client + 1)).contains(&slot), "{client}: {slot:?}");
        }
        assert!(slots(&clients, Duration::ZERO).all(|(slot, _)| slot.is_zero()));
    }
}
