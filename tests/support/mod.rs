//! What the tests speak through: a backend that does as it is told, the edge in front of it, clients.

pub mod app;
pub mod backend;
pub mod client;
pub mod edge;
pub mod engines;
pub mod events;
pub mod node;
pub mod redis_cluster;
pub mod service;
pub mod settings;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

/// Nothing here takes that long; it turns a hang into a failure.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what must happen; says what did not.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: did not happen"))
}

/// Holds whoever passes until the test opens it, once and for all.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    pub fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    pub fn open(&self) {
        self.0.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    pub async fn pass(&self) {
        self.0.acquire().await.expect("a gate is never taken down").forget();
    }
}
