//! The folder of one run: keys, written configuration, what nats-server stores, and who runs. It is the user's
//! alone, and one run's at a time.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long another holder of the lock may take to let go: the keeper of a killed run does so once it has ended
/// what that run left.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// How often the lock is tried meanwhile.
const LOCK_TRY: Duration = Duration::from_millis(50);

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// There is no home folder to make it in.
    #[error("neither XDG_STATE_HOME nor HOME is set: name a folder with --state-dir")]
    NoHome,
    /// Another run has it.
    #[error(
        "another `wsgw local` runs with {}: stop it, or give this one its own --state-dir", .0.display()
    )]
    Held(PathBuf),
    /// The file system refuses.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl StateError {
    /// A stable word for the kind.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoHome => "NoStateDir",
            Self::Held(_) => "StateDirHeld",
            Self::Io { .. } => "StateDirIo",
        }
    }

    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// The folder, held by this process until dropped.
#[derive(Debug)]
pub struct StateDir {
    root: PathBuf,
    /// The kernel lets go of it however this process ends.
    _lock: File,
}

/// `$XDG_STATE_HOME/wsgateway/local/<name>`, where `~/.local/state` stands for a variable that is not set.
pub fn default_path(name: &str) -> Result<PathBuf, StateError> {
    let variable = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let state = variable("XDG_STATE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".local/state")))
        .ok_or(StateError::NoHome)?;
    Ok(state.join("wsgateway/local").join(name))
}

impl StateDir {
    /// Makes it where it does not exist, and takes its lock.
    pub async fn open(root: &Path) -> Result<Self, StateError> {
        let root = std::path::absolute(root).map_err(StateError::io("find", root))?;
        // One that exists keeps its mode: who names /tmp does not want it closed to others.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&root)
            .map_err(StateError::io("make", &root))?;
        let path = root.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(StateError::io("open", &path))?;
        let begin = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { root, _lock: lock }),
                Err(TryLockError::WouldBlock) if begin.elapsed() < LOCK_PATIENCE => {
                    tokio::time::sleep(LOCK_TRY).await;
                }
                Err(TryLockError::WouldBlock) => return Err(StateError::Held(root)),
                Err(TryLockError::Error(source)) => {
                    return Err(StateError::io("lock", &path)(source));
                }
            }
        }
    }

    /// Its absolute path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A folder in it, for the user alone.
    pub fn dir(&self, name: &str) -> Result<PathBuf, StateError> {
        let path = self.path(name);
        make_dir(&path, 0o700)?;
        Ok(path)
    }

    /// A folder in it that others may enter, not list.
    pub fn dir_to_enter(&self, name: &str) -> Result<PathBuf, StateError> {
        let path = self.path(name);
        make_dir(&path, 0o711)?;
        Ok(path)
    }

    /// Writes a file that the user alone can read: all of it, or none. Says whether that changed it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<bool, StateError> {
        let path = self.path(name);
        let content = content.as_ref();
        if fs::read(&path).is_ok_and(|old| old == content) {
            return Ok(false);
        }
        let parent = path.parent().unwrap_or(&self.root);
        if parent != self.root {
            make_dir(parent, 0o700)?;
        }
        let mut temporary = path.clone().into_os_string();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        // What a crash left there may be readable by others, and `mode` is for new files alone.
        let _ = fs::remove_file(&temporary);
        OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
            .map_err(StateError::io("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(StateError::io("write", &path))?;
        Ok(true)
    }

    /// The text of a file in it; none where it cannot be read.
    pub fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path(name)).ok()
    }

    /// Removes a file, where there is one.
    pub fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.path(name));
    }
}

/// The mode is set on a folder that exists too: it is of our making, and keys may be in it.
fn make_dir(path: &Path, mode: u32) -> Result<(), StateError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .map_err(StateError::io("make", path))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A folder for a test, removed with the value.
    pub(crate) struct Scratch(pub(crate) PathBuf);

    impl Scratch {
        pub(crate) fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("wsgw-test-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn its_files_are_the_users_alone_and_it_is_one_runs_at_a_time() {
        let scratch = Scratch::new("state");
        let state = StateDir::open(&scratch.0).await.unwrap();
        assert!(state.write("tls/key", "secret").unwrap());
        assert!(!state.write("tls/key", "secret").unwrap());
        assert!(state.write("tls/key", "other").unwrap());
        assert_eq!(state.read("tls/key").unwrap(), "other");
        assert_eq!(mode(&scratch.0), 0o700);
        assert_eq!(mode(&state.path("tls")), 0o700);
        assert_eq!(mode(&state.path("tls/key")), 0o600);

        let error = StateDir::open(&scratch.0).await.unwrap_err();
        assert_eq!(error.reason(), "StateDirHeld");
        drop(state);
        StateDir::open(&scratch.0).await.unwrap();
    }
}
