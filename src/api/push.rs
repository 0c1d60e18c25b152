//! `POST /push`: one message, many, lines of them, or raw bytes. All of it is parsed, or nothing is published; each
//! channel keeps its order, channels go side by side.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::metrics::Metrics;
use super::problem::Fault;
use super::receipt::{Dropped, Receipt, Status, status_of};
use super::{Body, BoxError, Problem, Query, Settings, json};
use crate::channel::{ChannelName, Data, Draft, now, unique_id};
use crate::hub::{Hub, Outbox, Published};
use crate::protocol::wire::Direct;
use crate::webhook::{Invalid, Limits, Push, Target};

/// The largest call, in bytes, and the most messages in it.
const MAX_BODY: usize = 8 * 1024 * 1024;
const MAX_MESSAGES: usize = 10_000;
/// For the whole body to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// How long `?wait=flushed` waits at most.
const FLUSHED_WITHIN: Duration = Duration::from_secs(5);

/// One message, and whether its sender named it.
struct Message {
    push: Push,
    is_named: bool,
}

pub(super) async fn push<B>(
    request: Request<B>,
    query: &Query,
    hub: &Arc<Hub>,
    settings: &Settings,
    metrics: &Metrics,
) -> Result<Response<Body>, Problem>
where
    B: http_body::Body<Error: Into<BoxError>> + Send,
{
    let waits_for_flush = match query.get("wait").as_deref() {
        None => false,
        Some("flushed") => true,
        Some(_) => return Err(Problem::bad_request("`wait` can only be `flushed`")),
    };
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let content_type =
        content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let body = read(request).await?;
    let limits = Limits { data: settings.max_publication, state: 0 };
    let messages = match &*content_type {
        "application/x-ndjson" | "application/jsonl" => lines(&body, limits)?,
        "application/json" => many(&body, limits)?,
        // What curl sends by default is JSON all the same, unless the URL says where raw bytes go.
        _ if query.get("channel").is_none() => many(&body, limits)?,
        _ => vec![raw(body, query, limits)?],
    };
    let receipts = send(&messages, hub, settings, waits_for_flush).await;
    for receipt in &receipts {
        metrics.pushed(receipt.status);
    }
    Ok(json(status_of(&receipts), &serde_json::json!({ "results": receipts })))
}

async fn read<B>(request: Request<B>) -> Result<Bytes, Problem>
where
    B: http_body::Body<Error: Into<BoxError>> + Send,
{
    let body = Limited::new(request.into_body(), MAX_BODY).collect();
    match tokio::time::timeout(BODY_WITHIN, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Problem::too_large(format!("a call may have {MAX_BODY} bytes; send several")))
        }
        Ok(Err(_)) => Err(Problem::bad_request("the body broke off")),
        Err(_) => Err(Problem::bad_request("the body did not arrive in time")),
    }
}

/// `{"channel":…}` or `{"messages":[…]}`.
fn many(body: &[u8], limits: Limits) -> Result<Vec<Message>, Problem> {
    #[derive(Deserialize)]
    struct Many<'a> {
        #[serde(borrow)]
        messages: Vec<&'a RawValue>,
    }
    match serde_json::from_slice::<Many>(body) {
        Ok(Many { messages }) => {
            let texts = messages.iter().map(|it| it.get().as_bytes());
            all(texts, |at| format!("messages[{at}]."), limits)
        }
        Err(_) => all([body].into_iter(), |_| String::new(), limits),
    }
}

fn lines(body: &[u8], limits: Limits) -> Result<Vec<Message>, Problem> {
    let lines = body.split(|it| *it == b'\n').filter(|it| !it.trim_ascii().is_empty());
    all(lines, |at| format!("line {}: ", at + 1), limits)
}

fn all<'a>(
    texts: impl Iterator<Item = &'a [u8]>,
    place: impl Fn(usize) -> String,
    limits: Limits,
) -> Result<Vec<Message>, Problem> {
    let mut messages = Vec::new();
    let mut faults = Vec::new();
    for (at, text) in texts.enumerate() {
        if at == MAX_MESSAGES {
            return Err(Problem::too_large(format!("a call may have {MAX_MESSAGES} messages; send several")));
        }
        let id = unique_id();
        match Push::read(text, &id, limits) {
            Ok(push) => messages.push(Message { is_named: push.id != id, push }),
            Err(Invalid { field, why }) => {
                faults.push(Fault { field: format!("{}{field}", place(at)), detail: why.into_owned() });
            }
        }
    }
    if !faults.is_empty() {
        return Err(Problem::invalid(faults));
    }
    if messages.is_empty() {
        return Err(Problem::bad_request("there is no message in it"));
    }
    Ok(messages)
}

/// The body itself as one binary message to the channels in the URL.
fn raw(body: Bytes, query: &Query, limits: Limits) -> Result<Message, Problem> {
    let channels = query.all("channel").map(|it| ChannelName::parse(&it)).collect::<Result<Vec<_>, _>>();
    let channels = channels.map_err(|error| Problem::bad_request(format!("`channel`: {error}")))?;
    if body.len() > limits.data {
        return Err(Problem::too_large(format!("a publication may have {} bytes", limits.data)));
    }
    let id = query.get("id").map(|it| Arc::<str>::from(&*it));
    let push = Push {
        to: Target::Channels(channels),
        data: Data::Binary(body),
        event: query.get("event").map(|it| Arc::from(&*it)),
        id: id.unwrap_or_else(unique_id),
        exclude: Vec::new(),
        subject: None,
    };
    Ok(Message { is_named: query.get("id").is_some(), push })
}

/// Publishes all of it; the receipts are in the order of the messages.
async fn send(messages: &[Message], hub: &Arc<Hub>, settings: &Settings, waits_for_flush: bool) -> Vec<Receipt> {
    let mut by_channel: HashMap<&ChannelName, Vec<(usize, &Message)>> = HashMap::new();
    let mut receipts = Vec::new();
    let mut places = 0;
    for message in messages {
        match &message.push.to {
            Target::Channels(channels) => {
                for channel in channels {
                    by_channel.entry(channel).or_default().push((places, message));
                    places += 1;
                }
            }
            Target::User(user) => {
                let mut receipt = direct(&message.push, &hub.directory().user(user));
                receipt.user = Some(user.to_string());
                receipts.push((places, receipt));
                places += 1;
            }
            Target::Connection(id) => {
                let found: Vec<_> = hub.directory().connection(*id).into_iter().collect();
                let mut receipt = direct(&message.push, &found);
                receipt.connection = Some(id.to_string());
                receipts.push((places, receipt));
                places += 1;
            }
        }
    }
    let side_by_side: FuturesUnordered<_> = by_channel
        .into_iter()
        .map(|(channel, messages)| in_order(channel, messages, hub, settings, waits_for_flush))
        .collect();
    let of_channels: Vec<Vec<_>> = side_by_side.collect().await;
    receipts.extend(of_channels.into_iter().flatten());
    receipts.sort_by_key(|(place, _)| *place);
    receipts.into_iter().map(|(_, receipt)| receipt).collect()
}

/// One channel's messages. After one that failed the later ones are not sent: they would overtake it when it is repeated.
async fn in_order(
    channel: &ChannelName,
    messages: Vec<(usize, &Message)>,
    hub: &Hub,
    settings: &Settings,
    waits_for_flush: bool,
) -> Vec<(usize, Receipt)> {
    let retention = settings.rules.retention(channel);
    let mut receipts: Vec<(usize, Receipt, Option<Published>)> = Vec::with_capacity(messages.len());
    let mut has_failed = false;
    for (place, message) in messages {
        let push = &message.push;
        if has_failed {
            receipts.push((place, Receipt::not_sent(channel.as_str(), &push.id), None));
            continue;
        }
        let draft = Draft {
            channel: channel.clone(),
            data: push.data.clone(),
            event: push.event.clone(),
            id: push.id.clone(),
            is_idempotent: message.is_named,
            user: None,
            subject: push.subject.clone(),
            exclude: push.exclude.clone(),
        };
        let outcome = hub.publish_counted(draft, retention).await;
        has_failed = outcome.is_err();
        receipts.push((place, Receipt::of_channel(channel.as_str(), &push.id, &outcome), outcome.ok()));
    }
    for (_, receipt, published) in &mut receipts {
        let Some(published) = published else { continue };
        if waits_for_flush {
            receipt.count_flushed(published.flushed(FLUSHED_WITHIN).await);
        } else {
            receipt.count(published.counted().await);
        }
    }
    receipts.into_iter().map(|(place, receipt, _)| (place, receipt)).collect()
}

/// To users and connections of this node: at most once, without number or history, and not remembered.
fn direct(push: &Push, outboxes: &[Arc<Outbox>]) -> Receipt {
    let message = Direct { id: push.id.clone(), event: push.event.clone(), data: push.data.clone(), timestamp: now() };
    let is_meant = |it: &&Arc<Outbox>| !push.exclude.contains(&it.id);
    let mut receipt = Receipt::new(&push.id, Status::Taken);
    let (mut matched, mut queued) = (0, 0);
    for outbox in outboxes.iter().filter(is_meant) {
        matched += 1;
        queued += u32::from(outbox.message(|format| message.wire(format)));
    }
    receipt.matched = Some(matched);
    receipt.queued = Some(queued);
    receipt.dropped = Some(Dropped { slow: matched - queued });
    receipt
}
