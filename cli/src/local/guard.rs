//! A second `wsgw` that does nothing but wait for the end of the first: when that is killed before it could stop its
//! children, the guard ends them.
//!
//! The first tells it of each child through a pipe, and the kernel closes that however the first ends. Should the
//! guard be killed too, the next run ends what is left.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use super::leftover::Record;

/// The hidden subcommand.
pub const COMMAND: &str = "guard";

/// The guard, as the first sees it. Dropped before it is dismissed, it ends what it was told of.
#[derive(Debug)]
pub struct Guard {
    pipe: Mutex<ChildStdin>,
    process: Mutex<Child>,
}

impl Guard {
    /// Starts one, in a process group of its own, so that Ctrl-C does not reach it.
    pub fn start() -> io::Result<Self> {
        use std::os::unix::process::CommandExt;
        let mut process = Command::new(std::env::current_exe()?)
            .arg(COMMAND)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let pipe = process
            .stdin
            .take()
            .ok_or_else(|| io::Error::other("it has no pipe"))?;
        Ok(Self {
            pipe: Mutex::new(pipe),
            process: Mutex::new(process),
        })
    }

    /// There is a child to look after.
    pub fn watch(&self, name: &str, record: &Record) {
        self.tell(&format!("{name} {record}\n"));
    }

    /// It has ended.
    pub fn forget(&self, name: &str) {
        self.tell(&format!("{name}\n"));
    }

    /// Ends it, once there is nothing left to look after.
    pub fn dismiss(&self) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = process.kill();
        let _ = process.wait();
    }

    /// A guard that was killed is told in vain: the files in the state folder remain.
    fn tell(&self, line: &str) {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = pipe.write_all(line.as_bytes());
    }
}

/// The guard itself.
pub async fn stand() {
    // Blocks the only thread, which has nothing else to do.
    let watched = watched(io::stdin().lock());
    // All at once first: a worker must not see NATS go and say so for seconds.
    watched.values().for_each(Record::kill);
    for record in watched.values() {
        record.end().await;
    }
}

/// What it was told of and not to forget, once the other end is gone.
fn watched(lines: impl BufRead) -> BTreeMap<String, Record> {
    let mut watched = BTreeMap::new();
    for line in lines.lines().map_while(Result::ok) {
        match line
            .split_once(' ')
            .and_then(|(name, rest)| Some((name, Record::parse(rest)?)))
        {
            Some((name, record)) => watched.insert(name.to_owned(), record),
            None => watched.remove(&line),
        };
    }
    watched
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_is_no_longer_watched() {
        let told = "nats 11 5 boot /bin/nats-server\nworker-1 12 6 boot /a b\nnats\n\
            nginx 13 7 boot /n\nworker-1 14 8 boot /a b\nnobody\n";
        let watched = watched(told.as_bytes());
        let lines: Vec<_> = watched
            .iter()
            .map(|(name, record)| format!("{name} {record}"))
            .collect();
        assert_eq!(lines, ["nginx 13 7 boot /n", "worker-1 14 8 boot /a b"]);
    }
}
