//! What nodes say to each other: publications of two channels that nobody else can name, so that numbers, order and the
//! filling of holes are those of every channel. What lasts has a history of a day, for nodes that were cut off or start.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::Core;
use super::server::Pause;
use crate::channel::{ChannelName, Data, Draft, Publication, Retention};
use crate::engine::Error;

const LASTING: &str = "*lasting";
const PASSING: &str = "*passing";
/// A node that was away for longer, or missed more, is told that it was.
const KEPT: Retention = Retention { size: 10_000, ttl: Duration::from_secs(24 * 3600) };

impl Core {
    pub(super) async fn announce(&self, notice: &[u8], is_lasting: bool) -> Result<(), Error> {
        let (name, retention) = if is_lasting { (LASTING, KEPT) } else { (PASSING, Retention::NONE) };
        let signed = [self.node.as_bytes(), b" ", notice].concat();
        let draft = Draft {
            is_idempotent: false,
            ..Draft::new(ChannelName::reserved(name), Data::Binary(signed.into()), None)
        };
        self.publish(draft, retention).await.map(drop)
    }

    /// A publication of one of these channels: what this node said itself it has done.
    pub(super) fn hear(&self, publication: &Publication) {
        let Data::Binary(signed) = &publication.data else { return };
        let Some(at) = signed.iter().position(|it| *it == b' ') else { return };
        if signed[..at] != *self.node.as_bytes() {
            self.deliver.control(signed.slice(at + 1..));
        }
    }
}

/// Follows both channels, and hears what was said within the last day. The links keep it up from then on.
pub(super) async fn attend(core: Arc<Core>) {
    let mut pause = Pause::default();
    while let Err(error) = begin(&core).await {
        if core.is_in_reach() {
            warn!(%error, "what other nodes said cannot be read yet");
        }
        pause.wait().await;
    }
    core.is_attending.send_replace(true);
}

async fn begin(core: &Core) -> Result<(), Error> {
    for name in [LASTING, PASSING] {
        core.follow(&ChannelName::reserved(name)).await?;
    }
    let page = core.page(&ChannelName::reserved(LASTING), None, KEPT.size, KEPT).await?;
    page.publications.iter().for_each(|it| core.hear(it));
    Ok(())
}

/// What was said to this node in vain.
pub(super) fn complain(channel: &ChannelName, seq: u64) {
    if channel.as_str() == LASTING {
        warn!(seq, "this node was cut off for so long that it missed what others had it do: revocations, disconnects");
    }
}
