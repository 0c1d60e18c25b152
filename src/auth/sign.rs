use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, Header};
use serde_json::{Map, Value, json};

use super::keys::InvalidKey;
use super::token::Settings;

/// Makes tokens that a `Verifier` of the same settings accepts.
pub struct Signer {
    key: EncodingKey,
    header: Header,
    user_claim: String,
    /// `iss` and `aud`, as far as they are checked.
    fixed: Map<String, Value>,
}

/// What a token is to say.
#[derive(Clone, Debug, Default)]
pub struct ToSign {
    pub user: Option<String>,
    pub channels: Vec<String>,
    pub ttl: Duration,
    /// Whatever else it is to say; it gives way to the claims above.
    pub claims: Map<String, Value>,
}

/// Why no token can be made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotSign {
    #[error(
        "tokens can only be signed with a `secret`; with public keys or a key set, whoever has the private key does"
    )]
    NoSecret,
    #[error(transparent)]
    Key(#[from] InvalidKey),
}

impl Signer {
    /// Signs with the first secret: in a rotation the newest comes first.
    pub fn build(settings: &Settings) -> Result<Self, CannotSign> {
        let secret = settings.secrets.first().ok_or(CannotSign::NoSecret)?;
        let allowed = &settings.algorithms;
        super::keys::Key::from_secret(secret, allowed)?;
        let chosen = allowed.iter().copied().find(|it| it.family() == AlgorithmFamily::Hmac);
        let mut header = Header::new(chosen.unwrap_or(Algorithm::HS256));
        header.kid = secret.kid.clone();
        let mut fixed = Map::new();
        for (name, accepted) in [("iss", &settings.issuer), ("aud", &settings.audience)] {
            if let Some(first) = accepted.first() {
                fixed.insert(name.into(), json!(first));
            }
        }
        let user_claim = settings.user_claim.first().cloned().unwrap_or_else(|| "sub".into());
        Ok(Self { key: EncodingKey::from_secret(secret.value.as_bytes()), header, user_claim, fixed })
    }

    pub fn sign(&self, what: &ToSign) -> String {
        self.sign_at(what, SystemTime::now())
    }

    /// The same with a time of issue of its own.
    pub fn sign_at(&self, what: &ToSign, now: SystemTime) -> String {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut claims = what.claims.clone();
        claims.extend(self.fixed.clone());
        claims.insert("iat".into(), json!(now.as_secs()));
        claims.insert("exp".into(), json!(now.saturating_add(what.ttl).as_secs()));
        if let Some(user) = &what.user {
            claims.insert(self.user_claim.clone(), json!(user));
        }
        if !what.channels.is_empty() {
            claims.insert("channels".into(), json!(what.channels));
        }
        jsonwebtoken::encode(&self.header, &claims, &self.key).expect("an HMAC over JSON cannot fail")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Named, Verifier};
    use crate::channel::ChannelName;

    #[tokio::test]
    async fn a_signed_token_is_accepted_by_the_verifier_of_the_same_settings() {
        let settings = Settings {
            secrets: vec![Named { kid: Some("new".into()), value: "a secret of at least 32 bytes, as it must".into() }],
            algorithms: vec![Algorithm::RS256, Algorithm::HS384],
            issuer: vec!["us".into()],
            audience: vec!["outrigger".into()],
            user_claim: vec!["userId".into(), "sub".into()],
            ..Settings::default()
        };
        let what = ToSign {
            user: Some("42".into()),
            channels: vec!["room.*".into()],
            ttl: Duration::from_secs(3600),
            claims: Map::new(),
        };
        let token = Signer::build(&settings).unwrap().sign(&what);
        let identity = Verifier::with(&settings, None).unwrap().verify(&token).await.unwrap();
        assert_eq!(identity.user.as_deref(), Some("42"));
        assert!(identity.grants.may_publish(&ChannelName::parse("room.5").unwrap(), Some("42")));
        assert_eq!(identity.claims, None);
    }

    #[test]
    fn without_a_secret_nothing_is_signed() {
        assert_eq!(Signer::build(&Settings::default()).err(), Some(CannotSign::NoSecret));
    }
}
