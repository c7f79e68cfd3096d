//! wscat, the client that users try first.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    process::{Process, command},
    program::Program,
    wait::SOON,
};

/// A wscat in a terminal, since to a pipe it says neither that it is connected nor that it is not.
#[derive(Debug)]
pub struct Wscat {
    /// The program.
    pub process: Process,
}

impl Wscat {
    /// Starts it with further options, and awaits its connection. The certificate is not checked.
    pub fn connect(url: &str, options: &[&str]) -> Self {
        let mut wscat = Self::start(url, options);
        wscat.connected();
        wscat
    }

    /// Starts it with further options. The certificate is not checked.
    pub fn start(url: &str, options: &[&str]) -> Self {
        let options = [&["--no-check"], options].concat();
        Self::of(command(Program::Wscat.expect()), url, &options)
    }

    /// Starts it by a command that runs it, as one that does so elsewhere.
    pub fn of(mut command: Command, url: &str, options: &[&str]) -> Self {
        command.args(["--no-color", "--connect", url]).args(options);
        Self {
            process: Process::start_in_terminal("wscat", &mut command),
        }
    }

    /// Awaits its connection.
    pub fn connected(&mut self) {
        self.process.line("Connected", SOON);
    }

    /// Types a line.
    pub fn say(&mut self, line: &str) {
        self.process.write(format!("{line}\r").as_bytes());
    }

    /// Awaits a message with this text, and tells when it was shown.
    pub fn hears(&mut self, text: &str, within: Duration) -> Instant {
        self.process.line(&format!("< {text}"), within).at
    }

    /// Awaits the end of the connection, and tells the code that wscat shows.
    pub fn disconnected(&mut self, within: Duration) -> u16 {
        let line = self.process.line("Disconnected (code: ", within).text;
        let code = line
            .split("code: ")
            .nth(1)
            .and_then(|rest| rest.split(',').next());
        code.and_then(|code| code.parse().ok())
            .unwrap_or_else(|| panic!("no code in {line}"))
    }
}
