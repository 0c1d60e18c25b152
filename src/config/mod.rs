//! The YAML file: read, checked, watched, compared. A file comes in; a [`Config`] with every default comes out, or every
//! problem with its place. Each field's comment is the sentence an operator reads: it is the description in the JSON
//! Schema and in `config.example.yaml`. Changes nothing that runs.
//!
//! ```text
//! text ─tree─► places, variables ─reader, along the schema─► JSON ─serde─► Config ─check─► Loaded
//! ```

mod check;
mod diff;
#[cfg(test)]
mod example;
mod load;
mod problem;
mod reader;
mod sections;
#[cfg(test)]
mod tests;
mod tree;
mod values;
mod variables;
pub mod watch;

pub use diff::{Change, diff};
pub use load::{Loaded, load, parse, without_file};
pub use problem::{Place, Problem, Problems, Severity};
pub use sections::*;
pub use values::{Bytes, Duration, OneOrMany, Secret, Size, Text};

/// The JSON Schema of the file.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Config).to_value()
}
