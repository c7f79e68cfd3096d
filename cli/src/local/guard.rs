//! A second `wsgw` that does nothing but wait for the end of the first: when that is killed before it could stop its
//! children, the guard ends them.
//!
//! Its standard input is a pipe whose other end the first holds, and the kernel closes that however the first ends.
//! Should the guard be killed too, the next run ends what is left.

use std::{
    ffi::OsString,
    io::{self, Read},
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
};

use super::{leftover, state::StateDir};

/// The hidden subcommand.
pub const COMMAND: &str = "guard";

/// What the guard is told.
#[derive(Debug, clap::Args)]
pub struct GuardArgs {
    /// The state folder of the run.
    state_dir: PathBuf,
}

/// Keeps the guard waiting until it is dropped: then it ends what still runs.
#[derive(Debug)]
pub struct Guard {
    _pipe: Option<ChildStdin>,
    process: std::process::Child,
}

impl Guard {
    /// Starts one, in a process group of its own, so that Ctrl-C does not reach it.
    pub fn start(state: &Path) -> io::Result<Self> {
        use std::os::unix::process::CommandExt;
        let mut process = Command::new(std::env::current_exe()?)
            .args([OsString::from(COMMAND), state.into()])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self {
            _pipe: process.stdin.take(),
            process,
        })
    }
}

impl Guard {
    /// Ends it, once there is nothing left to look after.
    pub fn dismiss(mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The guard itself.
pub async fn stand(args: GuardArgs) {
    // Blocks the only thread, which has nothing else to do. Nobody writes; it ends with the other end.
    let _ = io::stdin().read_to_end(&mut Vec::new());
    // Where the next run has taken the folder already, that has ended what was left.
    if let Ok(state) = StateDir::open(&args.state_dir).await {
        leftover::end(&state).await;
    }
}
