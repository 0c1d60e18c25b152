//! Walks a file along the JSON Schema, the one that editors complete with, and collects everything that does not fit.
//! What fits comes out as JSON: variables put in, paths absolute, `{file: …}` replaced by what the file holds.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use super::problem::{Place, Problem};
use super::tree::{Entry, Node, Value};
use super::values::{FILE, FOLDER, PATH, SECRET, check};
use super::watch::Files;

pub struct Reader<'a> {
    schema: &'a Json,
    /// What relative paths are relative to.
    base: &'a Path,
    pub problems: Vec<Problem>,
    /// Paths (`channels.0.match`) of values that do not fit, so that nobody reasons about what stands in for them.
    pub broken: Vec<String>,
    /// Every file that the configuration names, readable or not.
    pub files: Files,
    /// Of lists that lost items: where the others stood.
    pub places: HashMap<String, Vec<usize>>,
}

/// Enough keys to see what belongs into a section.
const SOME: usize = 4;

/// What a place of the schema accepts, its alternatives laid side by side.
#[derive(Default)]
struct Accepted<'a> {
    object: Option<&'a Map<String, Json>>,
    items: Option<&'a Json>,
    null: bool,
    bool: bool,
    integer: Option<&'a Map<String, Json>>,
    /// The `format` of a text; empty where any text will do.
    text: Option<&'a str>,
    words: Vec<&'a str>,
}

impl<'a> Reader<'a> {
    pub fn new(schema: &'a Json, base: &'a Path) -> Self {
        Self { schema, base, problems: Vec::new(), broken: Vec::new(), files: Files::default(), places: HashMap::new() }
    }

    /// The whole file. What is missing is left out, and what does not fit too: defaults stand in for both.
    pub fn read(&mut self, root: &Node) -> Json {
        self.value(root, self.schema, "").unwrap_or_else(|| Json::Object(Map::new()))
    }

    fn value(&mut self, node: &Node, schema: &'a Json, path: &str) -> Option<Json> {
        let accepted = self.accepted(schema);
        match &node.value {
            Value::Unknown => self.broken(path),
            Value::Null if accepted.null => Some(Json::Null),
            // A section without keys, as it is left when its last line becomes a comment.
            Value::Null if accepted.object.is_some() || accepted.items.is_some() && accepted.text.is_none() => None,
            Value::Map(entries) => match accepted.object {
                Some(_) if accepted.text == Some(SECRET) => self.secret_file(node, entries, path),
                Some(object) => self.object(node, entries, object, path),
                None => self.misfit(node, &accepted, path),
            },
            Value::List(items) => match accepted.items {
                Some(schema) => self.list(items, schema, path),
                None => self.misfit(node, &accepted, path),
            },
            Value::Scalar(text) => match self.scalar(text, &accepted) {
                Ok(value) => Some(value),
                Err(message) => self.problem(node.place, message, path),
            },
            Value::Null => self.misfit(node, &accepted, path),
        }
    }

    fn object(&mut self, node: &Node, entries: &[Entry], schema: &'a Map<String, Json>, path: &str) -> Option<Json> {
        let no_properties = Map::new();
        let properties = schema.get("properties").and_then(Json::as_object);
        let known = |key: &str| properties.and_then(|it| it.get(key));
        let mut object = Map::new();
        for Entry { key, place, node } in entries {
            let path = join(path, key);
            let Some(schema) = known(key) else {
                let keys = properties.unwrap_or(&no_properties).keys().map(String::as_str);
                self.problem(*place, format!("unknown key `{key}`{}", key_instead(key, keys)), &path);
                continue;
            };
            if let Some(value) = self.value(node, schema, &path) {
                object.insert(key.clone(), value);
            }
        }
        let required = schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
        let missing: Vec<&str> = required.filter(|key| !object.contains_key(*key)).collect();
        // A value that does not fit has had its complaint.
        let absent: Vec<&str> = missing.iter().copied().filter(|key| node.entry(key).is_none()).collect();
        match &absent[..] {
            [] => {}
            [one] => drop(self.problem(node.place, format!("`{one}` is missing here"), path)),
            several => drop(self.problem(node.place, format!("{} are missing here", quoted(several)), path)),
        }
        if missing.is_empty() { Some(Json::Object(object)) } else { None }
    }

    /// An item in which anything does not fit is left out whole: half a rule would say something else.
    fn list(&mut self, items: &[Node], schema: &'a Json, path: &str) -> Option<Json> {
        let (mut values, mut places) = (Vec::new(), Vec::new());
        for (at, item) in items.iter().enumerate() {
            let before = self.broken.len();
            let value = self.value(item, schema, &join(path, &at.to_string()));
            if let Some(value) = value.filter(|_| self.broken.len() == before) {
                values.push(value);
                places.push(at);
            }
        }
        if places.len() < items.len() {
            self.places.insert(path.to_owned(), places);
        }
        Some(Json::Array(values))
    }

    fn scalar(&mut self, text: &str, accepted: &Accepted) -> Result<Json, String> {
        if accepted.bool {
            return match text {
                "true" | "True" | "TRUE" => Ok(true.into()),
                "false" | "False" | "FALSE" => Ok(false.into()),
                _ => Err(format!("`{text}` is neither `true` nor `false`")),
            };
        }
        if let Some(limits) = accepted.integer {
            return integer(text, limits);
        }
        if accepted.words.contains(&text) {
            return Ok(text.into());
        }
        match accepted.text {
            Some(PATH) => self.file(text).map(|it| it.to_string_lossy().into()),
            Some(FOLDER) if text.is_empty() => Err("a folder needs a name".to_owned()),
            Some(FOLDER) => Ok(self.base.join(text).to_string_lossy().into()),
            Some(format) => check(format, text).map(|()| text.into()),
            None => Err(accepted.refuse(text)),
        }
    }

    /// A file that is named has to be there and readable.
    fn file(&mut self, name: &str) -> Result<PathBuf, String> {
        let path = self.base.join(name);
        // Watched even if it is missing now: it may come. Noted before it is read: what changes in between is noticed.
        self.files.note(path.clone());
        match std::fs::File::open(&path).and_then(|it| it.metadata()) {
            Ok(it) if it.is_file() => Ok(path),
            Ok(_) => Err(format!("`{}` is no file", path.display())),
            Err(error) => Err(format!("cannot read `{}`: {}", path.display(), plain(&error))),
        }
    }

    fn secret_file(&mut self, node: &Node, entries: &[Entry], path: &str) -> Option<Json> {
        let (place, name) = match entries {
            [Entry { key, node: Node { place, value: Value::Scalar(name) }, .. }] if key == FILE => (place, name),
            _ => return self.problem(node.place, "expected a text or `{file: PATH}`", path),
        };
        let read = self.file(name).and_then(|path| {
            let text = std::fs::read_to_string(&path);
            text.map_err(|error| format!("cannot read `{}`: {}", path.display(), plain(&error)))
        });
        match read {
            Ok(text) => Some(text.strip_suffix('\n').map_or(&*text, |it| it.strip_suffix('\r').unwrap_or(it)).into()),
            Err(message) => self.problem(*place, message, path),
        }
    }

    fn misfit(&mut self, node: &Node, accepted: &Accepted, path: &str) -> Option<Json> {
        let found = match &node.value {
            Value::Null => "found nothing",
            Value::List(_) => "found a list",
            Value::Map(_) if accepted.items.is_some() => "found keys; a `- ` before the first makes it an item",
            Value::Map(_) => "found keys",
            Value::Scalar(_) | Value::Unknown => "found a text",
        };
        self.problem(node.place, format!("expected {}, {found}", accepted.describe()), path)
    }

    fn problem(&mut self, place: Place, message: impl Into<String>, path: &str) -> Option<Json> {
        self.problems.push(Problem::error(place, message));
        self.broken(path)
    }

    fn broken(&mut self, path: &str) -> Option<Json> {
        self.broken.push(path.to_owned());
        None
    }

    fn accepted(&self, schema: &'a Json) -> Accepted<'a> {
        let mut accepted = Accepted::default();
        self.add(schema, &mut accepted);
        accepted
    }

    fn add(&self, schema: &'a Json, accepted: &mut Accepted<'a>) {
        let Some(schema) = schema.as_object() else { return };
        if let Some(name) = schema.get("$ref").and_then(Json::as_str) {
            let definition = self.schema.pointer(name.trim_start_matches('#'));
            return self.add(definition.expect("a schema refers to its own definitions"), accepted);
        }
        for several in ["anyOf", "oneOf"].iter().filter_map(|it| schema.get(*it)) {
            several.as_array().into_iter().flatten().for_each(|it| self.add(it, accepted));
        }
        let words = schema.get("enum").and_then(Json::as_array).into_iter().flatten().chain(schema.get("const"));
        let before = accepted.words.len();
        accepted.words.extend(words.filter_map(Json::as_str));
        if accepted.words.len() > before {
            return;
        }
        let types = match schema.get("type") {
            Some(Json::Array(types)) => types.iter().filter_map(Json::as_str).collect(),
            other => Vec::from_iter(other.and_then(Json::as_str)),
        };
        for kind in types {
            match kind {
                "object" => accepted.object = Some(schema),
                "array" => accepted.items = schema.get("items"),
                "null" => accepted.null = true,
                "boolean" => accepted.bool = true,
                "integer" => accepted.integer = Some(schema),
                _ => accepted.text = Some(schema.get("format").and_then(Json::as_str).unwrap_or_default()),
            }
        }
    }
}

impl Accepted<'_> {
    /// Why a text cannot stand where one of a few words, keys or a list belong.
    fn refuse(&self, text: &str) -> String {
        let nearest = suggestion(text, self.words.iter().copied());
        if !self.words.is_empty() && (self.object.is_none() || !nearest.is_empty()) {
            return one_of(text, &self.words, &nearest);
        }
        if self.items.is_some() && self.object.is_none() {
            return format!("expected a list: write `[{text}]`");
        }
        let properties = self.object.and_then(|it| it.get("properties"));
        let is_key = |it: &(&str, &str)| properties.is_some_and(|known| known.get(it.0).is_some());
        let instead = match text.split_once(':').filter(is_key) {
            Some((key, value)) => format!("write `{key}: {value}` with a space"),
            None => format!("expected {}", self.describe()),
        };
        format!("`{text}` cannot stand here; {instead}")
    }

    fn describe(&self) -> String {
        let mut forms = Vec::new();
        forms.extend(self.bool.then(|| "`true` or `false`".to_owned()));
        forms.extend(self.integer.map(|_| "a whole number".to_owned()));
        forms.extend(self.words.iter().map(|it| format!("`{it}`")));
        forms.extend(self.text.map(|format| if format.is_empty() { "a text".into() } else { format!("a {format}") }));
        if let Some(properties) = self.object.and_then(|it| it.get("properties")).and_then(Json::as_object) {
            let keys: Vec<&str> = properties.keys().take(SOME).map(String::as_str).collect();
            let more = if properties.len() > SOME { ", …" } else { "" };
            forms.push(format!("keys such as {}{more}", quoted(&keys)));
        }
        forms.extend(self.null.then(|| "`null` for none".to_owned()));
        forms.extend(self.items.map(|_| if forms.is_empty() { "a list".to_owned() } else { "a list of such".into() }));
        forms.join(" or ")
    }
}

fn integer(text: &str, schema: &Map<String, Json>) -> Result<Json, String> {
    let Ok(number) = text.parse::<u64>() else { return Err(format!("`{text}` is no whole number")) };
    let limit = |name: &str| schema.get(name).and_then(Json::as_u64);
    match (limit("minimum"), limit("maximum")) {
        (Some(least), _) if number < least => Err(format!("{number} is too small: {least} is the least")),
        (_, Some(most)) if number > most => Err(format!("{number} is too large: {most} is the most")),
        _ => Ok(number.into()),
    }
}

fn one_of(text: &str, words: &[&str], nearest: &str) -> String {
    match nearest {
        "" => format!("`{text}` is not known; expected {}", quoted(words)),
        nearest => format!("`{text}` is not known{nearest}"),
    }
}

fn key_instead<'w>(key: &str, known: impl Iterator<Item = &'w str> + Clone) -> String {
    let nearest = suggestion(key, known.clone());
    if !nearest.is_empty() {
        return nearest;
    }
    format!("; the keys here are {}", quoted(&known.collect::<Vec<_>>()))
}

/// `a`, `b`
fn quoted(words: &[&str]) -> String {
    words.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", ")
}

/// What somebody probably meant; nothing rather than a wild guess.
fn suggestion<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> String {
    let rated = known.map(|it| (strsim::damerau_levenshtein(word, it), it));
    match rated.min_by_key(|(distance, _)| *distance) {
        Some((distance, it)) if distance <= 1 + word.chars().count() / 4 => format!("; did you mean `{it}`?"),
        _ => String::new(),
    }
}

/// `No such file or directory`, without the number the system gives it.
pub(super) fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn join(path: &str, step: &str) -> String {
    if path.is_empty() { step.to_owned() } else { format!("{path}.{step}") }
}
