//! The PROXY header (v1 and v2) that a balancer writes before the client's first byte. Exactly its bytes are read, so
//! that TLS or HTTP find the stream untouched.

use std::io;
use std::net::SocketAddr;

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_PREFIX: usize = 16;

/// The longest line of version 1, from its specification.
const V1_MAX: usize = 107;

/// Addresses take 216 bytes at most; the rest is for extensions such as the TLS details AWS adds.
const V2_MAX: usize = 4096;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Proxied {
    pub from: SocketAddr,
    pub local: SocketAddr,
}

/// Reads the header; none when the balancer speaks for itself (a health check).
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Proxied>> {
    let mut header = vec![0; V2_SIGNATURE.len()];
    stream.read_exact(&mut header).await?;
    if header == V2_SIGNATURE {
        read_v2(stream, &mut header).await?;
    } else if header.starts_with(b"PROXY ") {
        read_v1(stream, &mut header).await?;
    } else {
        return Err(invalid("no PROXY header"));
    }
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    let (parsed, _) = ProxyHeader::parse(&header, config).map_err(|_| invalid("malformed PROXY header"))?;
    Ok(parsed.proxied_address().map(|it| Proxied { from: it.source, local: it.destination }))
}

async fn read_v1(stream: &mut (impl AsyncRead + Unpin), header: &mut Vec<u8>) -> io::Result<()> {
    // Byte by byte: what follows the line belongs to the client.
    while !header.ends_with(b"\r\n") {
        if header.len() >= V1_MAX {
            return Err(invalid("endless PROXY header"));
        }
        header.push(stream.read_u8().await?);
    }
    Ok(())
}

async fn read_v2(stream: &mut (impl AsyncRead + Unpin), header: &mut Vec<u8>) -> io::Result<()> {
    header.resize(V2_PREFIX, 0);
    stream.read_exact(&mut header[V2_SIGNATURE.len()..]).await?;
    let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if length > V2_MAX {
        return Err(invalid("endless PROXY header"));
    }
    header.resize(V2_PREFIX + length, 0);
    stream.read_exact(&mut header[V2_PREFIX..]).await?;
    Ok(())
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use proxy_header::ProxiedAddress;

    use super::*;

    fn v2() -> Vec<u8> {
        let addresses =
            ProxiedAddress::stream("[2001:db8::7]:5000".parse().unwrap(), "[2001:db8::1]:443".parse().unwrap());
        let mut buffer = vec![0; 1024];
        let length = ProxyHeader::with_address(addresses).encode_to_slice_v2(&mut buffer).unwrap();
        buffer.truncate(length);
        buffer
    }

    #[tokio::test]
    async fn exactly_the_header_is_read() {
        let v1 = b"PROXY TCP4 203.0.113.9 10.0.0.1 5000 443\r\n".to_vec();
        for (header, from) in [(v1, "203.0.113.9:5000"), (v2(), "[2001:db8::7]:5000")] {
            let bytes = [header, b"GET / HTTP/1.1\r\n".to_vec()].concat();
            let mut rest = &bytes[..];
            let proxied = read(&mut rest).await.unwrap().unwrap();
            assert_eq!(proxied.from, from.parse().unwrap());
            assert_eq!(rest, b"GET / HTTP/1.1\r\n");
        }
    }

    #[tokio::test]
    async fn a_balancer_may_speak_for_itself() {
        let mut local = &b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"[..];
        assert_eq!(read(&mut local).await.unwrap(), None);
        assert_eq!(read(&mut &b"PROXY UNKNOWN\r\n"[..]).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let endless = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PROXY TCP4 x y 1 2\r\n", &endless, b"PROXY TCP4 1.2.3.4"] {
            assert!(read(&mut &bytes[..]).await.is_err(), "{bytes:?}");
        }
    }
}
