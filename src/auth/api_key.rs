use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Digest, SHA256, digest};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use tracing::warn;

use super::keys::SecretBytes;

/// What an API key opens. `Admin` opens everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Push,
    Read,
    Admin,
}

/// A key as it is configured. The name is what logs call it.
#[derive(Clone, Debug)]
pub struct ApiKey {
    pub name: String,
    pub key: SecretBytes,
    pub scopes: Vec<Scope>,
}

/// The keys of the internal API. An immutable part of a generation.
#[derive(Debug)]
pub struct ApiKeys(Box<[Entry]>);

/// Only a digest is kept, so that keys of any length are compared alike and no key lies in memory.
struct Entry {
    name: Box<str>,
    digest: Digest,
    scopes: Box<[Scope]>,
}

/// Why the keys cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidApiKey {
    #[error("the API key `{0}` is empty")]
    Empty(String),
    #[error("the API key `{0}` contains a space, a control character or something that is not ASCII")]
    Character(String),
    #[error("two API keys are named `{0}`")]
    NameTwice(String),
    #[error("the API keys `{0}` and `{1}` are the same key")]
    SameKey(String, String),
}

/// Why a request to the API is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("there is no `Authorization: Bearer` header")]
    Missing,
    #[error("the API key is not known")]
    Unknown,
    #[error("the API key `{name}` has not the scope `{needed}`")]
    Scope { name: String, needed: Scope },
}

/// Shorter keys are worth a warning.
const SHORT_KEY: usize = 16;

impl ApiKeys {
    pub fn build(keys: &[ApiKey]) -> Result<Self, InvalidApiKey> {
        let mut entries: Vec<Entry> = Vec::with_capacity(keys.len());
        for ApiKey { name, key, scopes } in keys {
            let bytes = key.as_bytes();
            if bytes.is_empty() {
                return Err(InvalidApiKey::Empty(name.clone()));
            }
            if !bytes.iter().all(u8::is_ascii_graphic) {
                return Err(InvalidApiKey::Character(name.clone()));
            }
            if bytes.len() < SHORT_KEY {
                warn!(%name, advised = SHORT_KEY, "an API key is short enough to be guessed");
            }
            let entry = Entry { name: name.as_str().into(), digest: digest(&SHA256, bytes), scopes: scopes[..].into() };
            for other in &entries {
                if other.name == entry.name {
                    return Err(InvalidApiKey::NameTwice(name.clone()));
                }
                if other.digest.as_ref() == entry.digest.as_ref() {
                    return Err(InvalidApiKey::SameKey(other.name.to_string(), name.clone()));
                }
            }
            entries.push(entry);
        }
        Ok(Self(entries.into()))
    }

    /// The name of the key that the headers carry, if it opens `needed`.
    pub fn authorize(&self, headers: &HeaderMap, needed: Scope) -> Result<&str, Denied> {
        let given = bearer(headers).ok_or(Denied::Missing)?;
        let entry = self.find(given).ok_or(Denied::Unknown)?;
        if entry.scopes.iter().any(|it| *it == needed || *it == Scope::Admin) {
            Ok(&entry.name)
        } else {
            Err(Denied::Scope { name: entry.name.to_string(), needed })
        }
    }

    /// Compares with every key, in constant time each: how long it takes says nothing about any of them.
    fn find(&self, given: &[u8]) -> Option<&Entry> {
        let given = digest(&SHA256, given);
        let mut found = None;
        for entry in &self.0 {
            if verify_slices_are_equal(entry.digest.as_ref(), given.as_ref()).is_ok() {
                found = Some(entry);
            }
        }
        found
    }
}

/// The credentials of `Authorization: Bearer`, whose name is written in any case (RFC 9110 section 11.1).
pub fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, credentials) = value.split_at_checked(b"bearer".len())?;
    if !scheme.eq_ignore_ascii_case(b"bearer") || !credentials.starts_with(b" ") {
        return None;
    }
    Some(credentials.trim_ascii()).filter(|it| !it.is_empty())
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Push => "push",
            Self::Read => "read",
            Self::Admin => "admin",
        })
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("name", &self.name).field("scopes", &self.scopes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, key: &str, scopes: &[Scope]) -> ApiKey {
        ApiKey { name: name.into(), key: key.into(), scopes: scopes.into() }
    }

    fn headers(authorization: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, authorization.parse().unwrap())])
    }

    fn keys() -> ApiKeys {
        ApiKeys::build(&[
            key("backend", "a-key-of-the-backend", &[Scope::Push, Scope::Read]),
            key("operator", "a-key-of-the-operator", &[Scope::Admin]),
        ])
        .unwrap()
    }

    #[test]
    fn a_key_opens_its_scopes_and_admin_opens_all() {
        let keys = keys();
        assert_eq!(keys.authorize(&headers("Bearer a-key-of-the-backend"), Scope::Push), Ok("backend"));
        assert_eq!(keys.authorize(&headers("bearer  a-key-of-the-operator "), Scope::Push), Ok("operator"));
        let denied = keys.authorize(&headers("Bearer a-key-of-the-backend"), Scope::Admin);
        assert_eq!(denied, Err(Denied::Scope { name: "backend".into(), needed: Scope::Admin }));
    }

    #[test]
    fn no_key_and_a_wrong_key_are_told_apart() {
        let keys = keys();
        assert_eq!(keys.authorize(&HeaderMap::new(), Scope::Read), Err(Denied::Missing));
        assert_eq!(keys.authorize(&headers("Basic abc"), Scope::Read), Err(Denied::Missing));
        assert_eq!(keys.authorize(&headers("Bearer "), Scope::Read), Err(Denied::Missing));
        assert_eq!(keys.authorize(&headers("Bearera-key-of-the-backend"), Scope::Read), Err(Denied::Missing));
        assert_eq!(keys.authorize(&headers("Bearer a-key-of-the-backen"), Scope::Read), Err(Denied::Unknown));
        let none = ApiKeys::build(&[]).unwrap();
        assert_eq!(none.authorize(&headers("Bearer x"), Scope::Read), Err(Denied::Unknown));
    }

    #[test]
    fn keys_that_cannot_be_told_apart_are_an_error() {
        let build = |keys: &[ApiKey]| ApiKeys::build(keys).map(|_| ());
        assert_eq!(build(&[key("a", "", &[])]), Err(InvalidApiKey::Empty("a".into())));
        assert_eq!(build(&[key("a", "with space", &[])]), Err(InvalidApiKey::Character("a".into())));
        assert_eq!(build(&[key("a", "x", &[]), key("a", "y", &[])]), Err(InvalidApiKey::NameTwice("a".into())));
        let same = InvalidApiKey::SameKey("a".into(), "b".into());
        assert_eq!(build(&[key("a", "x", &[]), key("b", "x", &[])]), Err(same));
    }

    #[test]
    fn keys_are_not_shown() {
        assert!(!format!("{:?} {:?}", keys(), key("a", "a-key-of-the-backend", &[])).contains("a-key-of"));
    }
}
