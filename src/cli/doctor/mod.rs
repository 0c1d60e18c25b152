//! `outrigger doctor`: looks a running node over through its API, and at what it depends on from here: the backend, the
//! webhook, certificates, the data folder. It changes nothing; its one publication goes to a channel of its own.

mod backend;
mod certificate;
mod finding;
mod machine;
mod running;
mod webhook;

use std::time::Duration;

use super::node::Node;
use super::{Error, Where, load, say};
use crate::config::{Config, Scope};
use finding::{Finding, Verdict};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// For programs: one JSON object with every finding
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: Where,
}

const EXAMPLES: &str = "\
Examples:
  outrigger doctor
  outrigger doctor --config /etc/outrigger/outrigger.yaml --json
  outrigger doctor --insecure            # the API has `tls: self_signed`

Run it on the machine of the node, with the file it runs by. It publishes one small message to the channel
`outrigger.doctor`, sends HEAD / to each backend, and asks the webhook twice with `\"type\":\"ping\"`, once without a
signature. Exit codes: 0 nothing failed (there may be warnings), 1 something did, 2 bad usage or configuration.";

/// One check takes no longer.
const PATIENCE: Duration = Duration::from_secs(10);

pub async fn run(arguments: Arguments) -> Result<(), Error> {
    let config = load(arguments.node.config.as_deref())?.config;
    let findings = examine(&arguments.node, &config).await?;
    let failed = findings.iter().filter(|it| it.verdict == Verdict::Failed).count();
    if arguments.json {
        let verdict = if failed == 0 { Verdict::Ok } else { Verdict::Failed };
        say(serde_json::json!({ "verdict": verdict, "findings": findings }))?;
    } else {
        findings.iter().try_for_each(say)?;
    }
    match failed {
        0 => Ok(()),
        1 => Err(Error::Failed("1 check failed".into())),
        several => Err(Error::Failed(format!("{several} checks failed"))),
    }
}

async fn examine(flags: &Where, config: &Config) -> Result<Vec<Finding>, Error> {
    let reader = Node::find(flags, Scope::Read)?;
    // What no key opens is not checked, and said so.
    let (pusher, operator) = (Node::find(flags, Scope::Push).ok(), Node::find(flags, Scope::Admin).ok());
    let mut findings = Vec::new();
    let (alive, node_time) = running::health(&reader).await;
    let is_alive = alive.verdict != Verdict::Failed;
    findings.push(alive);
    if is_alive {
        findings.push(running::readiness(&reader).await);
        findings.push(running::configuration(operator.as_ref()).await);
        findings.push(running::round_trip(&reader, pusher.as_ref()).await);
        findings.extend(running::metrics(&reader, config).await);
    }
    findings.push(machine::data_folder(config));
    findings.extend(backend::reach(config, node_time).await);
    findings.extend(webhook::ask(config).await);
    findings.extend(machine::certificates(config));
    Ok(findings)
}
