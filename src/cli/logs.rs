//! Logs go to stderr: as text for people, as JSON for programs.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing::Subscriber;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Json,
    Text,
}

/// The level of what is logged, which a reload may change.
#[derive(Clone, Debug)]
pub struct Logs(reload::Handle<EnvFilter, Registry>);

impl Logs {
    /// Logs from now on. `level` is what `telemetry.log` says.
    pub fn start(format: Option<Format>, level: &str) -> Self {
        let (filter, handle) = reload::Layer::new(filter(level));
        let terminal = std::io::stderr().is_terminal();
        let format = format.unwrap_or(if terminal { Format::Text } else { Format::Json });
        // A second start in one process (a test) leaves the first in charge.
        let _ = tracing_subscriber::registry().with(filter).with(lines(format, terminal)).try_init();
        Self(handle)
    }

    pub fn set(&self, level: &str) {
        let _ = self.0.reload(filter(level));
    }
}

/// The configuration was checked, so the default stands in for nothing but a mistake of ours.
fn filter(level: &str) -> EnvFilter {
    EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"))
}

fn lines<S: Subscriber + for<'a> LookupSpan<'a>>(format: Format, terminal: bool) -> Box<dyn Layer<S> + Send + Sync> {
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    match format {
        Format::Json => layer.json().flatten_event(true).boxed(),
        Format::Text => layer.boxed(),
    }
}
