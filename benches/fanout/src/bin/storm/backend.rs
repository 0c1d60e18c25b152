use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Answers every question with a user and a `ttl`, after a while, and notes when it was asked.
pub struct Backend(Arc<Mutex<Vec<Instant>>>);

const ANSWER: &str = r#"{"userId":"somebody","ttl":60}"#;

impl Backend {
    /// In a thread of its own: a crowd that keeps its own thread busy must not make the backend slow.
    pub fn listen(address: SocketAddr, thinks: Duration) -> io::Result<Self> {
        let asked = Arc::<Mutex<Vec<Instant>>>::default();
        let notes = asked.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(address))?;
        std::thread::spawn(move || {
            runtime.block_on(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, notes.clone(), thinks));
                }
            });
        });
        Ok(Self(asked))
    }

    pub fn asked(&self) -> Vec<Instant> {
        self.0.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, asked: Arc<Mutex<Vec<Instant>>>, thinks: Duration) -> io::Result<()> {
    let mut read = Vec::with_capacity(4096);
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{ANSWER}",
        ANSWER.len()
    );
    loop {
        let Some(len) = request_len(&read) else {
            if stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
            continue;
        };
        read.drain(..len);
        asked.lock().unwrap().push(Instant::now());
        tokio::time::sleep(thinks).await;
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// Head and body of the first request, once it is there as a whole.
fn request_len(read: &[u8]) -> Option<usize> {
    let head = read.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&read[..head]).ok()?.to_ascii_lowercase();
    let body = text.lines().find_map(|it| it.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
    (read.len() >= head + body).then_some(head + body)
}

/// The most moments that lie within one stretch of this length.
pub fn most_within(moments: &[Instant], length: Duration) -> usize {
    let mut sorted = moments.to_vec();
    sorted.sort();
    (0..sorted.len()).map(|first| sorted.partition_point(|it| *it < sorted[first] + length) - first).max().unwrap_or(0)
}
