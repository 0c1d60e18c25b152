//! Upgrades of the backend's own: after its `101` the client's connection leaves HTTP and both byte streams are joined.
//! Nothing a client sent behind its head reaches the backend before that, so a refused upgrade cannot smuggle a request.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, Response, StatusCode};
use tokio::io::{AsyncWriteExt, copy_bidirectional};

use super::metrics::Metrics;
use super::record::Record;
use super::{Body, NO_ANSWER, headers, say};
use crate::backend;
use crate::peer::{Stream, Takeover};

/// Joins client and backend. Answers only when the backend's `101` is not the one that was asked for.
pub(super) async fn accept(
    answer: Response<backend::Body>,
    asked: Option<String>,
    takeover: Option<Takeover>,
    mut record: Record,
) -> Result<Infallible, Response<Body>> {
    let (mut head, body) = answer.into_parts();
    let (Some(asked), Some(takeover)) = (asked.filter(|asked| names(&head.headers, asked)), takeover) else {
        record.unusable("unasked_upgrade");
        return Err(say(StatusCode::BAD_GATEWAY, NO_ANSWER, record));
    };
    let (backend, early) = match body.into_upgraded().await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            record.broke_off(&error.into());
            return Err(say(StatusCode::BAD_GATEWAY, NO_ANSWER, record));
        }
    };
    headers::clean_response(&mut head.headers);
    let opening = opening(&head.headers, &asked, &early);
    let tunnel = Tunnel::open(record.metrics());
    record.status = Some(StatusCode::SWITCHING_PROTOCOLS);
    record.is_complete = true;
    drop(record);
    let run = move |client: Stream, early: Bytes| {
        let splice = async move {
            let _tunnel = tunnel;
            if let Err(error) = splice(client, early, backend, opening).await {
                tracing::debug!(%error, "upgraded connection ended");
            }
        };
        Box::pin(splice) as _
    };
    Ok(takeover.leave(Box::new(run)).await)
}

fn names(headers: &HeaderMap, token: &str) -> bool {
    let mut values = headers.get_all(UPGRADE).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.as_bytes().trim_ascii().eq_ignore_ascii_case(token.as_bytes()),
        _ => false,
    }
}

/// The `101` as the client gets it, and what the backend already said behind its own.
fn opening(headers: &HeaderMap, token: &str, early: &[u8]) -> Bytes {
    let mut bytes = BytesMut::from(&b"HTTP/1.1 101 Switching Protocols\r\n"[..]);
    let line = |bytes: &mut BytesMut, name: &[u8], value: &[u8]| {
        for part in [name, b": ", value, b"\r\n"] {
            bytes.put_slice(part);
        }
    };
    line(&mut bytes, CONNECTION.as_str().as_bytes(), b"Upgrade");
    line(&mut bytes, UPGRADE.as_str().as_bytes(), token.as_bytes());
    for (name, value) in headers {
        line(&mut bytes, name.as_str().as_bytes(), value.as_bytes());
    }
    bytes.put_slice(b"\r\n");
    bytes.put_slice(early);
    bytes.freeze()
}

async fn splice(mut client: Stream, early: Bytes, mut backend: backend::Stream, opening: Bytes) -> io::Result<()> {
    client.write_all(&opening).await?;
    client.flush().await?;
    drop(opening);
    if !early.is_empty() {
        backend.write_all(&early).await?;
        backend.flush().await?;
    }
    drop(early);
    // Ends when both directions have; the end of one is passed on while the other goes on.
    copy_bidirectional(&mut client, &mut backend).await?;
    Ok(())
}

/// Counts an upgraded connection while it lasts.
struct Tunnel(Arc<Metrics>);

impl Tunnel {
    fn open(metrics: &Arc<Metrics>) -> Self {
        metrics.tunnels.inc();
        Self(metrics.clone())
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.0.tunnels.dec();
    }
}
