//! The link that commands go over: many in flight on one connection, each timed. It knows of every command whether it
//! left, so that one that did not is never called unknown.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use super::resp::{self, Value};
use super::socket::{Error as Broken, Socket, Stream};
use crate::engine::Error;

/// Commands that wait to be written. Whoever asks beyond that waits for room, within its time.
const QUEUE: usize = 1024;
/// Commands without an answer. A server this far behind gets no more.
const IN_FLIGHT: usize = 4096;
/// Commands joined into one write.
const BATCH: usize = 128;

/// A way to ask a server.
#[derive(Debug)]
pub(super) struct Link {
    queue: mpsc::Sender<Asked>,
    timeout: Duration,
}

/// The other end of a [`Link`]: takes one connection after the other.
pub(super) struct Exchange {
    queue: mpsc::Receiver<Asked>,
}

#[derive(Debug)]
struct Asked {
    command: Bytes,
    /// Answers that come before the one that is waited for.
    skipped: usize,
    answer: oneshot::Sender<Value>,
    way: Arc<Way>,
}

/// How far a command came.
#[derive(Debug, Default)]
struct Way(AtomicU8);

const WAITING: u8 = 0;
const SENT: u8 = 1;
const RECALLED: u8 = 2;

impl Way {
    /// Whether it may be written: nobody recalled it.
    fn sets_out(&self) -> bool {
        self.0.compare_exchange(WAITING, SENT, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// What is left to say of a command without an answer; from here on it does not leave.
    fn ended(&self) -> Error {
        match self.0.compare_exchange(WAITING, RECALLED, Ordering::AcqRel, Ordering::Acquire) {
            Err(SENT) => Error::Unknown,
            _ => Error::Unavailable,
        }
    }
}

impl Link {
    pub(super) fn new(timeout: Duration) -> (Self, Exchange) {
        let (queue, asked) = mpsc::channel(QUEUE);
        (Self { queue, timeout }, Exchange { queue: asked })
    }

    /// Asks, and waits for the answer within the link's time. A refusal by the server is an answer.
    pub(super) async fn ask(&self, command: Bytes) -> Result<Value, Error> {
        self.ask_for(command, 0).await
    }

    /// Asks a server that has the slot only partly yet, sent there by the one that has the rest.
    pub(super) async fn ask_there(&self, command: Bytes) -> Result<Value, Error> {
        self.ask_for([&resp::command(&[b"ASKING"])[..], &command].concat().into(), 1).await
    }

    async fn ask_for(&self, command: Bytes, skipped: usize) -> Result<Value, Error> {
        let way = Arc::new(Way::default());
        let (answer, answered) = oneshot::channel();
        let asked = Asked { command, skipped, answer, way: way.clone() };
        let asking = async {
            self.queue.send(asked).await.map_err(|_| Error::Unavailable)?;
            answered.await.map_err(|_| way.ended())
        };
        tokio::time::timeout(self.timeout, asking).await.unwrap_or_else(|_| Err(way.ended()))
    }
}

impl Exchange {
    /// Carries commands over a connection until that breaks or is given up. What had left by then is unknown to whoever
    /// asked; what had not is refused.
    pub(super) async fn carry(&mut self, socket: Socket, given_up: &Notify) -> Broken {
        let Socket { stream, input } = socket;
        let (reading, writing) = tokio::io::split(stream);
        let flight = Flight { waiting: Mutex::default(), room: Semaphore::new(IN_FLIGHT) };
        let broken = tokio::select! {
            broken = write(writing, &mut self.queue, &flight) => broken,
            broken = read(reading, input, &flight) => broken,
            () = given_up.notified() => Broken::Elsewhere("the link was given up"),
        };
        self.refuse_waiting();
        broken
    }

    /// While there is no connection, nothing waits for one.
    pub(super) async fn refuse_all(&mut self) {
        while let Some(asked) = self.queue.recv().await {
            drop(asked);
        }
    }

    fn refuse_waiting(&mut self) {
        while let Ok(asked) = self.queue.try_recv() {
            drop(asked);
        }
    }
}

/// Commands that left, in their order, which is that of the answers.
struct Flight {
    waiting: Mutex<VecDeque<(usize, oneshot::Sender<Value>)>>,
    room: Semaphore,
}

impl Flight {
    /// Gives the answer to whoever is next; false if nobody is.
    fn land(&self, value: Value) -> bool {
        let mut waiting = self.waiting.lock().expect("nothing panics under this lock");
        match waiting.front_mut() {
            None => return false,
            Some((skipped @ 1.., _)) => {
                *skipped -= 1;
                return true;
            }
            Some((0, _)) => {}
        }
        let answer = waiting.pop_front();
        drop(waiting);
        self.room.add_permits(1);
        if let Some((_, answer)) = answer {
            // Whoever asked may have stopped waiting.
            let _ = answer.send(value);
        }
        true
    }
}

async fn write(mut stream: WriteHalf<Box<dyn Stream>>, queue: &mut mpsc::Receiver<Asked>, flight: &Flight) -> Broken {
    let mut batch = Vec::with_capacity(BATCH);
    let mut out = BytesMut::new();
    loop {
        if queue.recv_many(&mut batch, BATCH).await == 0 {
            return Broken::Elsewhere("nobody asks any more");
        }
        let count = u32::try_from(batch.len()).expect("a batch is small");
        match flight.room.acquire_many(count).await {
            Ok(places) => places.forget(),
            Err(_) => return Broken::Elsewhere("the link has ended"),
        }
        for Asked { command, skipped, answer, way } in batch.drain(..) {
            if way.sets_out() {
                out.extend_from_slice(&command);
                flight.waiting.lock().expect("nothing panics under this lock").push_back((skipped, answer));
            } else {
                flight.room.add_permits(1);
            }
        }
        if let Err(error) = write_all(&mut stream, &mut out).await {
            return error.into();
        }
    }
}

async fn write_all(stream: &mut (impl AsyncWrite + Unpin), out: &mut BytesMut) -> std::io::Result<()> {
    stream.write_all(out).await?;
    stream.flush().await?;
    out.clear();
    // One large publication must not hold its memory for ever.
    if out.capacity() > 1024 * 1024 {
        *out = BytesMut::new();
    }
    Ok(())
}

async fn read(mut stream: ReadHalf<Box<dyn Stream>>, mut input: BytesMut, flight: &Flight) -> Broken {
    loop {
        loop {
            let value = match resp::take(&mut input) {
                Ok(Some(Value::Push(_))) => continue,
                Ok(Some(value)) => value,
                Ok(None) => break,
                Err(malformed) => return malformed.into(),
            };
            let broken = is_no_master(&value);
            if !flight.land(value) {
                return Broken::Elsewhere("the server answered what nobody asked");
            }
            if let Some(broken) = broken {
                return broken;
            }
        }
        match fill(&mut stream, &mut input).await {
            Ok(0) => return std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into(),
            Ok(_) => {}
            Err(error) => return error.into(),
        }
    }
}

async fn fill(stream: &mut (impl AsyncRead + Unpin), input: &mut BytesMut) -> std::io::Result<usize> {
    input.reserve(16 * 1024);
    stream.read_buf(input).await
}

/// A server that takes no writes any more, because another took its place: the link is to look for that one.
fn is_no_master(value: &Value) -> Option<Broken> {
    match value {
        Value::Refusal(why) if why.starts_with("READONLY") || why.starts_with("LOADING") => {
            Some(Broken::Refused(why.clone()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(2);

    fn linked() -> (Arc<Link>, DuplexStream, tokio::task::JoinHandle<Exchange>) {
        let (link, mut exchange) = Link::new(TIMEOUT);
        let (ours, theirs) = tokio::io::duplex(64);
        let socket = Socket { stream: Box::new(ours), input: BytesMut::new() };
        let carrying = tokio::spawn(async move {
            exchange.carry(socket, &Notify::new()).await;
            exchange
        });
        (Arc::new(link), theirs, carrying)
    }

    fn asking(link: &Arc<Link>, word: &'static [u8]) -> tokio::task::JoinHandle<Result<Value, Error>> {
        let link = link.clone();
        tokio::spawn(async move { link.ask(resp::command(&[word])).await })
    }

    #[tokio::test(start_paused = true)]
    async fn answers_go_to_their_questions_in_order() {
        let (link, mut server, _carrying) = linked();
        let asked: Vec<_> = (0..50).map(|_| asking(&link, b"PING")).collect();
        for at in 0..50 {
            let mut question = [0; 14];
            server.read_exact(&mut question).await.unwrap();
            server.write_all(format!(":{at}\r\n").as_bytes()).await.unwrap();
        }
        for (at, asked) in asked.into_iter().enumerate() {
            assert_eq!(asked.await.unwrap(), Ok(Value::Integer(at as i64)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_left_is_unknown_and_what_did_not_is_refused() {
        let (link, server, carrying) = linked();
        // The server reads nothing: the first fills the socket, the second waits behind it.
        let first = asking(&link, &[b'x'; 200]);
        tokio::time::sleep(TIMEOUT / 4).await;
        let second = asking(&link, b"PING");
        tokio::time::sleep(TIMEOUT / 4).await;
        drop(server);
        assert_eq!(first.await.unwrap(), Err(Error::Unknown));
        assert_eq!(second.await.unwrap(), Err(Error::Unavailable));
        carrying.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_was_given_up_is_never_written() {
        let (link, mut server, _carrying) = linked();
        let first = asking(&link, &[b'x'; 200]);
        tokio::time::sleep(TIMEOUT / 2).await;
        let second = asking(&link, b"LOST");
        assert_eq!(first.await.unwrap(), Err(Error::Unknown));
        assert_eq!(second.await.unwrap(), Err(Error::Unavailable));
        let third = asking(&link, b"NEXT");
        let mut seen = Vec::new();
        while !seen.ends_with(b"NEXT\r\n") {
            let mut byte = [0];
            server.read_exact(&mut byte).await.unwrap();
            seen.push(byte[0]);
        }
        assert!(!seen.windows(4).any(|it| it == b"LOST"));
        server.write_all(b"+a\r\n+b\r\n").await.unwrap();
        assert_eq!(third.await.unwrap(), Ok(Value::Text(Bytes::from_static(b"b"))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_became_a_replica_ends_the_link() {
        let (link, mut server, carrying) = linked();
        let asked = asking(&link, b"SET");
        tokio::time::sleep(TIMEOUT / 2).await;
        server.write_all(b"-READONLY You can't write against a read only replica.\r\n").await.unwrap();
        carrying.await.unwrap();
        assert!(matches!(asked.await.unwrap(), Ok(Value::Refusal(_))));
    }
}
