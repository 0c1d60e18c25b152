//! Who somebody is and what they may do: a token becomes an [`Identity`], unless it is among the [`Revocations`]; an API
//! key becomes a name with a [`Scope`], a ticket stands in for either once. Knows no sockets, no sessions and no rules; key sets are fetched through `backend`.

mod api_key;
mod claims;
mod grants;
mod key_set;
mod keys;
mod revocations;
mod sign;
#[cfg(test)]
mod tests;
mod ticket;
mod token;

use std::sync::Arc;
use std::time::SystemTime;

pub use api_key::{ApiKey, ApiKeys, Denied, InvalidApiKey, Scope};
pub use claims::{Claim, user_id};
pub use grants::{Grants, InvalidGrants};
pub use jsonwebtoken::Algorithm;
pub use key_set::KeySet;
pub use keys::{InvalidKey, Named, SecretBytes};
pub use revocations::{Keep, NoRoom, Revocations};
pub use sign::{CannotSign, Signer, ToSign};
pub use ticket::{Tickets, TooManyTickets};
pub use token::{Error, Explanation, Settings, Verifier};

/// The longest user id, in bytes, wherever it comes from.
pub const MAX_USER: usize = 200;

/// Who a client is, as a token or the backend says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// None is an anonymous client.
    pub user: Option<Arc<str>>,
    pub grants: Grants,
    pub expires_at: Option<SystemTime>,
    pub issued_at: Option<SystemTime>,
    /// The token's own id, by which it can be revoked.
    pub jti: Option<Arc<str>>,
    /// The claims Outrigger has no meaning for, as one JSON object, for webhooks. None where there are none.
    pub claims: Option<Arc<str>>,
    /// What other members of a channel are shown of the user, as JSON.
    pub info: Option<Arc<str>>,
}

/// Why a token is not accepted. Says nothing a client could not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("there is no token")]
    Missing,
    #[error("the token is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    #[error("the token has expired")]
    Expired,
    #[error("the token was revoked")]
    Revoked,
    #[error("no configured key made the token's signature")]
    Signature,
    #[error("the claim `{which}` {why}")]
    Claims { which: Claim, why: &'static str },
    /// The key set could not be fetched; trying again later may help.
    #[error("the keys to check the token with cannot be fetched")]
    KeysUnavailable,
}

impl Refused {
    /// In one word, for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::TooLarge { .. } => "too_large",
            Self::Malformed(_) => "malformed",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Signature => "signature",
            Self::Claims { .. } => "claims",
            Self::KeysUnavailable => "keys_unavailable",
        }
    }

    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::KeysUnavailable)
    }
}

/// A user id as tokens and verdicts may give it: neither empty, nor longer than [`MAX_USER`], nor with control characters.
pub fn is_user_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_USER && !text.chars().any(char::is_control)
}
