//! The program's cron job: every second it posts a price to `/push`, as any script could.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;

const EVERY: Duration = Duration::from_secs(1);
/// A price that could not be told by then is no news any more.
const PUSH_WITHIN: Duration = Duration::from_millis(900);

pub async fn run(api: SocketAddr, key: &str) -> Infallible {
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut price = 100.0;
    loop {
        every.tick().await;
        price = next(price);
        // Outrigger may not be up yet, or draining: the next second brings another price.
        match tokio::time::timeout(PUSH_WITHIN, push(api, key, price)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(error, "the price could not be pushed"),
            Err(_) => tracing::debug!("the price could not be pushed in time"),
        }
    }
}

/// A random walk that is drawn back to a hundred.
fn next(price: f64) -> f64 {
    let step = (fastrand::f64() - 0.5) * 2.4 + (100.0 - price) * 0.02;
    ((price + step).max(1.0) * 100.0).round() / 100.0
}

async fn push(api: SocketAddr, key: &str, price: f64) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let body = serde_json::json!({ "channel": "ticker", "data": { "symbol": "OAR", "price": price } });
    let request = Request::post("/push")
        .header(HOST, api.to_string())
        .header(AUTHORIZATION, format!("Bearer {key}"))
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.to_string())))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(TcpStream::connect(api).await?)).await?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        drop(sender);
        Ok(answer.status())
    };
    // The connection is driven until the answer is there.
    let (_, status) = tokio::join!(connection, answer);
    let status = status.map_err(|error: hyper::Error| error)?;
    if status.is_success() { Ok(()) } else { Err(format!("/push answered {status}").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn a_price_never_runs_away() {
        let end = (0..10_000).fold(100.0, |price, _| next(price));
        assert!((20.0..180.0).contains(&end), "{end}");
    }

    #[tokio::test]
    async fn a_price_is_pushed_with_the_key() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = String::new();
            while !request.ends_with("}}") {
                let mut buffer = [0; 1024];
                let read = stream.read(&mut buffer).await.unwrap();
                request.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
            request
        };
        let (request, pushed) = tokio::join!(server, push(api, "k1", 101.5));
        assert!(pushed.is_ok(), "{pushed:?}");
        assert!(request.starts_with("POST /push HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("authorization: Bearer k1\r\n"), "{request}");
        let body: serde_json::Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(body, serde_json::json!({ "channel": "ticker", "data": { "symbol": "OAR", "price": 101.5 } }));
    }
}
