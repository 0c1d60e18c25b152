use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::digest::{Context, SHA256};

use super::Event;
use super::forwarded::Forwarded;
use super::object::Object;
use crate::channel::{ChannelName, ConnectionId, Data};

/// What the backend is asked.
#[derive(Clone, Copy, Debug)]
pub enum Question<'a> {
    /// May this client connect, and as whom?
    Connect(Handshake<'a>),
    Subscribe {
        channel: &'a ChannelName,
    },
    Publish {
        channel: &'a ChannelName,
        event: Option<&'a str>,
        data: &'a Data,
        message_id: Option<&'a str>,
    },
    /// Its token was replaced: does the backend still agree?
    Refresh,
}

/// The request a client connected with. Its headers are those that are forwarded.
#[derive(Clone, Copy, Debug)]
pub struct Handshake<'a> {
    pub path: &'a str,
    /// As the client wrote it; tokens and tickets are taken out here.
    pub query: &'a str,
    pub origin: Option<&'a str>,
}

/// The connection a question is about, as its session knows it.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    pub id: ConnectionId,
    pub transport: &'a str,
    pub user: Option<&'a str>,
    pub ip: IpAddr,
    /// One JSON object, of the token or an earlier verdict.
    pub claims: Option<&'a str>,
    /// One JSON value, of an earlier verdict.
    pub state: Option<&'a str>,
    pub node: &'a str,
    pub generation: u64,
    pub forwarded: &'a Forwarded,
}

/// Questions of one connection, one after another. Owned by its session; the number lets the backend see a gap.
#[derive(Debug, PartialEq, Eq)]
pub struct Lane {
    id: u64,
    n: u64,
}

impl Lane {
    #[allow(clippy::new_without_default, reason = "each is another lane, so none is the default")]
    pub fn new() -> Self {
        Self { id: fastrand::u64(..), n: 0 }
    }

    #[cfg(test)]
    pub(super) fn at(id: u64, n: u64) -> Self {
        Self { id, n }
    }

    pub(super) fn advance(&mut self) {
        self.n += 1;
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn n(&self) -> u64 {
        self.n
    }

    pub(super) fn write(&self, json: &mut Object) {
        json.raw("lane", format_args!("\"{:016x}\"", self.id));
        json.raw("n", self.n);
    }
}

impl Question<'_> {
    pub fn event(&self) -> Event {
        match self {
            Self::Connect(_) => Event::Connect,
            Self::Subscribe { .. } => Event::Subscribe,
            Self::Publish { .. } => Event::Publish,
            Self::Refresh => Event::Refresh,
        }
    }

    /// The `webhook-id`. The same publication asked again, by whatever road, has the same one.
    pub(super) fn id(&self, connection: &Connection) -> String {
        let chance = || format!("msg_{:032x}", fastrand::u128(..));
        let Self::Publish { channel, message_id: Some(message), .. } = self else { return chance() };
        let connection_id = connection.id.to_string();
        let who = connection.user.unwrap_or(&connection_id);
        let kind = if connection.user.is_some() { "user" } else { "connection" };
        let digest = digest(&[kind, who, channel.as_str(), message].map(str::as_bytes));
        format!("msg_{:032x}", u128::from_be_bytes(digest))
    }

    pub(super) fn body(&self, connection: &Connection, id: &str, lane: &Lane, since_epoch: Duration) -> Vec<u8> {
        let mut body = Vec::with_capacity(512 + self.data_len());
        let mut json = Object::open(&mut body);
        json.text("type", self.event().name());
        json.text("id", id);
        json.raw("timestamp", since_epoch.as_millis());
        connection.write(&mut json.object("connection"));
        lane.write(&mut json);
        match self {
            Self::Connect(handshake) => handshake.write(&mut json.object("request"), connection.forwarded),
            Self::Subscribe { channel } => json.text("channel", channel.as_str()),
            Self::Publish { channel, event, data, message_id } => {
                json.text("channel", channel.as_str());
                json.optional_text("event", *event);
                json.data(data);
                json.optional_text("messageId", *message_id);
            }
            Self::Refresh => {}
        }
        drop(json);
        body
    }

    fn data_len(&self) -> usize {
        match self {
            Self::Publish { data, .. } => data.len(),
            _ => 0,
        }
    }
}

impl Connection<'_> {
    pub(super) fn write(&self, json: &mut Object) {
        json.raw("id", format_args!("\"{}\"", self.id));
        json.text("transport", self.transport);
        json.optional_text("userId", self.user);
        json.raw("ip", format_args!("\"{}\"", self.ip));
        json.raw("claims", self.claims.unwrap_or("{}"));
        json.raw("state", self.state.unwrap_or("{}"));
        json.text("node", self.node);
        json.raw("generation", self.generation);
    }
}

impl Handshake<'_> {
    fn write(&self, json: &mut Object, forwarded: &Forwarded) {
        json.text("path", self.path);
        json.text("query", &without_credentials(self.query));
        write_headers(&mut json.object("headers"), forwarded);
        json.optional_text("origin", self.origin);
    }
}

/// Lines of the same name become one value, as RFC 9110 section 5.3 joins them (and RFC 6265 cookies).
fn write_headers(json: &mut Object, forwarded: &Forwarded) {
    let mut joined: Vec<(&str, String)> = Vec::new();
    for (name, value) in forwarded.iter() {
        let value = String::from_utf8_lossy(value);
        match joined.iter_mut().find(|(it, _)| *it == name) {
            Some((_, before)) => {
                before.push_str(if name == "cookie" { "; " } else { ", " });
                before.push_str(&value);
            }
            None => joined.push((name, value.into_owned())),
        }
    }
    for (name, value) in &joined {
        json.text(name, value);
    }
}

/// A query without what would let its reader connect in the client's place.
pub(super) fn without_credentials(query: &str) -> String {
    let is_credential = |name: &str| matches!(&*percent_decoded(name), b"token" | b"ticket");
    let kept = query.split('&').filter(|pair| !is_credential(pair.split('=').next().unwrap_or_default()));
    kept.collect::<Vec<_>>().join("&")
}

/// A parameter's name may be written `%74oken`, which is the same name.
pub(super) fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().iter();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(&byte) = bytes.next() {
        let escaped = (byte == b'%').then(|| bytes.as_slice().get(..2)).flatten();
        let value = escaped.and_then(|it| u8::from_str_radix(std::str::from_utf8(it).ok()?, 16).ok());
        match value {
            Some(value) => {
                decoded.push(value);
                bytes.nth(1);
            }
            None => decoded.push(byte),
        }
    }
    decoded
}

/// The first half of a SHA-256 over `parts`, each with its length, so that no two lists look alike.
pub(super) fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    context.finish().as_ref()[..16].try_into().expect("SHA-256 has 32 bytes")
}

pub(super) fn since_epoch() -> Duration {
    UNIX_EPOCH.elapsed().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_that_only_look_alike_have_different_digests() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
        assert_ne!(digest(&[b"a"]), digest(&[b"a", b""]));
    }

    #[test]
    fn a_query_loses_its_credentials_however_they_are_written_and_nothing_else() {
        for (query, kept) in [
            ("", ""),
            ("token=x", ""),
            ("a=1&token=x&b=%20", "a=1&b=%20"),
            ("%74%6Fken=x&ticket&a", "a"),
            ("tokens=1&my_token=2&%=3&%7=4&a=token", "tokens=1&my_token=2&%=3&%7=4&a=token"),
        ] {
            assert_eq!(without_credentials(query), kept, "{query}");
        }
    }
}
