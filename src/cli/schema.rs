use super::{Error, say};
use crate::config;

/// An editor finds it by `# yaml-language-server: $schema=outrigger.schema.json` in the first line of the file.
pub fn run() -> Result<(), Error> {
    say(format_args!("{:#}", config::schema()))
}
