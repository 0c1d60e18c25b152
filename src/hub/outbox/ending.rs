use super::Outbox;
use crate::protocol::Close;

impl Outbox {
    /// Notes how the connection is ended, by whichever side; the first word counts.
    pub fn note_end(&self, close: &Close) {
        self.lock().end.get_or_insert_with(|| Box::new(close.clone()));
    }

    /// How the connection was ended. Nothing where it just broke off.
    pub fn end(&self) -> Option<Close> {
        self.lock().end.as_deref().cloned()
    }
}
