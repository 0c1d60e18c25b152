//! Which target a request goes to: the one with the fewest requests under way, in turn among equals; those that refused
//! lately come last.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::pool::Pool;

#[derive(Debug)]
pub(super) struct Balance {
    pools: Vec<Arc<Pool>>,
    turn: AtomicUsize,
}

impl Balance {
    pub fn new(pools: Vec<Arc<Pool>>) -> Self {
        Self { pools, turn: AtomicUsize::new(0) }
    }

    pub fn pools(&self) -> &[Arc<Pool>] {
        &self.pools
    }

    /// Every target once, the best first. One that is left aside is still asked when all others failed.
    pub fn candidates(&self) -> impl Iterator<Item = Arc<Pool>> + use<> {
        let (only, order) = match &self.pools[..] {
            [only] => (Some(only.clone()), Vec::new()),
            pools => {
                let turn = self.turn.fetch_add(1, Relaxed) % pools.len();
                let mut order: Vec<_> = pools[turn..].iter().chain(&pools[..turn]).cloned().collect();
                order.sort_by_cached_key(|pool| (pool.is_left_aside(), pool.outstanding()));
                (None, order)
            }
        };
        only.into_iter().chain(order)
    }
}
