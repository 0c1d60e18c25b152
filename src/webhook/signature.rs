use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::auth::SecretBytes;

/// Signs and checks by the Standard Webhooks scheme: HMAC-SHA-256 over `id.timestamp.body`, one signature per secret, so
/// that a receiver who knows any of them is served while secrets rotate.
pub struct Signing(Box<[hmac::Key]>);

/// Why a secret cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    #[error("there is no secret to sign webhooks with")]
    None,
    #[error("a webhook secret is empty")]
    Empty,
    #[error("what follows `whsec_` in a webhook secret is not base64")]
    NotBase64,
}

/// Why a signature is not believed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    #[error("the timestamp is {0} s away from now")]
    Timestamp(u64),
    #[error("no secret made any of the signatures")]
    Signature,
}

/// A receiver believes no older (or newer) message: the scheme's own advice.
const TOLERANCE: u64 = 5 * 60;
const PREFIX: &[u8] = b"whsec_";

impl Signing {
    /// `whsec_` and base64, as the scheme writes secrets; anything else is taken as its bytes.
    pub fn build(secrets: &[SecretBytes]) -> Result<Self, InvalidSecret> {
        if secrets.is_empty() {
            return Err(InvalidSecret::None);
        }
        secrets.iter().map(key).collect::<Result<_, _>>().map(Self)
    }

    /// What goes into `webhook-signature`. `timestamp` is in seconds, as in `webhook-timestamp`.
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let each = self.0.iter().map(|key| format!("v1,{}", BASE64_STANDARD.encode(tag(key, id, timestamp, body))));
        each.collect::<Vec<_>>().join(" ")
    }

    /// Whether one of our secrets made one of `signatures`, not too long before or after `now` (in seconds).
    pub fn verify(&self, id: &str, timestamp: u64, signatures: &str, body: &[u8], now: u64) -> Result<(), Mismatch> {
        if timestamp.abs_diff(now) > TOLERANCE {
            return Err(Mismatch::Timestamp(timestamp.abs_diff(now)));
        }
        let message = [head(id, timestamp).as_bytes(), body].concat();
        let given = signatures.split(' ').filter_map(|it| it.strip_prefix("v1,"));
        let mut decoded = given.filter_map(|it| BASE64_STANDARD.decode(it).ok());
        let is_ours = decoded.any(|it| self.0.iter().any(|key| hmac::verify(key, &message, &it).is_ok()));
        if is_ours { Ok(()) } else { Err(Mismatch::Signature) }
    }
}

impl std::fmt::Debug for Signing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signing({} secrets)", self.0.len())
    }
}

fn key(secret: &SecretBytes) -> Result<hmac::Key, InvalidSecret> {
    let bytes = match secret.as_bytes().strip_prefix(PREFIX) {
        Some(base64) => BASE64_STANDARD.decode(base64).map_err(|_| InvalidSecret::NotBase64)?,
        None => secret.as_bytes().to_vec(),
    };
    if bytes.is_empty() { Err(InvalidSecret::Empty) } else { Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes)) }
}

fn tag(key: &hmac::Key, id: &str, timestamp: u64, body: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(head(id, timestamp).as_bytes());
    context.update(body);
    context.sign()
}

fn head(id: &str, timestamp: u64) -> String {
    format!("{id}.{timestamp}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The scheme's own example.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const TIME: u64 = 1_614_265_330;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn signing(secrets: &[&str]) -> Signing {
        Signing::build(&secrets.iter().map(|it| (*it).into()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn it_signs_as_the_schemes_libraries_do() {
        assert_eq!(signing(&[SECRET]).sign(ID, TIME, BODY), SIGNATURE);
    }

    #[test]
    fn every_secret_signs_and_any_secret_is_enough() {
        let both = signing(&["new, and raw", SECRET]);
        let signatures = both.sign(ID, TIME, BODY);
        assert_eq!(signatures.split(' ').count(), 2);
        assert_eq!(signing(&[SECRET]).verify(ID, TIME, &signatures, BODY, TIME), Ok(()));
        assert_eq!(signing(&["new, and raw"]).verify(ID, TIME, &signatures, BODY, TIME), Ok(()));
        assert_eq!(signing(&["other"]).verify(ID, TIME, &signatures, BODY, TIME), Err(Mismatch::Signature));
    }

    #[test]
    fn what_was_changed_or_is_old_is_not_believed() {
        let ours = signing(&[SECRET]);
        assert_eq!(ours.verify(ID, TIME, SIGNATURE, BODY, TIME + 300), Ok(()));
        assert_eq!(ours.verify(ID, TIME, SIGNATURE, BODY, TIME + 301), Err(Mismatch::Timestamp(301)));
        assert_eq!(ours.verify(ID, TIME, SIGNATURE, BODY, TIME - 301), Err(Mismatch::Timestamp(301)));
        assert_eq!(ours.verify(ID, TIME + 1, SIGNATURE, BODY, TIME), Err(Mismatch::Signature));
        assert_eq!(ours.verify("msg_x", TIME, SIGNATURE, BODY, TIME), Err(Mismatch::Signature));
        assert_eq!(ours.verify(ID, TIME, SIGNATURE, b"{}", TIME), Err(Mismatch::Signature));
        for nonsense in ["", "v1,", "v1,!", &SIGNATURE.replace("v1,", "v2,"), &SIGNATURE[3..]] {
            assert_eq!(ours.verify(ID, TIME, nonsense, BODY, TIME), Err(Mismatch::Signature), "{nonsense}");
        }
    }

    #[test]
    fn a_secret_that_cannot_be_meant_is_an_error() {
        let build = |secrets: &[&str]| {
            Signing::build(&secrets.iter().map(|it| (*it).into()).collect::<Vec<_>>()).map(|_| ()).unwrap_err()
        };
        assert_eq!(build(&[]), InvalidSecret::None);
        assert_eq!(build(&[""]), InvalidSecret::Empty);
        assert_eq!(build(&["whsec_"]), InvalidSecret::Empty);
        assert_eq!(build(&["whsec_???"]), InvalidSecret::NotBase64);
    }
}
