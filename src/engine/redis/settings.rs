//! Where Redis is and how to be let in.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

/// What the Redis engine is opened with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Tried in turn. For Sentinel: where the sentinels are; for Cluster: any of its servers.
    pub places: Vec<Place>,
    pub shape: Shape,
    pub login: Login,
    pub database: u32,
    /// What servers' certificates are checked against, from [`super::trust`].
    pub tls: Arc<ClientConfig>,
    /// What all keys and topics begin with.
    pub prefix: String,
    pub connect_timeout: Duration,
    /// An operation without an answer for this long may or may not have happened.
    pub timeout: Duration,
    /// How long a node is thought alive that says nothing.
    pub lease: Duration,
}

/// How the servers stand to each other.
#[derive(Clone, Debug)]
pub enum Shape {
    /// One server, under any of several addresses.
    Single,
    /// Sentinels name the server that is the master now.
    Sentinel { master: String, login: Login },
    /// The keys are spread over several.
    Cluster,
}

/// Who we are to a server.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    pub username: Option<String>,
    pub password: Option<String>,
}

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    Tcp { host: String, port: u16, is_tls: bool },
    Unix(PathBuf),
}

/// What a URL of the configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub place: Place,
    pub login: Login,
    pub database: u32,
}

/// The text is left out: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    #[error(
        "this is no URL such as `redis://host:6379`, `rediss://user:password@host:6380/2` or `unix:/run/redis.sock`"
    )]
    Form,
    #[error("what follows the last `:` is no port")]
    Port,
    #[error("what follows the last `/` is no number of a database")]
    Database,
}

const DEFAULT_PORT: u16 = 6379;

impl Url {
    /// `redis://[[user]:password@]host[:port][/database]`, `rediss://` for TLS, `unix:/path`.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let is_path = path.starts_with('/');
            let here = Self { place: Place::Unix(path.into()), login: Login::default(), database: 0 };
            return is_path.then_some(here).ok_or(InvalidUrl::Form);
        }
        let (scheme, rest) = text.split_once("://").ok_or(InvalidUrl::Form)?;
        let is_tls = match scheme {
            "redis" => false,
            "rediss" => true,
            _ => return Err(InvalidUrl::Form),
        };
        let (login, rest) = match rest.rsplit_once('@') {
            Some((login, rest)) => (read_login(login)?, rest),
            None => (Login::default(), rest),
        };
        let (address, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = if database.is_empty() { Ok(0) } else { database.parse().map_err(|_| InvalidUrl::Database) }?;
        let (host, port) = split_port(address)?;
        if host.is_empty() || host.contains(['/', '?', '#', ' ']) {
            return Err(InvalidUrl::Form);
        }
        Ok(Self { place: Place::Tcp { host: host.to_owned(), port, is_tls }, login, database })
    }
}

/// An address in brackets is IPv6.
fn split_port(address: &str) -> Result<(&str, u16), InvalidUrl> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or(InvalidUrl::Form)?,
        None => address.find(':').map_or((address, ""), |at| address.split_at(at)),
    };
    match port.strip_prefix(':') {
        Some(port) => Ok((host, port.parse().map_err(|_| InvalidUrl::Port)?)),
        None if port.is_empty() => Ok((host, DEFAULT_PORT)),
        None => Err(InvalidUrl::Form),
    }
}

/// `user:password`, `:password`, or, as many providers write it, the password alone.
fn read_login(text: &str) -> Result<Login, InvalidUrl> {
    let (username, password) = text.split_once(':').unwrap_or(("", text));
    let some = |it: String| (!it.is_empty()).then_some(it);
    Ok(Login { username: some(unescape(username)?), password: some(unescape(password)?) })
}

/// `%3A` for a colon, as in any URL.
fn unescape(text: &str) -> Result<String, InvalidUrl> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let (byte, after) = match (first, tail) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |it: &u8| char::from(*it).to_digit(16).ok_or(InvalidUrl::Form);
                let byte = digit(high)? * 16 + digit(low)?;
                (u8::try_from(byte).map_err(|_| InvalidUrl::Form)?, after)
            }
            (b'%', _) => return Err(InvalidUrl::Form),
            (byte, after) => (*byte, after),
        };
        out.push(byte);
        rest = after;
    }
    String::from_utf8(out).map_err(|_| InvalidUrl::Form)
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.password.is_some() { "Login(***)" } else { "Login(none)" })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16, is_tls: bool) -> Place {
        Place::Tcp { host: host.into(), port, is_tls }
    }

    #[test]
    fn the_usual_forms_of_a_url_are_read() {
        let url = Url::parse("redis://cache").unwrap();
        assert_eq!((url.place, url.login, url.database), (tcp("cache", 6379, false), Login::default(), 0));
        let url = Url::parse("rediss://app:p%40ss:w@cache.example:6380/2").unwrap();
        assert_eq!((url.place, url.database), (tcp("cache.example", 6380, true), 2));
        assert_eq!(url.login, Login { username: Some("app".into()), password: Some("p@ss:w".into()) });
        let url = Url::parse("redis://:secret@[::1]:7000/").unwrap();
        assert_eq!((url.place, url.login.password.as_deref()), (tcp("::1", 7000, false), Some("secret")));
        assert_eq!(Url::parse("unix:/run/redis.sock").unwrap().place, Place::Unix("/run/redis.sock".into()));
        assert!(!format!("{:?}", Url::parse("redis://a:hunter2@b").unwrap()).contains("hunter2"));
    }

    #[test]
    fn a_bad_url_is_refused_without_repeating_what_it_holds() {
        use InvalidUrl::{Database, Form, Port};
        for (text, error) in [
            ("cache:6379", Form),
            ("http://cache", Form),
            ("redis://", Form),
            ("redis://a:hunter2@cache:x", Port),
            ("redis://cache/x", Database),
            ("redis://a:%zz@cache", Form),
            ("unix:run/redis.sock", Form),
        ] {
            assert_eq!(Url::parse(text), Err(error), "{text}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
