use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::ChannelName;

/// What a publication carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Valid JSON without line breaks, so that it fits an event-stream line as it is.
    Json(Bytes),
    /// Any bytes; JSON clients see `"data":null,"data_base64":"…"`.
    Binary(Bytes),
}

/// The deepest data that every subscriber and backend can read: Ruby's parser takes 100 levels, and a webhook adds its own.
pub const MAX_DEPTH: usize = 96;

impl Data {
    pub fn len(&self) -> usize {
        match self {
            Self::Json(bytes) | Self::Binary(bytes) => bytes.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How deep valid JSON is nested.
pub fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            b'"' if !escaped => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        escaped = in_string && !escaped && byte == b'\\';
    }
    deepest
}

/// What somebody wants published. The engine turns it into a [`Publication`].
#[derive(Clone, Debug)]
pub struct Draft {
    pub channel: ChannelName,
    pub data: Data,
    pub event: Option<Arc<str>>,
    /// Names the publication within its channel.
    pub id: Arc<str>,
    /// The publisher chose the id: a repetition is recognised and answered with the first receipt.
    pub is_idempotent: bool,
    /// The client who published it; none when it comes from the backend.
    pub user: Option<Arc<str>>,
    /// The user it is about, for erasure.
    pub subject: Option<Arc<str>>,
    /// Connections that do not get it.
    pub exclude: Vec<ConnectionId>,
}

impl Draft {
    /// A draft from the backend. Without an id it is given one nobody else has.
    pub fn new(channel: ChannelName, data: Data, id: Option<Arc<str>>) -> Self {
        Self {
            channel,
            data,
            event: None,
            is_idempotent: id.is_some(),
            id: id.unwrap_or_else(unique_id),
            user: None,
            subject: None,
            exclude: Vec::new(),
        }
    }
}

/// A publication id that is like no other: 96 bits of chance.
pub fn unique_id() -> Arc<str> {
    format!("{:024x}", fastrand::u128(..) >> 32).into()
}

/// A draft that was taken: numbered, named and dated. Shared by everyone it is delivered to.
#[derive(Clone, Debug)]
pub struct Publication {
    pub channel: ChannelName,
    pub epoch: Epoch,
    /// Grows within the epoch; below 2^53.
    pub seq: u64,
    /// The number before it, where that is not `seq - 1`.
    pub prev: Option<u64>,
    pub id: Arc<str>,
    pub event: Option<Arc<str>>,
    pub user: Option<Arc<str>>,
    pub subject: Option<Arc<str>>,
    pub data: Data,
    /// Milliseconds since the Unix epoch.
    pub timestamp: u64,
    pub exclude: Vec<ConnectionId>,
    /// Its data was taken out of the history for the sake of the user it was about.
    pub erased: bool,
}

impl Publication {
    /// The number of the one before it.
    pub fn before(&self) -> u64 {
        self.prev.unwrap_or(self.seq.saturating_sub(1))
    }

    /// Whether nothing lies between the two.
    pub fn follows(&self, last: &Self) -> bool {
        (self.epoch, self.before()) == (last.epoch, last.seq)
    }

    /// The same place with nothing of anybody's in it.
    pub fn emptied(&self) -> Self {
        let data = Data::Json(Bytes::from_static(b"null"));
        Self { data, event: None, user: None, subject: None, erased: true, ..self.clone() }
    }

    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, seq: self.seq, id: Some(self.id.clone()) }
    }
}

/// One life of a channel's numbering: a new one begins when its past was forgotten. Sixteen hex digits on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Epoch {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// The last publication somebody has of a channel. `seq` 0 is the place before the first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    pub epoch: Epoch,
    pub seq: u64,
    /// Names the publication at `seq`: a store that holds another one there has lost writes.
    pub id: Option<Arc<str>>,
}

impl Position {
    /// Whether both name the same place. Where one does not say which publication it means, its number has to do.
    pub fn is_place_of(&self, other: &Self) -> bool {
        let is_named_alike = match (&self.id, &other.id) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        (self.epoch, self.seq) == (other.epoch, other.seq) && is_named_alike
    }
}

/// How much of its past a channel keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Retention {
    /// Publications; 0 keeps none.
    pub size: usize,
    pub ttl: Duration,
}

impl Retention {
    pub const NONE: Self = Self { size: 0, ttl: Duration::ZERO };
}

/// One client's connection: the node in the upper 32 bits, chance in the rest. Thirty-two hex digits on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u128);

impl ConnectionId {
    pub fn new(node: u32) -> Self {
        Self((u128::from(node) << 96) | (fastrand::u128(..) >> 32))
    }

    /// The node it lives on.
    pub fn node(self) -> u32 {
        u32::try_from(self.0 >> 96).expect("a 128-bit number shifted by 96 has 32 bits left")
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ConnectionId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}
