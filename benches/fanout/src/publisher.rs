//! The backend's side: one keep-alive connection that posts to `/push`, one request at a time.

use std::io;
use std::net::SocketAddr;

use mio::net::TcpStream;

use crate::stream::Stream;
use crate::wire::{envelope, header};

pub struct Publisher {
    pub stream: Stream,
    host: SocketAddr,
    key: String,
    answer: Vec<u8>,
    is_waiting: bool,
}

impl Publisher {
    pub fn connect(api: SocketAddr, key: &str) -> io::Result<Publisher> {
        let stream = Stream::plain(TcpStream::connect(api)?);
        stream.tcp.set_nodelay(true).ok();
        Ok(Publisher { stream, host: api, key: key.to_owned(), answer: Vec::new(), is_waiting: false })
    }

    pub fn is_idle(&self) -> bool {
        !self.is_waiting
    }

    pub fn post(&mut self, body: &str) -> io::Result<()> {
        let (host, key, length) = (self.host, &self.key, body.len());
        let request = format!(
            "POST /push HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.is_waiting = true;
        self.stream.send(request.as_bytes())
    }

    /// Reads what has come of the answer; anything but 200 ends the run.
    pub fn on_event(&mut self, scratch: &mut [u8]) -> io::Result<()> {
        self.stream.flush()?;
        let answer = &mut self.answer;
        let is_open = self.stream.drain(scratch, |bytes| answer.extend_from_slice(bytes))?;
        if let Some(whole) = envelope(answer) {
            let is_ok = whole.start_line.split(' ').nth(1) == Some("200");
            if !is_ok || header(whole.head, "content-length").is_none() {
                return Err(io::Error::other(format!("push was answered: {}", String::from_utf8_lossy(answer))));
            }
            if answer.len() >= whole.length {
                let length = whole.length;
                answer.drain(..length);
                self.is_waiting = false;
            }
        }
        if is_open { Ok(()) } else { Err(io::Error::other("the API closed the publisher's connection")) }
    }
}
