use bytes::{Bytes, BytesMut};
use http::Method;
use http_body_util::BodyExt;

use super::node::{self, Node};
use super::{Error, Where, say};
use crate::config::Scope;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// room.5
    channel: String,
    #[command(flatten)]
    node: Where,
}

/// The longest line of an event stream; publications are smaller.
const MAX_LINE: usize = 16 * 1024 * 1024;

/// Prints each message as a line of JSON, until Ctrl-C.
pub async fn run(arguments: Arguments) -> Result<(), Error> {
    let node = Node::find(&arguments.node, Scope::Read)?;
    tokio::select! {
        ended = follow(&node, &arguments.channel) => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

async fn follow(node: &Node, channel: &str) -> Result<(), Error> {
    let path = format!("/tail?channel={}", encoded(channel));
    let response = node.call(Method::GET, &path, Bytes::new()).await?;
    if !response.status().is_success() {
        return Err(node::refusal(response).await);
    }
    eprintln!("watching {channel}; Ctrl-C ends it");
    let mut body = response.into_body();
    let mut lines = Lines::default();
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(Error::failed)?.into_data() else { continue };
        lines.add(&piece);
        while let Some(line) = lines.next() {
            // Events of other kinds tell a client about its session; each message is one line of data.
            if let Some(data) = line.strip_prefix("data:").filter(|_| lines.is_message) {
                say(data.strip_prefix(' ').unwrap_or(data))?;
            }
        }
        if lines.text.len() > MAX_LINE {
            return Err(Error::Failed("the node sends a line without an end".into()));
        }
    }
    Err(Error::Failed("the node ended the stream".into()))
}

/// An event stream, line by line, however it was cut on its way.
#[derive(Default)]
struct Lines {
    text: BytesMut,
    /// Whether the event that is being read is a `message`.
    is_message: bool,
}

impl Lines {
    fn add(&mut self, piece: &[u8]) {
        self.text.extend_from_slice(piece);
    }

    fn next(&mut self) -> Option<String> {
        let end = self.text.iter().position(|it| *it == b'\n')?;
        let line = self.text.split_to(end + 1);
        let line = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
        match line.strip_prefix("event:") {
            Some(event) => self.is_message = event.trim() == "message",
            None if line.is_empty() => self.is_message = true,
            None => {}
        }
        Some(line)
    }
}

/// Percent-encoding, as a query needs it.
fn encoded(text: &str) -> String {
    let byte = |it: u8| match it {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' => char::from(it).to_string(),
        _ => format!("%{it:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_whole_however_they_were_cut() {
        let mut lines = Lines { is_message: true, ..Lines::default() };
        let mut messages = Vec::new();
        for piece in
            [": hi\n\nevent: conn", "ected\ndata: {}\n\nevent: message\nda", "ta: {\"a\":1}\r\n", "\ndata: 2\n"]
        {
            lines.add(piece.as_bytes());
            while let Some(line) = lines.next() {
                messages.extend(line.strip_prefix("data: ").filter(|_| lines.is_message).map(str::to_owned));
            }
        }
        assert_eq!(messages, ["{\"a\":1}", "2"]);
    }

    #[test]
    fn a_channel_may_hold_any_letter() {
        assert_eq!(encoded("room.5/ü&x"), "room.5%2F%C3%BC%26x");
    }
}
