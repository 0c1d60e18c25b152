//! The bytes the benchmark speaks: request heads, a masked frame for what a client says, and the frame or event in
//! which a message reaches a subscriber.

use clap::ValueEnum;
use serde::Serialize;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Ws,
    Sse,
}

pub fn websocket_request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

pub fn event_stream_request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
}

/// The mask is zero, which is a mask: the bytes stay as they are and no server can tell the cost apart.
pub fn client_frame(text: &str) -> Vec<u8> {
    frame(text, Some([0; 4]))
}

pub fn server_frame(text: &str) -> Vec<u8> {
    frame(text, None)
}

fn frame(text: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    let header = FrameHeader { opcode: OpCode::Data(Data::Text), mask, ..FrameHeader::default() };
    let mut bytes = Vec::with_capacity(text.len() + 14);
    header.format(text.len() as u64, &mut bytes).expect("a Vec takes every byte");
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// The head of an HTTP/1.1 message with a `Content-Length`, and how far head and body reach.
pub struct Envelope<'a> {
    pub start_line: &'a str,
    pub head: &'a str,
    pub length: usize,
    pub body_length: usize,
}

/// `None`: the head has not arrived whole. A message without `Content-Length` has no body.
pub fn envelope(bytes: &[u8]) -> Option<Envelope<'_>> {
    let head_length = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..head_length]).ok()?;
    let body_length = header(head, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    Some(Envelope { start_line: head.lines().next()?, head, length: head_length + body_length, body_length })
}

pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}
