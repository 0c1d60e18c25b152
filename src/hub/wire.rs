use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::ReadBuf;

use super::lane::Number;
use crate::channel::{ChannelName, Position};
use crate::protocol::Close;

/// A client's byte stream as the hub needs it. `transport` implements it over its sockets.
pub trait Wire: Send {
    /// Writes all of `bytes`, advancing it. `Ready` means the kernel has every byte, with TLS too; `Pending` means the
    /// waker is registered, so an implementation loops until one of the two holds. Called with nothing left to write it
    /// still flushes.
    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &mut &[u8]) -> Poll<io::Result<()>>;

    /// Reads what has come in.
    fn poll_receive(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;

    /// Says goodbye to the other end: a TLS close, a FIN.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// What others have to say to the task that serves a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// The connection is to end with this code.
    Close(Close),
    /// The node goes away: what waits is written, then the connection ends. The client is to come back after this.
    Reconnect { after: Duration },
    /// A channel is to be read on from its history.
    CatchUpAgain(Box<Hole>),
    /// There was no room to say who came and who went: the client is to get the whole list again.
    ListAgain(ChannelName),
}

/// Something one subscription may have missed: more was published while it caught up than could be held for it, or what
/// was delivered did not follow on what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hole {
    pub(super) channel: ChannelName,
    pub(super) number: Number,
    /// What the client has, or will have once its outbox is written.
    pub(super) from: Position,
    /// What a gap is called, should the history not cover it.
    pub(super) reason: &'static str,
}

impl Hole {
    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }
}
