//! The files a configuration names: certificates, keys and secrets, looked for beside the file itself.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use super::problem::Report;
use super::tree::Node;
use super::{Config, OneOrMany, Secret, Tls};

/// Files and what was in them. Two that are equal hold the same contents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Files(BTreeMap<PathBuf, Option<u64>>);

impl Files {
    /// The same files as they are now.
    pub fn again(&self) -> Self {
        let mut files = Self::default();
        for path in self.0.keys() {
            let _ = files.read(path);
        }
        files
    }

    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// The same for the same contents.
    pub fn hash(&self) -> u64 {
        fingerprint(self)
    }

    /// What is in a file, which is then one of these, even if it cannot be read.
    pub(super) fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let read = std::fs::read(path);
        self.0.insert(path.to_owned(), read.as_ref().ok().map(fingerprint));
        read
    }

    pub(super) fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }
}

fn fingerprint(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Puts every secret in its place and makes every path one that can be opened.
pub(super) fn resolve(config: &mut Config, base: &Path, tree: &Node, files: &mut Files, report: &mut Report) {
    let mut resolver = Resolver { base, tree, files, report };
    for (index, listen) in config.listen.iter_mut().enumerate() {
        resolver.tls(&format!("listen.{index}.tls"), &mut listen.tls);
    }
    resolver.tls("api.tls", &mut config.api.tls);
    if let Some(path) = &mut config.upstream.ca {
        resolver.path("upstream.ca", path);
    }
    if let Some(jwt) = &mut config.auth.jwt {
        resolver.secrets("auth.jwt.secret", &mut jwt.secret);
        resolver.secrets("auth.jwt.public_key", &mut jwt.public_key);
    }
    resolver.secrets("webhooks.secret", &mut config.webhooks.secret);
    for (index, key) in config.api.keys.iter_mut().enumerate() {
        resolver.secret(&format!("api.keys.{index}.key"), &mut key.key);
    }
}

struct Resolver<'a> {
    base: &'a Path,
    tree: &'a Node,
    files: &'a mut Files,
    report: &'a mut Report,
}

impl Resolver<'_> {
    fn tls(&mut self, at: &str, tls: &mut Option<Tls>) {
        let Some(Tls::Pairs(OneOrMany(pairs))) = tls else { return };
        for (index, pair) in pairs.iter_mut().enumerate() {
            self.path(&format!("{at}.{index}.cert"), &mut pair.cert);
            self.path(&format!("{at}.{index}.key"), &mut pair.key);
        }
    }

    fn secrets(&mut self, at: &str, OneOrMany(secrets): &mut OneOrMany<Secret>) {
        for (index, secret) in secrets.iter_mut().enumerate() {
            self.secret(&format!("{at}.{index}"), secret);
        }
    }

    fn secret(&mut self, at: &str, secret: &mut Secret) {
        if let Secret::File(path) = secret {
            let at = format!("{at}.file");
            let Some(bytes) = self.path(&at, path) else { return };
            match String::from_utf8(bytes) {
                Ok(text) => *secret = Secret::Text(text.trim_end_matches(['\r', '\n']).to_owned()),
                Err(_) => self.error(&at, format!("`{}` is no text", path.display())),
            }
        }
        if matches!(secret, Secret::Text(text) if text.trim().is_empty()) {
            self.error(at, "a secret is empty".to_owned());
        }
    }

    fn path(&mut self, at: &str, path: &mut PathBuf) -> Option<Vec<u8>> {
        *path = self.base.join(&*path);
        match self.files.read(path) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.error(at, format!("`{}` cannot be read: {}", path.display(), reason(&error)));
                None
            }
        }
    }

    fn error(&mut self, at: &str, message: String) {
        self.report.error(self.tree.place_of(at), message);
    }
}

/// Why a file cannot be read, without the system's number for it.
pub(super) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        io::ErrorKind::IsADirectory => "it is a directory".into(),
        io::ErrorKind::InvalidData => "it is not UTF-8".into(),
        _ => error.to_string(),
    }
}
