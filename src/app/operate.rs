//! What an operator asks of a running node: reload, health, the configuration that runs.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::StatusCode;
use serde_json::{Value, json};
use tracing::{info, warn};

use super::Shared;
use super::generation::Generation;
use crate::admin::{Health, Operator, Readiness};
use crate::auth::{Denied, Scope};
use crate::config::{self, Change};

impl Shared {
    /// Reads and checks the whole file, builds everything, and only then swaps: a request sees one generation from start
    /// to end, and a bad file changes nothing. Answers what changed, or why nothing did.
    pub(super) async fn reload_file(&self, dry_run: bool) -> Result<Vec<Change>, Vec<String>> {
        let _one_at_a_time = self.reloading.lock().await;
        let Some(path) = &self.path else {
            return Err(vec!["there is no configuration file: the node runs by defaults".to_owned()]);
        };
        let outcome = self.take(path, dry_run);
        if !dry_run {
            let error = outcome.as_ref().err().map(|problems| problems.join("\n"));
            match &outcome {
                Ok(changes) => self.log(changes),
                Err(_) => warn!(problems = error.as_deref(), "the configuration was not taken; the old one goes on"),
            }
            self.reload_metrics.reloaded(error.is_none());
            *self.last_error.lock().expect("nothing panics under this lock") = error;
        }
        outcome
    }

    fn take(&self, path: &Path, dry_run: bool) -> Result<Vec<Change>, Vec<String>> {
        let read = config::load(path);
        if !dry_run {
            let files = read.as_ref().map_or_else(|problems| problems.files(), |loaded| &loaded.files);
            *self.files.lock().expect("nothing panics under this lock") = files.clone();
        }
        let loaded = read.map_err(|problems| problems.lines().collect::<Vec<_>>())?;
        let old = self.generation.load_full();
        let changes = config::diff(&old.config, &loaded.config);
        let next = Generation::build(Arc::new(loaded.config), &self.counters, Some(&old));
        let next = next.map_err(|error| vec![error.to_string()])?;
        if dry_run {
            return Ok(changes);
        }
        for (at, certificates) in self.certificates.iter().enumerate() {
            if let (Some(certificates), Some(set)) = (certificates, next.set(at)) {
                certificates.replace(set.clone());
            }
        }
        if let Some(verifier) = &next.policy.verifier {
            verifier.start();
        }
        self.reload_metrics.generation(next.number);
        self.generation.store(Arc::new(next));
        Ok(changes)
    }

    fn log(&self, changes: &[Change]) {
        let generation = self.generation.load().number;
        let (later, now): (Vec<_>, Vec<_>) = changes.iter().partition(|it| it.needs_restart);
        let names = |changes: &[&Change]| changes.iter().map(|it| it.key.clone()).collect::<Vec<_>>().join(", ");
        info!(generation, changed = names(&now), "configuration taken");
        if !later.is_empty() {
            warn!(keys = names(&later), "these need a restart; until then the node keeps the old values");
        }
    }
}

impl Operator for Shared {
    fn health(&self) -> Health {
        Health {
            status: "ok",
            version: env!("CARGO_PKG_VERSION"),
            generation: self.generation.load().number,
            last_reload_error: self.last_error.lock().expect("nothing panics under this lock").clone(),
        }
    }

    fn readiness(&self) -> Readiness {
        Readiness { accepting: !self.is_draining.load(Ordering::Relaxed), engine: self.hub.is_available() }
    }

    fn reload(&self, dry_run: bool) -> Pin<Box<dyn Future<Output = Result<Value, Value>> + Send + '_>> {
        Box::pin(async move {
            match self.reload_file(dry_run).await {
                Ok(changes) => Ok(json!({
                    "generation": self.generation.load().number,
                    "dryRun": dry_run,
                    "changes": changes,
                })),
                Err(problems) => Err(json!({
                    "title": "The configuration was not taken",
                    "status": 422,
                    "generation": self.generation.load().number,
                    "errors": problems,
                })),
            }
        })
    }

    fn config(&self) -> Value {
        serde_json::to_value(&*self.generation.load().config).unwrap_or_default()
    }

    fn drain(&self) {
        self.drain_wanted.notify_one();
    }

    fn authorize(&self, headers: &http::HeaderMap) -> Result<String, (StatusCode, String)> {
        match self.generation.load().api.keys.authorize(headers, Scope::Admin) {
            Ok(name) => Ok(name.to_owned()),
            Err(denied @ Denied::Scope { .. }) => Err((StatusCode::FORBIDDEN, denied.to_string())),
            Err(denied) => Err((StatusCode::UNAUTHORIZED, denied.to_string())),
        }
    }

    fn acted(&self, who: &str, act: &str, status: StatusCode) {
        crate::api::audit(who, act, status, "");
    }
}
