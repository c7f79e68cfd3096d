//! A program that runs: its lines as they come, its end, and no way for it to outlive the test.

use std::{
    ffi::OsStr,
    fs::File,
    io::{Read, Write},
    os::unix::process::CommandExt,
    panic::{AssertUnwindSafe, catch_unwind},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Condvar, Mutex, OnceLock,
        mpsc::{Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    pty::{Winsize, openpty},
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use crate::wait::until;

/// How long the last lines of a program that has ended may take, where what it started holds on to its
/// outputs and says nothing.
const LAST_LINES: Duration = Duration::from_secs(2);

/// How many of the last lines are shown when a test fails.
const SHOWN_LINES: usize = 100;

/// A command that the kernel kills when the test's thread ends, however that happens. Start it from
/// the thread that needs it: a helper thread's end would kill it too.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Does `work` on a thread that lives as long as this process does, so that a [`command`] that is
/// started in it is killed when this process ends, however that happens, and not before.
///
/// What more than one test uses is started so, and what an async test starts: its runtime may run it
/// on a thread that ends.
pub fn lasting<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    type Work = Box<dyn FnOnce() + Send>;
    static THREAD: OnceLock<Sender<Work>> = OnceLock::new();
    let thread = THREAD.get_or_init(|| {
        let (sender, receiver) = channel::<Work>();
        let serve = move || {
            for work in receiver {
                // One test's failure must not end the thread, and with it what other tests use.
                let _ = catch_unwind(AssertUnwindSafe(work));
            }
        };
        thread::Builder::new()
            .name("lasting".to_owned())
            .spawn(serve)
            .unwrap();
        sender
    });
    let (done, result) = channel();
    thread
        .send(Box::new(move || drop(done.send(work()))))
        .unwrap();
    result.recv().expect("what it started should have started")
}

/// A program that runs.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    input: Option<File>,
    log: Arc<Log>,
    /// How many lines of the log have been awaited already.
    seen: usize,
}

impl Process {
    /// Starts it with pipes. Its lines of both outputs come into one log.
    pub fn start(name: &str, command: &mut Command) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = Self::spawn(name, command);
        let log = Arc::new(Log::default());
        log.follow(child.stdout.take().expect("stdout should be piped"));
        log.follow(child.stderr.take().expect("stderr should be piped"));
        let input = child
            .stdin
            .take()
            .map(|pipe| File::from(std::os::fd::OwnedFd::from(pipe)));
        Self {
            name: name.to_owned(),
            child,
            input,
            log,
            seen: 0,
        }
    }

    /// Starts it as in a terminal, for programs that say less to a pipe.
    pub fn start_in_terminal(name: &str, command: &mut Command) -> Self {
        let size = Winsize {
            ws_row: 50,
            ws_col: 1_000,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let terminal = openpty(Some(&size), None).expect("there should be a terminal left");
        let end = || Stdio::from(terminal.slave.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end());
        let child = Self::spawn(name, command);
        // The command keeps its copies of the terminal, which would never end then.
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let log = Arc::new(Log::default());
        let input = File::from(terminal.master);
        log.follow(input.try_clone().unwrap());
        Self {
            name: name.to_owned(),
            child,
            input: Some(input),
            log,
            seen: 0,
        }
    }

    /// A group of its own, so that what it starts ends with it.
    fn spawn(name: &str, command: &mut Command) -> Child {
        command
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All its lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.log
            .said
            .lock()
            .unwrap()
            .lines
            .iter()
            .map(|line| line.text.clone())
            .collect()
    }

    /// The next line, after the one that this returned last, that holds `text`.
    pub fn line(&mut self, text: &str, within: Duration) -> Line {
        match self.log.line(self.seen, text, within) {
            Some((index, line)) => {
                self.seen = index + 1;
                line
            }
            None => panic!("{} said nothing with {text:?} within {within:?}", self.name),
        }
    }

    /// Writes to its input.
    pub fn write(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().expect("its input should still be open");
        input
            .write_all(bytes)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Ends its input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Its last lines, for who tells of a failure.
    pub fn last_lines(&self) -> String {
        let lines = self.lines();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }

    /// Sends it alone a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.pid().cast_signed()), signal);
    }

    /// Awaits its end, and its last lines.
    pub fn exit(&mut self, within: Duration) -> ExitStatus {
        let what = format!("{} has ended", self.name);
        let status = until(&what, within, || self.child.try_wait().unwrap());
        self.log.ended(LAST_LINES);
        status
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Kills it and what it started in its group.
    pub fn kill(&mut self) {
        let _ = killpg(Pid::from_raw(self.pid().cast_signed()), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("--- {} said:\n{}", self.name, self.last_lines());
        }
    }
}

/// A line and when it came.
#[derive(Debug, Clone)]
pub struct Line {
    /// When it was complete.
    pub at: Instant,
    /// Its text, without what a terminal does not show.
    pub text: String,
}

/// What a program has said so far.
#[derive(Debug, Default)]
struct Log {
    said: Mutex<Said>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Said {
    lines: Vec<Line>,
    /// How many of its outputs have not ended.
    open: usize,
}

impl Log {
    /// Takes lines from `output` until it ends.
    fn follow(self: &Arc<Self>, mut output: impl Read + Send + 'static) {
        let log = Arc::clone(self);
        log.said.lock().unwrap().open += 1;
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            let mut unfinished = Vec::new();
            while let Ok(length @ 1..) = output.read(&mut chunk) {
                let at = Instant::now();
                for &byte in &chunk[..length] {
                    if byte == b'\n' || byte == b'\r' {
                        log.push(at, &unfinished);
                        unfinished.clear();
                    } else {
                        unfinished.push(byte);
                    }
                }
            }
            log.push(Instant::now(), &unfinished);
            log.said.lock().unwrap().open -= 1;
            log.changed.notify_all();
        });
    }

    fn push(&self, at: Instant, bytes: &[u8]) {
        let text = without_escapes(&String::from_utf8_lossy(bytes));
        if !text.is_empty() {
            self.said.lock().unwrap().lines.push(Line { at, text });
            self.changed.notify_all();
        }
    }

    /// The first line from `begin` on that holds `text`, and its place. `None` when none comes in time,
    /// or can come any more.
    fn line(&self, begin: usize, text: &str, within: Duration) -> Option<(usize, Line)> {
        let deadline = Instant::now() + within;
        let mut begin = begin;
        let mut said = self.said.lock().unwrap();
        loop {
            let mut new = said.lines.iter().enumerate().skip(begin);
            if let Some((index, line)) = new.find(|(_, line)| line.text.contains(text)) {
                return Some((index, line.clone()));
            }
            if said.open == 0 {
                return None;
            }
            begin = said.lines.len();
            let left = deadline.checked_duration_since(Instant::now())?;
            said = self.changed.wait_timeout(said, left).unwrap().0;
        }
    }

    /// Awaits the end of all outputs.
    fn ended(&self, within: Duration) {
        let said = self.said.lock().unwrap();
        drop(
            self.changed
                .wait_timeout_while(said, within, |said| said.open > 0),
        );
    }
}

/// Drops the sequences by which a terminal is told colours and cursor moves (ECMA-48, CSI).
fn without_escapes(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            if characters.next() == Some('[') {
                characters.find(|c| ('@'..='~').contains(c));
            }
        } else if !character.is_control() || character == '\t' {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::SOON;

    #[test]
    fn lines_come_in_order_and_without_colours() {
        let mut process = Process::start(
            "sh",
            command("sh").args([
                "-c",
                r"printf '\033[31mred\033[39m\nplain\n'; read x; echo $x",
            ]),
        );
        assert_eq!(process.line("red", SOON).text, "red");
        assert_eq!(process.line("", SOON).text, "plain");
        process.write(b"back\n");
        assert_eq!(process.line("back", SOON).text, "back");
        assert!(process.exit(SOON).success());
    }

    #[test]
    fn what_a_program_started_ends_with_it() {
        let mut process = Process::start(
            "sh",
            command("sh").args(["-c", "sleep 1000 & echo $!; wait"]),
        );
        let grandchild: u32 = process.line("", SOON).text.parse().unwrap();
        assert!(crate::resources::is_alive(grandchild));
        drop(process);
        crate::wait::until_true("the grandchild is gone", SOON, || {
            !crate::resources::is_alive(grandchild)
        });
    }
}
