//! An echo over the real reader, outbox and framing, for conformance suites. Every answer is compressed where that was
//! negotiated, so that the suite sees the compressor at work.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data};

use super::frames::{Frames, Heard};
use super::handshake::Agreed;
use super::{READ, control_frame};
use crate::hub::{Hub, Outbox};
use crate::peer::Stream;
use crate::protocol::wire::{data_frame, deflate_within};
use crate::protocol::{Close, Format};
use crate::transport::wire::SocketWire;

/// Larger than the largest message of the Autobahn cases.
const MAX_MESSAGE: usize = 32 * 1024 * 1024;

/// Serves one connection whose handshake was read already.
pub async fn serve(request: Request<()>, stream: Stream, read: Bytes, hub: Arc<Hub>) {
    let Ok(agreed) = Agreed::read(&request, true) else { return };
    let outbox = Outbox::new(&hub, Format::WebSocketJson, Some(Box::new(SocketWire(stream))), MAX_MESSAGE);
    let lines = agreed.headers().into_iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    outbox.control(format!("HTTP/1.1 101 Switching Protocols\r\n{}\r\n", lines.collect::<String>()).into());
    let mut frames = Frames::new(MAX_MESSAGE, agreed.deflate.is_some());
    frames.push(&read);
    let end = loop {
        match frames.next() {
            Ok(Some(Heard::Close(code))) => break Close { code: code.unwrap_or(1000), reason: "".into() },
            Ok(Some(heard)) => answer(&outbox, &agreed, heard),
            Ok(None) if hear(&outbox, &mut frames).await => {}
            Ok(None) => return outbox.close(),
            Err(close) => break close,
        }
    };
    let mut payload = end.code.to_be_bytes().to_vec();
    payload.extend_from_slice(end.reason.as_bytes());
    outbox.control(control_frame(Control::Close, &payload));
    let _ = std::future::poll_fn(|cx| outbox.poll_finish(cx)).await;
    while hear(&outbox, &mut Frames::new(0, false)).await {}
    outbox.close();
}

fn answer(outbox: &Outbox, agreed: &Agreed, heard: Heard) {
    let data = |code, payload: Bytes| match agreed.deflate {
        Some(deflated) => data_frame(code, true, &deflate_within(&payload, 3, deflated.window_bits())),
        None => data_frame(code, false, &payload),
    };
    match heard {
        Heard::Text(payload) => outbox.control(data(Data::Text, payload)),
        Heard::Binary(payload) => outbox.control(data(Data::Binary, payload)),
        Heard::Ping(payload) => outbox.control(control_frame(Control::Pong, &payload)),
        Heard::Pong | Heard::Close(_) => {}
    }
}

/// Writes what waits and reads what comes. False at the end of the stream.
async fn hear(outbox: &Outbox, frames: &mut Frames) -> bool {
    std::future::poll_fn(|cx| {
        if outbox.drive(cx).is_err() {
            return std::task::Poll::Ready(false);
        }
        READ.with_borrow_mut(|scratch| {
            let mut buffer = tokio::io::ReadBuf::new(scratch);
            outbox.poll_receive(cx, &mut buffer).map(|result| {
                frames.push(buffer.filled());
                result.is_ok() && !buffer.filled().is_empty()
            })
        })
    })
    .await
}
