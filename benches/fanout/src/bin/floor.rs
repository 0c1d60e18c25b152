//! The floor under every figure: answers the handshakes with the least possible code, and turns a `POST /push` into one
//! message, encoded once, and one bare write (with TLS: one encryption and write) per connection. It routes nothing,
//! checks nothing and forgets who is slow; what Outrigger costs above it is what Outrigger does.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use outrigger_fanout::stream::Stream;
use outrigger_fanout::tls;
use outrigger_fanout::wire::{Transport, envelope, header, server_frame};
use rustls::{ServerConfig, ServerConnection};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// Where subscribers connect
    #[arg(long)]
    listen: SocketAddr,
    /// Where `POST /push` is taken
    #[arg(long)]
    api: SocketAddr,
    #[arg(long)]
    tls: bool,
    /// Makes the message longer until its first frame or event has this many bytes
    #[arg(long, default_value_t = 0)]
    frame_bytes: usize,
}

const SUBSCRIBERS: Token = Token(usize::MAX - 1);
const API: Token = Token(usize::MAX - 2);

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(arguments.listen)?;
    let mut api = TcpListener::bind(arguments.api)?;
    poll.registry().register(&mut listener, SUBSCRIBERS, Interest::READABLE)?;
    poll.registry().register(&mut api, API, Interest::READABLE)?;
    let tls = arguments.tls.then(tls::server_config);

    let mut floor = Floor { connections: Vec::new(), encoder: Encoder { seq: 0, frame_bytes: arguments.frame_bytes } };
    let mut events = Events::with_capacity(1024);
    let mut scratch = vec![0; 64 * 1024];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            match event.token() {
                SUBSCRIBERS => floor.accept(&listener, poll.registry(), tls.as_ref())?,
                API => floor.accept(&api, poll.registry(), None)?,
                Token(index) => floor.on_event(index, &mut scratch),
            }
        }
    }
}

struct Floor {
    connections: Vec<Option<Connection>>,
    encoder: Encoder,
}

struct Connection {
    stream: Stream,
    request: Vec<u8>,
    follows: Option<Transport>,
}

impl Floor {
    fn accept(
        &mut self,
        listener: &TcpListener,
        registry: &Registry,
        tls: Option<&Arc<ServerConfig>>,
    ) -> io::Result<()> {
        loop {
            let mut tcp: TcpStream = match listener.accept() {
                Ok((tcp, _)) => tcp,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            tcp.set_nodelay(true)?;
            registry.register(&mut tcp, Token(self.connections.len()), Interest::READABLE | Interest::WRITABLE)?;
            let stream = match tls {
                None => Stream::plain(tcp),
                Some(config) => {
                    Stream::encrypted(tcp, ServerConnection::new(config.clone()).map_err(io::Error::other)?)
                }
            };
            self.connections.push(Some(Connection { stream, request: Vec::new(), follows: None }));
        }
    }

    fn on_event(&mut self, index: usize, scratch: &mut [u8]) {
        let Some(Some(connection)) = self.connections.get_mut(index) else { return };
        match connection.on_event(scratch) {
            Ok(Heard::Nothing) => {}
            Ok(Heard::Push(body)) => self.push(index, &body),
            // A program that is only a floor has nobody to tell.
            Err(_) => self.connections[index] = None,
        }
    }

    fn push(&mut self, publisher: usize, body: &[u8]) {
        let Ok(posted) = serde_json::from_slice::<Posted>(body) else { return };
        let messages = posted.messages();
        let (frames, events) = self.encoder.encode(&messages);
        for connection in self.connections.iter_mut().flatten() {
            // An error shows up at the next event of that connection.
            let _ = match connection.follows {
                Some(Transport::Ws) => connection.stream.send(&frames),
                Some(Transport::Sse) => connection.stream.send(&events),
                None => Ok(()),
            };
        }
        if let Some(Some(connection)) = self.connections.get_mut(publisher) {
            let _ = connection.stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"results\":[]}");
        }
    }
}

enum Heard {
    Nothing,
    Push(Vec<u8>),
}

impl Connection {
    fn on_event(&mut self, scratch: &mut [u8]) -> io::Result<Heard> {
        self.stream.flush()?;
        let request = &mut self.request;
        if !self.stream.drain(scratch, |bytes| request.extend_from_slice(bytes))? {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        if self.follows.is_some() {
            // The one frame a subscriber sends is its `subscribe`.
            self.request = Vec::new();
            self.stream.send(&server_frame(r#"{"type":"subscribed","channel":"bench","epoch":"0","seq":0}"#))?;
            return Ok(Heard::Nothing);
        }
        let Some(whole) = envelope(&self.request).filter(|whole| whole.length <= self.request.len()) else {
            return Ok(Heard::Nothing);
        };
        if whole.start_line.starts_with("POST ") {
            let body = self.request[whole.length - whole.body_length..whole.length].to_vec();
            self.request.drain(..whole.length);
            return Ok(Heard::Push(body));
        }
        let (transport, greeting) = greeting(whole.head);
        self.request = Vec::new();
        self.follows = Some(transport);
        self.stream.send(&greeting)?;
        Ok(Heard::Nothing)
    }
}

fn greeting(head: &str) -> (Transport, Vec<u8>) {
    let connected = r#"{"type":"connected","connectionId":"0"}"#;
    match header(head, "sec-websocket-key") {
        Some(key) => {
            let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
            let head = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            (Transport::Ws, [head.into_bytes(), server_frame(connected)].concat())
        }
        None => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
            (Transport::Sse, format!("{head}event: connected\ndata: {connected}\n\n").into_bytes())
        }
    }
}

/// What `/push` takes: one message, or several.
#[derive(Deserialize)]
struct Posted {
    messages: Option<Vec<Message>>,
    data: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Message {
    data: Box<RawValue>,
}

impl Posted {
    fn messages(self) -> Vec<Message> {
        self.messages.unwrap_or_else(|| self.data.into_iter().map(|data| Message { data }).collect())
    }
}

struct Encoder {
    seq: u64,
    frame_bytes: usize,
}

impl Encoder {
    /// All messages as WebSocket frames, and the same as events.
    fn encode(&mut self, messages: &[Message]) -> (Vec<u8>, Vec<u8>) {
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis());
        let (mut frames, mut events) = (Vec::new(), Vec::new());
        for message in messages {
            self.seq += 1;
            let json = |id: &str| {
                let (data, seq) = (&message.data, self.seq);
                format!(
                    r#"{{"type":"message","channel":"bench","data":{data},"id":"{id}","seq":{seq},"timestamp":{timestamp}}}"#
                )
            };
            frames.extend(padded(self.frame_bytes, |id| server_frame(&json(id))));
            events
                .extend(padded(self.frame_bytes, |id| format!("event: message\ndata: {}\n\n", json(id)).into_bytes()));
        }
        (frames, events)
    }
}

fn padded(length: usize, encode: impl Fn(&str) -> Vec<u8>) -> Vec<u8> {
    let id = "0123456789abcdef";
    let bare = encode(id);
    if bare.len() >= length {
        return bare;
    }
    encode(&format!("{id}{}", "0".repeat(length - bare.len())))
}
