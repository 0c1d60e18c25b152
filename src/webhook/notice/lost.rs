//! What is known of a session when its process has died: enough to tell of its end.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::object::Object;
use super::super::{Connection, Event, Lane};
use super::letter::{self, Letter};

/// A session that nobody saw the end of.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) key: Box<str>,
    /// The `webhook-id` its end has, whoever tells of it.
    pub(super) id: Box<str>,
    noted: Noted,
}

/// Its form on disk. No header of the client's is in it: there are secrets among them.
#[derive(Debug, Serialize, Deserialize)]
struct Noted {
    lane: u64,
    id: Box<str>,
    connection: Box<RawValue>,
}

/// RFC 6455 section 7.1.5: there was no close.
const ABNORMAL: u16 = 1006;
const NODE_LOST: &str = "node_lost";
/// Claims and state together, in bytes: a hundred thousand sessions are on the shelf, and each change writes one anew.
const MAX_NOTED: usize = 4 * 1024;

pub(super) fn key(connection: &Connection) -> String {
    format!("{}.{:x}", connection.id, connection.generation)
}

/// Key and record of a session.
pub(super) fn note(connection: &Connection, lane: &Lane) -> (String, Vec<u8>) {
    let mut json = Vec::with_capacity(256);
    let larger = connection.claims.map_or(0, str::len) + connection.state.map_or(0, str::len) > MAX_NOTED;
    let noted = if larger { Connection { claims: None, state: None, ..*connection } } else { *connection };
    noted.write(&mut Object::open(&mut json));
    let json = String::from_utf8(json).expect("what is written from texts is text");
    let noted = Noted {
        lane: lane.id(),
        id: letter::disconnect_id(connection.id, connection.generation),
        connection: RawValue::from_string(json).expect("what is written as JSON is JSON"),
    };
    (key(connection), serde_json::to_vec(&noted).expect("it is text and numbers"))
}

impl Lost {
    /// None for a record that cannot be read.
    pub(super) fn of_record(key: &str, record: &[u8]) -> Option<Self> {
        let noted: Noted = serde_json::from_slice(record).ok()?;
        Some(Self { key: key.into(), id: noted.id.clone(), noted })
    }

    /// How far its lane had counted, and how long it lasted, died with the process.
    pub(super) fn letter(&self) -> Letter {
        let Noted { lane, id, connection } = &self.noted;
        Letter::write(id.clone(), Event::Disconnect, *lane, |json| {
            json.raw("connection", connection);
            json.raw("lane", format_args!("\"{lane:016x}\""));
            json.raw("n", "null");
            letter::end(json, Some(ABNORMAL), NODE_LOST, None);
        })
    }
}
