//! websocat, the client for scripts and large messages.

use std::{fs::File, path::Path, process::Command, time::Duration};

use crate::{
    process::{Process, command},
    program::Program,
};

/// A websocat whose lines are messages.
#[derive(Debug)]
pub struct Websocat {
    /// The program.
    pub process: Process,
}

impl Websocat {
    /// Starts it with further options. The certificate is not checked.
    pub fn start(url: &str, options: &[&str]) -> Self {
        Self::of(command(Program::Websocat.expect()), url, options)
    }

    /// Starts it by a command that runs it, as one that does so elsewhere.
    pub fn of(mut command: Command, url: &str, options: &[&str]) -> Self {
        command.args(["-v", "-k"]).args(options).arg(url);
        Self {
            process: Process::start("websocat", &mut command),
        }
    }

    /// Sends a line as a message.
    pub fn say(&mut self, line: &str) {
        self.process.write(format!("{line}\n").as_bytes());
    }

    /// Awaits a line with this text.
    pub fn hears(&mut self, text: &str, within: Duration) -> String {
        self.process.line(text, within).text
    }
}

/// Sends a file as one message, as `cat FILE | websocat -v -k -B 200000 URL` does, and returns what
/// came back on its output and what it said beside that.
pub fn send_file(url: &str, file: &Path) -> (Vec<u8>, String) {
    send_file_by(command(Program::Websocat.expect()), url, &[], file)
}

/// The same by a command that runs it, with further options.
pub fn send_file_by(
    mut command: Command,
    url: &str,
    options: &[&str],
    file: &Path,
) -> (Vec<u8>, String) {
    let output = command
        .args(["-v", "-k", "-B", "200000"])
        .args(options)
        .arg(url)
        .stdin(File::open(file).unwrap())
        .output()
        .unwrap();
    (
        output.stdout,
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}
