//! One line for each act of an operator: who, by the name of the key, what, and what came of it. Never a key, a token or
//! a payload. Its target is `audit`, so that it can be kept apart from the rest of the log.

use http::{Response, StatusCode};
use tracing::info;

use super::Body;

/// What an act came to, for its line; travels with the answer.
#[derive(Clone, Debug)]
pub(super) struct Outcome(String);

impl Outcome {
    pub(super) fn of(mut response: Response<Body>, outcome: impl Into<String>) -> Response<Body> {
        response.extensions_mut().insert(Self(outcome.into()));
        response
    }
}

/// An act and its answer.
pub(super) fn answered(who: &str, act: &str, response: &Response<Body>) {
    let outcome = response.extensions().get::<Outcome>().map_or("", |it| &it.0);
    write(who, act, response.status(), outcome);
}

/// The line itself, for acts that come by another road too.
pub fn write(who: &str, act: &str, status: StatusCode, outcome: &str) {
    info!(target: "audit", who, act, status = status.as_u16(), outcome, "an operator acted");
}
