//! Every code a client can see, in one table. The range alone tells an old client what to do: 4000–4499 come back,
//! 4500–4999 do not.

use std::borrow::Cow;

/// Why something a client asked for did not happen: the `code` of an `error` message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    BadMessage,
    UnknownType,
    BadChannel,
    NotAllowed,
    NotSubscribed,
    NotAuthenticated,
    InvalidToken,
    Expired,
    TooLarge,
    TooManySubscriptions,
    TooManyConnections,
    RateLimited,
    Busy,
    Refused,
    Unavailable,
    Draining,
}

impl Code {
    /// The name on the wire, and whether the same request may succeed later.
    const fn row(self) -> (&'static str, bool) {
        match self {
            Self::BadMessage => ("bad_message", false),
            Self::UnknownType => ("unknown_type", false),
            Self::BadChannel => ("bad_channel", false),
            Self::NotAllowed => ("not_allowed", false),
            Self::NotSubscribed => ("not_subscribed", false),
            Self::NotAuthenticated => ("not_authenticated", false),
            Self::InvalidToken => ("invalid_token", false),
            Self::Expired => ("token_expired", false),
            Self::TooLarge => ("too_large", false),
            Self::TooManySubscriptions => ("too_many_subscriptions", false),
            Self::TooManyConnections => ("too_many_connections", true),
            Self::RateLimited => ("rate_limited", true),
            Self::Busy => ("busy", true),
            Self::Refused => ("refused", false),
            Self::Unavailable => ("unavailable", true),
            Self::Draining => ("draining", true),
        }
    }

    pub fn name(self) -> &'static str {
        self.row().0
    }

    pub fn is_retryable(self) -> bool {
        self.row().1
    }
}

/// The end of a WebSocket: an RFC 6455 code and a reason of at most 123 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    pub code: u16,
    pub reason: Cow<'static, str>,
}

impl Close {
    pub const NORMAL: Self = Self::fixed(1000, "");
    pub const PROTOCOL_ERROR: Self = Self::fixed(1002, "Protocol error");
    pub const UNSUPPORTED: Self = Self::fixed(1003, "This protocol takes text messages");
    pub const INVALID_TEXT: Self = Self::fixed(1007, "Invalid UTF-8");
    pub const BAD_DEFLATE: Self = Self::fixed(1007, "Invalid compressed data");
    pub const AUTHENTICATION_REQUIRED: Self = Self::fixed(1008, "Authentication required");
    pub const INVALID_TOKEN: Self = Self::fixed(1008, "Invalid token");
    pub const TOO_LARGE: Self = Self::fixed(1009, "Message too large");
    pub const INTERNAL: Self = Self::fixed(1011, "Internal error");

    pub const SLOW: Self = Self::fixed(4001, "Too slow");
    pub const SILENT: Self = Self::fixed(4002, "Heartbeat timeout");
    pub const DRAINING: Self = Self::fixed(4003, "Server is going away");
    pub const EXPIRED: Self = Self::fixed(4004, "Token expired");
    pub const FLOOD: Self = Self::fixed(4005, "Too many messages");
    pub const OVERLOADED: Self = Self::fixed(4006, "Come back later");
    pub const UNAVAILABLE: Self = Self::fixed(4007, "Backend unavailable");
    pub const REVOKED: Self = Self::fixed(4008, "Token revoked");

    pub const REFUSED: Self = Self::fixed(4500, "Refused by the backend");
    pub const DISCONNECTED: Self = Self::fixed(4501, "Disconnected by the backend");

    const fn fixed(code: u16, reason: &'static str) -> Self {
        Self { code, reason: Cow::Borrowed(reason) }
    }

    /// A close the backend asked for. The reason is cut to what a close frame holds.
    pub fn custom(code: u16, reason: &str) -> Self {
        let mut end = reason.len().min(MAX_REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        Self { code, reason: Cow::Owned(reason[..end].to_owned()) }
    }

    /// Whether the client should come back by itself.
    pub fn is_come_back(&self) -> bool {
        matches!(self.code, 1001 | 1006 | 1011 | 1012 | 1013 | 4000..=4499)
    }
}

/// A control frame holds 125 bytes, two of them the code (RFC 6455, 5.5).
const MAX_REASON: usize = 123;

/// Every close of our own, for the table in the docs and the test that keeps the ranges honest.
pub const CLOSES: &[Close] = &[
    Close::AUTHENTICATION_REQUIRED,
    Close::INVALID_TOKEN,
    Close::TOO_LARGE,
    Close::SLOW,
    Close::SILENT,
    Close::DRAINING,
    Close::EXPIRED,
    Close::FLOOD,
    Close::OVERLOADED,
    Close::UNAVAILABLE,
    Close::REVOKED,
    Close::REFUSED,
    Close::DISCONNECTED,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_is_used_for_two_of_our_own_reasons() {
        let mut own: Vec<_> = CLOSES.iter().map(|it| it.code).filter(|it| *it >= 4000).collect();
        let count = own.len();
        own.dedup();
        assert_eq!(own.len(), count);
    }

    #[test]
    fn a_reason_is_cut_at_a_character() {
        let close = Close::custom(4400, &"ü".repeat(100));
        assert_eq!(close.reason.len(), 122);
    }
}
