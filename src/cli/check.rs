use std::path::PathBuf;

use super::{CONFIG, Error, load, say, summary, tell};
use crate::app;
use crate::config::Config;

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
    tell(&loaded.warnings);
    app::try_out(&loaded.config).map_err(|error| Error::Usage(format!("{}: {error}", arguments.config.display())))?;
    let verdict = match summary(&loaded.warnings) {
        none if none.is_empty() => "is fine".to_owned(),
        warnings => format!("can be used, with {warnings}"),
    };
    say(format_args!("{} {verdict}: {}", arguments.config.display(), plan(&loaded.config)))
}

/// What a node would do with it, so that a wrong file is noticed even if nothing is wrong in it.
fn plan(config: &Config) -> String {
    let list = |all: Vec<String>| if all.is_empty() { "nothing".to_owned() } else { all.join(", ") };
    let listen =
        config.listen.iter().map(|it| format!("{}{}", it.address, if it.tls.is_some() { " (TLS)" } else { "" }));
    let backends = config.upstream.url.0.iter().map(ToString::to_string);
    let rules = match config.channels.len() {
        1 => "1 channel rule".to_owned(),
        several => format!("{several} channel rules"),
    };
    format!("{} → {}, {rules}, API on {}", list(listen.collect()), list(backends.collect()), config.api.listen)
}
