use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::init::Secrets;
use super::logs::{Format, Logs};
use super::run::until_told_to_stop;
use super::{Error, say};
use crate::app::App;
use crate::config::watch::{Files, Watch};
use crate::{config, demo};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to log: error, warn, info, debug or trace
    #[arg(long, default_value = "warn", value_name = "LEVEL")]
    log: String,
}

/// The backend of the demo and a node in front of it, configured as a team would do it.
pub async fn run(arguments: Arguments, format: Option<Format>) -> Result<(), Error> {
    let logs = Logs::start(format, &arguments.log);
    let Secrets { webhook, push, .. } = Secrets::fresh()?;
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.map_err(Error::failed)?;
    let backend = listener.local_addr().map_err(Error::failed)?;
    let at = demo::Addresses::default();
    let text = demo::config(backend, &at, &webhook, &push);
    let loaded = config::parse("demo", &text, Path::new("/"), &|_| None).map_err(Error::Config)?;
    let watch = Watch::start(Files::default()).map_err(Error::failed)?;
    let terminate = signal(SignalKind::terminate()).map_err(Error::failed)?;
    let app = App::start(loaded).await.map_err(Error::failed)?;
    say(demo::welcome(&at, &push))?;
    let settings = demo::Settings { api: at.api, commands: at.commands(&push), key: push, webhook_secret: webhook };
    tokio::select! {
        ended = until_told_to_stop(app, watch, &logs, terminate) => ended,
        failed = demo::serve(listener, settings) => match failed { Err(error) => Err(Error::failed(error)) },
    }
}
