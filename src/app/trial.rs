use std::sync::Arc;

use prometheus_client::registry::Registry;

use super::generation::{Counters, Generation};
use super::{Error, redis, settings};
use crate::config::Config;
use crate::{proxy, webhook};

/// Builds everything a configuration makes and lets it go: certificates are read, keys matched. Nothing is opened.
pub fn try_out(config: &Config) -> Result<(), Error> {
    let mut registry = Registry::default();
    let counters = Counters {
        proxy: Arc::new(proxy::Metrics::register(&mut registry)),
        webhook: webhook::Metrics::register(&mut registry),
    };
    Generation::build(Arc::new(config.clone()), &counters, None)?;
    redis::settings(config)?;
    if let Some(data) = settings::data(config) {
        data.check()?;
    }
    Ok(())
}
