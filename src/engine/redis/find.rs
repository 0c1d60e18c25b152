//! Which address to connect to: the first of a list that answers, or the master that the sentinels name.

use std::fmt;
use std::sync::Arc;

use super::resp::Value;
use super::settings::Place;
use super::socket::{Dialer, Error, Socket};

/// How one server is found, again for every connection.
#[derive(Clone, Debug)]
pub(super) enum Finder {
    /// The first of these that lets us in.
    Any(Arc<[Place]>),
    /// Whatever server is this master now.
    Sentinel { sentinels: Arc<[Place]>, master: Arc<str>, asker: Arc<Dialer> },
}

impl Finder {
    pub(super) async fn open(&self, dialer: &Dialer) -> Result<Socket, Error> {
        match self {
            Self::Any(places) => open_any(places, dialer).await,
            Self::Sentinel { sentinels, master, asker } => {
                let place = ask_sentinels(sentinels, master, asker).await?;
                let mut socket = dialer.open(&place).await?;
                // Sentinels name the old master for a while after it came back as a replica.
                let role = socket.ask(&[b"ROLE"]).await?.list();
                match role.as_deref().and_then(<[_]>::first).and_then(Value::text) {
                    Some("master") => Ok(socket),
                    _ => Err(Error::Elsewhere("the server that the sentinels name is no master")),
                }
            }
        }
    }
}

async fn open_any(places: &[Place], dialer: &Dialer) -> Result<Socket, Error> {
    let mut failed = Error::Elsewhere("there is no address");
    for place in places {
        match dialer.open(place).await {
            Ok(socket) => return Ok(socket),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// The first sentinel that knows the master is believed.
async fn ask_sentinels(sentinels: &[Place], master: &str, asker: &Dialer) -> Result<Place, Error> {
    let mut failed = Error::Elsewhere("no sentinel knows the master");
    for sentinel in sentinels {
        match ask_sentinel(sentinel, master, asker).await {
            Ok(Some(place)) => return Ok(place),
            Ok(None) => {}
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

async fn ask_sentinel(sentinel: &Place, master: &str, asker: &Dialer) -> Result<Option<Place>, Error> {
    let asking = async {
        let mut socket = asker.open(sentinel).await?;
        socket.ask(&[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", master.as_bytes()]).await
    };
    let answer = tokio::time::timeout(asker.timeout, asking).await.unwrap_or(Err(Error::Timeout(asker.timeout)))?;
    let is_tls = matches!(sentinel, Place::Tcp { is_tls: true, .. });
    let address = answer.list().unwrap_or_default();
    let [host, port] = &address[..] else { return Ok(None) };
    let port = port.number().and_then(|it| u16::try_from(it).ok());
    Ok(host.text().zip(port).map(|(host, port)| Place::Tcp { host: host.to_owned(), port, is_tls }))
}

impl fmt::Display for Finder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any(places) => {
                for (at, place) in places.iter().enumerate() {
                    write!(f, "{}{place}", if at == 0 { "" } else { "," })?;
                }
                Ok(())
            }
            Self::Sentinel { master, .. } => write!(f, "{master}"),
        }
    }
}
