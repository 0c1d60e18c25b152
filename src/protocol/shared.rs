use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};

use super::wire::FORMATS;
use super::{Format, Reply};

/// What many clients are told alike, apart from publications: who came and who went. Framed at most once per format.
#[derive(Debug)]
pub struct Shared {
    replies: Box<[Reply]>,
    frames: [OnceLock<Bytes>; FORMATS],
}

impl Shared {
    pub fn new(replies: Vec<Reply>) -> Self {
        Self { replies: replies.into(), frames: Default::default() }
    }

    /// The bytes for a client of this format.
    pub fn wire(&self, format: Format) -> &Bytes {
        self.frames[format as usize].get_or_init(|| {
            let mut out = BytesMut::new();
            for (at, reply) in self.replies.iter().enumerate() {
                // A poll's messages become items of one list.
                if at > 0 && format == Format::Poll {
                    out.extend_from_slice(b",");
                }
                out.extend_from_slice(&format.reply(reply));
            }
            out.freeze()
        })
    }
}
