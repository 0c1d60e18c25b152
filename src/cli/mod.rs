//! The command line, one file per command. What a command has to say goes to stdout, everything about it to stderr. A
//! running node is talked to only through its API.

mod check;
mod demo;
mod doctor;
mod init;
mod logs;
mod node;
mod push;
mod run;
mod schema;
mod tail;
mod token;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use crate::config::{self, Loaded, Problems, Severity};
use logs::Format;

/// Gives an existing HTTP application real-time: WebSocket, event streams and long-poll in front of it.
#[derive(Debug, Parser)]
#[command(name = "outrigger", version, arg_required_else_help = true, after_help = START)]
pub struct Arguments {
    /// How to log: text on a terminal, JSON otherwise
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<Format>,
    #[command(subcommand)]
    command: Command,
}

const START: &str = "\
Start with:
  outrigger demo                                    see it work
  outrigger init --upstream http://127.0.0.1:3000   write a configuration for your application
  outrigger run                                     stand in front of it

Exit codes: 0 clean, 1 failure at run time, 2 bad usage or configuration.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Show it: a chat and a live ticker with a small backend of its own, no file needed
    Demo(demo::Arguments),
    /// Write a configuration with fresh secrets, and say what to do next
    Init(init::Arguments),
    /// Stand in front of the application
    Run(run::Arguments),
    /// Check a configuration: every problem with its place; exit code 0, or 2
    Check(check::Arguments),
    /// Print the JSON Schema of the configuration, for editors
    Schema,
    /// Sign a token for a client with the configured key, or explain one
    Token(token::Arguments),
    /// Push a publication to a channel through the running node
    Push(push::Arguments),
    /// Watch a channel of the running node
    Tail(tail::Arguments),
    /// Look the running node over, and what it depends on; exit code 0, or 1
    Doctor(doctor::Arguments),
}

/// The file that is looked for where none is named.
const CONFIG: &str = "outrigger.yaml";

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Bad usage.
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Config(Problems),
    /// A failure at run time.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Config(_) => 2,
            Self::Failed(_) => 1,
        }
    }

    /// What a terminal shows, ended by a line break.
    pub fn told(&self) -> String {
        match self {
            Self::Config(problems) => format!("{problems}{}\n", summary(problems)),
            Self::Usage(it) | Self::Failed(it) => format!("outrigger: {it}\n"),
        }
    }

    fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

pub async fn run(arguments: Arguments) -> Result<(), Error> {
    let Arguments { log_format, command } = arguments;
    match command {
        Command::Demo(it) => demo::run(it, log_format).await,
        Command::Init(it) => init::run(&it),
        Command::Run(it) => run::run(it, log_format).await,
        Command::Check(it) => check::run(&it),
        Command::Schema => schema::run(),
        Command::Token(it) => token::run(it).await,
        Command::Push(it) => push::run(it).await,
        Command::Tail(it) => tail::run(it).await,
        Command::Doctor(it) => doctor::run(it).await,
    }
}

/// The configuration a command speaks about.
fn load(path: Option<&Path>) -> Result<Loaded, Error> {
    config::load(path.unwrap_or(Path::new(CONFIG))).map_err(Error::Config)
}

/// Writes a line for whoever reads stdout; a reader that went away (`| head`) ends the command, and that is all.
fn say(line: impl std::fmt::Display) -> Result<(), Error> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.map_err(Error::failed),
    }
}

/// An id that is like no other.
fn unique(kind: &str) -> String {
    format!("{kind}_{}", crate::channel::unique_id())
}

/// Writes to stderr as it is. One that nobody reads changes nothing: the exit code speaks for itself.
pub fn tell(text: impl std::fmt::Display) {
    let _ = write!(std::io::stderr(), "{text}");
}

/// `2 errors, 1 warning`
fn summary(problems: &Problems) -> String {
    let count = |severity, name: &str| match problems.count(severity) {
        0 => None,
        1 => Some(format!("1 {name}")),
        several => Some(format!("{several} {name}s")),
    };
    let counts = [count(Severity::Error, "error"), count(Severity::Warning, "warning")];
    counts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Where commands find the running node.
#[derive(Debug, clap::Args)]
struct Where {
    /// The node's internal listener: http://HOST:PORT, https://HOST:PORT or unix:/PATH
    #[arg(long, env = "OUTRIGGER_URL")]
    url: Option<crate::backend::Target>,
    /// A key of `api.keys`
    #[arg(long, env = "OUTRIGGER_KEY", hide_env_values = true)]
    key: Option<String>,
    /// The configuration that says both
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Believe whatever certificate the node shows: for `api.tls: self_signed`
    #[arg(long)]
    insecure: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
