//! The task that keeps a child running.

use std::{
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
    time::Instant,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{process::Command, sync::watch};

use super::{Context, Order, Phase, Program, lines::Lines};
use crate::local::{backoff::Backoff, leftover};

/// What the task knows.
pub(super) struct Keeper {
    pub(super) program: Program,
    pub(super) context: Context,
    pub(super) order: watch::Receiver<Order>,
    pub(super) phases: watch::Sender<Phase>,
}

/// How one run of a child ended.
enum End {
    /// It was told to.
    Told,
    /// By itself, in the way described.
    ByItself { why: String, was_ready: bool },
}

impl Keeper {
    pub(super) async fn keep(mut self) {
        let mut backoff = Backoff::new();
        let mut is_first = true;
        loop {
            let begin = Instant::now();
            match self.run(is_first).await {
                End::Told => break,
                End::ByItself {
                    why,
                    was_ready: false,
                } if is_first => {
                    self.context.forget(&self.program.name);
                    self.phases.send_replace(Phase::Failed(why));
                    return;
                }
                End::ByItself { why, .. } => {
                    is_first = false;
                    let wait = backoff.after(begin.elapsed());
                    self.context.restarts.count(&self.program.name);
                    self.context.console.problem(format_args!(
                        "{} {why}; starting it again in {} ms",
                        self.program.name,
                        wait.as_millis()
                    ));
                    self.phases.send_replace(Phase::Waiting);
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        _ = self.order.changed() => break,
                    }
                }
            }
        }
        self.context.forget(&self.program.name);
        self.phases.send_replace(Phase::Stopped);
    }

    /// Starts it and stays until it has ended, and its group with it.
    async fn run(&mut self, is_first: bool) -> End {
        self.phases.send_replace(Phase::Starting);
        let begin = Instant::now();
        let mut process = match spawn(&self.program) {
            Ok(process) => process,
            Err(error) => {
                let why = format!(
                    "cannot be started from {}: {error}",
                    self.program.path.display()
                );
                return End::ByItself {
                    why,
                    was_ready: false,
                };
            }
        };
        let pid = process.id().map_or(0, u32::cast_signed);
        self.context.record(&self.program.name, pid);
        let mut lines = Lines::follow(&mut process, &self.program, self.context.console);
        let mut was_ready = false;
        let told = loop {
            tokio::select! {
                biased;
                ended = process.wait() => break Err(ended),
                _ = self.order.changed() => break Ok(()),
                () = self.program.ready.reached(), if !was_ready => {
                    was_ready = true;
                    self.phases.send_replace(Phase::Running(pid));
                    if !is_first {
                        let ms = begin.elapsed().as_millis();
                        let name = &self.program.name;
                        self.context.console.say(format_args!("{name} is back, {ms} ms after its start"));
                    }
                }
            }
        };
        let end = match told {
            Ok(()) => {
                self.end_in_order(&mut process, pid).await;
                None
            }
            Err(ended) => Some(ended),
        };
        // Whatever the child had started, such as nginx's workers after `kill -9` of their master: they hold its port.
        leftover::kill_group(pid).await;
        let _ = process.wait().await;
        lines.finish().await;
        match end {
            None => End::Told,
            Some(ended) => End::ByItself {
                why: describe(ended, &lines.last()),
                was_ready,
            },
        }
    }

    async fn end_in_order(&mut self, process: &mut tokio::process::Child, pid: i32) {
        if *self.order.borrow_and_update() == Order::Kill {
            return;
        }
        let _ = kill(Pid::from_raw(pid), self.program.stop_signal);
        let patience = self.program.stop_patience;
        tokio::select! {
            _ = process.wait() => {}
            _ = self.order.changed() => {}
            () = tokio::time::sleep(patience) => {
                let name = &self.program.name;
                let console = self.context.console;
                console.problem(format_args!("{name} did not end within {patience:?}: killing it"));
            }
        }
    }
}

fn spawn(program: &Program) -> std::io::Result<tokio::process::Child> {
    Command::new(&program.path)
        .args(&program.args)
        // A worker that refuses its configuration says why in a line; how it came to that is nobody's business.
        .env("RUST_LIB_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

fn describe(ended: std::io::Result<ExitStatus>, last_line: &str) -> String {
    let status = match ended {
        Ok(status) => status,
        Err(error) => return format!("is lost: {error}"),
    };
    match (status.code(), status.signal()) {
        (Some(0), _) => "ended with exit code 0".to_owned(),
        (Some(code), _) if last_line.is_empty() => format!("ended with exit code {code}"),
        (Some(code), _) => format!("ended with exit code {code} (its last line: {last_line})"),
        // Who was killed could not say why.
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(signal) => format!("was ended by {signal}"),
            Err(_) => format!("was ended by signal {signal}"),
        },
        (None, None) => "ended".to_owned(),
    }
}
