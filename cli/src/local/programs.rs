//! Where the programs are that `wsgw local` starts.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Folders that hold servers and are not in a user's PATH on many systems.
const SERVER_DIRS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// A program that can be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The broker.
    NatsServer,
    /// The proxy.
    Nginx,
    /// A worker.
    Gateway,
}

/// Why a program cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It is nowhere.
    #[error("{name} is not found in PATH: {advice}, or name it with {flag}")]
    Missing {
        /// Its name.
        name: &'static str,
        /// How to get it.
        advice: &'static str,
        /// What names it.
        flag: &'static str,
    },
    /// What was named is no program.
    #[error("{flag}: {} is not an executable file", .path.display())]
    NoProgram {
        /// What named it.
        flag: &'static str,
        /// What was named.
        path: PathBuf,
    },
}

impl ProgramError {
    /// A stable word for the kind.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "ProgramMissing",
            Self::NoProgram { .. } => "NoProgram",
        }
    }
}

impl Program {
    const fn name(self) -> &'static str {
        match self {
            Self::NatsServer => "nats-server",
            Self::Nginx => "nginx",
            Self::Gateway => "wsgateway",
        }
    }

    const fn flag(self) -> &'static str {
        match self {
            Self::NatsServer => "--nats-server (or WSGW_NATS_SERVER)",
            Self::Nginx => "--nginx (or WSGW_NGINX)",
            Self::Gateway => "--gateway",
        }
    }

    const fn advice(self) -> &'static str {
        match self {
            Self::NatsServer => {
                "`make run` obtains it, or `go install github.com/nats-io/nats-server/v2@latest`"
            }
            Self::Nginx => "`make run` obtains it, or `apt-get install nginx-light`",
            Self::Gateway => "`make build` builds it beside wsgw",
        }
    }

    /// The file that was named, else the one found beside `wsgw` (the gateway alone) or in PATH.
    pub fn find(self, named: Option<&Path>) -> Result<PathBuf, ProgramError> {
        let flag = self.flag();
        if let Some(path) = named {
            let refused = || ProgramError::NoProgram {
                flag,
                path: path.to_owned(),
            };
            return executable(path).ok_or_else(refused);
        }
        let beside = env::current_exe()
            .ok()
            .and_then(|exe| exe.parent().map(Path::to_owned));
        let path = env::var_os("PATH").unwrap_or_default();
        beside
            .filter(|_| self == Self::Gateway)
            .into_iter()
            .chain(env::split_paths(&path))
            .chain(SERVER_DIRS.map(PathBuf::from))
            .find_map(|folder| executable(&folder.join(self.name())))
            .ok_or(ProgramError::Missing {
                name: self.name(),
                advice: self.advice(),
                flag,
            })
    }
}

/// The first program of that name in PATH.
pub fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).find_map(|folder| executable(&folder.join(name)))
}

/// The absolute path of an executable file.
fn executable(path: &Path) -> Option<PathBuf> {
    let metadata = fs::metadata(path).ok()?;
    let is_executable = metadata.is_file() && metadata.permissions().mode() & 0o111 != 0;
    std::path::absolute(path).ok().filter(|_| is_executable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_must_be_a_program() {
        assert_eq!(
            Program::Nginx.find(Some(Path::new("/bin/sh"))).unwrap(),
            Path::new("/bin/sh")
        );
        for path in ["/nowhere/nginx", "/etc/passwd", "/tmp"] {
            let error = Program::Nginx.find(Some(Path::new(path))).unwrap_err();
            assert_eq!(error.reason(), "NoProgram");
            assert!(error.to_string().contains(path) && error.to_string().contains("--nginx"));
        }
    }
}
