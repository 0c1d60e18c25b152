//! Where the node's data lives: in memory, or in memory over a data folder.

use std::sync::Arc;

use super::settings;
use crate::config::Config;
use crate::engine::{self, Disk, Memory, OpenError};
use crate::hub::{CurrentDeflate, Hub};
use crate::records::{Forgetful, Records};

/// The data folder, if there is one.
#[derive(Debug)]
pub(super) struct Storage(Option<Arc<Disk>>);

/// Opens the hub over what an earlier process left. Everything is read back before this returns.
pub(super) fn open(
    config: &Config,
    deflate: CurrentDeflate,
    metrics: engine::Metrics,
) -> Result<(Arc<Hub>, Storage), OpenError> {
    let shards = std::thread::available_parallelism().map_or(1, usize::from);
    let settings = settings::engine(config);
    let Some(data) = settings::data(config) else {
        let hub = Hub::open_over(shards, deflate, |deliver, work| {
            let memory = Arc::new(Memory::new(settings, deliver).counting(metrics));
            work.spawn(memory.clone().sweep());
            memory
        });
        return Ok((hub, Storage(None)));
    };
    let store = engine::Store::open(&data)?;
    let mut opened = None;
    let hub = Hub::try_open_over(shards, deflate, |deliver, work| {
        let disk = Disk::start(store, settings, metrics, deliver)?;
        work.spawn(disk.sweep());
        opened = Some(disk.clone());
        Ok::<_, OpenError>(disk)
    })?;
    Ok((hub, Storage(opened)))
}

impl Storage {
    /// Small records that outlive the process where there is a data folder.
    pub(super) fn records(&self) -> Arc<dyn Records> {
        match &self.0 {
            Some(disk) => disk.clone(),
            None => Arc::new(Forgetful),
        }
    }

    /// The last thing a node does: what is left is written, and the folder marked as left clean.
    pub(super) async fn close(&self) {
        if let Some(disk) = &self.0 {
            disk.close().await;
        }
    }
}
