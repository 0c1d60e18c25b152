//! The life of the process: read, listen, serve and reload until told to stop, drain.

use std::path::{Path, PathBuf};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use super::logs::{Format, Logs};
use super::{CONFIG, Error, load};
use crate::app::App;
use crate::backend::Target;
use crate::config::watch::Watch;
use crate::config::{self, Loaded};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The configuration; outrigger.yaml if there is one here
    #[arg(long, value_name = "FILE", conflicts_with = "upstream")]
    config: Option<PathBuf>,
    /// Run by the defaults in front of this backend: http://HOST:PORT, https://HOST:PORT or unix:/PATH
    #[arg(long, value_name = "URL")]
    upstream: Option<Target>,
}

const EXAMPLES: &str = "\
Examples:
  outrigger run --config /etc/outrigger/outrigger.yaml
  outrigger run --upstream http://127.0.0.1:3000

SIGTERM and Ctrl-C drain, a second one ends at once. A changed file is taken while running; a bad one changes nothing and \
the log says why. Exit codes: 0 drained, 1 failed, 2 bad usage or configuration.";

pub async fn run(arguments: Arguments, format: Option<Format>) -> Result<(), Error> {
    let loaded = configuration(arguments)?;
    let logs = Logs::start(format, &loaded.config.telemetry.log);
    loaded.warnings.lines().for_each(|it| warn!("{}", it.replacen("warning: ", "", 1)));
    raise_descriptor_limit();
    let watch = Watch::start(loaded.files.clone()).map_err(Error::failed)?;
    // Before anybody can see that it listens: a node told to stop a moment later still drains.
    let terminate = signal(SignalKind::terminate()).map_err(Error::failed)?;
    let app = App::start(loaded).await.map_err(Error::failed)?;
    app.addresses().iter().for_each(|address| info!(%address, "listening"));
    info!(address = %app.api_address(), "listening for the backend and the operator");
    match &app.config().data {
        Some(data) => info!(folder = %data.path.display(), "history and positions survive a restart"),
        None => info!("history lives in memory only: it does not survive a restart (`data` is not set)"),
    }
    until_told_to_stop(app, watch, &logs, terminate).await
}

/// Serves, takes changed configurations, and drains at the end.
pub(super) async fn until_told_to_stop(
    app: App,
    mut watch: Watch,
    logs: &Logs,
    mut terminate: Signal,
) -> Result<(), Error> {
    let is_signalled = loop {
        tokio::select! {
            _ = watch.changed() => {
                app.reload().await;
                watch.follow(app.files());
                logs.set(&app.config().telemetry.log);
            }
            () = app.drain_wanted() => break false,
            _ = terminate.recv() => break true,
            _ = tokio::signal::ctrl_c() => break true,
        }
    };
    if is_signalled {
        info!(target: "audit", who = "a signal", act = "drain", "an operator acted");
    }
    info!("draining; a second signal ends it at once");
    tokio::select! {
        left = app.drain() => match left.is_none() {
            true => info!("drained"),
            false => return Err(Error::failed(format!("the deadline came before these ended: {left}"))),
        },
        _ = terminate.recv() => return Err(Error::failed("ended before the drain was over")),
        _ = tokio::signal::ctrl_c() => return Err(Error::failed("ended before the drain was over")),
    }
    Ok(())
}

/// A connection is a descriptor: what the system would allow is asked for.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        warn!(%error, current = ?limit.current, "the limit of open files cannot be raised");
    }
}

fn configuration(arguments: Arguments) -> Result<Loaded, Error> {
    match arguments {
        Arguments { upstream: Some(upstream), .. } => Ok(config::without_file(upstream)),
        Arguments { config: Some(file), .. } => load(Some(&file)),
        _ if Path::new(CONFIG).exists() => load(None),
        _ => Err(Error::Usage(format!(
            "there is no {CONFIG} here; name one with --config FILE, write one with `outrigger init --upstream URL`, or \
             try it without: `outrigger run --upstream URL`"
        ))),
    }
}
