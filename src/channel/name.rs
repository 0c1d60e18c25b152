use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// A channel name: 1 to 200 bytes of UTF-8 without spaces, control characters, `*`, `{`, `}`, `,` and `"`.
///
/// Cheap to clone: all holders share one allocation.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

/// The longest name, in bytes.
pub const MAX_NAME: usize = 200;

/// Why a text is no channel name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    #[error("a channel name is empty")]
    Empty,
    #[error("a channel name of {0} bytes is longer than {MAX_NAME}")]
    TooLong(usize),
    #[error("a channel name may not contain {0:?}")]
    Character(char),
}

impl ChannelName {
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        if text.is_empty() {
            return Err(InvalidName::Empty);
        }
        if text.len() > MAX_NAME {
            return Err(InvalidName::TooLong(text.len()));
        }
        match text.chars().find(|it| is_forbidden(*it)) {
            Some(found) => Err(InvalidName::Character(found)),
            None => Ok(Self(text.into())),
        }
    }

    /// A channel of Outrigger's own. It begins with a `*`, so nobody else can name it.
    pub(crate) fn reserved(name: &'static str) -> Self {
        debug_assert!(name.starts_with('*'));
        Self(name.into())
    }

    /// Whether nobody but Outrigger can name it.
    pub(crate) fn is_reserved(&self) -> bool {
        self.0.starts_with('*')
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_forbidden(it: char) -> bool {
    it.is_whitespace() || it.is_control() || matches!(it, '*' | '{' | '}' | ',' | '"')
}

impl AsRef<str> for ChannelName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Looked up by its text alone: the derived hash and order are those of the text.
impl Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl serde::Serialize for ChannelName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_contract_says() {
        assert!(ChannelName::parse("room.5").is_ok());
        assert!(ChannelName::parse("zimmer/größe:1").is_ok());
        assert!(ChannelName::parse(&"x".repeat(200)).is_ok());
        assert_eq!(ChannelName::parse(""), Err(InvalidName::Empty));
        assert_eq!(ChannelName::parse(&"x".repeat(201)), Err(InvalidName::TooLong(201)));
        for bad in [' ', '\n', '\0', '*', '{', '}', ',', '"', '\u{a0}'] {
            assert_eq!(ChannelName::parse(&format!("a{bad}b")), Err(InvalidName::Character(bad)));
        }
    }
}
