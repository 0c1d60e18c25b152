//! The layers drawn in `src/lib.rs` are a promise. This test keeps it: it reads what each module names, comments, strings
//! and test code left out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Every module, top layer first, with the modules it may name. Everyone may name `drain`.
const MAY_USE: &[(&str, &str)] = &[
    ("cli", "app config demo auth backend channel server webhook"),
    ("demo", ""),
    (
        "app",
        "admin api auth backend channel config engine hub protocol proxy records routes server session transport webhook",
    ),
    ("config", "backend channel engine server"),
    ("routes", "admin api backend proxy transport webhook"),
    ("transport", "session hub protocol channel peer"),
    ("api", "session webhook hub engine auth channel protocol"),
    ("admin", "hub"),
    ("proxy", "backend peer"),
    ("server", "peer"),
    ("session", "hub webhook auth protocol channel records"),
    ("webhook", "auth backend channel records"),
    ("auth", "backend channel records"),
    ("hub", "engine protocol channel records"),
    ("engine", "channel records"),
    ("protocol", "channel"),
    ("backend", ""),
    ("channel", ""),
    ("peer", ""),
    ("drain", ""),
    ("records", ""),
];

#[test]
fn modules_name_only_the_layers_below_them() {
    for (row, (module, may_use)) in MAY_USE.iter().enumerate() {
        let below: Vec<_> = MAY_USE[row + 1..].iter().map(|(it, _)| *it).collect();
        let may_use: Vec<_> = may_use.split_whitespace().collect();
        assert!(may_use.iter().all(|it| below.contains(it)), "{module} lists a module above it");
        for file in files_of(module) {
            let code = code_of(&fs::read_to_string(&file).unwrap());
            assert!(!code.contains("super::super::super"), "{}: climbs three floors", file.display());
            assert!(!code.contains("pub use crate::"), "{}: passes on what is another's", file.display());
            for named in code.split("crate::").skip(1).flat_map(names_at) {
                assert!(
                    named == *module || named == "drain" || may_use.contains(&named) || !is_module(named),
                    "{}: `{module}` may not use `crate::{named}`",
                    file.display(),
                );
            }
        }
    }
}

#[test]
fn every_module_is_listed() {
    let listed = MAY_USE.iter().map(|(module, _)| *module);
    let text = fs::read_to_string(source().join("lib.rs")).unwrap();
    let declared = text.lines().filter_map(|it| it.strip_prefix("pub mod ")?.strip_suffix(';'));
    assert_eq!(listed.collect::<BTreeSet<_>>(), declared.collect::<BTreeSet<_>>());
}

#[test]
fn the_map_names_every_module() {
    let text = fs::read_to_string(source().join("lib.rs")).unwrap();
    let map: String = text.lines().filter(|it| it.starts_with("//!")).collect();
    for (module, _) in MAY_USE {
        assert!(map.contains(&format!("`{module}`")), "the module doc of lib.rs says nothing of `{module}`");
    }
}

#[test]
fn the_dump_words_are_no_modules() {
    let all = files_under(&source());
    for word in ["utils", "helpers", "common", "types", "error", "state", "manager"] {
        let is_named = |it: &PathBuf| it.file_stem().is_some_and(|name| name == word);
        assert!(!all.iter().any(is_named), "a module is called `{word}`");
    }
}

fn is_module(name: &str) -> bool {
    MAY_USE.iter().any(|(it, _)| *it == name)
}

/// The modules named right after `crate::`, alone or in one flat `{group}`.
fn names_at(path: &str) -> Vec<&str> {
    match path.strip_prefix('{') {
        Some(group) => group.split('}').next().unwrap().split(',').map(first_word).collect(),
        None => vec![first_word(path)],
    }
}

fn first_word(text: &str) -> &str {
    text.trim().split(|it: char| !it.is_alphanumeric() && it != '_').next().unwrap()
}

/// Source without comments, strings and `#[cfg(test)]` items.
fn code_of(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let mut code = String::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap();
        // Every other piece between quotes is a string.
        code.extend(line.split('"').step_by(2));
        code.push('\n');
    }
    code
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files_of(module: &str) -> Vec<PathBuf> {
    let mut files = files_under(&source());
    let is_test = |it: &PathBuf| it.file_name().is_some_and(|name| name == "tests.rs");
    let (folder, file) = (source().join(module), source().join(format!("{module}.rs")));
    files.retain(|it| (it.starts_with(&folder) || *it == file) && !is_test(it));
    files
}

fn files_under(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = paths.flat_map(|it| if it.is_dir() { files_under(&it) } else { vec![it] });
    files.filter(|it| it.extension().is_some_and(|ext| ext == "rs")).collect()
}
