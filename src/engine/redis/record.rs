//! A publication as Redis keeps and announces it: a line of JSON that an operator can read, and the data as it is.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::channel::{ChannelName, Data, Draft, Epoch, Publication};

/// What stands before the data.
#[derive(Serialize, Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    event: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    user: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    subject: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    exclude: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    binary: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    erased: bool,
}

/// A publication and the id of the one before it: the chain by which a lost write is noticed.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) publication: Arc<Publication>,
    /// None for the first of its epoch.
    pub(super) before: Option<Arc<str>>,
}

/// The number and time a publication was given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    pub(super) epoch: Epoch,
    pub(super) seq: u64,
    pub(super) timestamp: u64,
}

pub(super) fn write(draft: &Draft) -> Vec<u8> {
    let (data, binary) = match &draft.data {
        Data::Json(bytes) => (bytes, false),
        Data::Binary(bytes) => (bytes, true),
    };
    let text = |it: &'_ Option<Arc<str>>| it.as_deref().map(|it| Cow::Owned(it.to_owned()));
    let head = Head {
        id: Cow::Borrowed(&draft.id),
        event: text(&draft.event),
        user: text(&draft.user),
        subject: text(&draft.subject),
        exclude: draft.exclude.iter().map(ToString::to_string).collect(),
        binary,
        erased: false,
    };
    with_data(&head, data)
}

/// What is left of a publication whose data was taken out.
pub(super) fn write_erased(it: &Publication) -> Vec<u8> {
    let head = Head {
        id: Cow::Borrowed(&it.id),
        event: None,
        user: None,
        subject: None,
        exclude: it.exclude.iter().map(ToString::to_string).collect(),
        binary: false,
        erased: true,
    };
    with_data(&head, b"null")
}

fn with_data(head: &Head<'_>, data: &[u8]) -> Vec<u8> {
    let mut out = serde_json::to_vec(head).expect("texts and flags are always JSON");
    out.push(b'\n');
    out.extend_from_slice(data);
    out
}

/// Reads what [`write()`] wrote; none for what somebody else put there.
pub(super) fn read(channel: &ChannelName, stamp: Stamp, body: &Bytes) -> Option<Publication> {
    let end = body.iter().position(|it| *it == b'\n')?;
    let head: Head<'_> = serde_json::from_slice(&body[..end]).ok()?;
    let data = body.slice(end + 1..);
    let text = |it: Option<Cow<'_, str>>| it.map(|it| Arc::from(&*it));
    Some(Publication {
        channel: channel.clone(),
        epoch: stamp.epoch,
        seq: stamp.seq,
        prev: None,
        id: Arc::from(&*head.id),
        event: text(head.event),
        user: text(head.user),
        subject: text(head.subject),
        data: if head.binary { Data::Binary(data) } else { Data::Json(data) },
        timestamp: stamp.timestamp,
        exclude: head.exclude.iter().filter_map(|it| it.parse().ok()).collect(),
        erased: head.erased,
    })
}

/// Reads a body alone, whatever number it has.
pub(super) fn read_body(channel: &ChannelName, body: &Bytes) -> Option<Publication> {
    read(channel, Stamp { epoch: Epoch(0), seq: 0, timestamp: 0 }, body)
}

/// Reads what the publishing script announces: `epoch seq time length`, the id before, and the body.
pub(super) fn read_announced(channel: &ChannelName, message: &Bytes) -> Option<Link> {
    let end = message.iter().position(|it| *it == b'\n')?;
    let mut words = std::str::from_utf8(&message[..end]).ok()?.split(' ');
    let stamp = Stamp {
        epoch: words.next()?.parse().ok()?,
        seq: words.next()?.parse().ok()?,
        timestamp: words.next()?.parse().ok()?,
    };
    let len: usize = words.next()?.parse().ok()?;
    let rest = message.slice(end + 1..);
    let before = rest.get(..len)?;
    let publication = Arc::new(read(channel, stamp, &rest.slice(len..))?);
    Some(Link { publication, before: read_id(before) })
}

/// Reads an entry of a channel's stream: its id is `seq-milliseconds`.
pub(super) fn read_entry(channel: &ChannelName, epoch: Epoch, id: &str, before: &[u8], body: &Bytes) -> Option<Link> {
    let (seq, timestamp) = id.split_once('-')?;
    let stamp = Stamp { epoch, seq: seq.parse().ok()?, timestamp: timestamp.parse().ok()? };
    Some(Link { publication: Arc::new(read(channel, stamp, body)?), before: read_id(before) })
}

/// An empty id stands for none.
pub(super) fn read_id(bytes: &[u8]) -> Option<Arc<str>> {
    std::str::from_utf8(bytes).ok().filter(|it| !it.is_empty()).map(Arc::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::ConnectionId;

    #[test]
    fn a_publication_comes_back_as_it_was_drafted() {
        let channel = ChannelName::parse("zimmer/größe:1").unwrap();
        for data in [Data::Json(Bytes::from_static(b"{\"a\":\"b\"}")), Data::Binary(Bytes::from_static(b"\n\0\xff"))] {
            let mut draft = Draft::new(channel.clone(), data, Some("id \"with\"\nbreaks".into()));
            draft.event = Some("said".into());
            draft.user = Some("42".into());
            draft.subject = Some("43".into());
            draft.exclude = vec![ConnectionId(7)];
            let message = [b"00000000000000ff 12 1700 3\nx y".as_slice(), &write(&draft)].concat();
            let Link { publication, before } = read_announced(&channel, &message.into()).unwrap();
            let it = &*publication;
            assert_eq!((it.epoch, it.seq, it.timestamp, before.as_deref()), (Epoch(255), 12, 1700, Some("x y")));
            assert_eq!((&it.id, &it.event, &it.user), (&draft.id, &draft.event, &draft.user));
            assert_eq!((&it.subject, &it.data, &it.exclude), (&draft.subject, &draft.data, &draft.exclude));
        }
    }

    #[test]
    fn what_somebody_else_wrote_is_no_publication() {
        let channel = ChannelName::parse("a").unwrap();
        for bad in
            ["", "hello", "00ff 1 2 99\nx", "00ff 1 2 0\n{}\n1", "00ff 1 2 0\nno head", "zz 1 2 0\n{\"id\":\"x\"}\n1"]
        {
            assert!(read_announced(&channel, &Bytes::from_static(bad.as_bytes())).is_none(), "{bad}");
        }
    }
}
