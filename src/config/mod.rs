//! The YAML file as users see it, one section per owner, with every default. Each field's comment is the sentence an
//! operator reads: it is the description in the JSON Schema and in `config.example.yaml`. Changes nothing that runs.

mod sections;
mod values;

pub use sections::*;
pub use values::{Bytes, Duration, OneOrMany, Secret, Size, Text};

impl Config {
    /// Reads a whole file's text. The first problem ends it.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_yaml::from_str(text).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_the_contract_are_read() {
        let config = Config::parse(
            "
listen:
  - address: 0.0.0.0:8443
    tls: { cert: cert.pem, key: key.pem }
  - address: 0.0.0.0:8444
    tls: self_signed
upstream: { url: http://127.0.0.1:3000 }
realtime: { compression: null, allowed_origins: [same-origin, https://a.example] }
auth: { jwt: { secret: abc, algorithms: [HS256] } }
channels:
  - match: 'room.*'
    subscribe: grant
    publish: webhook+broadcast
    history: { size: 10, ttl: 10m }
api: { keys: [ { name: b, key: { file: k }, scope: [push, read] } ] }
",
        )
        .unwrap();
        assert!(matches!(&config.listen[0].tls, Some(Tls::Pairs(it)) if it.0.len() == 1));
        assert_eq!(config.listen[1].tls, Some(Tls::SelfSigned));
        assert_eq!(config.api.keys[0].key, Secret::File("k".into()));
        assert_eq!(config.channels[0].publish, Publish::WebhookAndBroadcast);
        assert!(!format!("{config:?}").contains("abc"));
    }
}
