//! Taking drafts, and beginning to follow.

use super::resp::Value;
use super::script::{self, Call};
use super::server::Errand;
use super::{Core, millis, new_epoch, record};
use crate::channel::{ChannelName, Draft, Epoch, Position, Retention};
use crate::engine::{Error, Receipt};

impl Core {
    pub(super) async fn publish(&self, draft: Draft, retention: Retention) -> Result<Receipt, Error> {
        self.publish_all(vec![draft], retention).await.pop().unwrap_or(Err(Error::Unknown))
    }

    /// Several of one channel, in one call of a script: all are taken or none is, or nothing is known of any.
    pub(super) async fn publish_all(&self, drafts: Vec<Draft>, retention: Retention) -> Vec<Result<Receipt, Error>> {
        let Some(first) = drafts.first() else { return Vec::new() };
        self.deliver.room().await;
        match self.ask_to_publish(&first.channel, &drafts, retention).await {
            Ok(answers) => drafts.into_iter().zip(answers).map(|(draft, answer)| receipt(draft, answer)).collect(),
            Err(Error::Unknown) => drafts.iter().map(|_| Err(Error::Unknown)).collect(),
            // Those after the first were not sent.
            Err(error) => vec![Err(error)],
        }
    }

    async fn ask_to_publish(
        &self,
        channel: &ChannelName,
        drafts: &[Draft],
        retention: Retention,
    ) -> Result<Vec<Value>, Error> {
        let keys = self.names.of(channel);
        let (epoch, size) = (new_epoch(), retention.size.to_string());
        let times = [retention.ttl, self.engine.positions, self.engine.idempotency].map(millis);
        let topic = keys.numbering.as_bytes();
        let mut arguments = vec![topic, self.announcing(), epoch.as_bytes(), size.as_bytes()];
        arguments.extend(times.iter().map(String::as_bytes));
        let bodies: Vec<_> = drafts.iter().map(record::write).collect();
        for (draft, body) in drafts.iter().zip(&bodies) {
            // What nobody can repeat need not be recognised.
            let is_recognised: &[u8] = if draft.is_idempotent { b"1" } else { b"0" };
            arguments.extend([draft.id.as_bytes(), is_recognised, body]);
        }
        let call = Call {
            script: &script::PUBLISH,
            keys: &[topic, keys.stream.as_bytes(), keys.ids.as_bytes(), keys.older_ids.as_bytes()],
            arguments: &arguments,
        };
        let answers = self.call(channel, &call).await?.list().unwrap_or_default();
        if answers.len() == drafts.len() { Ok(answers) } else { Err(Error::Unknown) }
    }

    /// Resolves once the link brings the channel's publications.
    pub(super) async fn follow(&self, channel: &ChannelName) -> Result<(), Error> {
        let server = self.server_of(channel.as_str())?;
        let Some(confirmed) = self.following.add(channel, &server) else { return Ok(()) };
        server.errands.add(Errand::Subscription(channel.clone()));
        match tokio::time::timeout(self.timeout, confirmed).await {
            Ok(Ok(())) => {}
            _ => return Err(Error::Unavailable),
        }
        // From here on everything comes over the link; before it, whoever follows reads the history.
        let head = self.head(channel).await?;
        self.following.begins(channel, head);
        Ok(())
    }
}

fn receipt(draft: Draft, answer: Value) -> Result<Receipt, Error> {
    let answer = answer.list().unwrap_or_default();
    let [epoch, seq, duplicate] = &answer[..] else { return Err(Error::Unknown) };
    let epoch = epoch.text().and_then(|it| it.parse::<Epoch>().ok());
    let (Some(epoch), Some(seq)) = (epoch, seq.number()) else { return Err(Error::Unknown) };
    Ok(Receipt {
        position: Position { epoch, seq, id: Some(draft.id.clone()) },
        id: draft.id,
        duplicate: *duplicate == Value::Integer(1),
        durable: "engine",
    })
}
