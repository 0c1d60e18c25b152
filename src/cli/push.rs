use std::io::Read;

use http::Method;
use serde_json::{Value, json};

use super::node::{self, Node};
use super::{Error, Where, say};
use crate::config::Scope;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// room.5
    channel: String,
    /// What to publish; `-` reads it from stdin
    json: String,
    /// Names the kind of publication
    #[arg(long)]
    event: Option<String>,
    /// Makes it idempotent: the same id is taken once
    #[arg(long)]
    id: Option<String>,
    #[command(flatten)]
    node: Where,
}

const EXAMPLES: &str = "\
Examples:
  outrigger push room.5 '{\"text\":\"hello\"}'
  outrigger push room.5 '\"a text is JSON with its quotes\"'
  date +%s | outrigger push clock - --event tick
  outrigger push room.5 '{}' --id order-17      # taken once, however often it is sent
  OUTRIGGER_URL=http://10.0.0.7:8700 OUTRIGGER_KEY=… outrigger push room.5 '{}'

Prints the node's receipt. Exit codes: 0 taken, 1 not taken or no answer, 2 bad usage.";

pub async fn run(arguments: Arguments) -> Result<(), Error> {
    let Arguments { channel, json, event, id, node } = arguments;
    let text = if json == "-" { stdin()? } else { json };
    let data: Value = serde_json::from_str(&text).map_err(|error| {
        let hint = if text.starts_with(['{', '[']) { "" } else { "; a text is JSON with its quotes: '\"hello\"'" };
        Error::Usage(format!("this is no JSON: {error}{hint}"))
    })?;
    let mut push = json!({ "channel": channel, "data": data });
    for (name, value) in [("event", event), ("id", id)] {
        if let Some(value) = value {
            push[name] = value.into();
        }
    }
    let node = Node::find(&node, Scope::Push)?;
    let response = node.call(Method::POST, "/push", push.to_string().into()).await?;
    let is_receipt = response.headers().get(http::header::CONTENT_TYPE).is_some_and(|it| it == "application/json");
    if !is_receipt {
        return Err(node::refusal(response).await);
    }
    let was_taken = response.status().is_success();
    let receipt = node::text(response.into_body()).await?;
    say(receipt.trim())?;
    if was_taken { Ok(()) } else { Err(Error::Failed("it was not taken".into())) }
}

fn stdin() -> Result<String, Error> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(Error::failed)?;
    Ok(text)
}
