use super::Error;
use super::logs::{Format, Logs};
use crate::demo;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to log: error, warn, info, debug or trace
    #[arg(long, default_value = "warn", value_name = "LEVEL")]
    log: String,
}

pub async fn run(arguments: Arguments, format: Option<Format>) -> Result<(), Error> {
    Logs::start(format, &arguments.log);
    demo::run().await.map_err(Error::failed)
}
