use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::values::{Duration, OneOrMany, Secret, Text, seconds};

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Let clients in without a token, as nobody in particular.
    pub anonymous: bool,
    /// Where a token is looked for, in this order. A cookie comes along by itself, perhaps an old one: what a page shows on
    /// purpose is looked for before it.
    pub token_from: Vec<TokenFrom>,
    /// The cookie a token is looked for in.
    pub cookie: String,
    /// Tokens are JWTs, checked with these keys.
    pub jwt: Option<Jwt>,
    /// Ask the backend with the connect webhook about clients without a token, their cookies forwarded.
    pub webhook: bool,
    /// Tokens and users that the API has revoked.
    pub revocations: Revocations,
}

impl Default for Auth {
    fn default() -> Self {
        use TokenFrom::{Cookie, Header, Message, Query, Subprotocol};
        Self {
            anonymous: false,
            token_from: vec![Query, Header, Subprotocol, Cookie, Message],
            cookie: "outrigger_token".into(),
            jwt: None,
            webhook: false,
            revocations: Revocations::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Revocations {
    /// How long one is kept: longer than any token is valid, or a revoked one may be let in again.
    pub keep: Duration,
    /// How many are kept; beyond it a new one is refused, and the answer says so.
    #[schemars(range(min = 1))]
    pub most: usize,
}

impl Default for Revocations {
    fn default() -> Self {
        Self { keep: seconds(30 * 24 * 3600), most: 100_000 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TokenFrom {
    Query,
    Header,
    Cookie,
    Subprotocol,
    Message,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Jwt {
    /// For HS256, HS384 and HS512; a list rotates.
    pub secret: OneOrMany<Secret>,
    /// Public keys in PEM (RSA, EC or Ed25519); a list rotates.
    pub public_key: OneOrMany<Secret>,
    /// Where a JSON Web Key Set is fetched, e.g. https://login.example.com/jwks.json.
    pub jwks: Option<Text<http::Uri>>,
    /// Accepted algorithms; empty accepts what fits each key.
    pub algorithms: Vec<Algorithm>,
    /// Accepted `iss`; empty accepts any.
    pub issuer: OneOrMany<String>,
    /// Accepted `aud`; empty accepts any.
    pub audience: OneOrMany<String>,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// The first of these claims that a token has is the user's id.
    pub user_claim: OneOrMany<String>,
    /// The claim with what other members of a channel are shown of the user: any JSON of at most 1 KiB.
    pub info_claim: String,
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            secret: OneOrMany::default(),
            public_key: OneOrMany::default(),
            jwks: None,
            algorithms: Vec::new(),
            issuer: OneOrMany::default(),
            audience: OneOrMany::default(),
            leeway: seconds(30),
            user_claim: OneOrMany(vec!["sub".into(), "userId".into()]),
            info_claim: "info".into(),
        }
    }
}

/// A signature algorithm of RFC 7518 or RFC 8037.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}
