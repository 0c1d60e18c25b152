//! Where publications are kept.

use super::{Check, Complaints};
use crate::config::sections::{Config, Redis};
use crate::engine::redis::{Place, Url};

pub(super) const CHECKS: &[Check] = &[
    Check { reads: &["engine"], each: &[], run: servers_have_addresses },
    Check { reads: &["engine"], each: &[], run: a_cluster_has_no_sentinels_and_no_databases },
    Check { reads: &["engine"], each: &[], run: the_prefix_leaves_the_slots_alone },
    Check { reads: &["engine"], each: &[], run: waiting_for_redis_has_an_end },
];

/// The places in the file and what stands there; what is no URL is left out.
fn urls(redis: &Redis) -> Vec<(&'static str, Url)> {
    let (key, urls) = match &redis.sentinel {
        Some(sentinel) => ("engine.redis.sentinel.url", &sentinel.url),
        None => ("engine.redis.url", &redis.url),
    };
    urls.0.iter().filter_map(|it| Some((key, Url::parse(it.reveal()).ok()?))).collect()
}

fn servers_have_addresses(config: &Config, complaints: &mut Complaints) {
    let Some(redis) = config.engine.redis() else { return };
    let (key, urls) = match &redis.sentinel {
        Some(sentinel) => ("engine.redis.sentinel.url", &sentinel.url.0),
        None => ("engine.redis.url", &redis.url.0),
    };
    if urls.is_empty() {
        complaints.error(key, "an address is missing, such as `redis://host:6379`");
    }
    for error in urls.iter().filter_map(|it| Url::parse(it.reveal()).err()) {
        complaints.error(key, error.to_string());
    }
    if redis.sentinel.is_some() && !redis.url.0.is_empty() {
        complaints.error("engine.redis.url", "the sentinels say where the master is: leave this out");
    }
}

fn a_cluster_has_no_sentinels_and_no_databases(config: &Config, complaints: &mut Complaints) {
    let Some(redis) = config.engine.redis().filter(|it| it.cluster) else { return };
    if redis.sentinel.is_some() {
        complaints.error("engine.redis.sentinel", "a cluster chooses its masters itself: leave this out");
    }
    for (key, url) in urls(redis) {
        if url.database != 0 {
            complaints.error(key, "a cluster has no databases: leave out what follows the last `/`");
        }
        if matches!(url.place, Place::Unix(_)) {
            complaints.error(key, "a cluster names its servers by host and port, so a socket does not lead to them");
        }
    }
}

fn the_prefix_leaves_the_slots_alone(config: &Config, complaints: &mut Complaints) {
    let Some(redis) = config.engine.redis() else { return };
    if redis.prefix.is_empty() || redis.prefix.contains(['{', '}', ' ', '*']) {
        complaints.error("engine.redis.prefix", "a prefix is at least one letter, without spaces, braces and `*`");
    }
}

fn waiting_for_redis_has_an_end(config: &Config, complaints: &mut Complaints) {
    let Some(redis) = config.engine.redis() else { return };
    for (key, time) in
        [("engine.redis.connect_timeout", redis.connect_timeout), ("engine.redis.timeout", redis.timeout)]
    {
        if time.0.is_zero() {
            complaints.error(key, "this must be longer than zero");
        }
    }
    if redis.lease.0 < redis.timeout.0 * 2 {
        let message = format!("a lease of {} is over before a node can renew it within {}", redis.lease, redis.timeout);
        complaints.error("engine.redis.lease", message);
    }
}
