//! What a push is answered: per channel, honestly.

use std::sync::Arc;

use http::StatusCode;
use serde::{Serialize, Serializer};

use crate::channel::ConnectionId;
use crate::engine::Error;
use crate::hub::{Count, Loss, Published};
use crate::session::NotSpread;

/// What became of one message in one channel, or for one user or connection.
#[derive(Debug, Default, Serialize)]
pub(super) struct Receipt {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) channel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<String>,
    pub(super) status: Status,
    pub(super) id: Arc<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    durable: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate: Option<bool>,
    /// Whose counts these are: the node that took the call.
    scope: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    matched: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queued: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped: Option<Dropped>,
    /// `pending`: this node was not through with its own delivery in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<&'static str>,
    /// With `?wait=flushed`: whether the kernel has every byte, and how many clients are still waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    flushed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Taken,
    Refused,
    /// The engine did not answer in time: it may have it.
    Unknown,
    /// An earlier one of the same channel failed, and order is kept.
    #[default]
    NotSent,
}

/// By reason. `slow` is always said, the others where there were any.
#[derive(Debug)]
pub(super) struct Dropped([u32; Loss::ALL.len()]);

impl Serialize for Dropped {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let reasons = Loss::ALL.into_iter().zip(self.0);
        serializer.collect_map(
            reasons.filter(|(why, count)| *why == Loss::Slow || *count > 0).map(|(why, count)| (why.name(), count)),
        )
    }
}

impl Receipt {
    fn new(id: &Arc<str>, status: Status) -> Self {
        Self { id: id.clone(), status, scope: "node", ..Self::default() }
    }

    pub(super) fn of_channel(channel: &str, id: &Arc<str>, outcome: &Result<Published, Error>) -> Self {
        let channel = Some(channel.to_owned());
        match outcome {
            Ok(published) => {
                let receipt = &published.receipt;
                Self {
                    channel,
                    epoch: Some(receipt.position.epoch.to_string()),
                    seq: Some(receipt.position.seq),
                    durable: Some(receipt.durable),
                    duplicate: Some(receipt.duplicate),
                    ..Self::new(&receipt.id, Status::Taken)
                }
            }
            Err(error) => {
                let status = if *error == Error::Unknown { Status::Unknown } else { Status::Refused };
                Self { channel, error: Some(error.to_string()), ..Self::new(id, status) }
            }
        }
    }

    pub(super) fn of_user(user: &str, id: &Arc<str>) -> Self {
        Self { user: Some(user.to_owned()), ..Self::new(id, Status::Taken) }
    }

    pub(super) fn of_connection(connection: ConnectionId, id: &Arc<str>) -> Self {
        Self { connection: Some(connection.to_string()), ..Self::new(id, Status::Taken) }
    }

    /// What is not known to have reached other nodes is said, though this one has done its part.
    pub(super) fn beyond(self, elsewhere: Result<(), NotSpread>) -> Self {
        Self { error: elsewhere.err().map(|it| it.to_string()), ..self }
    }

    pub(super) fn not_sent(channel: &str, id: &Arc<str>) -> Self {
        Self { channel: Some(channel.to_owned()), ..Self::new(id, Status::NotSent) }
    }

    pub(super) fn count(&mut self, count: Option<Count>) {
        match count {
            Some(count) => {
                self.matched = Some(count.matched);
                self.queued = Some(count.queued);
                self.dropped = Some(Dropped(count.dropped));
            }
            None => self.delivery = Some("pending"),
        }
    }

    pub(super) fn count_flushed(&mut self, (count, is_flushed): (Count, bool)) {
        self.count(Some(count));
        self.flushed = Some(is_flushed);
        self.waiting = Some(count.waiting);
    }
}

/// 200 if all were taken; 503 if none was and none can have been; 504 if none was for sure; 207 otherwise.
pub(super) fn status_of(receipts: &[Receipt]) -> StatusCode {
    let has = |status| receipts.iter().any(|it| it.status == status);
    if receipts.iter().all(|it| it.status == Status::Taken) {
        StatusCode::OK
    } else if has(Status::Taken) {
        StatusCode::MULTI_STATUS
    } else if has(Status::Unknown) {
        StatusCode::GATEWAY_TIMEOUT
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_says_what_can_be_repeated() {
        let status = |all: &[Status]| {
            let receipts: Vec<_> = all.iter().map(|it| Receipt::new(&"x".into(), *it)).collect();
            status_of(&receipts).as_u16()
        };
        use Status::{NotSent, Refused, Taken, Unknown};
        assert_eq!(status(&[Taken, Taken]), 200);
        assert_eq!(status(&[Refused, NotSent]), 503);
        assert_eq!(status(&[Unknown, NotSent]), 504);
        assert_eq!(status(&[Taken, Refused]), 207);
        assert_eq!(status(&[Taken, Unknown]), 207);
    }
}
