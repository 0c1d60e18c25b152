//! Notices when the file, or one that it names, says something else: by the directory's events, by looking every few
//! seconds, and on SIGHUP. Only contents count: an event is a reason to look, never news by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

/// Editors and Kubernetes make several changes for one; after this much quiet they are done.
const QUIET: Duration = Duration::from_millis(200);
/// A directory that never comes to rest is read all the same.
const MAX_UNREST: Duration = Duration::from_secs(2);
/// For file systems without events (NFS, some container mounts).
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Files and what was in them; None for one that could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<PathBuf, Option<u64>>);

impl Files {
    /// Remembers what `path` holds now.
    pub fn note(&mut self, path: PathBuf) {
        let content = fingerprint(&path);
        self.0.insert(path, content);
    }

    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// The same files as they are now.
    fn again(&self) -> Self {
        Self(self.0.keys().map(|path| (path.clone(), fingerprint(path))).collect())
    }

    /// A Kubernetes volume swaps the link `..data` beside the file, and editors replace the file: the directory sees both.
    fn directories(&self) -> BTreeSet<PathBuf> {
        self.paths().filter_map(Path::parent).map(Path::to_owned).collect()
    }
}

/// A pipe or a device says something else each time, or never ends.
fn fingerprint(path: &Path) -> Option<u64> {
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    std::fs::read(path).ok()?.hash(&mut hasher);
    Some(hasher.finish())
}

/// Why to read the configuration again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Files,
    Signal,
}

/// Watches for as long as it is kept.
#[derive(Debug)]
pub struct Watch {
    causes: mpsc::Receiver<Cause>,
    files: watch::Sender<Files>,
    task: JoinHandle<()>,
}

impl Watch {
    /// `files` as they were when they were read. Without any only the signal is heard.
    pub fn start(files: Files) -> std::io::Result<Self> {
        let hangup = signal(SignalKind::hangup())?;
        // One cause is enough: whoever takes it reads everything.
        let (sender, causes) = mpsc::channel(1);
        let (files, followed) = watch::channel(files);
        let task = tokio::spawn(look(followed, hangup, sender));
        Ok(Self { causes, files, task })
    }

    /// Resolves when there is something to read.
    pub async fn changed(&mut self) -> Cause {
        match self.causes.recv().await {
            Some(cause) => cause,
            // The task lives as long as we do.
            None => std::future::pending().await,
        }
    }

    /// Watches these from now on: another configuration may name other files.
    pub fn follow(&self, files: Files) {
        self.files.send_replace(files);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn look(
    mut followed: watch::Receiver<Files>,
    mut hangup: tokio::signal::unix::Signal,
    causes: mpsc::Sender<Cause>,
) {
    let (sender, mut events) = mpsc::channel(1);
    let mut directories = Directories::new(sender);
    let mut known = followed.borrow_and_update().clone();
    directories.follow(&known);
    let mut look_again = tokio::time::interval(LOOK_AGAIN);
    loop {
        let cause = tokio::select! {
            _ = hangup.recv() => Cause::Signal,
            changed = followed.changed() => {
                if changed.is_err() {
                    return;
                }
                known = followed.borrow_and_update().clone();
                directories.follow(&known);
                Cause::Files
            }
            _ = events.recv() => {
                let _ = tokio::time::timeout(MAX_UNREST, quiet(&mut events)).await;
                Cause::Files
            }
            _ = look_again.tick() => Cause::Files,
        };
        let before = known.clone();
        let Ok(now) = tokio::task::spawn_blocking(move || before.again()).await else { return };
        let is_news = cause == Cause::Signal || now != known;
        known = now;
        if is_news && causes.send(cause).await.is_err() {
            return;
        }
    }
}

async fn quiet(events: &mut mpsc::Receiver<()>) {
    while let Ok(Some(())) = tokio::time::timeout(QUIET, events.recv()).await {}
}

/// The directories whose events are heard; all is well without them, only slower.
struct Directories {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
}

impl Directories {
    fn new(events: mpsc::Sender<()>) -> Self {
        let hear = move |event: notify::Result<notify::Event>| {
            // Reading is an event of its own, and ours would call us again. A full queue has its reason to look already.
            if !event.is_ok_and(|it| it.kind.is_access()) {
                let _ = events.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(hear);
        let watcher =
            watcher.inspect_err(|error| warn!(%error, "no events of directories; files are looked at every 5 s"));
        Self { watcher: watcher.ok(), watched: BTreeSet::new() }
    }

    fn follow(&mut self, files: &Files) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted = files.directories();
        for gone in self.watched.difference(&wanted) {
            let _ = watcher.unwatch(gone);
        }
        for new in wanted.difference(&self.watched) {
            if let Err(error) = watcher.watch(new, RecursiveMode::NonRecursive) {
                debug!(directory = %new.display(), %error, "its events are not heard; it is looked at every 5 s");
            }
        }
        self.watched = wanted;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn files(paths: &[PathBuf]) -> Files {
        let mut files = Files::default();
        paths.iter().for_each(|it| files.note(it.clone()));
        files
    }

    /// A folder as Kubernetes mounts a ConfigMap: the file is a link through `..data`.
    fn mounted(folder: &Path, version: &str, text: &str) {
        let data = folder.join(format!("..{version}"));
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("outrigger.yaml"), text).unwrap();
        let link = folder.join("..data_tmp");
        symlink(&data, &link).unwrap();
        std::fs::rename(link, folder.join("..data")).unwrap();
    }

    async fn cause(watch: &mut Watch) -> Cause {
        tokio::time::timeout(Duration::from_secs(20), watch.changed()).await.expect("the change is noticed")
    }

    #[tokio::test]
    async fn a_swapped_config_map_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("outrigger.yaml");
        mounted(folder.path(), "one", "a: 1");
        symlink("..data/outrigger.yaml", &file).unwrap();
        let mut watch = Watch::start(files(&[file])).unwrap();
        mounted(folder.path(), "two", "a: 2");
        assert_eq!(cause(&mut watch).await, Cause::Files);
    }

    #[tokio::test]
    async fn a_change_between_reading_and_watching_is_noticed_and_one_without_news_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&file, "one").unwrap();
        let as_read = files(std::slice::from_ref(&file));
        std::fs::write(&file, "two").unwrap();
        let mut watch = Watch::start(as_read).unwrap();
        assert_eq!(cause(&mut watch).await, Cause::Files);

        std::fs::write(&file, "two").unwrap();
        std::fs::write(&other, "not ours").unwrap();
        let nothing = tokio::time::timeout(QUIET * 4, watch.changed()).await;
        assert!(nothing.is_err(), "the same content is no change");
    }

    #[tokio::test]
    async fn a_file_that_was_missing_is_noticed_when_it_comes() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("cert.pem");
        let mut watch = Watch::start(Files::default()).unwrap();
        watch.follow(files(std::slice::from_ref(&missing)));
        tokio::task::yield_now().await;
        std::fs::write(&missing, "here").unwrap();
        assert_eq!(cause(&mut watch).await, Cause::Files);
    }
}
