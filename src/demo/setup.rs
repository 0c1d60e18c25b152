//! The demo's configuration, and what it prints for the newcomer.

use std::net::SocketAddr;

/// Where the demo listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub https: SocketAddr,
    pub http: SocketAddr,
    pub api: SocketAddr,
}

impl Default for Addresses {
    /// This machine alone: the demo lets anybody in.
    fn default() -> Self {
        let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        Self { https: local(8443), http: local(8080), api: local(8700) }
    }
}

/// The YAML a team would write for this backend.
pub fn config(backend: SocketAddr, at: &Addresses, webhook_secret: &str, push_key: &str) -> String {
    let Addresses { https, http, api } = at;
    format!(
        r#"listen:
  - address: "{https}"
    tls: self_signed
  - address: "{http}"
realtime:
  poll: {{ wait: 5s, session: 8s }} # a poll cannot say that it was the last: so long somebody who left is still seen
upstream:
  url: http://{backend}
auth:
  anonymous: true
  webhook: true
channels:
  - match: "chat.*"
    subscribe: public
    publish: webhook+broadcast
    presence: true
    history: {{ size: 50, ttl: 1h }}
  - match: ticker
    subscribe: public
    history: {{ size: 1, ttl: 1h }}
    when_slow: latest_only
  - match: orders
    subscribe: public
    history: {{ size: 20, ttl: 1h }}
  - match: "**"
    subscribe: public
webhooks:
  url: /webhooks/realtime
  secret: {webhook_secret}
api:
  listen: "{api}"
  keys:
    - name: backend
      key: {push_key}
      scope: [push, read, admin]
drain: {{ delay: 0s, spread: 1s, deadline: 5s }}
"#
    )
}

impl Addresses {
    /// Lines that push something, for a terminal.
    pub fn commands(&self, push_key: &str) -> Vec<String> {
        let push = |body: &str| {
            format!(
                "curl http://{}/push -H 'Authorization: Bearer {push_key}' \
                 -H 'Content-Type: application/json' -d '{body}'",
                self.api
            )
        };
        vec![
            push(r#"{"channel":"chat.lobby","data":{"from":"curl","text":"Hello from a terminal!"}}"#),
            push(r#"{"channel":"orders","data":{"number":1,"item":"anchor","price":180,"by":"curl"}}"#),
            format!("curl -N 'http://{}/realtime/sse?channels=chat.lobby,orders'", host(self.http)),
        ]
    }
}

/// What is printed once everything listens.
pub fn welcome(at: &Addresses, push_key: &str) -> String {
    let commands = at.commands(push_key);
    format!(
        "
  Outrigger's demo is up. Open it, twice if you like:

    https://{}   (self-signed: your browser asks once)
    http://{}

  These make something appear there at once:

    {}

    {}

  And this listens:

    {}

  The console shows who is connected, and what became of it all. The key in the lines above opens it:

    http://{}/

  Ctrl-C ends it.
",
        host(at.https),
        host(at.http),
        commands[0],
        commands[1],
        commands[2],
        at.api,
    )
}

/// `localhost` where it is that: certificates and cookies are for names.
fn host(address: SocketAddr) -> String {
    if address.ip().is_loopback() { format!("localhost:{}", address.port()) } else { address.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::ChannelName;
    use crate::config::{Config, Publish, Subscribe, Tls, WhenSlow};

    fn parsed() -> Config {
        let backend = SocketAddr::from(([127, 0, 0, 1], 3001));
        let text = config(backend, &Addresses::default(), "whsec_c2VjcmV0", "key1");
        crate::config::parse("demo", &text, std::path::Path::new("/"), &|_| None).unwrap().config
    }

    #[test]
    fn the_configuration_is_one_that_outrigger_reads() {
        let config = parsed();
        assert_eq!(config.listen[0].tls, Some(Tls::SelfSigned));
        assert_eq!(config.listen[0].address.0.to_string(), "127.0.0.1:8443");
        assert_eq!(config.listen[1].address.0.to_string(), "127.0.0.1:8080");
        assert_eq!(config.upstream.url.0[0].0.to_string(), "http://127.0.0.1:3001");
        assert_eq!(config.api.listen.0.to_string(), "127.0.0.1:8700");
        assert_eq!(config.webhooks.url.unwrap().0, "/webhooks/realtime");
        assert!(config.auth.anonymous && config.auth.webhook);
    }

    #[test]
    fn the_chat_is_judged_and_everything_else_can_only_be_followed() {
        let rules = parsed().channels;
        let rule = |name: &str| {
            let channel = ChannelName::parse(name).unwrap();
            rules.iter().find(|it| it.pattern.0.matches(&channel, None)).unwrap()
        };
        assert_eq!(rule("chat.lobby").publish, Publish::WebhookAndBroadcast);
        assert!(rule("chat.lobby").presence && !rule("orders").presence);
        assert_eq!(rule("ticker").when_slow, WhenSlow::LatestOnly);
        assert_eq!(rule("orders").history.as_ref().unwrap().size, 20);
        for name in ["ticker", "orders", "any.thing.else"] {
            assert_eq!((rule(name).subscribe, rule(name).publish), (Subscribe::Public, Publish::None), "{name}");
        }
    }

    #[test]
    fn the_welcome_shows_where_to_look_and_what_to_type() {
        let welcome = welcome(&Addresses::default(), "key1");
        assert!(welcome.contains("https://localhost:8443") && welcome.contains("http://localhost:8080"));
        assert_eq!(welcome.matches("curl http://127.0.0.1:8700/push -H 'Authorization: Bearer key1'").count(), 2);
        assert!(welcome.contains("curl -N 'http://localhost:8080/realtime/sse?channels="));
        assert!(welcome.contains("The key in the lines above opens it:\n\n    http://127.0.0.1:8700/\n"));
    }
}
