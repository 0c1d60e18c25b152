use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A client that is let in.
pub struct Visit {
    pub stream: TcpStream,
    pub in_at: Instant,
    /// How often it was told to come back later.
    pub told_to_wait: usize,
}

/// The first message, as far as it matters here.
#[derive(Deserialize)]
struct Message {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "afterMs")]
    after_ms: Option<u64>,
}

/// What a kernel that has no room for another connection just now is given.
const AGAIN: Duration = Duration::from_millis(200);

/// Comes, goes away when it is told to, and comes back when it was told, until it is in.
pub async fn comes_back(server: SocketAddr, cookie: usize) -> io::Result<Visit> {
    for told_to_wait in 0.. {
        let mut stream = match TcpStream::connect(server).await {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(error),
            Err(_) => {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        let request = format!(
            "GET /realtime HTTP/1.1\r\nhost: {server}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\ncookie: session={cookie}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let message = first_message(&mut stream).await?;
        if message.kind == "connected" {
            return Ok(Visit { stream, in_at: Instant::now(), told_to_wait });
        }
        drop(stream);
        tokio::time::sleep(Duration::from_millis(message.after_ms.unwrap_or(1000))).await;
    }
    unreachable!("a client does not give up")
}

/// Reads on from the head of the answer to the end of the first message.
async fn first_message(stream: &mut TcpStream) -> io::Result<Message> {
    let mut read = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::Error::other(format!("closed after {:?}", String::from_utf8_lossy(&read))));
        }
        let Some(head) = read.windows(4).position(|it| it == b"\r\n\r\n") else { continue };
        // A ping may be due at once: heartbeats are spread over their interval.
        let frames = &read[head + 4..];
        let frames = frames.strip_prefix(&[0x89, 0]).unwrap_or(frames);
        let (len, start) = match frames {
            [_, 126, high, low, ..] => (usize::from(u16::from_be_bytes([*high, *low])), 4),
            [_, len, ..] if *len < 126 => (usize::from(*len), 2),
            _ => continue,
        };
        if let Some(payload) = frames.get(start..start + len) {
            return serde_json::from_slice(payload).map_err(io::Error::other);
        }
    }
}
