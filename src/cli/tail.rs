use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::try_join_all;
use http::Method;
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep, timeout};

use super::node::{self, Node};
use super::{Error, Where, say, tell};
use crate::backend::Body;
use crate::config::Scope;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// room.5; several are watched side by side
    #[arg(required = true, value_name = "CHANNEL")]
    channels: Vec<String>,
    #[command(flatten)]
    node: Where,
}

const EXAMPLES: &str = "\
Examples:
  outrigger tail room.5
  outrigger tail room.5 user.42.inbox
  outrigger tail room.5 | jq .data

Each message is a line of JSON, from now on. A node that restarts is found again; what is published in between is \
not shown.";

/// The longest line of an event stream; publications are smaller.
const MAX_LINE: usize = 16 * 1024 * 1024;
/// The node says something every 15 s: one that is silent for this long is gone without a word.
const SILENCE: Duration = Duration::from_secs(45);
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Prints each message as a line of JSON, until Ctrl-C.
pub async fn run(arguments: Arguments) -> Result<(), Error> {
    let node = Node::find(&arguments.node, Scope::Read)?;
    let print = |message: &str| say(message);
    let channels = arguments.channels.iter().map(|channel| follow(&node, channel, &print));
    tokio::select! {
        ended = try_join_all(channels) => ended.map(drop),
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// Prints what comes in. Its error ends the command.
type Print<'a> = &'a dyn Fn(&str) -> Result<(), Error>;

/// Why a stream is not there, or not any more.
enum Lost {
    /// Another try would end the same.
    ForGood(Error),
    /// The node is away or restarts.
    ForNow(String),
}

/// Watches a channel and finds the node again. One that never answered is an error: its address may be wrong.
async fn follow(node: &Node, channel: &str, print: Print<'_>) -> Result<(), Error> {
    let mut body = open(node, channel).await.map_err(|lost| match lost {
        Lost::ForGood(error) => error,
        Lost::ForNow(reason) => Error::Failed(reason),
    })?;
    tell(format_args!("watching {channel}; Ctrl-C ends it\n"));
    let mut wait = FIRST_WAIT;
    loop {
        let opened = Instant::now();
        match watch(&mut body, print).await {
            Lost::ForGood(error) => return Err(error),
            Lost::ForNow(reason) => tell(format_args!("{channel}: {reason}; trying again\n")),
        }
        // A node that takes each call and hangs up is as good as away.
        if opened.elapsed() > LONGEST_WAIT {
            wait = FIRST_WAIT;
        }
        body = open_again(node, channel, &mut wait).await?;
        tell(format_args!("watching {channel} again; what was published meanwhile is not shown\n"));
    }
}

/// Tries until the node is there; each try leaves a longer `wait` for the next.
async fn open_again(node: &Node, channel: &str, wait: &mut Duration) -> Result<Body, Error> {
    loop {
        // Spread, so that many terminals do not come back at once.
        sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        *wait = (*wait * 2).min(LONGEST_WAIT);
        match open(node, channel).await {
            Ok(body) => return Ok(body),
            Err(Lost::ForGood(error)) => return Err(error),
            Err(Lost::ForNow(_)) => {}
        }
    }
}

async fn open(node: &Node, channel: &str) -> Result<Body, Lost> {
    let path = format!("/tail?channel={}", encoded(channel));
    let response = node.call(Method::GET, &path, Bytes::new()).await.map_err(|it| Lost::ForNow(it.to_string()))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response.into_body());
    }
    let refusal = node::refusal(response).await;
    Err(if status.is_server_error() { Lost::ForNow(refusal.to_string()) } else { Lost::ForGood(refusal) })
}

/// Prints what comes, to the end of the stream.
async fn watch(body: &mut Body, print: Print<'_>) -> Lost {
    let mut lines = Lines::default();
    loop {
        let frame = match timeout(SILENCE, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => return Lost::ForNow(error.to_string()),
            Ok(None) => return Lost::ForNow("the node ended the stream".into()),
            Err(_) => return Lost::ForNow("the node is silent".into()),
        };
        let Ok(piece) = frame.into_data() else { continue };
        lines.add(&piece);
        while let Some(line) = lines.next() {
            // Events of other kinds tell a client about its session; each message is one line of data.
            let data = line.strip_prefix("data:").filter(|_| lines.is_message);
            let printed = data.map_or(Ok(()), |data| print(data.strip_prefix(' ').unwrap_or(data)));
            if let Err(error) = printed {
                return Lost::ForGood(error);
            }
        }
        if lines.text.len() > MAX_LINE {
            return Lost::ForGood(Error::Failed("the node sends a line without an end".into()));
        }
    }
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
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// An API that gives each connection the next of these answers and hangs up; then it tells what it was asked.
    async fn api(answers: Vec<String>) -> (Node, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let at = Where { url: Some(url), key: Some("a key".into()), config: None, insecure: false };
        let asked = tokio::spawn(async move {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(socket.read_u8().await.unwrap());
                }
                asked.push(String::from_utf8(head).unwrap());
                socket.write_all(answer.as_bytes()).await.unwrap();
                socket.shutdown().await.unwrap();
            }
            asked
        });
        (Node::find(&at, Scope::Read).unwrap(), asked)
    }

    fn stream(events: &str) -> String {
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{events}")
    }

    fn problem(status: &str, detail: &str) -> String {
        let body = format!("{{\"detail\":\"{detail}\"}}");
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn a_node_that_restarts_is_found_again_until_it_refuses() {
        let (node, asked) = api(vec![
            stream(":\n\nid: 1\nevent: message\ndata: {\"seq\":1}\n\n"),
            problem("503 Service Unavailable", "draining"),
            stream("event: message\ndata: {\"seq\":2}\n\n"),
            problem("401 Unauthorized", "this key is not known"),
        ])
        .await;
        let printed = Mutex::new(Vec::new());
        let print = |message: &str| {
            printed.lock().unwrap().push(message.to_owned());
            Ok(())
        };
        let ended = follow(&node, "room 5", &print).await.unwrap_err();
        assert_eq!(*printed.lock().unwrap(), ["{\"seq\":1}", "{\"seq\":2}"]);
        assert!(ended.to_string().contains("this key is not known"), "{ended}");
        let asked = asked.await.unwrap();
        assert!(asked.iter().all(|it| it.starts_with("GET /tail?channel=room%205 HTTP/1.1\r\n")), "{asked:?}");
        assert!(asked.iter().all(|it| it.to_lowercase().contains("authorization: bearer a key\r\n")), "{asked:?}");
    }

    #[tokio::test]
    async fn a_node_that_never_was_there_is_not_waited_for() {
        let (node, _) = api(vec![problem("503 Service Unavailable", "draining")]).await;
        let ended = follow(&node, "a", &|_| Ok(())).await.unwrap_err();
        assert_eq!((ended.exit_code(), ended.to_string().contains("draining")), (1, true), "{ended}");
    }

    #[tokio::test]
    async fn a_reader_that_fails_ends_the_watch() {
        let (node, _) = api(vec![stream("event: message\ndata: 1\n\n")]).await;
        let ended = follow(&node, "a", &|_| Err(Error::Failed("the disk is full".into()))).await.unwrap_err();
        assert_eq!(ended.to_string(), "the disk is full");
    }

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
