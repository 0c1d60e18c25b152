//! A client's publication: judged by the rules, shown to the backend where they say so, and broadcast.

use std::sync::Arc;

use aws_lc_rs::digest;

use super::permission::{self, Decision};
use super::{Policy, Session};
use crate::channel::{ChannelName, Data, Draft, now, unique_id};
use crate::protocol::{Code, Raw, Reference, Reply};
use crate::webhook::{Action, Event, Question, Verdict};

/// What a client wants published.
pub(super) struct Message {
    pub(super) channel: ChannelName,
    pub(super) data: Data,
    /// The client's own name for it: a repetition is published once.
    pub(super) id: Option<Arc<str>>,
    pub(super) event: Option<Arc<str>>,
    pub(super) reference: Option<Reference>,
}

impl Session {
    pub(super) async fn publish(&mut self, policy: &Policy, message: Message) {
        let channel = message.channel.clone();
        let reference = message.reference.clone();
        if let Err(error) = self.try_publish(policy, message).await {
            self.say(&error.about(Some(&channel), reference));
        }
    }

    async fn try_publish(&mut self, policy: &Policy, message: Message) -> Result<(), Reply> {
        let refuse = |it: &Self, message: &str| {
            it.shared.metrics.rejected(Code::NotAllowed);
            Reply::error(Code::NotAllowed, message)
        };
        let Some(rule) = policy.rules.find(&message.channel) else {
            return Err(refuse(self, "no rule allows this channel"));
        };
        let is_subscribed = self.position(&message.channel).is_ok();
        let (data, reply) = match permission::may_publish(rule, &message.channel, &self.who, is_subscribed) {
            Decision::Deny => return Err(refuse(self, "you may not publish to this channel")),
            Decision::Allow => (Some(message.data.clone()), None),
            Decision::Ask if policy.webhooks.as_ref().is_some_and(|it| it.asks(Event::Publish)) => {
                let mut verdict = self.ask_about(policy, &message).await?;
                let data = match verdict.action {
                    Action::Allow => verdict.data.take().or_else(|| Some(message.data.clone())),
                    Action::Drop | Action::Reject => None,
                };
                let reply = verdict.reply.take();
                Box::pin(self.apply(policy, verdict)).await;
                (data, reply)
            }
            Decision::Ask => return Err(refuse(self, "the backend is not asked about publications")),
        };
        let seq = match data.filter(|_| rule.publish.broadcast) {
            Some(data) => Some(self.broadcast(policy, &message, data).await?),
            None => None,
        };
        self.shared.metrics.published();
        // A client that gave neither has no use for an answer, and an older one may not know it.
        if message.reference.is_some() || message.id.is_some() || reply.is_some() {
            let reply = reply.map(Raw);
            let (reference, id) = (message.reference, message.id);
            self.say(&Reply::Ack { reference, id, seq, reply, timestamp: now() });
        }
        Ok(())
    }

    async fn ask_about(&mut self, policy: &Policy, message: &Message) -> Result<Box<Verdict>, Reply> {
        let question = Question::Publish {
            channel: &message.channel,
            event: message.event.as_deref(),
            data: &message.data,
            message_id: message.id.as_deref(),
        };
        self.ask(policy, &question).await
    }

    async fn broadcast(&self, policy: &Policy, message: &Message, data: Data) -> Result<u64, Reply> {
        // The backend may have taken its time: nothing is stored of a user who was erased meanwhile.
        if let Err(revoked) = self.shared.trust(&self.who) {
            return Err(revoked.reply());
        }
        let retention = policy.rules.retention(&message.channel);
        let draft = Draft {
            channel: message.channel.clone(),
            data,
            event: message.event.clone(),
            is_idempotent: message.id.is_some(),
            id: message.id.as_deref().map_or_else(unique_id, |it| self.own_id(it)),
            user: self.who.user.clone(),
            subject: None,
            exclude: Vec::new(),
        };
        match self.shared.hub.publish(draft, retention).await {
            Ok(receipt) => Ok(receipt.position.seq),
            Err(error) => {
                self.shared.metrics.rejected(Code::Unavailable);
                Err(Reply::error(Code::Unavailable, error.to_string()))
            }
        }
    }

    /// A client's message id made its own: nobody can take a name that another user is about to use.
    fn own_id(&self, id: &str) -> Arc<str> {
        let connection = self.outbox.id.to_string();
        let who = self.who.user.as_deref().unwrap_or(&connection);
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [who, id] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let digest = context.finish();
        digest.as_ref()[..12].iter().map(|it| format!("{it:02x}")).collect::<String>().into()
    }
}
