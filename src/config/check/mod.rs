//! What no single value can be wrong about: keys that contradict each other, or that surprise whoever wrote them.
//! Pure: a configuration and its places in, complaints out.

mod access;
mod engine;
mod listening;
mod webhooks;

use std::collections::HashMap;
use std::time::Duration;

use super::problem::{Problem, Severity};
use super::sections::Config;
use super::tree::Tree;

/// Shorter is what a burst is joined into anyway; longer is nothing anybody waits for.
const MIN_INTERVAL: Duration = Duration::from_millis(10);
const MAX_INTERVAL: Duration = Duration::from_secs(3600);

/// One check, and the keys it reasons about: it is left out where one of them could not be read.
struct Check {
    reads: &'static [&'static str],
    /// Lists that it looks at item by item; items that could not be read do not keep it from the others.
    each: &'static [&'static str],
    run: fn(&Config, &mut Complaints),
}

/// What checks have found, each at its key.
struct Complaints<'a> {
    tree: &'a Tree,
    /// Of lists that lost items: where the others stand.
    places: &'a HashMap<String, Vec<usize>>,
    found: Vec<Problem>,
}

impl Complaints<'_> {
    fn error(&mut self, key: &str, message: impl Into<String>) {
        self.add(Severity::Error, key, message.into());
    }

    fn warning(&mut self, key: &str, message: impl Into<String>) {
        self.add(Severity::Warning, key, message.into());
    }

    fn add(&mut self, severity: Severity, key: &str, message: String) {
        let place = self.tree.find(&self.in_the_file(key));
        self.found.push(Problem { severity, place, message });
    }

    /// `channels.1.match` is `channels.2.match` in the file if an item before it could not be read.
    fn in_the_file(&self, key: &str) -> String {
        let moved = self.places.iter().find_map(|(list, places)| {
            let (at, rest) = key.strip_prefix(&format!("{list}."))?.split_once('.')?;
            Some(format!("{list}.{}.{rest}", places.get(at.parse::<usize>().ok()?)?))
        });
        moved.unwrap_or_else(|| key.to_owned())
    }
}

/// `broken` and `places` are what the reader could not make sense of, and what is left of lists.
pub(super) fn check(
    config: &Config,
    tree: &Tree,
    broken: &[String],
    places: &HashMap<String, Vec<usize>>,
) -> Vec<Problem> {
    let is_under =
        |key: &str, other: &str| key == other || key.strip_prefix(other).is_some_and(|it| it.starts_with('.'));
    let is_broken = |key: &str| broken.iter().any(|it| is_under(it, key) || is_under(key, it));
    let is_lost = |list: &str| broken.iter().any(|it| is_under(list, it));
    let mut complaints = Complaints { tree, places, found: Vec::new() };
    for check in [listening::CHECKS, access::CHECKS, webhooks::CHECKS, engine::CHECKS, REST].into_iter().flatten() {
        if !check.reads.iter().any(|it| is_broken(it)) && !check.each.iter().any(|it| is_lost(it)) {
            (check.run)(config, &mut complaints);
        }
    }
    complaints.found
}

const REST: &[Check] = &[
    Check { reads: &["realtime.heartbeat"], each: &[], run: a_heartbeat_times_out_after_its_interval },
    Check { reads: &["realtime.poll"], each: &[], run: a_session_outlives_a_poll },
    Check { reads: &["realtime.outbox", "realtime.max_publication"], each: &[], run: a_publication_fits_the_outbox },
    Check { reads: &["drain"], each: &[], run: a_drain_is_longer_than_its_parts },
    Check { reads: &["telemetry.log"], each: &[], run: the_log_level_is_one },
    Check { reads: &[], each: &[], run: times_are_longer_than_nothing },
];

fn a_heartbeat_times_out_after_its_interval(config: &Config, complaints: &mut Complaints) {
    let heartbeat = &config.realtime.heartbeat;
    if heartbeat.timeout.0 <= heartbeat.interval.0 {
        let message = format!(
            "the timeout of {} must be longer than the interval of {}: a client has to be asked before it is given up; \
             twice the interval is usual",
            heartbeat.timeout, heartbeat.interval
        );
        complaints.error("realtime.heartbeat.timeout", message);
    }
}

fn a_session_outlives_a_poll(config: &Config, complaints: &mut Complaints) {
    let poll = &config.realtime.poll;
    if poll.session.0 <= poll.wait.0.mul_f64(1.1) {
        let message =
            format!("a session of {} ends before a poll of {} (and a tenth) is answered", poll.session, poll.wait);
        complaints.error("realtime.poll.session", message);
    }
}

fn a_publication_fits_the_outbox(config: &Config, complaints: &mut Complaints) {
    let (outbox, largest) = (config.realtime.outbox, config.realtime.max_publication);
    if outbox.0.0 < largest.0.0 {
        let message = format!(
            "an outbox of {outbox} cannot hold a publication of {largest} (`max_publication`): every client would count as slow"
        );
        complaints.error("realtime.outbox", message);
    }
}

fn a_drain_is_longer_than_its_parts(config: &Config, complaints: &mut Complaints) {
    let drain = &config.drain;
    if drain.deadline.0 <= drain.delay.0 + drain.spread.0 {
        let message = format!(
            "the deadline of {} is over before the delay of {} and the spread of {} are: some clients would be cut off \
             without a word",
            drain.deadline, drain.delay, drain.spread
        );
        complaints.error("drain.deadline", message);
    }
}

fn the_log_level_is_one(config: &Config, complaints: &mut Complaints) {
    let log = &config.telemetry.log;
    let is_level = |it: &str| it.parse::<tracing::level_filters::LevelFilter>().is_ok();
    // A filter also takes a bare word for a target, so `inof` would quietly mean "this target, everything".
    let fits = log.split(',').map(str::trim).all(|part| match part.rsplit_once('=') {
        Some((target, level)) => !target.is_empty() && is_level(level),
        None => is_level(part),
    });
    if !fits || tracing_subscriber::EnvFilter::try_new(log).is_err() {
        let message = format!("`{log}` is no level: error, warn, info, debug, trace, or `outrigger::proxy=debug,info`");
        complaints.error("telemetry.log", message);
    }
}

fn times_are_longer_than_nothing(config: &Config, complaints: &mut Complaints) {
    let (upstream, realtime) = (&config.upstream, &config.realtime);
    let times = [
        ("upstream.connect_timeout", upstream.connect_timeout),
        ("upstream.response_timeout", upstream.response_timeout),
        ("realtime.heartbeat.interval", realtime.heartbeat.interval),
        ("realtime.sse.heartbeat", realtime.sse.heartbeat),
        ("realtime.poll.wait", realtime.poll.wait),
        ("webhooks.timeout", config.webhooks.timeout),
        ("webhooks.breaker.open", config.webhooks.breaker.open),
        ("webhooks.retry.for", config.webhooks.retry.patience),
        ("webhooks.retry.max_delay", config.webhooks.retry.max_delay),
        ("positions", config.positions),
        ("api.idempotency", config.api.idempotency),
        ("drain.deadline", config.drain.deadline),
        ("auth.revocations.keep", config.auth.revocations.keep),
    ];
    for (key, _) in times.iter().filter(|(_, time)| time.0.is_zero()) {
        complaints.error(key, "this must be longer than zero");
    }
    let histories = config.channels.iter().enumerate().filter_map(|(at, rule)| Some((at, rule.history.as_ref()?)));
    for (at, _) in histories.filter(|(_, history)| history.ttl.0.is_zero()) {
        complaints.error(
            &format!("channels.{at}.history.ttl"),
            "this must be longer than zero; leave out `history` to keep nothing",
        );
    }
    let intervals = config.channels.iter().enumerate().filter_map(|(at, rule)| Some((at, rule.min_interval?)));
    for (at, _) in intervals.filter(|(_, it)| !(MIN_INTERVAL..=MAX_INTERVAL).contains(&it.0)) {
        let key = format!("channels.{at}.min_interval");
        complaints.error(&key, "this must be 10ms to 1h; leave it out to send everything");
    }
}
