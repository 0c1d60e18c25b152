use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::grants::Claimed;
use super::{Grants, Identity, Refused, is_user_id};
use crate::channel::member_info;

/// A claim by which a token can be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    Expiry,
    NotBefore,
    IssuedAt,
    Issuer,
    Audience,
    TokenId,
    User,
    Info,
    Channels,
    Grants,
}

/// What the claims must say. An empty list checks nothing.
#[derive(Debug)]
pub(super) struct Checks {
    pub(super) issuer: Box<[String]>,
    pub(super) audience: Box<[String]>,
    pub(super) leeway: Duration,
    /// The first that a token has is the user id.
    pub(super) user_claim: Box<[String]>,
    /// What other members of a channel are shown.
    pub(super) info_claim: String,
}

/// The claims by name, each still as the text it was.
type Claims<'a> = BTreeMap<String, &'a RawValue>;

/// `iss` and `aud` are one text or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// The claims that mean something here; all others are the backend's.
const OURS: [Claim; 8] = [
    Claim::Expiry,
    Claim::NotBefore,
    Claim::IssuedAt,
    Claim::Issuer,
    Claim::Audience,
    Claim::TokenId,
    Claim::Channels,
    Claim::Grants,
];

impl Claim {
    pub fn name(self) -> &'static str {
        match self {
            Self::Expiry => "exp",
            Self::NotBefore => "nbf",
            Self::IssuedAt => "iat",
            Self::Issuer => "iss",
            Self::Audience => "aud",
            Self::TokenId => "jti",
            Self::User => "user",
            Self::Info => "info",
            Self::Channels => "channels",
            Self::Grants => "grants",
        }
    }

    fn refuse(self, why: &'static str) -> Refused {
        Refused::Claims { which: self, why }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Checks {
    /// Who the claims (a JSON object whose signature was checked) speak of.
    pub(super) fn identify(&self, payload: &[u8], now: SystemTime) -> Result<Identity, Refused> {
        let mut claims = parse(payload)?;
        let expires_at = time(&claims, Claim::Expiry)?.ok_or(Claim::Expiry.refuse("is missing"))?;
        if now > later(expires_at, self.leeway) {
            return Err(Refused::Expired);
        }
        if time(&claims, Claim::NotBefore)?.is_some_and(|start| start > later(now, self.leeway)) {
            return Err(Claim::NotBefore.refuse("lies in the future"));
        }
        one_of(&claims, Claim::Issuer, &self.issuer)?;
        one_of(&claims, Claim::Audience, &self.audience)?;
        Ok(Identity {
            grants: grants(&claims)?,
            expires_at: Some(expires_at),
            issued_at: time(&claims, Claim::IssuedAt)?,
            jti: read::<String>(&claims, Claim::TokenId, "is not a text")?.map(Arc::from),
            info: self.info(&claims)?,
            user: self.take_user(&mut claims)?,
            claims: remaining(claims),
        })
    }

    /// It stays among the claims: webhooks are shown it too.
    fn info(&self, claims: &Claims) -> Result<Option<Arc<str>>, Refused> {
        let Some(value) = claims.get(&self.info_claim) else { return Ok(None) };
        member_info(value.get()).map_err(|why| Claim::Info.refuse(why))
    }

    fn take_user(&self, claims: &mut Claims) -> Result<Option<Arc<str>>, Refused> {
        let found = self.user_claim.iter().find_map(|name| claims.remove(name).filter(|it| it.get() != "null"));
        let Some(value) = found else { return Ok(None) };
        let user = user_id(value).ok_or(Claim::User.refuse("is neither a text nor a whole number"))?;
        if is_user_id(&user) { Ok(Some(user.into())) } else { Err(Claim::User.refuse("is no usable id")) }
    }
}

fn parse(payload: &[u8]) -> Result<Claims<'_>, Refused> {
    struct Object;
    impl<'de> serde::de::Visitor<'de> for Object {
        type Value = Claims<'de>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut claims = Claims::new();
            while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                // RFC 7519 section 4: names are unique. Two parsers that pick differently would see two users.
                if claims.insert(name, value).is_some() {
                    return Err(serde::de::Error::custom("a claim is given twice"));
                }
            }
            Ok(claims)
        }
    }
    let mut reader = serde_json::Deserializer::from_slice(payload);
    serde::Deserializer::deserialize_map(&mut reader, Object)
        .and_then(|claims| reader.end().map(|()| claims))
        .map_err(|_| Refused::Malformed("the claims are no JSON object with unique names"))
}

/// A text stays as it is; a whole number becomes its decimal text (ids are numbers in many a database).
pub fn user_id(value: &RawValue) -> Option<String> {
    let text = value.get();
    if text.starts_with('"') {
        return serde_json::from_str(text).ok();
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    (!digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit())).then(|| text.to_owned())
}

fn read<'a, T: Deserialize<'a>>(claims: &Claims<'a>, claim: Claim, why: &'static str) -> Result<Option<T>, Refused> {
    let Some(value) = claims.get(claim.name()) else { return Ok(None) };
    serde_json::from_str(value.get()).map_err(|_| claim.refuse(why))
}

/// RFC 7519's NumericDate: seconds, possibly with a fraction.
fn time(claims: &Claims, claim: Claim) -> Result<Option<SystemTime>, Refused> {
    let seconds = read::<f64>(claims, claim, "is no number of seconds")?;
    let Some(seconds) = seconds else { return Ok(None) };
    let since = Duration::try_from_secs_f64(seconds).ok();
    let time = since.and_then(|it| UNIX_EPOCH.checked_add(it)).ok_or(claim.refuse("is no possible time"))?;
    Ok(Some(time))
}

fn later(time: SystemTime, by: Duration) -> SystemTime {
    time.checked_add(by).unwrap_or(time)
}

fn one_of(claims: &Claims, claim: Claim, accepted: &[String]) -> Result<(), Refused> {
    if accepted.is_empty() {
        return Ok(());
    }
    let given = read::<OneOrMore>(claims, claim, "is neither a text nor a list of texts")?;
    let is_accepted = match given.ok_or(claim.refuse("is missing"))? {
        OneOrMore::One(it) => accepted.contains(&it),
        OneOrMore::More(all) => all.iter().any(|it| accepted.contains(it)),
    };
    if is_accepted { Ok(()) } else { Err(claim.refuse("is none of the configured ones")) }
}

fn grants(claims: &Claims) -> Result<Grants, Refused> {
    let channels: Option<Vec<String>> = read(claims, Claim::Channels, "is no list of texts")?;
    let claimed: Option<Claimed> = read(claims, Claim::Grants, "is not `{subscribe, publish}` with lists of texts")?;
    let channels = channels.unwrap_or_default();
    let common = Grants::both(&channels).map_err(|_| Claim::Channels.refuse("has a bad pattern, or too many"))?;
    match claimed {
        None => Ok(common),
        Some(it) => Grants::parse(&channels, &it).map_err(|_| Claim::Grants.refuse("has a bad pattern, or too many")),
    }
}

fn remaining(mut claims: Claims) -> Option<Arc<str>> {
    for claim in OURS {
        claims.remove(claim.name());
    }
    if claims.is_empty() {
        return None;
    }
    Some(serde_json::to_string(&claims).expect("texts and raw JSON can be written").into())
}
