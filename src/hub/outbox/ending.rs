use super::Outbox;
use crate::protocol::Close;

impl Outbox {
    /// Notes how the connection is ended, by whichever side; the first word counts.
    pub fn note_end(&self, close: &Close) {
        self.lock().ends_with(close);
    }

    /// How the connection was ended. Nothing where it just broke off.
    pub fn end(&self) -> Option<Close> {
        self.lock().closing.as_deref().cloned()
    }
}
