//! `POST /push`: one message, many, lines of them, or raw bytes. All of it is parsed, or nothing is published; each
//! channel keeps its order, channels go side by side.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout, timeout_at};

use super::problem::Fault;
use super::receipt::{Receipt, status_of};
use super::{Api, Body, BoxError, Problem, Query, Settings, json};
use crate::channel::{ChannelName, Data, Draft, now, unique_id};
use crate::engine::Error;
use crate::hub::{Delivery, Hub, Outbox, Published};
use crate::protocol::compact;
use crate::protocol::wire::Direct;
use crate::session::{NotSpread, Whom, Word};
use crate::webhook::{Invalid, Limits, Push, Target};

/// The largest call, in bytes, unless one publication may be larger than half of it.
const MAX_BODY: usize = 8 * 1024 * 1024;
/// The most messages in a call, each counted once for every channel it names.
const MAX_MESSAGES: usize = 10_000;
/// Channels of one call that are published to at the same time.
const CHANNELS_AT_ONCE: usize = 64;
/// An engine, or a node whose queues are full, that takes longer has not answered.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long the receipts wait for this node's own delivery, all of them together.
const COUNTED_WITHIN: Duration = Duration::from_secs(1);
/// For the whole body to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// How long `?wait=flushed` waits at most.
const FLUSHED_WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn push<B>(
    request: Request<B>,
    query: &Query,
    api: &Api,
    settings: &Arc<Settings>,
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
    // Base64 and escapes make a publication larger on its way.
    let body = read(request, MAX_BODY.max(settings.max_publication * 2)).await?;
    let messages = match &*content_type {
        "application/x-ndjson" | "application/jsonl" => lines(&body)?,
        "application/json" => many(&body)?,
        // What curl sends by default is JSON all the same, unless the URL says where raw bytes go.
        _ if query.get("channel").is_none() => many(&body)?,
        _ => vec![raw(body, query)?],
    };
    check_sizes(&messages, settings.max_publication)?;
    let messages = messages.into_iter().map(|it| it.push).collect();
    publish(messages, api, settings, waits_for_flush).await
}

/// In a task of its own: what was taken is published whole, even if its caller hangs up without reading the receipt.
async fn publish(
    messages: Vec<Push>,
    api: &Api,
    settings: &Arc<Settings>,
    waits_for_flush: bool,
) -> Result<Response<Body>, Problem> {
    let (hub, settings, metrics, hold) = (api.hub.clone(), settings.clone(), api.metrics.clone(), api.holds.hold());
    let publishing = tokio::spawn(async move {
        let _hold = (hold, metrics.publish());
        let begun = Instant::now();
        let receipts = send(messages, &hub, &settings, waits_for_flush).await;
        if !waits_for_flush {
            metrics.delivered(begun.elapsed());
        }
        for receipt in &receipts {
            metrics.pushed(receipt.status);
        }
        json(status_of(&receipts), &serde_json::json!({ "results": receipts }))
    });
    publishing.await.map_err(|_| Problem::unavailable("the node ended before the push was through"))
}

async fn read<B>(request: Request<B>, most: usize) -> Result<Bytes, Problem>
where
    B: http_body::Body<Error: Into<BoxError>> + Send,
{
    let body = Limited::new(request.into_body(), most).collect();
    match timeout(BODY_WITHIN, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Problem::too_large(format!("a call may have {most} bytes; send several")))
        }
        Ok(Err(_)) => Err(Problem::bad_request("the body broke off")),
        Err(_) => Err(Problem::bad_request("the body did not arrive in time")),
    }
}

/// A message and where it stood in the call.
struct Placed {
    place: String,
    push: Push,
}

/// `{"channel":…}` or `{"messages":[…]}`.
fn many(body: &[u8]) -> Result<Vec<Placed>, Problem> {
    #[derive(Deserialize)]
    struct Many<'a> {
        #[serde(borrow)]
        messages: Option<Vec<&'a RawValue>>,
    }
    let many: Many = serde_json::from_slice(body)
        .map_err(|error| Problem::bad_request(format!("neither a message nor a list of `messages`: {error}")))?;
    match many.messages {
        None => all([(String::new(), body)].into_iter()),
        Some(messages) => {
            all(messages.iter().enumerate().map(|(at, it)| (format!("messages[{at}]."), it.get().as_bytes())))
        }
    }
}

fn lines(body: &[u8]) -> Result<Vec<Placed>, Problem> {
    let lines = body.split(|it| *it == b'\n').enumerate().filter(|(_, it)| !it.trim_ascii().is_empty());
    all(lines.map(|(at, it)| (format!("line {}: ", at + 1), it)))
}

/// Every message, or every mistake in any of them.
fn all<'a>(texts: impl Iterator<Item = (String, &'a [u8])>) -> Result<Vec<Placed>, Problem> {
    let (mut messages, mut faults, mut count) = (Vec::new(), Vec::new(), 0);
    for (place, text) in texts {
        match message(text) {
            Ok(push) => {
                count += targets(&push);
                messages.push(Placed { place, push });
            }
            Err(Invalid { field, why }) => {
                count += 1;
                let field = format!("{place}{field}").trim_end_matches(['.', ' ', ':']).to_owned();
                faults.push(Fault { field, detail: why.into_owned() });
            }
        }
        if count > MAX_MESSAGES {
            return Err(Problem::too_large(format!(
                "a call may have {MAX_MESSAGES} messages, counting one for each channel; send several"
            )));
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

fn message(json: &[u8]) -> Result<Push, Invalid> {
    // What is too large is told from what is wrong afterwards, once blanks are gone.
    let mut push = Push::read(json, &unique_id(), Limits { data: usize::MAX, state: 0 })?;
    if let Data::Json(json) = &push.data {
        push.data = Data::Json(compact(&String::from_utf8_lossy(json)));
    }
    Ok(push)
}

fn targets(push: &Push) -> usize {
    match &push.to {
        Target::Channels(channels) => channels.len(),
        Target::User(_) | Target::Connection(_) => 1,
    }
}

fn check_sizes(messages: &[Placed], most: usize) -> Result<(), Problem> {
    let fault = |Placed { place, push }: &Placed| Fault {
        field: format!("{place}data"),
        detail: format!("has {} bytes, more than `realtime.max_publication` = {most}", push.data.len()),
    };
    let faults: Vec<_> = messages.iter().filter(|it| it.push.data.len() > most).map(fault).collect();
    match faults.is_empty() {
        true => Ok(()),
        false => Err(Problem::data_too_large(faults, most)),
    }
}

/// The body itself as one binary message to the channels in the URL; what else a message has stands there too.
fn raw(body: Bytes, query: &Query) -> Result<Placed, Problem> {
    let list = |name| {
        let values = query.all(name).flat_map(|it| it.split(',').map(str::to_owned).collect::<Vec<_>>());
        values.filter(|it| !it.is_empty()).collect::<Vec<_>>()
    };
    let said = serde_json::json!({
        // Stands in for the body, which is put in its place below.
        "data": 0,
        "channels": list("channel"),
        "event": query.get("event"),
        "id": query.get("id"),
        "exclude": list("exclude"),
        "subject": query.get("subject"),
    });
    let push = message(said.to_string().as_bytes()).map_err(|Invalid { field, why }| {
        Problem::invalid(vec![Fault { field: format!("?{field}"), detail: why.into_owned() }])
    })?;
    Ok(Placed { place: String::new(), push: Push { data: Data::Binary(body), ..push } })
}

/// Publishes all of it; the receipts are in the order of the messages.
async fn send(messages: Vec<Push>, hub: &Arc<Hub>, settings: &Arc<Settings>, waits_for_flush: bool) -> Vec<Receipt> {
    let mut by_channel: HashMap<ChannelName, Vec<(usize, Draft)>> = HashMap::new();
    let (mut receipts, mut told) = (Vec::new(), Vec::new());
    for push in messages {
        match &push.to {
            Target::Channels(channels) => {
                for channel in channels {
                    by_channel.entry(channel.clone()).or_default().push((receipts.len(), draft(channel, &push)));
                    receipts.push(Receipt::not_sent(channel.as_str(), &push.id));
                }
            }
            Target::User(user) => {
                let here = hub.directory().user(user);
                let (delivery, elsewhere) = direct(&push, here, Whom::User(user.to_string()), hub).await;
                told.push((receipts.len(), delivery));
                receipts.push(Receipt::of_user(user, &push.id).beyond(elsewhere));
            }
            Target::Connection(id) => {
                let here = hub.directory().connection(*id);
                let (delivery, elsewhere) = direct(&push, here, Whom::connection(*id), hub).await;
                told.push((receipts.len(), delivery));
                receipts.push(Receipt::of_connection(*id, &push.id).beyond(elsewhere));
            }
        }
    }
    let lanes = by_channel.into_values().map(|drafts| in_order(drafts, hub.clone(), settings.clone()));
    let outcomes: Vec<Vec<_>> = stream::iter(lanes).buffer_unordered(CHANNELS_AT_ONCE).collect().await;
    // One deadline for all: a slow client makes nobody wait longer for having pushed more.
    let deadline = Instant::now() + if waits_for_flush { FLUSHED_WITHIN } else { COUNTED_WITHIN };
    for (place, outcome) in outcomes.into_iter().flatten() {
        let receipt = &mut receipts[place];
        *receipt = Receipt::of_channel(receipt.channel.as_deref().unwrap_or_default(), &receipt.id, &outcome);
        // A repetition is not delivered, so there is nothing to count.
        told.extend(outcome.ok().and_then(|it| it.delivery).map(|delivery| (place, delivery)));
    }
    for (place, delivery) in told {
        let receipt = &mut receipts[place];
        if waits_for_flush {
            receipt.count_flushed(delivery.flushed(deadline.saturating_duration_since(Instant::now())).await);
        } else {
            receipt.count(timeout_at(deadline, delivery.counted()).await.ok().flatten());
        }
    }
    receipts
}

/// An id that was made up is remembered like one that was given: the answer names it, so it may be repeated.
fn draft(channel: &ChannelName, push: &Push) -> Draft {
    let draft = Draft::new(channel.clone(), push.data.clone(), Some(push.id.clone()));
    Draft { event: push.event.clone(), subject: push.subject.clone(), exclude: push.exclude.clone(), ..draft }
}

/// One channel's messages. After one that failed the later ones are not sent: they would overtake it when it is repeated.
async fn in_order(
    drafts: Vec<(usize, Draft)>,
    hub: Arc<Hub>,
    settings: Arc<Settings>,
) -> Vec<(usize, Result<Published, Error>)> {
    let mut outcomes = Vec::with_capacity(drafts.len());
    let mut rest = VecDeque::from(drafts);
    while let Some((_, first)) = rest.front() {
        let retention = settings.rules.retention(&first.channel);
        let (places, drafts) = together(&mut rest, hub.at_once());
        let publishing = async {
            match <[Draft; 1]>::try_from(drafts) {
                Ok([only]) => vec![hub.publish_counted(only, retention).await],
                Err(drafts) => hub.publish_all_counted(drafts, retention).await,
            }
        };
        let published = timeout(ANSWER_WITHIN, publishing).await;
        let published = published.unwrap_or_else(|_| places.iter().map(|_| Err(Error::Unknown)).collect());
        let has_failed = published.iter().any(Result::is_err);
        outcomes.extend(places.into_iter().zip(published));
        if has_failed {
            break;
        }
    }
    outcomes
}

/// The next drafts, up to one whose id is among them already.
fn together(rest: &mut VecDeque<(usize, Draft)>, most: usize) -> (Vec<usize>, Vec<Draft>) {
    let mut ids = HashSet::new();
    let is_not_next = |(_, draft): &(usize, Draft)| ids.len() >= most || !ids.insert(draft.id.clone());
    let count = rest.iter().position(is_not_next).unwrap_or(rest.len());
    rest.drain(..count).unzip()
}

/// To users and connections, of this node and of others: at most once, without number or history, and not remembered.
async fn direct(
    push: &Push,
    here: impl IntoIterator<Item = Arc<Outbox>>,
    whom: Whom,
    hub: &Hub,
) -> (Delivery, Result<(), NotSpread>) {
    let message = Direct { id: push.id.clone(), event: push.event.clone(), data: push.data.clone(), timestamp: now() };
    let delivery = hub.tell(here.into_iter().filter(|it| !push.exclude.contains(&it.id)), &message);
    (delivery, Word::tell(whom, &message, &push.exclude).spread(hub).await)
}
