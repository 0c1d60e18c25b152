//! Compares where channels stand on this node with where the engine says they stand: every half a minute, and whenever the
//! link to the engine returns. What is delivered is audited as it comes, in its lane; this finds what never came.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::follows::Follows;
use super::inbox::{Inbox, Order};
use crate::channel::{ChannelName, Position};
use crate::engine::Broker;

/// Give or take a fifth, so that nodes do not ask all at once.
const EVERY: Duration = Duration::from_secs(30);
/// A publication may be in the engine already and still on its way here. What has not come by then is missing.
const GRACE: Duration = Duration::from_secs(1);
/// Channels asked about at once.
const AT_ONCE: usize = 256;
/// An engine that takes longer is away; the next round asks again.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

pub(super) struct Audit {
    pub(super) broker: Arc<dyn Broker>,
    pub(super) follows: Arc<Follows>,
    pub(super) inboxes: Arc<[Arc<Inbox>]>,
    /// The link to the engine is back.
    pub(super) returned: Arc<Notify>,
}

/// A channel that stands elsewhere in the engine than in one of the shards.
struct Suspect {
    shard: usize,
    channel: ChannelName,
    stood: Position,
}

impl Audit {
    /// Works for ever; the hub aborts it.
    pub(super) async fn work(self) {
        loop {
            let pause = EVERY.mul_f64(0.8 + 0.4 * fastrand::f64());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.returned.notified() => {}
            }
            self.round().await;
        }
    }

    async fn round(&self) {
        let mut suspects = Vec::new();
        for channels in self.follows.all().chunks(AT_ONCE) {
            suspects.extend(self.compare(channels).await);
            tokio::task::yield_now().await;
        }
        if suspects.is_empty() {
            return;
        }
        tokio::time::sleep(GRACE).await;
        let mut healed = 0;
        for suspects in suspects.chunks(AT_ONCE) {
            healed += self.heal(suspects).await;
        }
        if healed > 0 {
            tracing::warn!(healed, "publications did not reach this node: their subscribers read the history again");
        }
    }

    async fn heads(&self, channels: &[ChannelName]) -> Vec<Position> {
        let asked = tokio::time::timeout(ANSWERED_WITHIN, self.broker.heads(channels)).await;
        // Without an answer there is nothing to compare with.
        asked.ok().and_then(Result::ok).unwrap_or_default()
    }

    async fn compare(&self, channels: &[ChannelName]) -> Vec<Suspect> {
        let heads = self.heads(channels).await;
        let heads: Arc<[_]> = channels.iter().cloned().zip(heads).collect();
        let mut suspects = Vec::new();
        for (shard, inbox) in self.inboxes.iter().enumerate() {
            let (answer, answered) = oneshot::channel();
            inbox.push(Order::Compare { heads: heads.clone(), answer });
            // A dropped sender means the shard is gone, and its followers with it.
            let elsewhere = answered.await.unwrap_or_default();
            suspects.extend(elsewhere.into_iter().map(|(channel, stood)| Suspect { shard, channel, stood }));
        }
        suspects
    }

    /// Who stands where it stood, while the engine still says otherwise, has missed something. Answers how many may have.
    async fn heal(&self, suspects: &[Suspect]) -> usize {
        let mut healed = 0;
        let channels: Vec<_> = suspects.iter().map(|it| it.channel.clone()).collect();
        for (suspect, head) in suspects.iter().zip(self.heads(&channels).await) {
            if !head.is_place_of(&suspect.stood) {
                let (channel, stood) = (suspect.channel.clone(), suspect.stood.clone());
                self.inboxes[suspect.shard].push(Order::Heal { channel, stood, head });
                healed += 1;
            }
        }
        healed
    }
}
