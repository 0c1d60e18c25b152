use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::push::{self, Push};
use crate::auth::{Grants, Identity, is_user_id, user_id};
use crate::channel::{ChannelName, Data, MAX_DEPTH, depth};

/// What the backend wants done. It was checked whole, so all of it can be applied.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub action: Action,
    /// Published in place of what the client sent.
    pub data: Option<Data>,
    /// Goes into the client's `ack`, as JSON.
    pub reply: Option<Bytes>,
    pub push: Vec<Push>,
    /// Kept with the connection and shown in every later question, as JSON.
    pub state: Option<Arc<str>>,
    pub subscribe: Vec<ChannelName>,
    pub unsubscribe: Vec<ChannelName>,
    pub user: Option<Arc<str>>,
    /// Replaces the token's claims: one JSON object.
    pub claims: Option<Arc<str>>,
    /// Replaces the token's grants.
    pub grants: Option<Grants>,
    pub expires_at: Option<SystemTime>,
    /// How long the same question need not be asked again.
    pub ttl: Option<Duration>,
    pub disconnect: Option<Disconnect>,
    /// Why it is rejected, in the backend's words.
    pub error: Option<Refusal>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    #[default]
    Allow,
    /// Taken without a word, and nothing is done with it.
    Drop,
    Reject,
}

/// What a client is told when the backend refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: Box<str>,
    pub message: Box<str>,
}

/// How a connection is to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    pub code: u16,
    pub reason: Box<str>,
}

/// How large the parts of a verdict may be, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub data: usize,
    /// State and claims stay in memory for as long as the connection.
    pub state: usize,
}

/// The field of a reply that cannot be used, and why. Says nothing of its value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {why}")]
pub struct Invalid {
    pub field: Cow<'static, str>,
    pub why: Cow<'static, str>,
}

/// More channels, or pushes, than anybody means in one reply.
pub(super) const MAX_LIST: usize = 1000;
const MAX_CODE: usize = 64;
const MAX_MESSAGE: usize = 500;
/// RFC 6455 section 5.5: a control frame holds 125 bytes, and the code takes two.
const MAX_REASON: usize = 123;
/// A verdict that is to hold longer would rather be asked for again.
const MAX_TTL: Duration = Duration::from_secs(24 * 3600);
/// Read as seconds such times lie before the year 5138, read as milliseconds before March 1973: they are seconds.
const FIRST_MILLISECONDS: f64 = 1e11;
/// The last moment of JavaScript's `Date`.
const LAST_MILLISECONDS: f64 = 8.64e15;

/// The reply with each field still as the text it was. Unknown fields are for newer versions than this one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Form<'a> {
    #[serde(borrow)]
    action: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
    #[serde(rename = "data_base64")]
    data_base64: Option<&'a RawValue>,
    reply: Option<&'a RawValue>,
    push: Option<&'a RawValue>,
    state: Option<&'a RawValue>,
    subscribe: Option<&'a RawValue>,
    unsubscribe: Option<&'a RawValue>,
    user_id: Option<&'a RawValue>,
    claims: Option<&'a RawValue>,
    channels: Option<&'a RawValue>,
    expires_at: Option<&'a RawValue>,
    ttl: Option<&'a RawValue>,
    disconnect: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
}

impl Verdict {
    /// Reads a reply whole or not at all. `id` is the question's, and with their index that of its pushes.
    pub fn parse(body: &[u8], id: &str, limits: Limits) -> Result<Self, Invalid> {
        if body.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        let form: Form = serde_json::from_slice(body).map_err(|_| invalid("body", "is no JSON object"))?;
        Ok(Self {
            action: read("action", form.action, "is not allow, drop or reject")?.unwrap_or_default(),
            data: data("data", form.data, form.data_base64, limits)?,
            reply: reply(form.reply, limits)?,
            push: push::parse(form.push, id, limits)?,
            state: bounded("state", form.state, limits.state)?,
            subscribe: channels("subscribe", form.subscribe)?,
            unsubscribe: channels("unsubscribe", form.unsubscribe)?,
            user: user("userId", form.user_id)?,
            claims: claims(form.claims, limits)?,
            grants: grants(form.channels)?,
            expires_at: expires_at(form.expires_at)?,
            ttl: ttl(form.ttl)?,
            disconnect: disconnect(form.disconnect)?,
            error: refusal(form.error)?,
        })
    }

    /// What the client is told, if the answer is no.
    pub fn refusal(&self) -> Option<Refusal> {
        (self.action == Action::Reject).then(|| self.error.clone().unwrap_or_default())
    }

    /// Makes `identity` what the backend says it is, as far as it says anything.
    pub fn revise(&self, identity: &mut Identity) {
        let Self { user, claims, grants, expires_at, .. } = self;
        if user.is_some() {
            identity.user.clone_from(user);
        }
        if claims.is_some() {
            identity.claims.clone_from(claims);
        }
        if let Some(grants) = grants {
            identity.grants.clone_from(grants);
        }
        if expires_at.is_some() {
            identity.expires_at = *expires_at;
        }
    }

    pub(super) fn reject(error: Refusal) -> Self {
        Self { action: Action::Reject, error: Some(error), ..Self::default() }
    }

    /// Whether it says yes or no and nothing else, so that saying it again changes nothing.
    pub(super) fn is_plain(&self) -> bool {
        let Self { action: _, data, reply, push, state, subscribe, unsubscribe, .. } = self;
        let Self { user, claims, grants, expires_at, ttl: _, disconnect, error: _, .. } = self;
        let is_silent = data.is_none() && reply.is_none() && push.is_empty() && disconnect.is_none();
        let moves_nobody = subscribe.is_empty() && unsubscribe.is_empty();
        let is_about_nobody = user.is_none() && claims.is_none() && grants.is_none() && expires_at.is_none();
        is_silent && moves_nobody && is_about_nobody && state.is_none()
    }
}

impl Refusal {
    /// Cuts what is too long to be shown rather than refusing the refusal.
    pub fn new(code: &str, message: &str) -> Self {
        Self { code: cut(code, MAX_CODE).into(), message: cut(message, MAX_MESSAGE).into() }
    }
}

impl Default for Refusal {
    fn default() -> Self {
        Self::new("rejected", "the backend rejected this")
    }
}

fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

pub(super) fn invalid(field: impl Into<Cow<'static, str>>, why: impl Into<Cow<'static, str>>) -> Invalid {
    Invalid { field: field.into(), why: why.into() }
}

pub(super) fn read<'a, T: Deserialize<'a>>(
    field: &str,
    value: Option<&'a RawValue>,
    why: &'static str,
) -> Result<Option<T>, Invalid> {
    let parsed = value.map(|it| serde_json::from_str(it.get())).transpose();
    parsed.map_err(|_| invalid(field.to_owned(), why))
}

/// JSON as it can stand in a line: a line break in valid JSON is always white space between two things.
fn one_line(json: &RawValue) -> Bytes {
    let mut bytes = json.get().as_bytes().to_vec();
    for byte in bytes.iter_mut().filter(|it| matches!(it, b'\n' | b'\r')) {
        *byte = b' ';
    }
    bytes.into()
}

fn reply(value: Option<&RawValue>, limits: Limits) -> Result<Option<Bytes>, Invalid> {
    match value {
        Some(it) if it.get().len() > limits.data => Err(too_large("reply", limits.data)),
        other => Ok(other.map(one_line)),
    }
}

fn too_large(field: impl Into<Cow<'static, str>>, limit: usize) -> Invalid {
    invalid(field, format!("is larger than {limit} bytes"))
}

/// A copy: the reply's own buffer would live as long as the publication's history.
pub(super) fn data(
    field: &str,
    json: Option<&RawValue>,
    base64: Option<&RawValue>,
    limits: Limits,
) -> Result<Option<Data>, Invalid> {
    use base64::Engine;
    let field64 = || format!("{field}_base64");
    let data = match (json, read::<String>(&field64(), base64, "is no text")?) {
        (None, None) => return Ok(None),
        (Some(json), None) if depth(json.get()) > MAX_DEPTH => {
            return Err(invalid(field.to_owned(), format!("is nested deeper than {MAX_DEPTH}")));
        }
        (Some(json), None) => Data::Json(one_line(json)),
        (None, Some(text)) => {
            let bytes = base64::prelude::BASE64_STANDARD.decode(text);
            Data::Binary(bytes.map_err(|_| invalid(field64(), "is not base64"))?.into())
        }
        (Some(_), Some(_)) => return Err(invalid(field64(), "is given beside other data")),
    };
    if data.len() > limits.data {
        return Err(too_large(field.to_owned(), limits.data));
    }
    Ok(Some(data))
}

fn bounded(field: &'static str, value: Option<&RawValue>, most: usize) -> Result<Option<Arc<str>>, Invalid> {
    match value {
        Some(it) if it.get().len() > most => Err(too_large(field, most)),
        other => Ok(other.map(|it| it.get().into())),
    }
}

fn claims(value: Option<&RawValue>, limits: Limits) -> Result<Option<Arc<str>>, Invalid> {
    let claims = bounded("claims", value, limits.state)?;
    match claims {
        Some(it) if !it.starts_with('{') => Err(invalid("claims", "is no object")),
        other => Ok(other),
    }
}

fn channels(field: &'static str, value: Option<&RawValue>) -> Result<Vec<ChannelName>, Invalid> {
    let names: Vec<String> = read(field, value, "is no list of texts")?.unwrap_or_default();
    if names.len() > MAX_LIST {
        return Err(invalid(field, format!("has more than {MAX_LIST} channels")));
    }
    let parsed = names.iter().enumerate().map(|(index, name)| {
        ChannelName::parse(name)
            .map_err(|error| invalid(format!("{field}[{index}]"), format!("is no channel: {error}")))
    });
    parsed.collect()
}

pub(super) fn user(field: &str, value: Option<&RawValue>) -> Result<Option<Arc<str>>, Invalid> {
    let Some(value) = value else { return Ok(None) };
    let user = user_id(value).filter(|it| is_user_id(it));
    let user = user.ok_or_else(|| invalid(field.to_owned(), "is neither a usable text nor a whole number"))?;
    Ok(Some(user.into()))
}

fn grants(value: Option<&RawValue>) -> Result<Option<Grants>, Invalid> {
    let patterns: Option<Vec<String>> = read("channels", value, "is no list of texts")?;
    let grants = patterns.map(|it| Grants::both(&it)).transpose();
    grants.map_err(|error| invalid("channels", format!("is no list of patterns: {error}")))
}

/// Milliseconds, as every time on the wire; seconds, as `exp` has them, are told apart by their size.
fn expires_at(value: Option<&RawValue>) -> Result<Option<SystemTime>, Invalid> {
    let Some(number) = read::<f64>("expiresAt", value, "is no number")? else { return Ok(None) };
    let milliseconds = if number < FIRST_MILLISECONDS { number * 1000.0 } else { number };
    if !(0.0..=LAST_MILLISECONDS).contains(&milliseconds) {
        return Err(invalid("expiresAt", "is no possible time"));
    }
    Ok(Some(UNIX_EPOCH + Duration::from_millis(milliseconds.round() as u64)))
}

fn ttl(value: Option<&RawValue>) -> Result<Option<Duration>, Invalid> {
    let Some(seconds) = read::<f64>("ttl", value, "is no number of seconds")? else { return Ok(None) };
    let ttl = Duration::try_from_secs_f64(seconds).map_err(|_| invalid("ttl", "is no possible duration"))?;
    Ok(Some(ttl.min(MAX_TTL)))
}

fn disconnect(value: Option<&RawValue>) -> Result<Option<Disconnect>, Invalid> {
    #[derive(Deserialize)]
    struct Form {
        code: u16,
        reason: Option<String>,
    }
    let form: Option<Form> = read("disconnect", value, "is not `{code, reason}` with a number and a text")?;
    let Some(Form { code, reason }) = form else { return Ok(None) };
    if !matches!(code, 1000 | 1008 | 4000..=4999) {
        return Err(invalid("disconnect.code", "is not 1000, 1008 or within 4000 to 4999"));
    }
    let reason = reason.unwrap_or_default();
    if reason.len() > MAX_REASON {
        return Err(invalid("disconnect.reason", format!("is longer than {MAX_REASON} bytes")));
    }
    Ok(Some(Disconnect { code, reason: reason.into() }))
}

fn refusal(value: Option<&RawValue>) -> Result<Option<Refusal>, Invalid> {
    #[derive(Deserialize)]
    struct Form {
        code: Option<String>,
        message: Option<String>,
    }
    let form: Option<Form> = read("error", value, "is not `{code, message}` with texts")?;
    let usual = Refusal::default();
    Ok(form.map(|it| {
        let (code, message) = (it.code.as_deref(), it.message.as_deref());
        Refusal::new(code.unwrap_or(&usual.code), message.unwrap_or(&usual.message))
    }))
}

#[cfg(test)]
mod tests;
