//! Push by response header: a backend's ordinary reply that carries `Outrigger-Push: "orders.42";event="created"` is
//! published while it streams to its client. The reply is never delayed and never fails because of it.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use sfv::{List, ListEntry, Parser};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::metrics::Metrics;
use crate::channel::{ChannelName, Data, Draft, MAX_DEPTH, depth, unique_id};
use crate::drain::{Draining, Holds};
use crate::hub::{Hub, Rules};
use crate::protocol::compact;

const PUSH: HeaderName = HeaderName::from_static("outrigger-push");
const PUSH_DATA: HeaderName = HeaderName::from_static("outrigger-push-data");

/// Publications on their way at once; beyond it they are counted and logged.
const MAX_UNDER_WAY: usize = 1000;
/// How long one is tried again while the engine is away, always under the same id.
const TRIED_FOR: Duration = Duration::from_secs(30);
const TRIED_AGAIN_AFTER: Duration = Duration::from_millis(250);
/// A client that leaves early does not take the announcement with it: the rest of the reply is read for at most this long.
const READ_ON_FOR: Duration = Duration::from_secs(10);
const COMPLAIN_EVERY: Duration = Duration::from_secs(1);

/// Publishes what replies announce.
#[derive(Debug)]
pub struct Announcer {
    hub: Arc<Hub>,
    metrics: Metrics,
    under_way: Arc<Semaphore>,
    holds: Holds,
    complained: Mutex<Option<Instant>>,
}

/// The right to one task, and the hold the drain waits for.
type Place = (OwnedSemaphorePermit, Option<Draining>);

/// Where a reply is to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    channel: ChannelName,
    event: Option<Arc<str>>,
    id: Option<Arc<str>>,
}

/// What a reply is published by, all of one generation.
#[derive(Debug, Clone)]
pub struct Terms {
    pub rules: Arc<Rules>,
    /// The largest publication, in bytes.
    pub max_publication: usize,
    /// Off, the headers are taken away all the same: they are ours, not the client's.
    pub is_honoured: bool,
}

impl Announcer {
    pub fn new(hub: Arc<Hub>, metrics: Metrics, holds: Holds) -> Arc<Self> {
        Arc::new(Self {
            hub,
            metrics,
            under_way: Arc::new(Semaphore::new(MAX_UNDER_WAY)),
            holds,
            complained: Mutex::default(),
        })
    }

    /// Takes the headers off a reply and publishes it where they say.
    pub fn take<B>(self: &Arc<Self>, mut response: Response<B>, terms: &Terms) -> Response<Announced<B>>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    {
        let copy = match response.headers().contains_key(PUSH) || response.headers().contains_key(PUSH_DATA) {
            true => self.plan(&mut response, terms),
            false => None,
        };
        response.map(|body| {
            let mut announced = Announced { body: Some(body), copy };
            announced.publish_if_over();
            announced
        })
    }

    /// What is to be copied. Data in the header itself is published at once.
    fn plan<B>(self: &Arc<Self>, response: &mut Response<B>, terms: &Terms) -> Option<Box<Copy>> {
        let headers = response.headers_mut();
        let lines: Vec<_> = headers.get_all(PUSH).iter().map(|it| it.as_bytes().to_vec()).collect();
        let data = headers.get(PUSH_DATA).map(|it| Bytes::copy_from_slice(it.as_bytes()));
        headers.remove(PUSH);
        headers.remove(PUSH_DATA);
        if !terms.is_honoured || !response.status().is_success() {
            return None;
        }
        let wanted = match parse(&lines.join(&b", "[..])) {
            Ok(wanted) if !wanted.is_empty() => wanted,
            Ok(_) => return self.give_up("invalid", "Outrigger-Push names no channel"),
            Err(error) => return self.give_up("invalid", &error),
        };
        let mut copy = Copy { wanted, buffer: BytesMut::new(), announcer: self.clone(), terms: terms.clone() };
        if let Some(data) = data {
            copy.buffer.extend_from_slice(&data);
            copy.publish();
            return None;
        }
        match unusable(response.headers()) {
            Some(why) => self.give_up("unusable", why),
            None => Some(Box::new(copy)),
        }
    }

    fn give_up<T>(&self, outcome: &'static str, why: &str) -> Option<T> {
        self.metrics.announced(outcome);
        if self.may_complain() {
            tracing::warn!(outcome, why, "a reply's Outrigger-Push was not published");
        }
        None
    }

    /// A backend that makes the same mistake in every reply is told of it once in a while; the metric counts them all.
    fn may_complain(&self) -> bool {
        let mut last = self.complained.lock().expect("nothing panics under this lock");
        let may = last.is_none_or(|it| it.elapsed() >= COMPLAIN_EVERY);
        if may {
            *last = Some(Instant::now());
        }
        may
    }

    /// A place among those under way, which the drain waits for; having none is counted.
    fn place(&self) -> Option<Place> {
        match self.under_way.clone().try_acquire_owned() {
            Ok(permit) => Some((permit, self.holds.hold())),
            Err(_) => self.give_up("overflow", "too many are under way"),
        }
    }

    fn publish(self: Arc<Self>, draft: Draft, terms: &Terms) {
        let Some(place) = self.place() else { return };
        let retention = terms.rules.retention(&draft.channel);
        tokio::spawn(async move {
            let _place = place;
            let patience = tokio::time::sleep(TRIED_FOR);
            let tries = async {
                while let Err(error) = self.hub.publish(draft.clone(), retention).await {
                    tracing::debug!(%error, "an announced reply is tried again");
                    tokio::time::sleep(TRIED_AGAIN_AFTER).await;
                }
            };
            tokio::select! {
                () = tries => self.metrics.announced("published"),
                () = patience => { self.give_up::<()>("lost", "the engine stayed away"); }
            }
        });
    }
}

/// Why a body cannot be published.
fn unusable(headers: &HeaderMap) -> Option<&'static str> {
    if headers.get(CONTENT_ENCODING).is_some_and(|it| !it.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Some("the body is encoded; use Outrigger-Push-Data");
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let is_json = essence.eq_ignore_ascii_case("application/json") || essence.to_ascii_lowercase().ends_with("+json");
    (!is_json).then_some("the body is not JSON; use Outrigger-Push-Data")
}

/// A structured field: a list of channels, each with what belongs to it (RFC 9651).
fn parse(header: &[u8]) -> Result<Vec<Wanted>, String> {
    let list: List = Parser::new(header).parse().map_err(|error| format!("no list of channels: {error}"))?;
    list.into_iter().map(wanted).collect()
}

fn wanted(entry: ListEntry) -> Result<Wanted, String> {
    let ListEntry::Item(item) = entry else { return Err("a channel is a string, not a list".to_owned()) };
    let name = item.bare_item.as_string().ok_or("a channel is a string in quotes")?;
    let channel = ChannelName::parse(name.as_str()).map_err(|error| error.to_string())?;
    let word = |key: &str| -> Result<Option<Arc<str>>, String> {
        let found = item.params.iter().find(|(it, _)| it.as_str() == key);
        let Some((_, value)) = found else { return Ok(None) };
        let text = value.as_string().ok_or_else(|| format!("`{key}` is a string in quotes"))?;
        match text.as_str().len() {
            1..=200 => Ok(Some(text.as_str().into())),
            _ => Err(format!("`{key}` has 1 to 200 bytes")),
        }
    };
    Ok(Wanted { event: word("event")?, id: word("id")?, channel })
}

/// The copy that is made of a reply on its way.
#[derive(Debug)]
struct Copy {
    wanted: Vec<Wanted>,
    buffer: BytesMut,
    announcer: Arc<Announcer>,
    terms: Terms,
}

impl Copy {
    /// Whether there is room for more of it.
    fn add(&mut self, bytes: &Bytes) -> bool {
        if self.buffer.len() + bytes.len() > self.terms.max_publication {
            self.announcer.give_up::<()>("too_large", "the body is larger than realtime.max_publication");
            return false;
        }
        self.buffer.extend_from_slice(bytes);
        true
    }

    fn publish(self) {
        let text = std::str::from_utf8(&self.buffer).ok();
        let json = text.filter(|it| serde_json::from_str::<serde::de::IgnoredAny>(it).is_ok());
        let Some(json) = json else {
            self.announcer.give_up::<()>("invalid", "the data is not JSON");
            return;
        };
        if json.len() > self.terms.max_publication {
            self.announcer.give_up::<()>("too_large", "the data is larger than realtime.max_publication");
            return;
        }
        if depth(json) > MAX_DEPTH {
            self.announcer.give_up::<()>("too_deep", "the data is nested too deeply for its subscribers");
            return;
        }
        let data = Data::Json(compact(json));
        for wanted in self.wanted {
            // One id for all tries, so that no try is published twice.
            let id = wanted.id.unwrap_or_else(unique_id);
            let draft = Draft { event: wanted.event, ..Draft::new(wanted.channel, data.clone(), Some(id)) };
            self.announcer.clone().publish(draft, &self.terms);
        }
    }
}

/// A reply's body on its way to the client, and perhaps a copy of it.
#[derive(Debug)]
pub struct Announced<B: HttpBody<Data = Bytes> + Send + Unpin + 'static> {
    body: Option<B>,
    copy: Option<Box<Copy>>,
}

impl<B: HttpBody<Data = Bytes> + Send + Unpin + 'static> Announced<B> {
    fn is_over(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn publish_if_over(&mut self) {
        if self.is_over()
            && let Some(copy) = self.copy.take()
        {
            copy.publish();
        }
    }
}

impl<B: HttpBody<Data = Bytes> + Send + Unpin + 'static> HttpBody for Announced<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        match &frame {
            Some(Ok(part)) => {
                if let (Some(copy), Some(bytes)) = (&mut this.copy, part.data_ref())
                    && !copy.add(bytes)
                {
                    this.copy = None;
                }
                this.publish_if_over();
            }
            // A reply that broke off is not what the backend meant to say.
            Some(Err(_)) => {
                if let Some(copy) = this.copy.take() {
                    copy.announcer.give_up::<()>("broken", "the body broke off");
                }
            }
            None => {
                if let Some(copy) = this.copy.take() {
                    copy.publish();
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}

impl<B: HttpBody<Data = Bytes> + Send + Unpin + 'static> Drop for Announced<B> {
    fn drop(&mut self) {
        let (Some(body), Some(copy)) = (self.body.take(), self.copy.take()) else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let Some(place) = copy.announcer.place() else { return };
        // The client left, but the backend has done what it announces.
        runtime.spawn(async move {
            let _place = place;
            read_on(*copy, body).await;
        });
    }
}

/// The rest of a reply, for its copy alone. Not an [`Announced`]: one that is dropped would be read on once more, without
/// end when the runtime is what drops it.
async fn read_on<B: HttpBody<Data = Bytes> + Unpin>(mut copy: Copy, mut body: B) {
    let announcer = copy.announcer.clone();
    let rest = async {
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                announcer.give_up::<()>("broken", "the body broke off");
                return false;
            };
            if frame.data_ref().is_some_and(|bytes| !copy.add(bytes)) {
                return false;
            }
        }
        true
    };
    match tokio::time::timeout(READ_ON_FOR, rest).await {
        Ok(true) => copy.publish(),
        Ok(false) => {}
        Err(_) => {
            announcer.give_up::<()>("abandoned", "its client left, and the backend did not finish it in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_a_list_of_channels_with_what_belongs_to_them() {
        let wanted = parse(br#""orders.42";event="created";id="o-1", "log""#).unwrap();
        assert_eq!(wanted[0].channel.as_str(), "orders.42");
        assert_eq!((wanted[0].event.as_deref(), wanted[0].id.as_deref()), (Some("created"), Some("o-1")));
        assert_eq!(wanted[1].channel.as_str(), "log");
        for bad in ["orders", "\"a b\"", "(\"a\")", "\"a\";event=x", "\"a\r\nSet-Cookie: x\"", "\"a"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
