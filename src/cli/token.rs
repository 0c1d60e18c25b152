use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::{Error, load, say};
use crate::app;
use crate::auth::{Identity, Settings, Signer, ToSign, Verifier};
use crate::backend::Backend;
use crate::config::Loaded;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    verify: Option<Verify>,
    #[command(flatten)]
    sign: Sign,
}

const EXAMPLES: &str = "\
Examples:
  outrigger token --user 42 --channel 'room.*' --ttl 1h
  outrigger token --user 42 --claim name=Ada --claim admin=true
  outrigger token verify eyJhbGciOiJIUzI1NiJ9…";

#[derive(Debug, Subcommand)]
enum Verify {
    /// Say what a token holds and whether it is accepted; exit code 0 if it is, else 1
    Verify {
        /// As the client would send it
        token: String,
        /// The configuration with the key; outrigger.yaml if there is one here
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct Sign {
    /// The user's id
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// A channel, or a pattern of channels, that it opens; several by repeating it
    #[arg(long = "channel", value_name = "PATTERN")]
    channels: Vec<String>,
    /// How long it is valid
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = humantime::parse_duration)]
    ttl: Duration,
    /// A further claim, as NAME=JSON or NAME=TEXT
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, Value)>,
    /// The configuration with the key; outrigger.yaml if there is one here
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub async fn run(arguments: Arguments) -> Result<(), Error> {
    match arguments.verify {
        Some(Verify::Verify { token, config }) => verify(&token, &load(config.as_deref())?).await,
        None => sign(arguments.sign),
    }
}

fn sign(arguments: Sign) -> Result<(), Error> {
    let Sign { user, channels, ttl, claims, config } = arguments;
    if user.is_none() && channels.is_empty() {
        return Err(Error::Usage("a token says who somebody is or what they may follow: --user, --channel".into()));
    }
    for channel in &channels {
        crate::channel::Pattern::parse(channel)
            .map_err(|error| Error::Usage(format!("--channel {channel}: {error}")))?;
    }
    let loaded = load(config.as_deref())?;
    let signer = Signer::build(&settings(&loaded)?).map_err(|error| Error::Usage(error.to_string()))?;
    let claims: Map<String, Value> = claims.into_iter().collect();
    say(signer.sign(&ToSign { user, channels, ttl, claims }))?;
    Ok(())
}

async fn verify(token: &str, loaded: &Loaded) -> Result<(), Error> {
    let backend = Backend::build(app::backend_settings(&loaded.config), None).map_err(Error::failed)?;
    let verifier = Verifier::build(&settings(loaded)?, &Arc::new(backend), None).map_err(Error::failed)?;
    let explained = verifier.explain(token.trim()).await;
    for (name, part) in [("header", &explained.header), ("claims", &explained.claims)] {
        say(format_args!("{name:9} {}", part.as_deref().unwrap_or("cannot be read")))?;
    }
    match explained.verdict {
        Ok(identity) => {
            say(format_args!("{:9} {}", "accepted", describe(&identity)))?;
            Ok(())
        }
        Err(refused) => Err(Error::Failed(format!("refused: {refused}"))),
    }
}

fn describe(identity: &Identity) -> String {
    let user = identity.user.as_deref().map_or("nobody in particular".to_owned(), |it| format!("user {it}"));
    let left = identity.expires_at.and_then(|it| it.duration_since(std::time::SystemTime::now()).ok());
    let until = left.map_or("for ever".to_owned(), |it| {
        format!("for {}", humantime::format_duration(Duration::from_secs(it.as_secs())))
    });
    format!("as {user}, {until}")
}

fn settings(loaded: &Loaded) -> Result<Settings, Error> {
    let missing = || Error::Usage("this configuration has no `auth.jwt` to sign or check tokens with".into());
    loaded.config.auth.jwt.as_ref().map(app::token_settings).ok_or_else(missing)
}

/// `admin=true` is a truth, `name=Ada` a text.
fn claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_json_or_else_a_text() {
        assert_eq!(claim("admin=true"), Ok(("admin".into(), true.into())));
        assert_eq!(claim("name=Ada=x"), Ok(("name".into(), "Ada=x".into())));
        assert_eq!(claim("tenant=\"7\""), Ok(("tenant".into(), "7".into())));
        assert!(claim("tenant").is_err());
    }
}
