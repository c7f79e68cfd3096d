//! Files that nginx opens.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Expected, ValueError, spelled};

spelled!(FilePath);

/// An absolute path of a file or directory that nginx opens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FilePath(String);

/// Linux's `PATH_MAX`.
const FILE_PATH_BYTES_MAX: usize = 4096;

impl FilePath {
    /// Takes an absolute path without control characters and without `$`, which nginx would read as
    /// a variable. Spaces, quotes and backslashes are well: [`fmt::Display`] quotes them.
    pub fn new(value: &str) -> Result<Self, ValueError> {
        let refuse = |why| Err(ValueError::new(Expected::FilePath, value, why));
        if !value.starts_with('/') {
            return refuse("it must be absolute");
        }
        if value.len() > FILE_PATH_BYTES_MAX {
            return refuse("it is longer than 4096 bytes");
        }
        if value.contains('$') {
            return refuse(
                "nginx reads $ as the beginning of a variable, and has no escape for it",
            );
        }
        if value.chars().any(char::is_control) {
            return refuse("it holds a control character");
        }
        Ok(Self(value.to_owned()))
    }

    /// Takes an operating system's path, which must be UTF-8 too.
    pub fn from_path(path: &Path) -> Result<Self, ValueError> {
        let text = path.to_str().ok_or_else(|| {
            ValueError::new(
                Expected::FilePath,
                &path.to_string_lossy(),
                "it is not UTF-8",
            )
        })?;
        Self::new(text)
    }

    /// A file inside this directory, named by the program.
    pub(crate) fn join(&self, name: &str) -> Self {
        Self(format!("{}/{name}", self.0.trim_end_matches('/')))
    }

    /// The bare path.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    fn spelling(&self) -> String {
        self.0.clone()
    }
}

/// Writes the path in double quotes, where nginx knows `\"` and `\\` and no other syntax but `$`.
impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escaped = self.0.replace('\\', "\\\\").replace('"', "\\\"");
        write!(f, "\"{escaped}\"")
    }
}
