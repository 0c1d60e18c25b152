//! `GET /metrics`: the registry in the OpenMetrics text format, with the ledger and the process beside what others
//! registered.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::hub::{Hub, Sums};

pub(super) fn render(registry: &Registry) -> Response<Full<Bytes>> {
    let Some(text) = text(registry) else {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return response;
    };
    let mut response = Response::new(Full::from(text));
    let openmetrics = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, openmetrics);
    response
}

/// None only where a metric cannot be written down.
pub(super) fn text(registry: &Registry) -> Option<String> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).ok()?;
    Some(text)
}

/// Registers what is read when it is asked for: the ledger of deliveries, channels, memory and descriptors.
pub fn collect(registry: &mut Registry, hub: Arc<Hub>) {
    registry.register_collector(Box::new(Live { hub }));
}

#[derive(Debug)]
struct Live {
    hub: Arc<Hub>,
}

impl Collector for Live {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Sums { expected, flushed, queued, dropped, bytes, holes } = self.hub.ledger().read();
        let mut counter = |name: &str, help: &str, value: u64| {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
        };
        counter("deliveries_expected", "Publications owed to subscribers: flushed + queued + dropped", expected)?;
        counter("deliveries_flushed", "Publications whose every byte the kernel has", flushed)?;
        counter("sent_bytes", "Bytes of publications offered to clients", bytes)?;
        let help = "Times a channel's subscribers were sent back to its history because something had not reached them";
        counter("delivery_holes", help, holes)?;
        let of_reason = ConstCounter::new(0_u64);
        let mut family = encoder.encode_descriptor(
            "deliveries_dropped",
            "Publications clients did not get",
            None,
            of_reason.metric_type(),
        )?;
        for (why, count) in dropped {
            ConstCounter::new(count).encode(family.encode_family(&[("reason", why.name())])?)?;
        }
        let queued_gauge = ConstGauge::new(i64::try_from(queued).unwrap_or(i64::MAX));
        queued_gauge.encode(encoder.encode_descriptor(
            "deliveries_queued",
            "Publications waiting in outboxes",
            None,
            queued_gauge.metric_type(),
        )?)?;
        for (name, help, unit, value) in process() {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, unit.as_ref(), gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// Of this process, from /proc and the system; nothing where it does not say.
fn process() -> Vec<(&'static str, &'static str, Option<Unit>, i64)> {
    let mut found = Vec::new();
    let resident = std::fs::read_to_string("/proc/self/status").ok().and_then(|text| {
        let line = text.lines().find(|it| it.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse::<i64>().ok()
    });
    if let Some(kib) = resident {
        found.push(("process_resident_memory", "Resident memory", Some(Unit::Bytes), kib * 1024));
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        found.push(("process_open_fds", "Open file descriptors", None, i64::try_from(entries.count()).unwrap_or(0)));
    }
    if let Some(most) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        found.push((
            "process_max_fds",
            "File descriptors that may be open",
            None,
            i64::try_from(most).unwrap_or(i64::MAX),
        ));
    }
    found
}
