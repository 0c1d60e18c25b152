//! A non-blocking TCP stream, with or without TLS, that keeps what the kernel did not take.
//! It is registered edge-triggered, so a reader drains it and a writer flushes it on every event.

use std::io::{self, ErrorKind, Read, Write};

use mio::net::TcpStream;
use rustls::Connection;

pub struct Stream {
    pub tcp: TcpStream,
    tls: Option<Box<Connection>>,
    unsent: Vec<u8>,
}

impl Stream {
    pub fn plain(tcp: TcpStream) -> Stream {
        Stream { tcp, tls: None, unsent: Vec::new() }
    }

    pub fn encrypted(tcp: TcpStream, tls: impl Into<Connection>) -> Stream {
        let mut tls = tls.into();
        // The default, 64 KiB, would refuse what a slow reader leaves behind.
        tls.set_buffer_limit(None);
        Stream { tcp, tls: Some(Box::new(tls)), unsent: Vec::new() }
    }

    /// Hands everything that has arrived to `sink`. `Ok(false)`: the peer has closed.
    pub fn drain(&mut self, scratch: &mut [u8], mut sink: impl FnMut(&[u8])) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else { return drain_plain(&mut self.tcp, scratch, sink) };
        loop {
            match tls.read_tls(&mut self.tcp) {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            tls.process_new_packets().map_err(io::Error::other)?;
            if !read_plaintext(tls, scratch, &mut sink)? {
                return Ok(false);
            }
        }
        self.flush()?;
        Ok(true)
    }

    /// One read of at most `limit` bytes from the socket. `Ok(None)`: nothing is there now; an error at the end.
    pub fn sip(&mut self, scratch: &mut [u8], limit: usize, mut sink: impl FnMut(&[u8])) -> io::Result<Option<usize>> {
        let taken = match &mut self.tls {
            None => self.tcp.read(&mut scratch[..limit]).inspect(|&length| sink(&scratch[..length])),
            Some(tls) => tls.read_tls(&mut (&mut self.tcp).take(limit as u64)),
        };
        match taken {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Err(error) if is_not_yet(&error) => return Ok(None),
            _ => {}
        }
        if let Some(tls) = &mut self.tls {
            tls.process_new_packets().map_err(io::Error::other)?;
            read_plaintext(tls, scratch, sink)?;
        }
        taken.map(Some)
    }

    /// Writes now what the kernel takes and keeps the rest for `flush`.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(bytes)?;
            return self.flush();
        }
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(bytes);
            return Ok(());
        }
        match self.tcp.write(bytes) {
            Ok(length) if length == bytes.len() => Ok(()),
            Ok(length) => {
                self.unsent.extend_from_slice(&bytes[length..]);
                self.flush()
            }
            Err(error) if is_not_yet(&error) => {
                self.unsent.extend_from_slice(bytes);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    pub fn flush(&mut self) -> io::Result<()> {
        loop {
            let wrote = match &mut self.tls {
                Some(tls) if tls.wants_write() => tls.write_tls(&mut self.tcp).map(drop),
                None if !self.unsent.is_empty() => {
                    self.tcp.write(&self.unsent).map(|length| drop(self.unsent.drain(..length)))
                }
                _ => return Ok(()),
            };
            match wrote {
                Ok(()) => {}
                Err(error) if is_not_yet(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// `Ok(false)`: the peer has said goodbye.
fn read_plaintext(tls: &mut Connection, scratch: &mut [u8], mut sink: impl FnMut(&[u8])) -> io::Result<bool> {
    loop {
        match tls.reader().read(scratch) {
            Ok(0) => return Ok(false),
            Ok(length) => sink(&scratch[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}

fn drain_plain(tcp: &mut TcpStream, scratch: &mut [u8], mut sink: impl FnMut(&[u8])) -> io::Result<bool> {
    loop {
        match tcp.read(scratch) {
            Ok(0) => return Ok(false),
            Ok(length) => {
                sink(&scratch[..length]);
                // A short read has emptied the socket; the next byte raises a new event (epoll(7), question 9).
                if length < scratch.len() {
                    return Ok(true);
                }
            }
            Err(error) if is_not_yet(&error) => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}

/// `NotConnected`: an event may come before the connect has finished.
fn is_not_yet(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}
