//! The running node as commands see it: its API, spoken with a key.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Limited};

use super::{CONFIG, Error, Where, load};
use crate::backend::{self, Backend, Body, Target};
use crate::config::{Api, Config, OneOrMany, Scope, Tls};
use crate::server::Address;

/// Longer than any receipt takes.
const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(5);
/// The largest answer that is read as a whole.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

pub struct Node {
    backend: Backend,
    target: Target,
    key: HeaderValue,
}

impl Node {
    /// From the flags, the environment, or what the configuration says of itself.
    pub fn find(flags: &Where, scope: Scope) -> Result<Self, Error> {
        let needs_file = flags.url.is_none() || flags.key.is_none();
        let config = if needs_file { Some(file(flags)?) } else { None };
        let api = config.map(|it| it.api).unwrap_or_default();
        let target = flags.url.clone().unwrap_or_else(|| target(&api));
        let key = match &flags.key {
            Some(key) => key.clone(),
            None => key(&api, scope)?,
        };
        let mut key = HeaderValue::try_from(format!("Bearer {key}"))
            .map_err(|_| Error::Usage("the key cannot be sent in a header".into()))?;
        key.set_sensitive(true);
        let settings = backend::Settings {
            targets: vec![target.clone()],
            connect_timeout: CONNECT,
            response_timeout: TIMEOUT,
            ca_file: own_certificate(&api),
            trusts_anybody: flags.insecure,
            ..backend::Settings::default()
        };
        let backend = Backend::build(settings, None).map_err(Error::failed)?;
        Ok(Self { backend, target, key })
    }

    /// Sends a request and answers with the head once the node accepted it.
    pub async fn call(&self, method: Method, path: &str, json: Bytes) -> Result<Response<Body>, Error> {
        let host = match &self.target {
            Target::Unix(_) => "localhost".to_owned(),
            it => it.to_string().split("://").last().unwrap_or_default().to_owned(),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .header(header::AUTHORIZATION, self.key.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .body(json.into())
            .map_err(Error::failed)?;
        let response = self.backend.send(request).await;
        response.map_err(|error| Error::Failed(format!("the node does not answer: {error}")))
    }
}

/// What is left of an answer.
pub async fn text(body: Body) -> Result<String, Error> {
    let whole = Limited::new(body, MAX_ANSWER).collect().await.map_err(Error::failed)?;
    Ok(String::from_utf8_lossy(&whole.to_bytes()).into_owned())
}

/// An answer that is no success, in the node's own words.
pub async fn refusal(response: Response<Body>) -> Error {
    let status = response.status();
    let text = text(response.into_body()).await.unwrap_or_default();
    let problem = serde_json::from_str::<serde_json::Value>(&text).unwrap_or_default();
    let said = ["detail", "title"].iter().find_map(|it| problem.get(*it)?.as_str());
    match said {
        Some(said) => Error::Failed(format!("the node answers {status}: {said}")),
        None => Error::Failed(format!("the node answers {status} {}", text.trim())),
    }
}

fn file(flags: &Where) -> Result<Config, Error> {
    if flags.config.is_none() && !std::path::Path::new(CONFIG).exists() {
        return Err(Error::Usage(format!(
            "there is no {CONFIG} here to find the node by; name one with --config FILE, or give --url and --key \
             (OUTRIGGER_URL and OUTRIGGER_KEY)"
        )));
    }
    load(flags.config.as_deref()).map(|it| it.config)
}

/// Where a listener is reached from the same machine.
fn target(api: &Api) -> Target {
    let address = match &api.listen.0 {
        Address::Unix(path) => return Target::Unix(path.clone()),
        Address::Tcp(address) => address,
    };
    let host = match address.ip() {
        IpAddr::V4(it) if it.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V6(it) if it.is_unspecified() => "::1".to_owned(),
        it => it.to_string(),
    };
    let port = address.port();
    if api.tls.is_some() { Target::Https { host, port } } else { Target::Http { host, port } }
}

fn key(api: &Api, scope: Scope) -> Result<String, Error> {
    let opens = |it: &&crate::config::ApiKey| it.scope.contains(&scope) || it.scope.contains(&Scope::Admin);
    let found = api.keys.iter().find(opens).map(|it| it.key.reveal().to_owned());
    let name = format!("{scope:?}").to_lowercase();
    found.ok_or_else(|| Error::Usage(format!("`api.keys` has no key with the scope {name}; give one with --key")))
}

/// What the node proves itself with is believed: the file that says so is ours.
fn own_certificate(api: &Api) -> Option<std::path::PathBuf> {
    match &api.tls {
        Some(Tls::Pairs(OneOrMany(pairs))) => pairs.first().map(|it| it.cert.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ApiKey, Text};

    fn listening(address: &str) -> Api {
        Api { listen: Text(address.parse().unwrap()), ..Api::default() }
    }

    #[test]
    fn the_node_is_reached_where_it_listens() {
        assert_eq!(target(&listening("0.0.0.0:8700")).to_string(), "http://127.0.0.1:8700");
        assert_eq!(target(&listening("10.0.0.7:8700")).to_string(), "http://10.0.0.7:8700");
        assert_eq!(target(&listening("unix:/run/o.sock")).to_string(), "unix:/run/o.sock");
        let tls = Api { tls: Some(Tls::SelfSigned), ..listening("127.0.0.1:1") };
        assert_eq!(target(&tls).to_string(), "https://127.0.0.1:1");
    }

    #[test]
    fn the_first_key_that_opens_the_door_is_taken() {
        let key_of = |name: &str, scope| ApiKey { name: name.into(), key: name.into(), scope: vec![scope] };
        let keys = vec![key_of("pusher", Scope::Push), key_of("reader", Scope::Read), key_of("root", Scope::Admin)];
        let api = Api { keys, ..Api::default() };
        assert_eq!(key(&api, Scope::Read).unwrap(), "reader");
        assert_eq!(key(&api, Scope::Admin).unwrap(), "root");
        assert!(key(&Api::default(), Scope::Push).unwrap_err().to_string().contains("no key with the scope push"));
    }
}
