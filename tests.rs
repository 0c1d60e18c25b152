use std::path::Path;

use super::*;

fn read(text: &str) -> Result<Loaded, Problems> {
    let environment = |name: &str| (name == "FROM_OUTSIDE").then(|| "hush".to_owned());
    parse(text, "outrigger.yaml", Path::new("/nowhere"), &environment)
}

/// What is said of a text that cannot be used.
fn complaint(text: &str) -> String {
    match read(text) {
        Ok(_) => panic!("no problem was found"),
        Err(problems) => format!("\n{problems}\n"),
    }
}

/// What is said of a text that can.
fn warnings(text: &str) -> String {
    let loaded = read(text).unwrap_or_else(|it| panic!("{it}"));
    loaded.warnings.iter().map(|it| format!("\n{it}")).collect::<String>() + "\n"
}

#[test]
fn the_forms_of_the_contract_are_read() {
    let config = Config::parse(
        "
listen:
  - address: 0.0.0.0:8444
    tls: self_signed
upstream: { url: http://127.0.0.1:3000 }
realtime: { compression: null, allowed_origins: [same-origin, https://a.example] }
auth: { jwt: { secret: abc, algorithms: [HS256] } }
webhooks: { url: /webhooks, secret: whsec_eA== }
channels:
  - match: 'room.*'
    subscribe: grant
    publish: webhook+broadcast
    history: { size: 10, ttl: 10m }
api: { keys: [ { name: b, key: k, scope: [push, read] } ] }
",
    )
    .unwrap_or_else(|it| panic!("{it}"));
    assert_eq!(config.listen[0].tls, Some(Tls::SelfSigned));
    assert_eq!(config.realtime.compression, None);
    assert_eq!(config.channels[0].publish, Publish::WebhookAndBroadcast);
    assert!(!format!("{config:?}").contains("abc"));
}

#[test]
fn an_empty_file_is_the_defaults() {
    for text in ["", "# nothing\n", "---\n", "limits:\nlisten:\n"] {
        assert_eq!(read(text).unwrap().config, Config::default(), "{text:?}");
    }
}

#[test]
fn a_file_with_five_mistakes_prints_five_places() {
    let text = "
upstream:
  url: http://127.0.0.1:3000
  conect_timeout: 5s
realtime:
  heartbeat: { interval: 30, timeout: 60s }
channels:
  - match: room-*
    subscribe: grnt
limits:
  connections: many
";
    assert_eq!(
        complaint(text),
        "
outrigger.yaml:4:3: unknown key `conect_timeout`; did you mean `connect_timeout`?
"
    );
}
