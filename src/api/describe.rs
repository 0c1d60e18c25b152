//! A connection as the API shows it: short in a list, whole when one is asked about.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::channel::{ChannelName, Grant};
use crate::hub::{Hub, Outbox, Rules, Seen};
use crate::protocol::Format;

pub(super) const TRANSPORTS: [&str; 3] = ["websocket", "sse", "poll"];

pub(super) fn transport(format: Format) -> &'static str {
    match format {
        Format::WebSocketJson | Format::WebSocketJsonDeflate | Format::WebSocketMsgpack => TRANSPORTS[0],
        Format::EventStream | Format::EventStreamMany => TRANSPORTS[1],
        Format::Poll => TRANSPORTS[2],
    }
}

/// Who it is and how it fares.
pub(super) fn brief(outbox: &Outbox) -> Value {
    let Seen { format, backlog, limit, sent, dropped, heard_at, closing } = outbox.seen();
    let owner = outbox.owner();
    let dropped: Map<String, Value> =
        dropped.iter().map(|(why, count)| (why.name().to_owned(), json!(count))).collect();
    let mut answer = json!({
        "id": outbox.id.to_string(),
        "transport": transport(format),
        "user": owner.as_ref().and_then(|it| it.user.as_deref()),
        "ip": owner.as_ref().map(|it| it.ip),
        "connectedAt": owner.as_ref().map(|it| it.since),
        "outboxBytes": backlog,
        "outboxLimit": limit,
        "sentBytes": sent.bytes,
        "sentPublications": sent.publications,
        "dropped": dropped,
    });
    // An event stream never says anything.
    if let Some(seconds) = heard_at {
        answer["heardAt"] = json!(u64::from(seconds) * 1000);
    }
    if let Some(close) = closing {
        answer["closing"] = json!({ "code": close.code, "reason": close.reason });
    }
    answer
}

/// The same, what it may do, and how far it is in each of its channels.
pub(super) async fn whole(outbox: &Arc<Outbox>, hub: &Hub, rules: &Rules) -> Value {
    let mut answer = brief(outbox);
    answer["grants"] = grants(outbox.owner().and_then(|it| it.grants).as_deref().unwrap_or_default());
    answer["channels"] = channels(outbox, hub, rules).await.into();
    answer
}

pub(super) fn grants(list: &[Grant]) -> Value {
    let grant = |it: &Grant| json!({ "match": it.pattern.as_str(), "subscribe": it.subscribe, "publish": it.publish });
    list.iter().map(grant).collect()
}

async fn channels(outbox: &Arc<Outbox>, hub: &Hub, rules: &Rules) -> Vec<Value> {
    let mut heads: HashMap<ChannelName, u64> = HashMap::new();
    for (channel, _) in hub.followed(outbox).await {
        if let Ok(page) = hub.history(&channel, None, 0, rules.retention(&channel)).await {
            heads.insert(channel, page.head.seq);
        }
    }
    // Asked again: its shard has now offered everything up to those heads.
    let followed = hub.followed(outbox).await.into_iter();
    let one = |(channel, is_catching_up): (ChannelName, bool)| {
        let head = heads.get(&channel).copied();
        let seq = head.filter(|_| !is_catching_up).map(|head| outbox.written_up_to(&channel, head));
        json!({ "channel": channel, "seq": seq, "head": head, "catchingUp": is_catching_up })
    };
    followed.map(one).collect()
}
