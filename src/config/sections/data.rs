use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// The folder alone may stand for the section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Data {
    pub path: PathBuf,
    pub fsync: Fsync,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Fsync {
    #[default]
    #[serde(rename = "1s")]
    EachSecond,
    #[serde(rename = "always")]
    Always,
}

/// The section as it is written in full.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Full {
    /// The folder; it is made if it is not there. One process at a time may use it.
    #[schemars(extend("format" = "folder"), example = &"/var/lib/outrigger")]
    path: PathBuf,
    /// When what was written is made safe from a power cut: every second (1s), or before it is delivered and acknowledged
    /// (always). The end of the process alone loses nothing either way.
    #[serde(default)]
    fsync: Fsync,
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Full;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a folder, or `{path: FOLDER, fsync: 1s | always}`")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Full, E> {
                Ok(Full { path: text.into(), fsync: Fsync::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Full, A::Error> {
                Full::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_any(Either).map(|Full { path, fsync }| Self { path, fsync })
    }
}

impl JsonSchema for Data {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Data".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let full = generator.subschema_for::<Full>();
        json_schema!({ "anyOf": [full, { "type": "string", "format": "folder" }] })
    }
}
