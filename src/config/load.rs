use std::ops::Range;
use std::path::{Path, PathBuf};

use super::check;
use super::problem::{Problem, Problems, Source};
use super::reader::{Reader, plain};
use super::sections::{Config, Upstream};
use super::tree::{Tree, holds_secrets, names_somebody};
use super::values::{OneOrMany, Text};
use super::variables::Lookup;
use super::watch::Files;
use crate::backend::Target;

/// A configuration that can be used, and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Paths are absolute, and what secrets' files hold is in place of their names.
    pub config: Config,
    pub warnings: Problems,
    /// None when it runs by defaults.
    pub path: Option<PathBuf>,
    /// The file itself and those it names: certificates, keys, secrets.
    pub files: Files,
}

/// Reads and checks a file. Every problem is found in one go.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let name = path.display().to_string();
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let base = path.parent().unwrap_or(Path::new("/"));
    let mut files = Files::default();
    files.note(path.clone());
    let read = match std::fs::read_to_string(&path) {
        Ok(text) => parse(&name, &text, base, &|name| std::env::var(name).ok()),
        Err(error) => Err(Problems::new(Source::new(&name, "", Vec::new()), vec![unreadable(&error)])),
    };
    match read {
        Ok(loaded) => Ok(Loaded { files: files.and(loaded.files), path: Some(path), ..loaded }),
        Err(problems) => Err(problems.with_files(files)),
    }
}

fn unreadable(error: &std::io::Error) -> Problem {
    let hint = if error.kind() == std::io::ErrorKind::NotFound { "; `outrigger init` writes one" } else { "" };
    Problem::of_the_file(format!("{}{hint}", plain(error)))
}

/// The defaults with one backend, for a first try.
pub fn without_file(upstream: Target) -> Loaded {
    let upstream = Upstream { url: OneOrMany(vec![Text(upstream)]), ..Upstream::default() };
    let config = Config { upstream, ..Config::default() };
    let source = Source::new("", "", Vec::new());
    let missing = "there is no configuration file: requests pass through, but nobody can follow a channel, for want of \
                   rules, of a way to tell clients apart and of a key to push with; `outrigger init` writes all three";
    let warnings = Problems::new(source, vec![Problem::warning(None, missing)]);
    Loaded { config, warnings, path: None, files: Files::default() }
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
            let problems = Problems::new(source, problems.into_iter().map(|it| tree.conceal(it)).collect());
            if problems.has_errors() {
                return Err(problems.with_files(files));
            }
            Ok(Loaded { config, warnings: problems, path: None, files })
        }
        Err(error) => {
            problems.push(Problem::of_the_file(error.to_string()));
            let problems = problems.into_iter().map(|it| tree.conceal(it)).collect();
            Err(Problems::new(source, problems).with_files(files))
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
            None if names_somebody(line) => from..start,
            None if line.contains(':') => start..start,
            None => from..start,
        }
    });
    lines.filter(|it| !it.is_empty()).collect()
}
