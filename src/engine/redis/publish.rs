//! Taking drafts, and beginning to follow.

use super::resp::Value;
use super::script::{self, Call};
use super::server::Errand;
use super::{Core, millis, new_epoch, record};
use crate::channel::{ChannelName, Draft, Epoch, Position, Retention};
use crate::engine::{Error, Receipt};

impl Core {
    /// One call of a script numbers, stores and announces.
    pub(super) async fn publish(&self, draft: Draft, retention: Retention) -> Result<Receipt, Error> {
        self.deliver.room().await;
        let keys = self.names.of(&draft.channel);
        let numbers = [
            retention.size.to_string(),
            millis(retention.ttl),
            millis(self.engine.positions),
            // What nobody can repeat need not be recognised.
            if draft.is_idempotent { millis(self.engine.idempotency) } else { "0".to_owned() },
        ];
        let (epoch, body) = (new_epoch(), record::write(&draft));
        let topic = keys.numbering.as_bytes();
        let mut arguments = vec![topic, self.announcing(), epoch.as_bytes(), draft.id.as_bytes(), &body];
        arguments.extend(numbers.iter().map(String::as_bytes));
        let call = Call {
            script: &script::PUBLISH,
            keys: &[topic, keys.stream.as_bytes(), keys.ids.as_bytes(), keys.older_ids.as_bytes()],
            arguments: &arguments,
        };
        let answer = self.call(&draft.channel, &call).await?.list().unwrap_or_default();
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
