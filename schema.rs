//! The JSON Schema of the file, for editors and for our own walk: made from the declarations, so it cannot be wrong.

use serde_json::Value;

use super::Config;

/// Where editors find it.
const ID: &str = "https://outrigger.dev/schema/outrigger.json";

/// The schema as `outrigger schema` prints it.
pub fn schema() -> String {
    let mut schema = of_config();
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("$id".into(), ID.into());
        schema.insert("title".into(), "Outrigger".into());
    }
    serde_json::to_string_pretty(&schema).expect("a JSON value is written without failing")
}

pub(super) fn of_config() -> Value {
    schemars::schema_for!(Config).to_value()
}
