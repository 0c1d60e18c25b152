use std::io::Read;

use http::Method;
use serde_json::{Value, json};

use super::node::{self, Node};
use super::{Error, Where, say};
use crate::config::Scope;

#[derive(Debug, clap::Args)]
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
