//! What the values mean together: each check is one sentence an operator reads, with the place it is about. A section
//! that has problems of its own is not checked further.

mod access;
mod shadow;

use std::collections::BTreeSet;
use std::time::Duration;

use super::problem::Report;
use super::tree::Node;
use super::{Config, form};

pub(super) struct Check<'a> {
    pub config: &'a Config,
    pub tree: &'a Node,
    pub broken: &'a BTreeSet<String>,
    pub report: &'a mut Report,
}

impl Check<'_> {
    pub fn everything(mut self) {
        self.of(&["listen"], Self::listeners);
        self.of(&["listen", "api"], Self::addresses);
        self.of(&["upstream"], Self::upstream);
        self.of(&["realtime"], Self::realtime);
        self.zeros();
        self.of(&["drain"], Self::drain);
        self.of(&["telemetry"], Self::log_filter);
        self.access();
    }

    /// Runs a check if the sections it reads are sound.
    fn of(&mut self, sections: &[&str], check: fn(&mut Self)) {
        if !sections.iter().any(|it| self.broken.contains(*it)) {
            check(self);
        }
    }

    fn error(&mut self, at: &str, message: impl Into<String>) {
        self.report.error(self.tree.place_of(at), message);
    }

    fn warning(&mut self, at: &str, message: impl Into<String>) {
        self.report.warning(self.tree.place_of(at), message);
    }

    fn listeners(&mut self) {
        let listen = &self.config.listen;
        if listen.is_empty() {
            self.error("listen", "there is no listener, so nobody can connect");
        }
        let has_tls = listen.iter().any(|it| it.tls.is_some());
        for (index, it) in listen.iter().enumerate() {
            let at = format!("listen.{index}.redirect_to_https");
            if it.redirect_to_https && !has_tls {
                self.error(&at, "there is no listener with `tls` to redirect to");
            } else if it.redirect_to_https && it.tls.is_some() {
                self.error(&at, "this listener has `tls` itself, so it would redirect in circles");
            }
        }
    }

    fn addresses(&mut self) {
        let config = self.config;
        let listeners = config.listen.iter().enumerate();
        let public = listeners.map(|(index, it)| (format!("listen.{index}.address"), &it.address));
        let mut seen = Vec::new();
        for (at, address) in public.chain([("api.listen".to_owned(), &config.api.listen)]) {
            if seen.contains(&address) {
                self.error(&at, format!("another listener has the address `{address}` already"));
            }
            seen.push(address);
        }
    }

    fn upstream(&mut self) {
        if self.config.upstream.url.0.is_empty() {
            self.error("upstream.url", "there is no backend to pass requests to");
        }
    }

    fn realtime(&mut self) {
        let realtime = &self.config.realtime;
        let heartbeat = &realtime.heartbeat;
        if heartbeat.timeout.0 <= heartbeat.interval.0 {
            let message = format!(
                "a timeout of {} closes clients before they can answer a ping that is sent every {}",
                heartbeat.timeout, heartbeat.interval
            );
            self.error("realtime.heartbeat.timeout", message);
        }
        if let Some(it) = realtime.compression.as_ref().filter(|it| !(1..=9).contains(&it.level)) {
            self.error("realtime.compression.level", format!("{} is no level: 1 (fast) to 9 (small)", it.level));
        }
        let path = &realtime.path;
        if !path.starts_with('/') || path.ends_with('/') || path.contains(['?', '#', ' ']) {
            self.error("realtime.path", format!("`{path}` is no path such as `/realtime`"));
        }
        for (index, origin) in realtime.allowed_origins.0.iter().enumerate() {
            if !is_origin(origin) {
                let message = format!("`{origin}` is no origin such as `https://app.example.com`, `same-origin` or `*`");
                self.error(&format!("realtime.allowed_origins.{index}"), message);
            }
        }
    }

    fn zeros(&mut self) {
        let config = self.config;
        let (realtime, limits, webhooks) = (&config.realtime, &config.limits, &config.webhooks);
        let size = |it: super::Size| u128::from(it.0.0 as u64);
        let time = |it: super::Duration| Duration::as_nanos(&it.0);
        let count = |it: usize| u128::from(it as u64);
        let mut amounts = vec![
            ("upstream.connect_timeout".to_owned(), time(config.upstream.connect_timeout)),
            ("upstream.response_timeout".into(), time(config.upstream.response_timeout)),
            ("upstream.max_connections".into(), count(config.upstream.max_connections)),
            ("realtime.heartbeat.interval".into(), time(realtime.heartbeat.interval)),
            ("realtime.max_message".into(), size(realtime.max_message)),
            ("realtime.max_publication".into(), size(realtime.max_publication)),
            ("realtime.outbox".into(), size(realtime.outbox)),
            ("realtime.sse.heartbeat".into(), time(realtime.sse.heartbeat)),
            ("realtime.poll.wait".into(), time(realtime.poll.wait)),
            ("realtime.poll.session".into(), time(realtime.poll.session)),
            ("webhooks.timeout".into(), time(webhooks.timeout)),
            ("webhooks.max_in_flight".into(), count(webhooks.max_in_flight)),
            ("limits.connections".into(), count(limits.connections)),
            ("limits.connections_per_ip".into(), count(limits.connections_per_ip)),
            ("limits.channels".into(), count(limits.channels)),
            ("limits.handshakes_per_second".into(), limits.handshakes_per_second.into()),
            ("limits.subscriptions_per_connection".into(), count(limits.subscriptions_per_connection)),
            ("limits.messages_per_second.rate".into(), limits.messages_per_second.rate.into()),
            ("limits.messages_per_second.burst".into(), limits.messages_per_second.burst.into()),
        ];
        for (index, rule) in config.channels.iter().enumerate() {
            let Some(history) = &rule.history else { continue };
            amounts.push((format!("channels.{index}.history.size"), count(history.size)));
            amounts.push((format!("channels.{index}.history.ttl"), time(history.ttl)));
        }
        for (at, _) in amounts.iter().filter(|(_, amount)| *amount == 0) {
            let (section, key) = (at.split('.').next().unwrap_or(at), at.rsplit('.').next().unwrap_or(at));
            if !self.broken.contains(section) {
                self.error(at, format!("`{key}` of nothing lets nobody through; it must be more than 0"));
            }
        }
    }

    fn drain(&mut self) {
        let drain = &self.config.drain;
        if drain.deadline.0 < drain.delay.0 {
            let message = format!("the deadline of {} is over before the delay of {}", drain.deadline, drain.delay);
            self.error("drain.deadline", message);
        }
    }

    fn log_filter(&mut self) {
        const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
        for part in self.config.telemetry.log.split(',').map(str::trim) {
            // A word alone would be taken for the name of a part of the program, which then logs everything.
            let is_part = part.contains("::") || part.contains('[');
            let level = part.rsplit('=').next().unwrap_or(part);
            let is_level = LEVELS.iter().any(|it| it.eq_ignore_ascii_case(level)) || is_part && !part.contains('=');
            let is_directive = part.parse::<tracing_subscriber::filter::Directive>().is_ok();
            if !is_level || !is_directive {
                let advice = match form::nearest(level, LEVELS.into_iter()) {
                    Some(meant) if meant != level => format!("did you mean `{meant}`?"),
                    _ => "write `info`, or `outrigger::proxy=debug,info`".to_owned(),
                };
                self.error("telemetry.log", format!("`{part}` is no log filter; {advice}"));
            }
        }
    }
}

/// `same-origin`, `*`, or what a browser sends: a scheme and a host, no path.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return matches!(text, "same-origin" | "*") };
    let is_name = |it: char| it.is_ascii_alphanumeric() || matches!(it, '+' | '-' | '.');
    !scheme.is_empty() && scheme.chars().all(is_name) && !host.is_empty() && !host.contains(['/', '?', '#', ' '])
}
