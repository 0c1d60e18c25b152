use std::fmt;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use tracing::warn;

/// Bytes that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Vec<u8>);

/// Something that may have a key id (`kid`), by which a token names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<T> {
    pub kid: Option<String>,
    pub value: T,
}

/// One key that signatures are checked with, and the algorithms it may be used with. The token does not choose.
pub(super) struct Key {
    kid: Option<Box<str>>,
    algorithms: Box<[Algorithm]>,
    decoding: DecodingKey,
}

/// Why a key cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    #[error("a secret is empty")]
    EmptySecret,
    #[error("a secret is a PEM block; a public key belongs into `public_key`")]
    PemAsSecret,
    #[error("a public key is not PEM (`-----BEGIN PUBLIC KEY-----`) of an RSA, EC (P-256, P-384) or Ed25519 key")]
    NotPublicPem,
    #[error("a public key is a private key; give only the public half")]
    PrivatePem,
    #[error("none of the configured algorithms fits the {kind}; it can be used with {fitting:?}")]
    NoAlgorithm { kind: &'static str, fitting: &'static [Algorithm] },
}

/// RFC 7518 section 3.2 asks for as many bits as the hash has; shorter ones can be guessed offline from a single token.
const SHORT_SECRET: usize = 32;

const HMAC: &[Algorithm] = &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
const RSA: &[Algorithm] =
    &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

impl SecretBytes {
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<T: Into<Vec<u8>>> From<T> for SecretBytes {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T> Named<T> {
    pub fn without_kid(value: T) -> Self {
        Self { kid: None, value }
    }
}

impl Key {
    /// `allowed` is what the configuration lists; empty allows all that fit.
    pub(super) fn from_secret(secret: &Named<SecretBytes>, allowed: &[Algorithm]) -> Result<Self, InvalidKey> {
        let bytes = secret.value.as_bytes();
        if bytes.is_empty() {
            return Err(InvalidKey::EmptySecret);
        }
        if bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
            return Err(InvalidKey::PemAsSecret);
        }
        if bytes.len() < SHORT_SECRET {
            warn!(bytes = bytes.len(), advised = SHORT_SECRET, "a token secret is short enough to be guessed");
        }
        let algorithms = fitting("secret", HMAC, allowed)?;
        Ok(Self { kid: kid(&secret.kid), algorithms, decoding: DecodingKey::from_secret(bytes) })
    }

    pub(super) fn from_pem(pem: &Named<String>, allowed: &[Algorithm]) -> Result<Self, InvalidKey> {
        let bytes = pem.value.as_bytes();
        if pem.value.contains("PRIVATE KEY-----") {
            return Err(InvalidKey::PrivatePem);
        }
        let decoding = DecodingKey::from_rsa_pem(bytes)
            .or_else(|_| DecodingKey::from_ec_pem(bytes))
            .or_else(|_| DecodingKey::from_ed_pem(bytes))
            .map_err(|_| InvalidKey::NotPublicPem)?;
        let (kind, possible) = match decoding.family() {
            AlgorithmFamily::Rsa => ("RSA key", RSA),
            AlgorithmFamily::Ec => curve_of(&decoding)?,
            AlgorithmFamily::Ed => ("Ed25519 key", &[Algorithm::EdDSA] as &[_]),
            AlgorithmFamily::Hmac => return Err(InvalidKey::NotPublicPem),
        };
        Ok(Self { kid: kid(&pem.kid), algorithms: fitting(kind, possible, allowed)?, decoding })
    }

    /// None for keys that are not for signatures, or of a kind we do not check: a set may hold more than we need.
    pub(super) fn from_jwk(jwk: &Jwk, allowed: &[Algorithm]) -> Option<Self> {
        if matches!(&jwk.common.public_key_use, Some(purpose) if *purpose != PublicKeyUse::Signature) {
            return None;
        }
        let possible = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => RSA,
            AlgorithmParameters::EllipticCurve(it) if it.curve == EllipticCurve::P256 => &[Algorithm::ES256],
            AlgorithmParameters::EllipticCurve(it) if it.curve == EllipticCurve::P384 => &[Algorithm::ES384],
            AlgorithmParameters::OctetKeyPair(it) if it.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
            // `oct` too: a symmetric key that is served to the world is no secret.
            _ => return None,
        };
        let mut algorithms = fitting("key", possible, allowed).ok()?;
        if let Some(named) = jwk.common.key_algorithm {
            let named = Algorithm::try_from(named).ok().filter(|it| algorithms.contains(it))?;
            algorithms = [named].into();
        }
        let decoding = DecodingKey::from_jwk(jwk).ok()?;
        Some(Self { kid: kid(&jwk.common.key_id), algorithms, decoding })
    }

    pub(super) fn is_named(&self, kid: &str) -> bool {
        self.kid.as_deref() == Some(kid)
    }

    pub(super) fn has_kid(&self) -> bool {
        self.kid.is_some()
    }

    /// Whether this key made `signature` (still in base64) over `message` with `algorithm`.
    pub(super) fn made(&self, signature: &str, message: &[u8], algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
            && jsonwebtoken::crypto::verify(signature, message, &self.decoding, algorithm).unwrap_or(false)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("kid", &self.kid).field("algorithms", &self.algorithms).finish_non_exhaustive()
    }
}

/// The keys worth trying: those the token names, else those without a name; a token that names none may be any's.
pub(super) fn candidates<'a>(keys: &'a [Key], kid: Option<&'a str>) -> impl Iterator<Item = &'a Key> {
    let is_known = kid.is_some_and(|kid| keys.iter().any(|key| key.is_named(kid)));
    keys.iter().filter(move |key| match kid {
        Some(kid) if is_known => key.is_named(kid),
        Some(_) => !key.has_kid(),
        None => true,
    })
}

fn kid(kid: &Option<String>) -> Option<Box<str>> {
    kid.as_deref().map(Into::into)
}

fn fitting(
    kind: &'static str,
    possible: &'static [Algorithm],
    allowed: &[Algorithm],
) -> Result<Box<[Algorithm]>, InvalidKey> {
    let both: Box<[_]> = possible.iter().copied().filter(|it| allowed.is_empty() || allowed.contains(it)).collect();
    if both.is_empty() { Err(InvalidKey::NoAlgorithm { kind, fitting: possible }) } else { Ok(both) }
}

/// An uncompressed point is one byte and two coordinates, so its length tells the curve.
fn curve_of(key: &DecodingKey) -> Result<(&'static str, &'static [Algorithm]), InvalidKey> {
    match key.try_get_as_bytes().map(<[u8]>::len) {
        Ok(65) => Ok(("P-256 key", &[Algorithm::ES256])),
        Ok(97) => Ok(("P-384 key", &[Algorithm::ES384])),
        _ => Err(InvalidKey::NotPublicPem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_cannot_work_says_why() {
        let secret = |text: &str| Key::from_secret(&Named::without_kid(text.into()), &[]).map(|_| ());
        assert_eq!(secret(""), Err(InvalidKey::EmptySecret));
        assert_eq!(secret("-----BEGIN PUBLIC KEY-----\n"), Err(InvalidKey::PemAsSecret));
        assert_eq!(secret("a secret that is long enough for SHA-256"), Ok(()));

        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let pem = |text: String, allowed: &[Algorithm]| Key::from_pem(&Named::without_kid(text), allowed).map(|_| ());
        assert_eq!(pem("nonsense".into(), &[]), Err(InvalidKey::NotPublicPem));
        assert_eq!(pem(pair.serialize_pem(), &[]), Err(InvalidKey::PrivatePem));
        assert_eq!(pem(pair.public_key_pem(), &[Algorithm::EdDSA]), Ok(()));
        assert_eq!(
            pem(pair.public_key_pem(), &[Algorithm::HS256]),
            Err(InvalidKey::NoAlgorithm { kind: "Ed25519 key", fitting: &[Algorithm::EdDSA] })
        );
    }

    #[test]
    fn an_ec_key_is_bound_to_the_algorithm_of_its_curve() {
        for (pair, algorithm) in
            [(&rcgen::PKCS_ECDSA_P256_SHA256, Algorithm::ES256), (&rcgen::PKCS_ECDSA_P384_SHA384, Algorithm::ES384)]
        {
            let pem = rcgen::KeyPair::generate_for(pair).unwrap().public_key_pem();
            assert_eq!(*Key::from_pem(&Named::without_kid(pem), &[]).unwrap().algorithms, [algorithm]);
        }
    }

    #[test]
    fn a_key_set_gives_no_symmetric_keys_and_none_for_encryption() {
        let parse = |json: &str| Key::from_jwk(&serde_json::from_str(json).unwrap(), &[]);
        assert!(parse(r#"{"kty":"oct","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}"#).is_none());
        assert!(parse(r#"{"kty":"OKP","crv":"Ed25519","use":"enc","x":"AAAA"}"#).is_none());
        assert!(parse(r#"{"kty":"OKP","crv":"Ed25519","alg":"RS256","x":"AAAA"}"#).is_none());
        assert!(parse(r#"{"kty":"EC","crv":"P-521","x":"AAAA","y":"AAAA"}"#).is_none());
        assert!(parse(r#"{"kty":"OKP","crv":"Ed25519","use":"sig","x":"AAAA"}"#).is_some());
    }

    #[test]
    fn rsa_and_ec_keys_work_from_a_key_set_with_their_own_algorithms_alone() {
        use jsonwebtoken::EncodingKey;
        let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let [p256, p384] = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384]
            .map(|it| rcgen::KeyPair::generate_for(it).unwrap());
        for (private, algorithm, other) in [
            (EncodingKey::from_rsa_pem(rsa.serialize_pem().as_bytes()).unwrap(), Algorithm::RS256, Algorithm::RS512),
            (EncodingKey::from_ec_der(p256.serialized_der()), Algorithm::ES256, Algorithm::ES384),
            (EncodingKey::from_ec_der(p384.serialized_der()), Algorithm::ES384, Algorithm::ES256),
        ] {
            let jwk = Jwk::from_encoding_key(&private, algorithm).unwrap();
            let key = Key::from_jwk(&jwk, &[]).expect("a usable key");
            let signature = jsonwebtoken::crypto::sign(b"message", &private, algorithm).unwrap();
            assert!(key.made(&signature, b"message", algorithm), "{algorithm:?}");
            assert!(!key.made(&signature, b"massage", algorithm), "{algorithm:?}");
            assert!(!key.made(&signature, b"message", other), "{algorithm:?} as {other:?}");
            assert!(Key::from_jwk(&jwk, &[other]).is_none(), "the configuration allows {other:?} alone");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(format!("{:?}", SecretBytes::from("hunter2")), "***");
        let key = Key::from_secret(&Named::without_kid("hunter2".into()), &[]).unwrap();
        assert!(!format!("{key:?}").contains("hunter2"));
    }
}
