//! The scripts that run inside Redis: each does in one step what must not come apart.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use bytes::Bytes;

use super::resp;

/// One script, called by its digest. A server that does not know it yet is sent the text.
pub(super) struct Script {
    text: &'static str,
    digest: String,
}

pub(super) static PUBLISH: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("scripts/trim.lua"), include_str!("scripts/publish.lua"))));
pub(super) static HISTORY: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("scripts/trim.lua"), include_str!("scripts/history.lua"))));
pub(super) static RENEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/renew.lua")));
pub(super) static CANARY: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/canary.lua")));

pub(super) static ERASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/erase.lua")));

pub(super) static ENTER: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("scripts/roll.lua"), include_str!("scripts/enter.lua"))));
pub(super) static LEAVE: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("scripts/roll.lua"), include_str!("scripts/leave.lua"))));
pub(super) static SETTLE: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("scripts/roll.lua"), include_str!("scripts/settle.lua"))));
pub(super) static MEMBERS: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("scripts/roll.lua"), include_str!("scripts/members.lua"))));
pub(super) static LEASE: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("scripts/trim.lua"), include_str!("scripts/lease.lua"))));

/// All of them, for a server that is met.
pub(super) fn all() -> [&'static Script; 10] {
    [&PUBLISH, &HISTORY, &RENEW, &CANARY, &ERASE, &ENTER, &LEAVE, &SETTLE, &MEMBERS, &LEASE].map(|it| &**it)
}

/// A call of a script: its keys, all on one slot, and what else it is given.
pub(super) struct Call<'a> {
    pub(super) script: &'static Script,
    pub(super) keys: &'a [&'a [u8]],
    pub(super) arguments: &'a [&'a [u8]],
}

impl Script {
    pub(super) fn text(&self) -> &'static str {
        self.text
    }

    fn new(text: &'static str) -> Self {
        // Redis names scripts by it; nothing is kept safe with it.
        let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        Self { text, digest: digest.as_ref().iter().map(|it| format!("{it:02x}")).collect() }
    }
}

impl Call<'_> {
    pub(super) fn by_digest(&self) -> Bytes {
        self.command(b"EVALSHA", self.script.digest.as_bytes())
    }

    /// For a server that does not know the script, or no longer.
    pub(super) fn by_text(&self) -> Bytes {
        self.command(b"EVAL", self.script.text.as_bytes())
    }

    fn command(&self, how: &[u8], script: &[u8]) -> Bytes {
        let count = self.keys.len().to_string();
        let mut words = vec![how, script, count.as_bytes()];
        words.extend_from_slice(self.keys);
        words.extend_from_slice(self.arguments);
        resp::command(&words)
    }
}
