//! A volume as the kubelet fills it from a `ConfigMap`.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use crate::directory::Directory;

/// A folder whose files are links through `..data` to the folder of the newest contents. All of them change at once,
/// when `..data` is replaced by a rename; no event ever comes for the files themselves.
#[derive(Debug)]
pub struct Volume {
    directory: Directory,
    updates: usize,
}

impl Volume {
    /// A volume with one file.
    pub fn with(name: &str, contents: &str) -> Self {
        Self::of(&[(name, contents.to_owned())])
    }

    /// A volume with these files.
    pub fn of(files: &[(&str, String)]) -> Self {
        let mut volume = Self {
            directory: Directory::make(),
            updates: 0,
        };
        volume.update_all(files);
        for (name, _) in files {
            symlink(Path::new("..data").join(name), volume.path(name)).unwrap();
        }
        volume
    }

    /// Where the file is found.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Replaces the contents as a changed `ConfigMap` does, step by step as in the kubelet's `AtomicWriter`.
    pub fn update(&mut self, name: &str, contents: &str) {
        self.update_all(&[(name, contents.to_owned())]);
    }

    /// The same of several files, which change at once.
    pub fn update_all(&mut self, files: &[(&str, String)]) {
        let (data, draft) = (self.path("..data"), self.path("..data_tmp"));
        let old = fs::read_link(&data).ok();
        self.updates += 1;
        let new = format!("..2026_01_01_00_00_00.{}", self.updates);
        fs::create_dir(self.path(&new)).unwrap();
        for (name, contents) in files {
            fs::write(self.path(&new).join(name), contents).unwrap();
        }
        symlink(&new, &draft).unwrap();
        fs::rename(&draft, &data).unwrap();
        if let Some(old) = old {
            fs::remove_dir_all(self.directory.path().join(old)).unwrap();
        }
    }
}
