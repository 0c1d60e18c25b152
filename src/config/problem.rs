//! What is wrong with a file, and where: the place, the line it is on and a mark under it, as compilers print it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::watch::Files;

/// A stretch of one line. Line and column count from 1, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: usize,
    pub column: usize,
    pub width: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// It can, and somebody will be surprised.
    Warning,
}

/// One thing to correct: a fact, and where it helps, what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    /// None where the file as a whole is meant.
    pub place: Option<Place>,
    pub message: String,
}

impl Problem {
    pub fn error(place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, place: Some(place), message: message.into() }
    }

    pub fn warning(place: Option<Place>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, place, message: message.into() }
    }

    pub fn of_the_file(message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, place: None, message: message.into() }
    }
}

/// The text problems were found in. Secrets written into it are not shown.
#[derive(Clone)]
pub struct Source {
    name: Arc<str>,
    text: Arc<str>,
    hidden: Arc<[Range<usize>]>,
}

impl Source {
    /// `hidden` are the byte ranges of `text` that must not be shown.
    pub fn new(name: &str, text: &str, hidden: Vec<Range<usize>>) -> Self {
        Self { name: name.into(), text: text.into(), hidden: hidden.into() }
    }

    /// A line as it may be printed: one `*` for each hidden character, so that marks still stand under their place.
    fn line(&self, number: usize) -> Option<String> {
        let start = self.text.split_inclusive('\n').take(number.checked_sub(1)?).map(str::len).sum::<usize>();
        let line = self.text.get(start..)?.lines().next()?;
        let is_hidden = |at: usize| self.hidden.iter().any(|range| range.contains(&(start + at)));
        Some(line.char_indices().map(|(at, it)| if is_hidden(at) { '*' } else { it }).collect())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// All problems of one file, in its order.
#[derive(Clone, Debug)]
pub struct Problems {
    source: Source,
    list: Vec<Problem>,
    files: Files,
}

impl Problems {
    pub fn new(source: Source, mut list: Vec<Problem>) -> Self {
        list.sort_by_key(|it| it.place);
        list.dedup();
        Self { source, list, files: Files::default() }
    }

    pub(super) fn with_files(mut self, files: Files) -> Self {
        self.files = self.files.and(files);
        self
    }

    /// The file and those it names: a change of any of them is worth another try.
    pub fn files(&self) -> &Files {
        &self.files
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// Whether any of them keeps the file from being used.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    pub fn count(&self, severity: Severity) -> usize {
        self.list.iter().filter(|it| it.severity == severity).count()
    }

    /// Each problem in one line, without its source, as logs and `/healthz` show it.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.list.iter().map(|it| self.headline(it))
    }

    fn headline(&self, problem: &Problem) -> String {
        let Problem { severity, place, message } = problem;
        let name = &self.source.name;
        let kind = if *severity == Severity::Warning { "warning: " } else { "" };
        match place {
            Some(Place { line, column, .. }) => format!("{name}:{line}:{column}: {kind}{message}"),
            None if name.is_empty() => format!("{kind}{message}"),
            None => format!("{name}: {kind}{message}"),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.list {
            writeln!(f, "{}", self.headline(problem))?;
            let Some(place) = problem.place else { continue };
            let Some(line) = self.source.line(place.line) else { continue };
            let gutter = place.line.to_string().len();
            let mark = "^".repeat(place.width.clamp(1, line.chars().count().saturating_sub(place.column - 1).max(1)));
            writeln!(f, "{:gutter$} |", "")?;
            writeln!(f, "{} | {}", place.line, line.trim_end())?;
            writeln!(f, "{:gutter$} | {:indent$}{mark}", "", "", indent = place.column - 1)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
