use std::fmt;

use super::name::{ChannelName, MAX_NAME};

/// A set of channel names, as rules and grants write it. Segments are separated by dots:
/// `*` is exactly one segment, `**` at the end is one or more, `{user}` is the client's own id.
///
/// A user id that contains a dot never matches `{user}`: it could reach into another user's channels.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    segments: Box<[Segment]>,
    text: Box<str>,
}

#[derive(Clone, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    User,
    One,
    Rest,
}

/// A segment too many or too few counts as so many letters.
const SEGMENT_AWAY: usize = 2;

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    #[error("a pattern is empty")]
    Empty,
    #[error("a pattern of {0} bytes is longer than {MAX_NAME}")]
    TooLong(usize),
    #[error("`**` stands for the rest of a name, so it can only be the last segment")]
    RestNotLast,
    #[error("`{0}` mixes text and a wildcard: `*`, `**` and `{{user}}` each stand for a whole segment between dots")]
    Mixed(String),
    #[error("`{0}` is not known; the only placeholder is `{{user}}`")]
    Placeholder(String),
    #[error("a pattern may not contain {0:?}")]
    Character(char),
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        if text.is_empty() {
            return Err(InvalidPattern::Empty);
        }
        if text.len() > MAX_NAME {
            return Err(InvalidPattern::TooLong(text.len()));
        }
        let segments = text.split('.').map(Segment::parse).collect::<Result<Box<[_]>, _>>()?;
        let (_, before_last) = segments.split_last().expect("split yields at least one segment");
        if before_last.contains(&Segment::Rest) {
            return Err(InvalidPattern::RestNotLast);
        }
        Ok(Self { segments, text: text.into() })
    }

    /// Whether `channel` is in the set, for a client whose id is `user`.
    pub fn matches(&self, channel: &ChannelName, user: Option<&str>) -> bool {
        self.covers(channel, |name| user == Some(name))
    }

    /// Whether `channel` is in the set of any client at all.
    pub fn matches_for_somebody(&self, channel: &ChannelName) -> bool {
        self.covers(channel, |_| true)
    }

    fn covers(&self, channel: &ChannelName, is_user: impl Fn(&str) -> bool) -> bool {
        let mut names = channel.as_str().split('.');
        for segment in &self.segments {
            let Some(name) = names.next() else { return false };
            let fits = match segment {
                Segment::Literal(text) => **text == *name,
                Segment::User => is_user(name),
                Segment::One => true,
                Segment::Rest => return true,
            };
            if !fits {
                return false;
            }
        }
        names.next().is_none()
    }

    /// How many letters and segments a name is away from one that the pattern covers for somebody.
    pub fn distance(&self, channel: &ChannelName) -> usize {
        let mut names = channel.as_str().split('.');
        let mut distance = 0;
        for segment in &self.segments {
            distance += match (segment, names.next()) {
                (Segment::Rest, Some(_)) => return distance,
                (_, None) => SEGMENT_AWAY,
                (Segment::Literal(text), Some(name)) => strsim::damerau_levenshtein(text, name),
                (Segment::One | Segment::User, Some(_)) => 0,
            };
        }
        distance + names.count() * SEGMENT_AWAY
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, InvalidPattern> {
        match text {
            "*" => return Ok(Self::One),
            "**" => return Ok(Self::Rest),
            "{user}" => return Ok(Self::User),
            _ => {}
        }
        if text.starts_with('{') && text.ends_with('}') {
            return Err(InvalidPattern::Placeholder(text.into()));
        }
        if text.contains(['*', '{', '}']) {
            return Err(InvalidPattern::Mixed(text.into()));
        }
        match text.chars().find(|it| it.is_whitespace() || it.is_control() || matches!(it, ',' | '"')) {
            Some(found) => Err(InvalidPattern::Character(found)),
            None => Ok(Self::Literal(text.into())),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, channel: &str, user: Option<&str>) -> bool {
        Pattern::parse(pattern).unwrap().matches(&ChannelName::parse(channel).unwrap(), user)
    }

    #[test]
    fn a_star_is_exactly_one_segment() {
        assert!(matches("room.*", "room.5", None));
        assert!(!matches("room.*", "room", None));
        assert!(!matches("room.*", "room.5.typing", None));
        assert!(matches("*.5", "room.5", None));
    }

    #[test]
    fn two_stars_are_all_the_rest_and_at_least_one_segment() {
        assert!(matches("room.**", "room.5", None));
        assert!(matches("room.**", "room.5.typing.x", None));
        assert!(!matches("room.**", "room", None));
        assert!(matches("**", "anything.at.all", None));
    }

    #[test]
    fn the_user_placeholder_is_the_clients_own_id_and_nothing_else() {
        assert!(matches("user.{user}.**", "user.42.mail", Some("42")));
        assert!(!matches("user.{user}.**", "user.43.mail", Some("42")));
        assert!(!matches("user.{user}.**", "user.42.mail", None));
        assert!(!matches("user.{user}", "user.a.b", Some("a.b")));
        assert!(!matches("user.{user}", "user.7", Some("*")));
    }

    #[test]
    fn a_name_is_as_far_from_a_pattern_as_it_takes_to_correct_it() {
        let distance = |pattern: &str, channel: &str| {
            Pattern::parse(pattern).unwrap().distance(&ChannelName::parse(channel).unwrap())
        };
        assert_eq!(distance("room.*", "room.5"), 0);
        assert_eq!(distance("room.*", "rom.5"), 1);
        assert_eq!(distance("room.*", "room"), 2);
        assert_eq!(distance("room.*", "room.5.typing"), 2);
        assert_eq!(distance("user.{user}.**", "usr.42.mail.new"), 1);
    }

    #[test]
    fn a_bad_pattern_says_what_to_write_instead() {
        assert_eq!(Pattern::parse("a.**.b"), Err(InvalidPattern::RestNotLast));
        assert_eq!(Pattern::parse("room-*"), Err(InvalidPattern::Mixed("room-*".into())));
        assert_eq!(Pattern::parse("a.{id}"), Err(InvalidPattern::Placeholder("{id}".into())));
        assert_eq!(Pattern::parse("a b"), Err(InvalidPattern::Character(' ')));
        assert_eq!(Pattern::parse(""), Err(InvalidPattern::Empty));
    }
}
