//! The newcomer's first minute: a small backend, a node in front of it, and what to type.

use std::path::Path;

use aws_lc_rs::rand;
use tokio::net::TcpListener;

use super::logs::{Format, Logs};
use super::{Error, say};
use crate::app::App;
use crate::config;
use crate::demo;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to log: error, warn, info, debug or trace
    #[arg(long, default_value = "warn", value_name = "LEVEL")]
    log: String,
}

pub async fn run(arguments: Arguments, format: Option<Format>) -> Result<(), Error> {
    Logs::start(format, &arguments.log);
    let at = demo::Addresses::default();
    let (key, webhook_secret) = (random_hex()?, format!("whsec_{}", random_hex()?));
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Error::failed)?;
    let backend = listener.local_addr().map_err(Error::failed)?;
    let yaml = demo::config(backend, &at, &webhook_secret, &key);
    let loaded = config::parse("demo", &yaml, Path::new("/"), &|_: &str| None).map_err(Error::Config)?;
    let app = App::start(loaded).await.map_err(Error::failed)?;
    let settings = demo::Settings { api: at.api, key: key.clone(), webhook_secret, commands: at.commands(&key) };
    say(demo::welcome(&at, &key))?;
    tokio::select! {
        Err(error) = demo::serve(listener, settings) => return Err(Error::failed(error)),
        _ = tokio::signal::ctrl_c() => {}
    }
    app.drain().await;
    Ok(())
}

/// Sixteen bytes of chance, which are base64 too.
fn random_hex() -> Result<String, Error> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| Error::Failed("the system gives no random bytes".into()))?;
    Ok(bytes.iter().map(|it| format!("{it:02x}")).collect())
}
