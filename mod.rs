//! The YAML file as users see it, one section per owner, with every default. Each field's comment is the sentence an
//! operator reads: it is the description in the JSON Schema and in `config.example.yaml`. Changes nothing that runs.

mod check;
mod expand;
mod files;
mod form;
mod load;
mod problem;
mod schema;
mod sections;
mod tree;
mod values;
mod walk;

#[cfg(test)]
mod tests;

pub use expand::Environment;
pub use files::Files;
pub use load::{Loaded, load, parse};
pub use problem::{Place, Problem, Problems};
pub use schema::schema;
pub use sections::*;
pub use values::{Bytes, Duration, OneOrMany, Secret, Size, Text};

impl Config {
    /// Reads a text that names neither variables nor files.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        parse(text, "outrigger.yaml", std::path::Path::new(""), &|_| None).map(|it| it.config)
    }
}
