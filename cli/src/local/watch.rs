//! The manifest's file, watched: each new content once, after whoever writes it has come to rest.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// A writer that says nothing for so long has come to rest. Editors empty a file before they fill it.
const REST: Duration = Duration::from_millis(100);

/// The file is also read this often, for file systems that report nothing (network mounts, some containers).
const POLL: Duration = Duration::from_secs(2);

/// The watched file.
#[derive(Debug)]
pub struct Watched {
    path: PathBuf,
    /// What was reported last; none where the file could not be read.
    seen: Option<String>,
    /// At most one, since one already says all.
    touched: mpsc::Receiver<()>,
    _watcher: Option<RecommendedWatcher>,
}

impl Watched {
    /// Watches a file whose content is known.
    pub fn new(path: &Path, seen: String) -> Self {
        let (touch, touched) = mpsc::channel(1);
        Self {
            path: path.to_owned(),
            seen: Some(seen),
            touched,
            _watcher: watcher(path, touch),
        }
    }

    /// Awaits another content, and returns it. A file that can no longer be read is reported once. May be dropped
    /// and called again.
    pub async fn changed(&mut self) -> io::Result<String> {
        loop {
            let found = self.read_at_rest().await;
            let text = found.as_ref().ok().cloned();
            if text != self.seen {
                self.seen = text;
                return found;
            }
            let _ = tokio::time::timeout(POLL, self.touched.recv()).await;
        }
    }

    async fn read_at_rest(&self) -> io::Result<String> {
        let mut before = std::fs::read_to_string(&self.path);
        while before.as_ref().ok() != self.seen.as_ref() {
            tokio::time::sleep(REST).await;
            let now = std::fs::read_to_string(&self.path);
            if now.as_ref().ok() == before.as_ref().ok() {
                return now;
            }
            before = now;
        }
        before
    }
}

/// Watches the folder: editors put a new file in the old one's place. Without a watcher polling remains.
fn watcher(path: &Path, touch: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let path = std::path::absolute(path).ok()?;
    let name = path.file_name()?.to_owned();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let is_reading = |event: &notify::Event| event.kind.is_access();
        let is_ours = event.as_ref().is_ok_and(|event| {
            !is_reading(event) && event.paths.iter().any(|p| p.file_name() == Some(&name))
        });
        if is_ours {
            let _ = touch.try_send(());
        }
    })
    .ok()?;
    watcher
        .watch(path.parent()?, RecursiveMode::NonRecursive)
        .ok()?;
    Some(watcher)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::local::state::tests::Scratch;

    #[tokio::test]
    async fn each_content_is_reported_once_however_it_is_written() {
        let scratch = Scratch::new("watch");
        fs::create_dir_all(&scratch.0).unwrap();
        let path = scratch.0.join("gateway.yaml");
        fs::write(&path, "one").unwrap();
        let mut watched = Watched::new(&path, "one".to_owned());
        let soon = async |watched: &mut Watched| {
            tokio::time::timeout(Duration::from_secs(5), watched.changed())
                .await
                .unwrap()
        };

        // Replaced, as editors do.
        fs::write(scratch.0.join("new"), "two").unwrap();
        fs::rename(scratch.0.join("new"), &path).unwrap();
        assert_eq!(soon(&mut watched).await.unwrap(), "two");
        // In place, and away.
        fs::write(&path, "three").unwrap();
        assert_eq!(soon(&mut watched).await.unwrap(), "three");
        fs::remove_file(&path).unwrap();
        assert_eq!(
            soon(&mut watched).await.unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        fs::write(&path, "four").unwrap();
        assert_eq!(soon(&mut watched).await.unwrap(), "four");
        // The same again is no change.
        fs::write(&path, "four").unwrap();
        let quiet = tokio::time::timeout(Duration::from_millis(400), watched.changed()).await;
        assert!(quiet.is_err());
    }
}
