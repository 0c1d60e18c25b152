//! The values of the file: parsed at the door, so that nothing inside checks them twice.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::backend::Target;
use crate::channel::Pattern;
use crate::server;

/// A value written as one word, with the name its schema gives the form: `format: duration`.
#[derive(Clone, PartialEq, Eq)]
pub struct Text<T>(pub T);

/// What can be written as one word.
pub trait Word: Sized {
    /// The `format` in the schema.
    const FORMAT: &'static str;
    /// Reads it, or says what would be right.
    fn read(text: &str) -> Result<Self, String>;
    fn write(&self) -> String;
}

pub type Duration = Text<std::time::Duration>;
pub type Size = Text<Bytes>;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub usize);

pub const fn seconds(seconds: u64) -> Duration {
    Text(std::time::Duration::from_secs(seconds))
}

pub const fn kib(kib: usize) -> Size {
    Text(Bytes(kib * 1024))
}

impl Word for std::time::Duration {
    const FORMAT: &'static str = "duration";

    fn read(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit()) {
            return Err(format!("`{text}` needs a unit: write `{text}s` for seconds"));
        }
        humantime::parse_duration(text).map_err(|_| format!("`{text}` is no time such as `30s`, `5m` or `1h`"))
    }

    /// `24h` rather than `1day`, `90s` rather than `1m 30s`, `60s` rather than `1m`: one number with one unit.
    fn write(&self) -> String {
        let millis = self.as_millis();
        let fits = [(3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")].into_iter();
        let is_whole = |unit: u128| millis.is_multiple_of(unit) && (millis > unit || unit != 60_000);
        match fits.filter(|_| millis > 0).find(|(unit, _)| is_whole(*unit)) {
            Some((unit, name)) if self.subsec_nanos().is_multiple_of(1_000_000) => format!("{}{name}", millis / unit),
            _ => humantime::format_duration(*self).to_string(),
        }
    }
}

const UNITS: [(&str, usize); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl Word for Bytes {
    const FORMAT: &'static str = "size";

    fn read(text: &str) -> Result<Self, String> {
        let unit = UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)));
        let Some((number, unit)) = unit.or_else(|| Some((text.strip_suffix('B')?, 1))) else {
            return Err(format!("`{text}` needs a unit: write `64KiB` or `1MiB`"));
        };
        let number = number.trim().parse::<usize>().ok().and_then(|it| it.checked_mul(unit));
        number.map(Self).ok_or_else(|| format!("`{text}` is no size such as `64KiB` or `1MiB`"))
    }

    fn write(&self) -> String {
        match UNITS.iter().find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((name, unit)) => format!("{}{name}", self.0 / unit),
            None => format!("{}B", self.0),
        }
    }
}

impl Word for server::Address {
    const FORMAT: &'static str = "address";

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("`{text}` is no address such as `0.0.0.0:8443` or `unix:/run/outrigger.sock`"))
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Word for Target {
    const FORMAT: &'static str = "backend";

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error| format!("`{text}`: {error}"))
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Word for Pattern {
    const FORMAT: &'static str = "pattern";

    fn read(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| error.to_string())
    }

    fn write(&self) -> String {
        self.as_str().to_owned()
    }
}

impl Word for ipnet::IpNet {
    const FORMAT: &'static str = "network";

    fn read(text: &str) -> Result<Self, String> {
        let address = || text.parse::<std::net::IpAddr>().map(Self::from);
        text.parse().or_else(|_| address()).map_err(|_| format!("`{text}` is no network such as `10.0.0.0/8`"))
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Word for http::Uri {
    const FORMAT: &'static str = "url";

    fn read(text: &str) -> Result<Self, String> {
        Self::from_str(text).map_err(|error| format!("`{text}` is no URL: {error}"))
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Word for http::HeaderName {
    const FORMAT: &'static str = "header";

    fn read(text: &str) -> Result<Self, String> {
        Self::from_str(text).map_err(|_| format!("`{text}` is no header name"))
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

/// The `format` of a file's name, of a folder that is made if it is not there, of a secret, and the key that says a secret
/// is in a file.
pub const PATH: &str = "path";
pub const FOLDER: &str = "folder";
pub const SECRET: &str = "secret";
pub const FILE: &str = "file";

/// Whether a text is what the schema's `format` promises; formats that are not ours promise nothing.
pub fn check(format: &str, text: &str) -> Result<(), String> {
    fn readable<T: Word>(text: &str) -> Result<(), String> {
        T::read(text.trim()).map(drop)
    }
    match format {
        std::time::Duration::FORMAT => readable::<std::time::Duration>(text),
        Bytes::FORMAT => readable::<Bytes>(text),
        server::Address::FORMAT => readable::<server::Address>(text),
        Target::FORMAT => readable::<Target>(text),
        Pattern::FORMAT => readable::<Pattern>(text),
        ipnet::IpNet::FORMAT => readable::<ipnet::IpNet>(text),
        http::Uri::FORMAT => readable::<http::Uri>(text),
        http::HeaderName::FORMAT => readable::<http::HeaderName>(text),
        _ => Ok(()),
    }
}

impl<T: Word> fmt::Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.write())
    }
}

impl<T: Word> fmt::Debug for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<T: Copy> Copy for Text<T> {}

impl<'de, T: Word> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        T::read(text.trim()).map(Self).map_err(serde::de::Error::custom)
    }
}

impl<T: Word> serde::Serialize for Text<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.write())
    }
}

impl<T: Word> JsonSchema for Text<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::FORMAT.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": T::FORMAT })
    }
}

/// A secret. Where the file says `{file: PATH}`, this is what that file holds. Never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "string", "format": SECRET },
                {
                    "type": "object",
                    "properties": { FILE: { "type": "string", "format": PATH } },
                    "required": [FILE],
                    "additionalProperties": false
                }
            ]
        })
    }
}

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// One of something, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: serde::Serialize> serde::Serialize for OneOrMany<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [one] => one.serialize(serializer),
            several => several.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one value or a list")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<T>, E> {
                T::deserialize(StrDeserializer::new(text)).map(|it| vec![it])
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|it| vec![it])
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Vec<T>, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq))
            }
        }
        deserializer.deserialize_any(Either(PhantomData)).map(Self)
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("one or many {}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one.clone(), { "type": "array", "items": one }] })
    }
}
