use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::hub::Wire;
use crate::peer::Stream;

/// A client's socket as the hub writes to it.
pub(super) struct SocketWire(pub(super) Stream);

impl Wire for SocketWire {
    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &mut &[u8]) -> Poll<io::Result<()>> {
        let stream = &mut self.0;
        // A partial write registers no waker, and TLS takes bytes that the kernel does not have: only another try tells.
        while !bytes.is_empty() {
            let taken = ready!(Pin::new(&mut *stream).poll_write(cx, bytes))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *bytes = &bytes[taken..];
        }
        Pin::new(stream).poll_flush(cx)
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
