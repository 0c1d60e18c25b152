//! What a verdict changes. It was validated whole, so it is applied whole.

use super::metrics::Metrics;
use super::{Policy, Session, Whom, Word};
use crate::channel::{Draft, now};
use crate::hub::Hub;
use crate::protocol::wire::Direct;
use crate::protocol::{Close, Code, ErrorReply, Reply};
use crate::webhook::{Answer, Push, Refusal, Target, Verdict};

/// The verdict, or what the client is told instead.
pub(super) fn judge(answer: Answer, metrics: &Metrics) -> Result<Box<Verdict>, Reply> {
    let error = |code, message: String| {
        metrics.rejected(code);
        Reply::error(code, message)
    };
    match answer {
        Answer::Verdict(verdict) => match verdict.refusal() {
            Some(told) if verdict.disconnect.is_none() => {
                metrics.rejected(Code::Refused);
                Err(refusal(&told))
            }
            _ => Ok(verdict),
        },
        Answer::Later { retry_after } => {
            Err(error(Code::Busy, format!("try again in {} s", retry_after.as_secs().max(1))))
        }
        Answer::Unavailable => Err(error(Code::Unavailable, "the backend did not answer".into())),
    }
}

/// A refusal in the backend's own words.
pub(super) fn refusal(refusal: &Refusal) -> Reply {
    let (code, message) = match (&*refusal.code, &*refusal.message) {
        ("", "") => (Code::Refused.name(), "refused by the backend"),
        ("", message) => (Code::Refused.name(), message),
        (code, message) => (code, message),
    };
    Reply::Error(ErrorReply {
        code: code.into(),
        message: message.into(),
        channel: None,
        reference: None,
        retryable: false,
    })
}

impl Session {
    /// Everything a verdict says beyond yes and no. A user id is taken at connect alone: nobody becomes somebody else.
    pub(super) async fn apply(&mut self, policy: &Policy, mut verdict: Box<Verdict>) {
        let narrows = verdict.grants.is_some();
        let is_noted = verdict.state.is_none() && verdict.claims.is_none();
        verdict.user = None;
        verdict.revise(&mut self.who);
        if let Some(state) = verdict.state.take() {
            self.state = Some(state);
        }
        if !is_noted {
            self.note();
        }
        if narrows {
            self.leave_forbidden(policy).await;
        }
        self.apply_lists(*verdict).await;
    }

    /// Channels to join and leave, what else is to be published, and perhaps the end.
    pub(super) async fn apply_lists(&mut self, verdict: Verdict) {
        let policy = self.shared.policy();
        for channel in verdict.subscribe {
            self.join(&policy, channel, None, None).await;
        }
        for channel in verdict.unsubscribe {
            self.leave(&channel, Some("backend"), None).await;
        }
        for push in verdict.push {
            self.push(&policy, push).await;
        }
        if let Some(disconnect) = verdict.disconnect {
            self.end(Close::custom(disconnect.code, &disconnect.reason));
        }
    }

    /// The backend is trusted: no rule is asked. The id comes from the question, so a repetition publishes once.
    async fn push(&self, policy: &Policy, push: Push) {
        let hub = &self.shared.hub;
        let direct = |push: &Push| Direct {
            id: push.id.clone(),
            event: push.event.clone(),
            data: push.data.clone(),
            timestamp: now(),
        };
        match &push.to {
            Target::Channels(channels) => {
                for channel in channels {
                    let retention = policy.rules.retention(channel);
                    let draft = Draft {
                        event: push.event.clone(),
                        subject: push.subject.clone(),
                        exclude: push.exclude.clone(),
                        ..Draft::new(channel.clone(), push.data.clone(), Some(push.id.clone()))
                    };
                    if let Err(error) = hub.publish(draft, retention).await {
                        tracing::warn!(%channel, %error, "a verdict's push was not published");
                    }
                }
            }
            Target::User(user) => {
                let message = direct(&push);
                hub.tell(hub.directory().user(user), &message);
                spread(Whom::User(user.to_string()), &message, hub).await;
            }
            Target::Connection(id) => {
                let message = direct(&push);
                hub.tell(hub.directory().connection(*id), &message);
                spread(Whom::connection(*id), &message, hub).await;
            }
        }
    }
}

/// To the connections that other nodes have.
async fn spread(whom: Whom, message: &Direct, hub: &Hub) {
    if let Err(error) = Word::tell(whom, message, &[]).spread(hub).await {
        tracing::warn!(%error, "a verdict's message did not reach the other nodes");
    }
}
