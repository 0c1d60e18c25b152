use std::path::PathBuf;

use super::{CONFIG, Error, load, say, summary};
use crate::app;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  outrigger check
  outrigger check --config /etc/outrigger/outrigger.yaml && systemctl restart outrigger

Exit codes: 0 it can be used (warnings go to stderr), 2 it cannot.";

/// Beyond what the file says, everything it names is built once: certificates, keys, patterns.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    let loaded = load(Some(&arguments.config))?;
    eprint!("{}", loaded.warnings);
    app::try_out(&loaded.config).map_err(|error| Error::Usage(format!("{}: {error}", arguments.config.display())))?;
    match summary(&loaded.warnings) {
        none if none.is_empty() => say(format_args!("{} is fine", arguments.config.display())),
        warnings => say(format_args!("{} can be used, with {warnings}", arguments.config.display())),
    }
}
