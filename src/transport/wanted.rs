//! What a stream or a poll is to follow: the channels its URL names, and where its cursor says the client stands.

use http::{HeaderName, Request};

use super::header;
use crate::channel::{ChannelName, Epoch, Position};
use crate::hub::Checkpoints;
use crate::protocol::cursor::{self, Cursor};
use crate::protocol::query::parameter;

/// What a client wants to follow.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Each from a position or from now.
    pub(super) channels: Vec<(ChannelName, Option<Position>)>,
    /// It showed a cursor, and nobody knows any more where that was: it is to be told.
    pub(super) is_lost: bool,
}

/// Where somebody stands who may have missed anything: no channel has this epoch.
const ANYWHERE: Position = Position { epoch: Epoch(0), seq: 0, id: None };

/// What a stream's URL and its cursor (`Last-Event-ID`, or `cursor`) name; or the name that was none.
pub(super) fn wanted<B>(request: &Request<B>, checkpoints: &Checkpoints) -> Result<Wanted, String> {
    let query = request.uri().query().unwrap_or_default();
    let last_event_id = header(request.headers(), &HeaderName::from_static("last-event-id"));
    let cursor = last_event_id.map(Into::into).or_else(|| parameter(query, "cursor"));
    wanted_from(query, cursor.as_deref().unwrap_or_default(), checkpoints)
}

/// Every channel of the cursor, and what `channels` names.
pub(super) fn wanted_from(query: &str, cursor: &str, checkpoints: &Checkpoints) -> Result<Wanted, String> {
    let known = if cursor.is_empty() { Some(Vec::new()) } else { positions(cursor, checkpoints) };
    let mut wanted = Wanted { is_lost: known.is_none(), channels: known.unwrap_or_default() };
    let names = parameter(query, "channels").unwrap_or_default();
    for name in names.split(',').filter(|it| !it.is_empty()) {
        let channel = ChannelName::parse(name).map_err(|error| error.to_string())?;
        if !wanted.channels.iter().any(|it| it.0 == channel) {
            wanted.channels.push((channel, wanted.is_lost.then_some(ANYWHERE)));
        }
    }
    Ok(wanted)
}

/// What a cursor stands for; none if it is not one of ours, or forgotten.
fn positions(text: &str, checkpoints: &Checkpoints) -> Option<Vec<(ChannelName, Option<Position>)>> {
    let (mut positions, since) = match cursor::decode(text)? {
        Cursor::Positions(positions) => (Vec::new(), positions),
        Cursor::Checkpoint { name, since } => {
            let kept = checkpoints.find(&name)?;
            let at = |epoch, seq| Position { epoch, seq, id: None };
            (kept.iter().map(|(it, epoch, seq)| (it.clone(), Some(at(*epoch, *seq)))).collect(), since)
        }
    };
    positions.retain(|it: &(ChannelName, _)| !since.iter().any(|newer| newer.0 == it.0));
    positions.extend(since.into_iter().map(|(it, at)| (it, Some(at))));
    Some(positions)
}
