use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::check;
use super::problem::{Problem, Problems, Source};
use super::reader::Reader;
use super::sections::{Config, Upstream};
use super::tree::{Tree, holds_secrets};
use super::values::{OneOrMany, Text};
use super::variables::Lookup;
use crate::backend::Target;

/// A configuration that can be used, and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Paths are absolute, and what secrets' files hold is in place of their names.
    pub config: Config,
    pub warnings: Problems,
    /// None when it runs by defaults.
    pub path: Option<PathBuf>,
    /// The files the configuration names: certificates, keys, secrets.
    pub files: BTreeSet<PathBuf>,
}

/// Reads and checks a file. Every problem is found in one go.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let hint = if error.kind() == std::io::ErrorKind::NotFound { "; `outrigger init` writes one" } else { "" };
        Problems::new(Source::new(&name, "", Vec::new()), vec![Problem::of_the_file(format!("{error}{hint}"))])
    })?;
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let base = path.parent().unwrap_or(Path::new("/"));
    let mut loaded = parse(&name, &text, base, &|name| std::env::var(name).ok())?;
    loaded.path = Some(path);
    Ok(loaded)
}

/// The defaults with one backend, for a first try.
pub fn without_file(upstream: Target) -> Loaded {
    let upstream = Upstream { url: OneOrMany(vec![Text(upstream)]), ..Upstream::default() };
    let config = Config { upstream, ..Config::default() };
    let source = Source::new("without a file", "", Vec::new());
    let missing = "requests pass through, but nobody can follow a channel: there are no rules for channels, no way to \
                   tell clients apart and no key for the backend to push with; `outrigger init` writes a file with all three";
    let warnings = Problems::new(source, vec![Problem::warning(None, missing)]);
    Loaded { config, warnings, path: None, files: BTreeSet::new() }
}

/// Reads and checks a text. `base` is what its paths are relative to.
pub fn parse(name: &str, text: &str, base: &Path, lookup: &Lookup) -> Result<Loaded, Problems> {
    let tree = Tree::parse(text, lookup)
        .map_err(|problem| Problems::new(Source::new(name, text, possible_secrets(text)), vec![problem]))?;
    let source = Source::new(name, text, tree.secrets.clone());
    let schema = super::schema();
    let mut reader = Reader::new(&schema, base);
    let json = reader.read(&tree.root);
    let Reader { mut problems, broken, places, files, .. } = reader;
    problems.extend(tree.problems.iter().cloned());
    match serde_json::from_value::<Config>(json) {
        Ok(config) => {
            problems.extend(check::check(&config, &tree, &broken, &places));
            let problems = Problems::new(source, problems);
            if problems.has_errors() {
                return Err(problems);
            }
            Ok(Loaded { config, warnings: problems, path: None, files })
        }
        Err(error) => {
            problems.push(Problem::of_the_file(error.to_string()));
            Err(Problems::new(source, problems))
        }
    }
}

/// What could be a secret in a text that is no YAML: what follows a key that holds one, and lines without a key.
fn possible_secrets(text: &str) -> Vec<Range<usize>> {
    let mut start = 0;
    let lines = text.split_inclusive('\n').map(|line| {
        let from = start;
        start += line.len();
        let words = line.split_inclusive(':').scan(from, |end, word| {
            *end += word.len();
            Some((*end, word))
        });
        let key = |word: &str| word.trim_end_matches(':').rsplit([' ', '{', ',', '"', '-']).next().map(holds_secrets);
        let secret = words.filter(|(_, word)| word.ends_with(':')).find(|(_, word)| key(word) == Some(true));
        match secret {
            Some((end, _)) => end..start,
            None if line.contains(':') => start..start,
            None => from..start,
        }
    });
    lines.filter(|it| !it.is_empty()).collect()
}
