//! What a stream or a poll is to follow: the channels its URL names, and where its cursor says the client stands.

use http::{HeaderName, Request};

use super::header;
use crate::channel::{ChannelName, Position};
use crate::hub::Checkpoints;
use crate::protocol::cursor;
use crate::protocol::query::parameter;

/// The channels a client wants to follow, each from a position or from now; or the name that was none.
pub(super) type Wanted = Result<Vec<(ChannelName, Option<Position>)>, String>;

/// What the URL names in `channels`, and every channel of the cursor (`Last-Event-ID`, or `cursor`).
pub(super) fn wanted<B>(request: &Request<B>, checkpoints: &Checkpoints) -> Wanted {
    let query = request.uri().query().unwrap_or_default();
    let last_event_id = header(request.headers(), &HeaderName::from_static("last-event-id"));
    let cursor = last_event_id.map(Into::into).or_else(|| parameter(query, "cursor"));
    let mut wanted = positions(cursor.as_deref().unwrap_or_default(), checkpoints);
    let names = parameter(query, "channels").unwrap_or_default();
    for name in names.split(',').filter(|it| !it.is_empty()) {
        let channel = ChannelName::parse(name).map_err(|error| error.to_string())?;
        if !wanted.iter().any(|it| it.0 == channel) {
            wanted.push((channel, None));
        }
    }
    Ok(wanted)
}

/// What a cursor stands for; nothing if it is not one of ours, or forgotten.
pub(super) fn positions(text: &str, checkpoints: &Checkpoints) -> Vec<(ChannelName, Option<Position>)> {
    match cursor::decode(text) {
        Some(cursor::Cursor::Positions(positions)) => positions.into_iter().map(|(it, at)| (it, Some(at))).collect(),
        Some(cursor::Cursor::Checkpoint(name)) => {
            let kept = checkpoints.find(&name);
            let kept = kept.iter().flat_map(|it| it.iter());
            kept.map(|(it, epoch, seq)| (it.clone(), Some(Position { epoch: *epoch, seq: *seq, id: None }))).collect()
        }
        None => Vec::new(),
    }
}
