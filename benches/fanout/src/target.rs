//! Where subscribers go, and as what.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, Socket, Type};

use crate::stream::Stream;
use crate::wire::{Transport, event_stream_request, websocket_request};

pub struct Target {
    pub address: SocketAddr,
    pub transport: Transport,
    pub tls: Option<Arc<ClientConfig>>,
    pub token: Option<String>,
    pub channel: String,
}

impl Target {
    pub fn request(&self) -> String {
        let token = self.token.as_ref().map(|token| format!("token={token}")).unwrap_or_default();
        match self.transport {
            Transport::Ws => websocket_request(&format!("/realtime?{token}")),
            Transport::Sse => event_stream_request(&format!("/realtime/sse?channels={}&{token}", self.channel)),
        }
    }

    /// Opens a connection without waiting for it, from the loopback address that has the number `source`.
    pub fn connect(&self, source: usize, receive_buffer: Option<usize>) -> io::Result<Stream> {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        // Before connecting, or a larger window is already agreed.
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if source > 0 {
            let host =
                u8::try_from(source + 1).map_err(|_| io::Error::other("more subscribers than source addresses"))?;
            socket.bind(&SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, host)), 0).into())?;
        }
        match socket.connect(&self.address.into()) {
            Err(error) if !is_under_way(&error) => return Err(error),
            _ => {}
        }
        let tcp = TcpStream::from_std(socket.into());
        let Some(config) = &self.tls else { return Ok(Stream::plain(tcp)) };
        let name = ServerName::try_from("localhost").expect("localhost is a valid name");
        Ok(Stream::encrypted(tcp, ClientConnection::new(config.clone(), name).map_err(io::Error::other)?))
    }
}

/// Linux's EINPROGRESS; stable Rust has no `ErrorKind` for it.
fn is_under_way(error: &io::Error) -> bool {
    error.raw_os_error() == Some(115) || error.kind() == ErrorKind::WouldBlock
}
