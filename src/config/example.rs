//! Writes `config.example.yaml` from the schema: every key, the sentence about it, its default. What is off by default
//! follows as a comment without a space, so that it can be told from a sentence and taken in as it is.

use serde_json::{Map, Value as Json};

const WIDTH: usize = 110;

const HEAD: &str = "\
# Every key of Outrigger's configuration, with its default and what it is for. A file needs only what differs.
# Lines that begin with # and no space show what a section looks like once it is there.
#
# ${NAME} and ${NAME:-default} are replaced by environment variables inside values; a secret may also be
# {file: PATH}. Paths are relative to this file. Durations read 30s, 5m or 1h, sizes 64KiB or 1MiB.
# `outrigger check` finds mistakes, `outrigger schema` lets an editor find them while typing.
";

pub fn example(schema: &Json) -> String {
    let mut writer = Writer { schema, text: HEAD.to_owned() };
    let root = schema.as_object().expect("the schema of a section is an object");
    writer.keys(root, None, &Margin { indent: 0, is_comment: false });
    writer.text
}

struct Writer<'a> {
    schema: &'a Json,
    text: String,
}

#[derive(Clone)]
struct Margin {
    indent: usize,
    is_comment: bool,
}

impl Margin {
    fn deeper(&self, by: usize) -> Self {
        Self { indent: self.indent + by, ..self.clone() }
    }

    fn comment(&self) -> Self {
        Self { is_comment: true, ..self.clone() }
    }
}

impl<'a> Writer<'a> {
    /// All keys of a section; `defaults` are those of this very place, where the schema alone does not know them.
    fn keys(&mut self, section: &'a Map<String, Json>, defaults: Option<&Json>, margin: &Margin) {
        let properties = section["properties"].as_object().expect("a section has keys");
        for (name, property) in properties {
            if margin.indent == 0 && !margin.is_comment {
                self.text.push('\n');
            }
            self.sentence(property["description"].as_str().expect("every key has its sentence"), margin);
            let example = property.pointer("/examples/0");
            let own = defaults.and_then(|it| it.get(name)).or(property.get("default")).or(example);
            self.key(name, property, own.unwrap_or(&Json::Null), margin);
        }
    }

    fn key(&mut self, name: &str, property: &'a Json, value: &Json, margin: &Margin) {
        let section = self.section(property);
        let item =
            self.alternatives(property).into_iter().find_map(|it| it.get("items")).and_then(|it| self.section(it));
        let is_one = |it: &Json| it.is_object();
        match (section, item, value) {
            (Some(section), _, Json::Object(_)) => {
                self.line(margin, &format!("{name}:"));
                self.keys(section, Some(value), &margin.deeper(2));
            }
            (_, Some(item), Json::Array(items)) if items.first().is_some_and(is_one) => {
                self.line(margin, &format!("{name}:"));
                self.item(item, items.first(), margin);
            }
            (section, item, value) => {
                self.line(margin, &format!("{name}: {}", inline(value)));
                if let Some(section) = section {
                    self.line(&margin.comment(), &format!("{name}:"));
                    self.keys(section, None, &margin.comment().deeper(2));
                } else if let Some(item) = item {
                    self.line(&margin.comment(), &format!("{name}:"));
                    self.item(item, None, &margin.comment());
                }
            }
        }
    }

    /// One item of a list: its first line gets the dash.
    fn item(&mut self, section: &'a Map<String, Json>, defaults: Option<&Json>, margin: &Margin) {
        let start = self.text.len();
        self.keys(section, defaults, &margin.deeper(4));
        let at = self.text[start..].lines().scan(start, |end, line| {
            let from = *end;
            *end += line.len() + 1;
            Some((from, line))
        });
        let sentence = format!("{}# ", " ".repeat(margin.indent + 4));
        let first = at.into_iter().find(|(_, line)| !line.starts_with(&sentence)).map(|(from, _)| from);
        let dash = first.expect("a section has keys") + margin.indent + 2 + usize::from(margin.is_comment);
        self.text.replace_range(dash..=dash, "-");
    }

    fn sentence(&mut self, text: &str, margin: &Margin) {
        let indent = " ".repeat(margin.indent);
        let mut line = format!("{indent}#");
        for word in text.split_whitespace() {
            if line.len() + word.len() >= WIDTH {
                self.text += &format!("{line}\n");
                line = format!("{indent}#");
            }
            line += &format!(" {word}");
        }
        self.text += &format!("{line}\n");
    }

    fn line(&mut self, margin: &Margin, text: &str) {
        let hash = if margin.is_comment { "#" } else { "" };
        self.text += &format!("{hash}{}{text}\n", " ".repeat(margin.indent));
    }

    /// The section a key opens, if it does. `{file: PATH}` is another way to write a secret, no section to show.
    fn section(&self, property: &'a Json) -> Option<&'a Map<String, Json>> {
        let all = self.alternatives(property);
        let is_secret = all.iter().any(|it| it.get("format").is_some_and(|it| it == super::values::SECRET));
        all.into_iter().find(|it| it.contains_key("properties") && !is_secret)
    }

    fn alternatives(&self, schema: &'a Json) -> Vec<&'a Map<String, Json>> {
        let Some(object) = schema.as_object() else { return Vec::new() };
        let target =
            object.get("$ref").and_then(Json::as_str).and_then(|it| self.schema.pointer(it.trim_start_matches('#')));
        let several = ["anyOf", "oneOf"].iter().filter_map(|it| object.get(*it)?.as_array()).flatten();
        let below = target.into_iter().chain(several).flat_map(|it| self.alternatives(it));
        std::iter::once(object).chain(below).collect()
    }
}

fn inline(value: &Json) -> String {
    match value {
        Json::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Json::String(text) if is_plain(text) => text.clone(),
        other => other.to_string(),
    }
}

fn is_plain(text: &str) -> bool {
    text.starts_with(|it: char| it.is_ascii_alphanumeric() || it == '/')
        && text.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-/:".contains(&it))
}
