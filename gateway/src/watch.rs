//! Notices that a configuration file or a certificate has changed.

use std::{collections::HashSet, io, path::Path, time::Duration};

use notify::{EventKind, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// How long after the first sign of a change the file is read: editors and the kubelet make several
/// steps of it.
const SETTLE: Duration = Duration::from_millis(50);

/// Says whenever a file may have changed. The folders are watched, not the files: a `ConfigMap` volume is
/// changed by swapping a link, an editor changes a file by renaming another.
///
/// # Errors
/// When a folder cannot be watched.
pub fn changes<'a>(files: impl Iterator<Item = &'a Path>) -> io::Result<mpsc::Receiver<()>> {
    let (say, mut heard) = mpsc::channel::<()>(1);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let is_read = event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_)));
        if !is_read {
            // One that is already waiting says the same.
            let _ = say.try_send(());
        }
    })
    .map_err(io::Error::other)?;
    let folders: HashSet<&Path> = files.map(folder).collect();
    for folder in folders {
        watcher
            .watch(folder, RecursiveMode::NonRecursive)
            .map_err(io::Error::other)?;
    }
    let (settled, changes) = mpsc::channel(1);
    tokio::spawn(async move {
        let _watcher = watcher;
        while heard.recv().await.is_some() {
            tokio::time::sleep(SETTLE).await;
            while heard.try_recv().is_ok() {}
            if settled.send(()).await.is_err() {
                return;
            }
        }
    });
    Ok(changes)
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
