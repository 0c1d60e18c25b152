//! The life of the process: read, listen, serve and reload until told to stop, drain.

use std::path::{Path, PathBuf};

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::logs::{Format, Logs};
use super::{CONFIG, Error, load};
use crate::app::App;
use crate::backend::Target;
use crate::config::{self, Loaded};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration; outrigger.yaml if there is one here
    #[arg(long, value_name = "FILE", conflicts_with = "upstream")]
    config: Option<PathBuf>,
    /// Run by the defaults in front of this backend: http://HOST:PORT, https://HOST:PORT or unix:/PATH
    #[arg(long, value_name = "URL")]
    upstream: Option<Target>,
}

pub async fn run(arguments: Arguments, format: Option<Format>) -> Result<(), Error> {
    let loaded = configuration(arguments)?;
    let _logs = Logs::start(format, &loaded.config.telemetry.log);
    loaded.warnings.lines().for_each(|it| warn!("{it}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::failed)?;
    let app = App::start(loaded).await.map_err(Error::failed)?;
    app.addresses().iter().for_each(|address| info!(%address, "listening"));
    info!(address = %app.api_address(), "listening for the backend and the operator");

    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    info!("draining; a second signal ends it at once");
    tokio::select! {
        left = app.drain() => info!(left, "drained"),
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
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
