//! What is remembered of a request from its first moment until its last byte, or until its client left: the dropping of
//! a [`Record`] is what counts and logs it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Uri};

use super::metrics::Metrics;
use crate::backend;
use crate::peer::Peer;

#[derive(Debug)]
pub(super) struct Record {
    metrics: Arc<Metrics>,
    has_log_line: bool,
    started: Instant,
    method: Method,
    uri: Uri,
    client: IpAddr,
    pub request_id: Option<HeaderValue>,
    /// None until there is a head to answer with.
    pub status: Option<StatusCode>,
    pub body_bytes: u64,
    /// The answer reached its end; otherwise someone left early.
    pub is_complete: bool,
}

impl Record {
    pub fn begin(metrics: &Arc<Metrics>, has_log_line: bool, head: &Parts, peer: &Peer) -> Self {
        metrics.in_flight.inc();
        Self {
            metrics: metrics.clone(),
            has_log_line,
            started: Instant::now(),
            method: head.method.clone(),
            uri: head.uri.clone(),
            client: peer.client,
            request_id: None,
            status: None,
            body_bytes: 0,
            is_complete: false,
        }
    }

    /// There is no answer. Where that is the client's doing it is nothing to warn an operator about.
    pub fn failed(&self, reason: &'static str, failure: &backend::Failure) {
        self.metrics.failed(reason);
        if failure.error.is_senders() {
            tracing::debug!(error = %failure.error, path = self.uri.path(), "the request did not arrive whole");
            return;
        }
        tracing::warn!(
            backend = %failure.target,
            error = %failure.error,
            method = %self.method,
            path = self.uri.path(),
            request_id = self.request_id(),
            ms = self.started.elapsed().as_millis() as u64,
            "no answer from the backend"
        );
    }

    /// The backend broke off in the middle of its answer.
    pub fn broke_off(&self, error: &backend::BoxError) {
        self.metrics.failed("broken_body");
        tracing::warn!(
            %error,
            method = %self.method,
            path = self.uri.path(),
            request_id = self.request_id(),
            ms = self.started.elapsed().as_millis() as u64,
            body_bytes = self.body_bytes,
            "the backend broke off its answer"
        );
    }

    /// The backend's answer cannot be passed on.
    pub fn unusable(&self, reason: &'static str) {
        self.metrics.failed(reason);
        let (path, request_id) = (self.uri.path(), self.request_id());
        tracing::warn!(reason, method = %self.method, path, request_id, "unusable answer from the backend");
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    fn request_id(&self) -> &str {
        self.request_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or("")
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let elapsed = self.started.elapsed();
        self.metrics.in_flight.dec();
        self.metrics.answered(self.status, self.is_complete, elapsed);
        if self.has_log_line {
            tracing::info!(
                target: "outrigger::access",
                client = %self.client,
                method = %self.method,
                path = self.uri.path(),
                status = self.status.map(|status| status.as_u16()),
                body_bytes = self.body_bytes,
                complete = self.is_complete,
                request_id = self.request_id(),
                ms = elapsed.as_millis() as u64,
                "request"
            );
        }
    }
}
