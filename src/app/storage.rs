//! Where the node's data lives: in memory, in memory over a data folder, or in an engine that nodes share.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::settings;
use crate::channel::Publication;
use crate::config::Config;
use crate::engine::redis::{self, Redis};
use crate::engine::{self, BoxFuture, Deliver, Disk, Memory, OpenError};
use crate::hub::{CurrentDeflate, Hub};
use crate::records::{Forgetful, Records};

/// The data folder, if there is one, and the engine that is waited for, if it is somewhere else.
#[derive(Debug)]
pub(super) struct Storage {
    folder: Option<Arc<Disk>>,
    shared: Option<(Arc<Redis>, Duration)>,
}

/// Opens the hub over what an earlier process left. Everything is read back before this returns.
pub(super) fn open(
    config: &Config,
    redis: Option<redis::Settings>,
    deflate: CurrentDeflate,
    metrics: engine::Metrics,
) -> Result<(Arc<Hub>, Storage), OpenError> {
    let shards = std::thread::available_parallelism().map_or(1, usize::from);
    let settings = settings::engine(config);
    let store = settings::data(config).map(|it| engine::Store::open(&it)).transpose()?;
    let mut opened = Storage { folder: None, shared: None };
    let hub = Hub::try_open_over(shards, deflate, |deliver, work| {
        if let Some(redis) = redis {
            // The folder keeps what is this node's own: notices and whom they are about.
            let nobody = Arc::new(Nobody);
            opened.folder = store.map(|it| Disk::start(it, settings, metrics.clone(), nobody)).transpose()?;
            let shared = Redis::open(&redis, settings, metrics, deliver, work);
            opened.shared = Some((shared.clone(), redis.connect_timeout));
            return Ok::<Arc<dyn engine::Broker>, OpenError>(shared);
        }
        let Some(store) = store else {
            let memory = Arc::new(Memory::new(settings, deliver).counting(metrics));
            work.spawn(memory.clone().sweep());
            return Ok(memory);
        };
        let disk = Disk::start(store, settings, metrics, deliver)?;
        work.spawn(disk.sweep());
        opened.folder = Some(disk.clone());
        Ok(disk)
    })?;
    Ok((hub, opened))
}

impl Storage {
    /// Small records that outlive the process where there is a data folder.
    pub(super) fn records(&self) -> Arc<dyn Records> {
        match &self.folder {
            Some(disk) => disk.clone(),
            None => Arc::new(Forgetful),
        }
    }

    /// Resolves once publications can be taken, or the engine does not come: then the node starts without, and says so.
    pub(super) async fn in_reach(&self) {
        let Some((shared, patience)) = &self.shared else { return };
        if tokio::time::timeout(*patience, shared.reached()).await.is_err() {
            warn!("the engine is out of reach; the node starts, and is not ready before it comes");
        }
    }

    /// The last thing a node does: what is left is written, and the folder marked as left clean.
    pub(super) async fn close(&self) {
        if let Some(disk) = &self.folder {
            disk.close().await;
        }
    }
}

/// Hears what a folder delivers that nothing is published to.
struct Nobody;

impl Deliver for Nobody {
    fn room(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn publication(&self, _: Arc<Publication>) {}
}
