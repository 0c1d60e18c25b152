//! One try to deliver: stamped and signed as of now, with the secrets of now.

use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::super::delivery::Undelivered;
use super::super::metrics::Outcome;
use super::super::question::since_epoch;
use super::super::turns::Asker;
use super::super::{Forwarded, Webhooks, reply};
use super::NoticeSettings;
use super::queue::Parcel;

/// What came of a try.
#[derive(Debug)]
pub(super) enum Attempt {
    Delivered,
    Failed {
        why: String,
        /// What the backend asked for.
        retry_after: Option<Duration>,
    },
    /// It was not sent: the breaker is open, or there was no slot. That is no failure of the notice.
    Held,
}

impl Webhooks {
    pub(super) fn notice_settings(&self) -> &NoticeSettings {
        &self.settings.notices
    }

    /// Requests with notices at a time: a quarter, so that questions always find a slot.
    pub(super) fn notice_slots(&self) -> usize {
        (self.settings.max_in_flight / 4).max(1)
    }

    pub(super) async fn deliver(&self, parcel: &Parcel) -> Attempt {
        let (begun, now) = (Instant::now(), since_epoch());
        let (id, event) = (parcel.id(), parcel.event());
        let body = parcel.body(&id, now.as_millis());
        let request = self.post(&id, event, body, now, &Forwarded::default());
        let (outcome, attempt) = match self.delivery.send(request, Asker::Notices, &self.metrics).await {
            Ok((response, permit)) => {
                let status = response.status();
                match reply::failure(status, None) {
                    Some(failure) => permit.failed(&failure),
                    None => permit.succeeded(),
                }
                (outcome(status), judge(status, reply::retry_after(response.headers())))
            }
            Err(error @ (Undelivered::Open | Undelivered::Busy(_) | Undelivered::Full)) => {
                (error.outcome(), Attempt::Held)
            }
            Err(error) => (error.outcome(), Attempt::Failed { why: error.to_string(), retry_after: None }),
        };
        self.metrics.answered(event, outcome, begun.elapsed());
        attempt
    }
}

fn outcome(status: StatusCode) -> Outcome {
    if status.is_success() { Outcome::Delivered } else { Outcome::Status }
}

/// What the backend says in the body of a 2xx is nobody's business here.
fn judge(status: StatusCode, retry_after: Option<Duration>) -> Attempt {
    match status.is_success() {
        true => Attempt::Delivered,
        false => Attempt::Failed { why: format!("the backend answered {status}"), retry_after },
    }
}
