//! Where a backend listens: a host over TCP, with or without TLS, or a Unix socket.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use http::Uri;

/// One address of the application.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    Http { host: String, port: u16 },
    Https { host: String, port: u16 },
    Unix(PathBuf),
}

/// A text that names no target.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadTarget {
    #[error("expected http://HOST:PORT, https://HOST:PORT or unix:/PATH")]
    Form,
    #[error("a backend address has no path: requests keep the path they came with")]
    Path,
}

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(BadTarget::Form) };
        }
        let uri: Uri = text.parse().map_err(|_| BadTarget::Form)?;
        let target = Self::of(&uri).ok_or(BadTarget::Form)?;
        if uri.path_and_query().is_some_and(|path| path.as_str() != "/") {
            return Err(BadTarget::Path);
        }
        Ok(target)
    }
}

impl Target {
    /// The host an absolute `http` or `https` URI speaks to.
    pub fn of(uri: &Uri) -> Option<Self> {
        let authority = uri.authority()?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return None;
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        match uri.scheme_str()? {
            "http" => Some(Self::Http { host, port: authority.port_u16().unwrap_or(80) }),
            "https" => Some(Self::Https { host, port: authority.port_u16().unwrap_or(443) }),
            _ => None,
        }
    }

    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Https { .. })
    }

    /// What a `Host` header says where the request brought none.
    pub(super) fn authority(&self) -> String {
        let (host, port, usual) = match self {
            Self::Http { host, port } => (host, port, 80),
            Self::Https { host, port } => (host, port, 443),
            Self::Unix(_) => return "localhost".to_owned(),
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        if *port == usual { host } else { format!("{host}:{port}") }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { .. } => write!(f, "http://{}", self.authority()),
            Self::Https { .. } => write!(f, "https://{}", self.authority()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for text in ["http://127.0.0.1:3000", "https://app.internal", "http://[::1]:3000", "unix:/run/app.sock"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        assert_eq!("http://app/".parse(), Ok(Target::Http { host: "app".into(), port: 80 }));
    }

    #[test]
    fn what_is_not_an_address_is_refused() {
        assert_eq!("http://app/base".parse::<Target>(), Err(BadTarget::Path));
        for text in ["app:3000", "ftp://app", "unix:relative", "http://user@app", ""] {
            assert_eq!(text.parse::<Target>(), Err(BadTarget::Form), "{text}");
        }
    }
}
