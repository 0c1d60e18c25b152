use serde::Serialize;

/// Whether the process lives, and what it runs. Always 200: a bad file does not make it sick.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    pub status: &'static str,
    pub version: &'static str,
    /// Counts the configurations that were taken.
    pub generation: u64,
    /// Why the last reload changed nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_reload_error: Option<String>,
}

/// Whether the node should be sent clients.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Readiness {
    /// It is not about to end.
    pub accepting: bool,
    /// Publications can be taken.
    pub engine: bool,
}

impl Readiness {
    pub fn is_ready(&self) -> bool {
        self.accepting && self.engine
    }

    /// A broken broker is no reason to take the proxied site down.
    pub fn serves_site(&self) -> bool {
        self.accepting
    }
}
