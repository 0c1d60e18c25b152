use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::verdict::{Invalid, Limits, MAX_LIST, data, invalid, read, user};
use crate::channel::{ChannelName, ConnectionId, Data};

/// Something a verdict wants published besides, in the shape that `POST /push` takes.
#[derive(Clone, Debug)]
pub struct Push {
    pub to: Target,
    pub data: Data,
    pub event: Option<Arc<str>>,
    /// Of its own, or the question's with the index in the list, so that a question asked twice publishes once.
    pub id: Arc<str>,
    pub exclude: Vec<ConnectionId>,
    pub subject: Option<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One or several, each getting the same under the same id.
    Channels(Vec<ChannelName>),
    User(Arc<str>),
    Connection(ConnectionId),
}

#[derive(Deserialize)]
struct Form<'a> {
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    channels: Option<&'a RawValue>,
    user: Option<&'a RawValue>,
    connection: Option<&'a RawValue>,
    /// An explicit null is data too.
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    data_base64: Option<&'a RawValue>,
    event: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    exclude: Option<&'a RawValue>,
    subject: Option<&'a RawValue>,
}

/// The longest id and event name, in bytes.
const MAX_LABEL: usize = 200;

fn present<'a, D: serde::Deserializer<'a>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl Push {
    /// One message of `POST /push`: the same shape. `id` is its id if it brings none of its own.
    pub fn read(json: &[u8], id: &str, limits: Limits) -> Result<Self, Invalid> {
        // The reader would take a list for the fields in their order.
        if !json.trim_ascii_start().starts_with(b"{") {
            return Err(invalid("", "is no message: a message is a JSON object"));
        }
        let form: Form =
            serde_json::from_slice(json).map_err(|error| invalid("", format!("is no message: {error}")))?;
        // A misspelt `data` would otherwise be published as null.
        if form.data.is_none() && form.data_base64.is_none() && form.event.is_none() {
            return Err(invalid("data", "is missing; a signal without data has an `event`"));
        }
        form.parse(id, limits)
    }
}

pub(super) fn parse(list: Option<&RawValue>, question: &str, limits: Limits) -> Result<Vec<Push>, Invalid> {
    let forms: Vec<Form> = read("push", list, "is no list of objects")?.unwrap_or_default();
    if forms.len() > MAX_LIST {
        return Err(invalid("push", format!("has more than {MAX_LIST} messages")));
    }
    let parsed = forms.iter().enumerate().map(|(index, form)| {
        form.parse(&format!("{question}-{index}"), limits)
            .map_err(|Invalid { field, why }| invalid(format!("push[{index}].{field}"), why))
    });
    parsed.collect()
}

impl Form<'_> {
    fn parse(&self, id: &str, limits: Limits) -> Result<Push, Invalid> {
        Ok(Push {
            to: self.target()?,
            // A push without data is a signal: its event says it all.
            data: data("data", self.data, self.data_base64, limits)?.unwrap_or(Data::Json("null".into())),
            event: label("event", self.event)?,
            id: label("id", self.id)?.unwrap_or_else(|| id.into()),
            exclude: self.exclude()?,
            subject: user("subject", self.subject)?,
        })
    }

    fn target(&self) -> Result<Target, Invalid> {
        match (self.channel, self.channels, self.user, self.connection) {
            (Some(_), None, None, None) => {
                let name: Option<String> = read("channel", self.channel, "is no text")?;
                Ok(Target::Channels(vec![channel("channel", &name.unwrap_or_default())?]))
            }
            (None, Some(_), None, None) => self.channels().map(Target::Channels),
            (None, None, Some(_), None) => {
                user("user", self.user)?.map(Target::User).ok_or(invalid("user", "is missing"))
            }
            (None, None, None, Some(_)) => {
                let text: Option<String> = read("connection", self.connection, "is no text")?;
                connection("connection", &text.unwrap_or_default()).map(Target::Connection)
            }
            _ => Err(invalid("channel", "must be given, or one of channels, user and connection, and only one")),
        }
    }

    fn channels(&self) -> Result<Vec<ChannelName>, Invalid> {
        let names: Vec<String> = read("channels", self.channels, "is no list of texts")?.unwrap_or_default();
        match names.len() {
            1..=MAX_LIST => {
                let parsed = names.iter().enumerate().map(|(at, it)| channel(format!("channels[{at}]"), it));
                parsed.collect()
            }
            0 => Err(invalid("channels", "is empty")),
            _ => Err(invalid("channels", format!("has more than {MAX_LIST} channels"))),
        }
    }

    fn exclude(&self) -> Result<Vec<ConnectionId>, Invalid> {
        let ids: Vec<String> = read("exclude", self.exclude, "is no list of texts")?.unwrap_or_default();
        if ids.len() > MAX_LIST {
            return Err(invalid("exclude", format!("has more than {MAX_LIST} connections")));
        }
        ids.iter().map(|it| connection("exclude", it)).collect()
    }
}

fn channel(field: impl Into<Cow<'static, str>>, name: &str) -> Result<ChannelName, Invalid> {
    ChannelName::parse(name).map_err(|error| invalid(field, format!("is no channel: {error}")))
}

fn connection(field: &'static str, text: &str) -> Result<ConnectionId, Invalid> {
    text.parse().map_err(|_| invalid(field, "is no connection id"))
}

fn label(field: &'static str, value: Option<&RawValue>) -> Result<Option<Arc<str>>, Invalid> {
    let text: Option<String> = read(field, value, "is no text")?;
    match text {
        Some(it) if it.is_empty() || it.len() > MAX_LABEL || it.chars().any(char::is_control) => {
            Err(invalid(field, format!("is empty, longer than {MAX_LABEL} bytes or has control characters")))
        }
        other => Ok(other.map(Into::into)),
    }
}
