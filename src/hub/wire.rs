use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::ReadBuf;

use crate::channel::ChannelName;
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
    /// More was published than could be held while the channel caught up: read on from its position.
    CatchUpAgain(ChannelName),
    /// There was no room to say who came and who went: the client is to get the whole list again.
    ListAgain(ChannelName),
}
