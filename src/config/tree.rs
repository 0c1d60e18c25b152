//! YAML as a tree that remembers where everything stood. Variables are expanded; what a value means is not known here.

use std::collections::HashMap;
use std::ops::Range;

use serde_yaml::granit_parser::{Event, Parser, ScalarStyle, Span};

use super::problem::{Place, Problem};
use super::values::FILE;
use super::variables::{self, Lookup};

/// More values than any real file has: a few nested aliases could otherwise fill the memory.
const MAX_NODES: usize = 100_000;
const MAX_DEPTH: usize = 32;

#[derive(Clone, Debug)]
pub struct Node {
    pub place: Place,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing at all, `~` or `null`.
    Null,
    /// A variable in it could not be expanded, which is complained about already.
    Unknown,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    pub place: Place,
    pub node: Node,
}

/// A file that could be read as YAML.
#[derive(Debug)]
pub struct Tree {
    pub root: Node,
    /// Literal secrets, by their byte ranges.
    pub secrets: Vec<Range<usize>>,
    pub problems: Vec<Problem>,
    /// What variables made of values, and how these are written in the file.
    expanded: Vec<(String, String)>,
}

/// A shorter value could be any word of a message; it is taken back only where it is quoted.
const TELLTALE: usize = 6;

impl Tree {
    /// Takes back out of a message what came from the environment: it may be a secret, and a log is no place for it.
    pub fn conceal(&self, mut problem: Problem) -> Problem {
        for (value, written) in self.expanded.iter().filter(|(value, _)| !value.is_empty()) {
            problem.message = match value.len() {
                TELLTALE.. => problem.message.replace(value.as_str(), written),
                _ => problem.message.replace(&format!("`{value}`"), &format!("`{written}`")),
            };
        }
        problem
    }

    /// Only what is no YAML at all ends it.
    pub fn parse(text: &str, lookup: &Lookup) -> Result<Self, Problem> {
        let mut builder = Builder {
            text,
            lookup,
            parser: Parser::new_from_str(text),
            anchors: HashMap::new(),
            nodes: 0,
            secrets: Vec::new(),
            expanded: Vec::new(),
            problems: Vec::new(),
        };
        let root = builder.document()?;
        Ok(Self { root, secrets: builder.secrets, problems: builder.problems, expanded: builder.expanded })
    }

    /// Where `path` stands (`channels.0.match`), or the nearest thing above it that is there.
    pub fn find(&self, path: &str) -> Option<Place> {
        let mut here = &self.root;
        let mut found = None;
        for step in path.split('.') {
            let (place, next) = match &here.value {
                Value::Map(entries) => match entries.iter().find(|it| it.key == step) {
                    Some(entry) if entry.node.is_block() => (entry.place, &entry.node),
                    Some(entry) => (entry.node.place, &entry.node),
                    None => break,
                },
                Value::List(items) => match step.parse::<usize>().ok().and_then(|it| items.get(it)) {
                    Some(item) => (item.place, item),
                    None => break,
                },
                _ => break,
            };
            (found, here) = (Some(place), next);
        }
        found
    }
}

impl Node {
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|it| it.key == key),
            _ => None,
        }
    }

    /// A collection says little by its first character; its key says more.
    fn is_block(&self) -> bool {
        matches!(self.value, Value::Map(_) | Value::List(_) | Value::Null)
    }

    fn size(&self) -> usize {
        match &self.value {
            Value::Null | Value::Unknown | Value::Scalar(_) => 1,
            Value::List(items) => 1 + items.iter().map(Self::size).sum::<usize>(),
            Value::Map(entries) => 1 + entries.iter().map(|it| it.node.size()).sum::<usize>(),
        }
    }
}

struct Builder<'a> {
    text: &'a str,
    lookup: &'a Lookup<'a>,
    parser: Parser<'a, serde_yaml::granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    secrets: Vec<Range<usize>>,
    problems: Vec<Problem>,
    expanded: Vec<(String, String)>,
}

impl<'a> Builder<'a> {
    fn document(&mut self) -> Result<Node, Problem> {
        loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentStart(..), _) => {}
                (Event::StreamEnd | Event::DocumentEnd, _) => {
                    return Err(Problem::of_the_file("the file is empty; `outrigger init` writes one to start from"));
                }
                (event, span) => {
                    let root = self.node(event, span, 0, false)?;
                    self.end()?;
                    return Ok(root);
                }
            }
        }
    }

    fn end(&mut self) -> Result<(), Problem> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(()),
                (Event::DocumentStart(..), span) => {
                    return Err(Problem::error(place(span), "a second document begins here; the file is one document"));
                }
                _ => {}
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        match self.parser.next_event() {
            Some(Ok(it)) => Ok(it),
            Some(Err(error)) => {
                let place = Place { line: error.marker().line(), column: error.marker().col() + 1, width: 1 };
                Err(Problem::error(place, self.explain(place, &error.info())))
            }
            None => Err(Problem::of_the_file("the file ends too early")),
        }
    }

    /// The parser's words, and the usual reason in a file like ours.
    fn explain(&self, place: Place, error: &str) -> String {
        let line = self.text.lines().nth(place.line - 1).unwrap_or_default();
        let before: String = line.chars().take(place.column - 1).collect();
        let word = line[before.len()..].split([' ', ',', ']', '}']).next().unwrap_or_default();
        if let Some(at) = line.find("${").filter(|at| line[..*at].contains(['{', '['])) {
            let variable = line[at..].split_inclusive('}').next().unwrap_or_default();
            return format!("inside braces a variable needs quotes: write \"{variable}\"");
        }
        if word.starts_with('*') {
            return format!("a value that begins with `*` needs quotes: write \"{word}\"");
        }
        if before.ends_with(['}', ']']) {
            return format!("{error}; a value that begins with a brace needs quotes");
        }
        if line.contains('\t') {
            return format!("{error}; indent with spaces");
        }
        if error.contains("expected key") {
            return "this line is indented unlike those above it, or a `:` is missing".to_owned();
        }
        error.to_owned()
    }

    /// `secret` says that what is below a key that holds secrets must not be shown.
    fn node(&mut self, event: Event<'a>, span: Span, depth: usize, secret: bool) -> Result<Node, Problem> {
        let place = place(span);
        self.nodes += 1;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            return Err(Problem::error(place, "this is nested too deeply, or too much, for a configuration"));
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => (self.scalar(&text, style, span, secret), anchor),
            Event::SequenceStart(_, anchor, _) => (self.list(depth, secret)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.map(depth, secret)?, anchor),
            Event::Alias(anchor) => return self.alias(anchor, place),
            _ => return Err(Problem::error(place, "a value is missing")),
        };
        let node = Node { place, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<Node, Problem> {
        let node = self.anchors.get(&anchor).cloned();
        let node = node.ok_or_else(|| Problem::error(place, "an alias inside of what it stands for"))?;
        self.nodes += node.size();
        Ok(node)
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, span: Span, secret: bool) -> Value {
        if style == ScalarStyle::Plain && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
            return Value::Null;
        }
        if !text.contains("${") {
            let is_hidden = secret && !names_a_file(text) || names_somebody(text);
            self.secrets.extend(span.byte_range().filter(|_| is_hidden));
            return Value::Scalar(text.to_owned());
        }
        match variables::expand(text, self.lookup) {
            Ok(value) => {
                self.expanded.push((value.clone(), text.to_owned()));
                Value::Scalar(value)
            }
            Err(error) => {
                self.problems.push(Problem::error(place(span), error.to_string()));
                Value::Unknown
            }
        }
    }

    fn list(&mut self, depth: usize, secret: bool) -> Result<Value, Problem> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1, secret)?),
            }
        }
    }

    fn map(&mut self, depth: usize, secret: bool) -> Result<Value, Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (key, place) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Value::Map(entries)),
                (Event::Scalar(key, ..), span) => {
                    self.secrets.extend(span.byte_range().filter(|_| secret && key != FILE));
                    (key.into_owned(), place(span))
                }
                (_, span) => return Err(Problem::error(place(span), "a key must be a word")),
            };
            let (event, span) = self.next()?;
            let mut node = self.node(event, span, depth + 1, secret || holds_secrets(&key))?;
            if matches!(node.value, Value::Null) {
                // Nothing stands nowhere.
                node.place = place;
            }
            match entries.iter().find(|it| it.key == key) {
                Some(first) => {
                    let message = format!("`{key}` is here twice, first on line {}", first.place.line);
                    self.problems.push(Problem::error(place, message));
                }
                None => entries.push(Entry { key, place, node }),
            }
        }
    }
}

/// By name alone, so that a secret under a misspelt section is not shown either.
pub fn holds_secrets(key: &str) -> bool {
    let is_misspelt = strsim::damerau_levenshtein(key, "secret") <= 2;
    key.contains("secret") || is_misspelt || key.ends_with("key") || matches!(key, "password" | "token")
}

/// `tls: {key: server.pem}` is worth seeing when that file is not there.
fn names_a_file(text: &str) -> bool {
    [".pem", ".key", ".txt"].iter().any(|it| text.ends_with(it))
}

/// `redis://user:password@host` holds a password, whatever key it stands under.
pub fn names_somebody(text: &str) -> bool {
    text.split_once("://").is_some_and(|(_, rest)| rest.contains('@'))
}

fn place(span: Span) -> Place {
    let width = if span.start.line() == span.end.line() { span.end.col().saturating_sub(span.start.col()) } else { 1 };
    Place { line: span.start.line(), column: span.start.col() + 1, width: width.max(1) }
}
