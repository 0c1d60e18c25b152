use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::Uri;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::claims::Checks;
use super::key_set::{KeySet, through};
use super::keys::{InvalidKey, Key, Named, SecretBytes, candidates};
use super::{Identity, Refused};
use crate::backend::Backend;

/// Beyond this a token is refused unread. Servers limit a request's head to about as much.
pub const MAX_TOKEN: usize = 8 * 1024;

/// Which tokens are accepted.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// For HS256, HS384 and HS512. Several allow rotation.
    pub secrets: Vec<Named<SecretBytes>>,
    /// PEM of RSA, EC (P-256, P-384) or Ed25519 public keys.
    pub public_keys: Vec<Named<String>>,
    /// Where a JSON Web Key Set is fetched from.
    pub jwks: Option<Uri>,
    /// Accepted algorithms; empty accepts whatever fits each key.
    pub algorithms: Vec<Algorithm>,
    /// Accepted `iss`; empty accepts any, and none.
    pub issuer: Vec<String>,
    /// Accepted `aud`; empty accepts any, and none.
    pub audience: Vec<String>,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// The first of these that a token has is the user id.
    pub user_claim: Vec<String>,
    /// The claim that other members of a channel are shown.
    pub info_claim: String,
}

/// Why tokens cannot be checked with these settings.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("there is no key: give `secret`, `public_key` or `jwks`")]
    NoKeys,
    #[error(transparent)]
    Key(#[from] InvalidKey),
    #[error("a key set must come over https, or from this machine")]
    InsecureKeySet,
}

/// Turns tokens into identities. An immutable part of a generation.
#[derive(Debug)]
pub struct Verifier {
    keys: Box<[Key]>,
    key_set: Option<Arc<KeySet>>,
    checks: Checks,
}

/// What a token is, for whoever wonders why it does not work.
#[derive(Debug)]
pub struct Explanation {
    /// As JSON text, where it could be read at all.
    pub header: Option<String>,
    pub claims: Option<String>,
    pub verdict: Result<Identity, Refused>,
}

/// The three parts, the first of them read. Nothing in it is to be believed yet.
struct Parsed<'a> {
    algorithm: Algorithm,
    kid: Option<Box<str>>,
    message: &'a [u8],
    payload: &'a str,
    signature: &'a str,
}

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow)]
    kid: Option<Cow<'a, str>>,
    crit: Option<IgnoredAny>,
}

impl Verifier {
    /// A key set at the same URL goes on from `previous`, with its keys.
    pub fn build(settings: &Settings, backend: &Arc<Backend>, previous: Option<&Self>) -> Result<Self, Error> {
        let key_set = match &settings.jwks {
            None => None,
            Some(url) => {
                let known = previous.and_then(|it| it.key_set.as_ref());
                Some(
                    KeySet::follow(url, &settings.algorithms, known, || through(backend))
                        .ok_or(Error::InsecureKeySet)?,
                )
            }
        };
        Self::with(settings, key_set)
    }

    pub(super) fn with(settings: &Settings, key_set: Option<Arc<KeySet>>) -> Result<Self, Error> {
        let allowed = &settings.algorithms[..];
        let secrets = settings.secrets.iter().map(|it| Key::from_secret(it, allowed));
        let public = settings.public_keys.iter().map(|it| Key::from_pem(it, allowed));
        let keys = secrets.chain(public).collect::<Result<Box<[_]>, _>>()?;
        if keys.is_empty() && key_set.is_none() {
            return Err(Error::NoKeys);
        }
        let checks = Checks {
            issuer: settings.issuer.clone().into(),
            audience: settings.audience.clone().into(),
            leeway: settings.leeway,
            user_claim: settings.user_claim.clone().into(),
            info_claim: settings.info_claim.clone(),
        };
        Ok(Self { keys, key_set, checks })
    }

    /// Begins to fetch the key set (in the runtime), so that the first client need not wait; else the first token begins.
    pub fn start(&self) {
        if let Some(key_set) = &self.key_set {
            key_set.start();
        }
    }

    /// Waits for nothing unless the token names a key that has to be fetched first.
    ///
    /// Nothing is remembered of tokens that were good: a signature takes tens of microseconds (`openssl speed rsa2048
    /// ecdsap256`), the gate lets in a few thousand a second, and a crowd that comes to a restarted or another node would find
    /// nothing remembered. So there is nothing to take back when a key rotates or a token is revoked.
    pub async fn verify(&self, token: &str) -> Result<Identity, Refused> {
        self.verify_at(token, SystemTime::now()).await
    }

    /// Reads a token and says what became of each part of it.
    pub async fn explain(&self, token: &str) -> Explanation {
        let part = |index| token.split('.').nth(index).and_then(decode).and_then(|it| String::from_utf8(it).ok());
        Explanation { header: part(0), claims: part(1), verdict: self.verify(token).await }
    }

    pub(super) async fn verify_at(&self, token: &str, now: SystemTime) -> Result<Identity, Refused> {
        let parsed = Parsed::read(token)?;
        self.check_signature(&parsed).await?;
        let payload = decode(parsed.payload).ok_or(Refused::Malformed("the claims are not base64"))?;
        self.checks.identify(&payload, now)
    }

    async fn check_signature(&self, token: &Parsed<'_>) -> Result<(), Refused> {
        if token.is_signed_by_one_of(&self.keys) {
            return Ok(());
        }
        let Some(key_set) = &self.key_set else { return Err(Refused::Signature) };
        let known = key_set.keys();
        if token.is_signed_by_one_of(&known) {
            return Ok(());
        }
        // A key we have refused it: a newer set would not change that, and asking for one is what an attacker wants.
        if token.kid.as_deref().is_some_and(|kid| known.iter().any(|key| key.is_named(kid))) {
            return Err(Refused::Signature);
        }
        let newer = key_set.refreshed().await.ok_or(Refused::KeysUnavailable)?;
        if token.is_signed_by_one_of(&newer) { Ok(()) } else { Err(Refused::Signature) }
    }
}

impl<'a> Parsed<'a> {
    fn read(token: &'a str) -> Result<Self, Refused> {
        if token.is_empty() {
            return Err(Refused::Missing);
        }
        if token.len() > MAX_TOKEN {
            return Err(Refused::TooLarge { limit: MAX_TOKEN });
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refused::Malformed("it has not three parts"));
        };
        let json = decode(header).ok_or(Refused::Malformed("the header is not base64"))?;
        let read: Header = serde_json::from_slice(&json).map_err(|_| Refused::Malformed("the header is no header"))?;
        // RFC 7515 section 4.1.11: what must be understood and is not makes a token invalid.
        if read.crit.is_some() {
            return Err(Refused::Malformed("the header has critical extensions"));
        }
        // `none` is no algorithm the crate knows, so it ends here.
        let algorithm = Algorithm::from_str(&read.alg).map_err(|_| Refused::Malformed("the algorithm is not known"))?;
        let kid = read.kid.map(Into::into);
        let message = &token.as_bytes()[..header.len() + 1 + payload.len()];
        Ok(Self { algorithm, kid, message, payload, signature })
    }

    fn is_signed_by_one_of(&self, keys: &[Key]) -> bool {
        candidates(keys, self.kid.as_deref()).any(|key| key.made(self.signature, self.message, self.algorithm))
    }
}

fn decode(part: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(part).ok()
}
