//! Takes a user out of what is kept: every stream is looked through in pages, and what is theirs keeps its number alone.

use bytes::Bytes;

use super::resp::{self, Value};
use super::script::{self, Call};
use super::{Core, record};
use crate::channel::{ChannelName, Publication};
use crate::engine::{Erased, Error};

/// Entries read at once.
const PAGE: &[u8] = b"64";

impl Core {
    pub(super) async fn erase(&self, user: &str) -> Result<Erased, Error> {
        let mut erased = Erased::default();
        for channel in self.all_channels("", usize::MAX).await? {
            let count = self.erase_in(&channel, user).await?;
            erased.publications += count;
            erased.channels += usize::from(count > 0);
        }
        Ok(erased)
    }

    async fn erase_in(&self, channel: &ChannelName, user: &str) -> Result<usize, Error> {
        let keys = self.names.of(channel);
        let mut instead = Vec::new();
        let mut from = "-".to_owned();
        loop {
            let words = [b"XRANGE", keys.stream.as_bytes(), from.as_bytes(), b"+", b"COUNT", PAGE];
            let entries = self.ask(channel, resp::command(&words)).await?.list().unwrap_or_default();
            let Some(last) = entries.last().and_then(entry_id) else { break };
            from = format!("({last}");
            for entry in &entries {
                instead.extend(what_is_left(channel, entry, user));
            }
        }
        if instead.is_empty() {
            return Ok(0);
        }
        let arguments: Vec<&[u8]> = instead.iter().flat_map(|(id, body)| [id.as_bytes(), &body[..]]).collect();
        let call = Call { script: &script::ERASE, keys: &[keys.stream.as_bytes()], arguments: &arguments };
        let count = self.call(channel, &call).await?.number().ok_or(Error::Unknown)?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }
}

fn entry_id(entry: &Value) -> Option<String> {
    let Value::List(entry) = entry else { return None };
    entry.first()?.text().map(ToOwned::to_owned)
}

/// The entry's id and what its body becomes, if it is theirs.
fn what_is_left(channel: &ChannelName, entry: &Value, user: &str) -> Option<(String, Bytes)> {
    let Value::List(entry) = entry else { return None };
    let [id, Value::List(fields)] = &entry[..] else { return None };
    let body = fields.get(3)?.bytes()?;
    let it = record::read_body(channel, body)?;
    let Publication { user: author, subject, .. } = &it;
    let is_theirs = author.as_deref() == Some(user) || subject.as_deref() == Some(user);
    is_theirs.then_some(())?;
    Some((id.text()?.to_owned(), record::write_erased(&it).into()))
}
