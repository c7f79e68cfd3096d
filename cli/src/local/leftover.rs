//! What a crash leaves: children whose parent was killed before it could stop them.
//!
//! Each child leads a process group of its own, and a file in the state folder says which. The kernel gives a
//! process id to nobody else while a group bears it, and with the start time it names one process for good.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use super::state::{StateDir, StateError};

/// The folder of the files in the state folder.
const DIR: &str = "run";

/// How long killed processes may take to vanish. The kernel frees their sockets and memory meanwhile.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// How often their end is looked for.
const KILL_POLL: Duration = Duration::from_millis(10);

/// Names a group for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    group: i32,
    started_ticks: u64,
    boot: String,
    program: PathBuf,
}

/// A line of `/proc/<pid>/stat`, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The process.
    pub pid: i32,
    /// R, S, Z and so on.
    pub state: char,
    /// Its parent.
    pub parent: i32,
    /// Its group.
    pub group: i32,
    /// Clock ticks after the boot.
    pub started_ticks: u64,
}

impl Record {
    /// Of the group that `pid` leads. None without /proc.
    pub fn of(pid: i32) -> Option<Self> {
        let started_ticks = stat(pid)?.started_ticks;
        let program = program(pid).unwrap_or_default();
        Some(Self {
            group: pid,
            started_ticks,
            boot: boot(),
            program,
        })
    }

    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.trim_end().splitn(4, ' ');
        let group = words.next()?.parse().ok().filter(|group| *group > 1)?;
        let started_ticks = words.next()?.parse().ok()?;
        let boot = words.next()?.to_owned();
        Some(Self {
            group,
            started_ticks,
            boot,
            program: PathBuf::from(words.next()?),
        })
    }

    /// Kills the group where it still runs.
    pub fn kill(&self) {
        if self.runs() {
            let _ = killpg(Pid::from_raw(self.group), Signal::SIGKILL);
        }
    }

    /// Kills the group where it still runs, and awaits its end. Says whether it did.
    pub async fn end(&self) -> bool {
        let runs = self.runs();
        if runs {
            kill_group(self.group).await;
        }
        runs
    }

    fn runs(&self) -> bool {
        if self.boot != boot() {
            return false;
        }
        match stat(self.group) {
            Some(leader) => leader.started_ticks == self.started_ticks,
            // The leader was killed and its group lives on, as nginx's does.
            None => members(self.group)
                .iter()
                .any(|member| program(member.pid).is_some_and(|path| path == self.program)),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            group,
            started_ticks,
            boot,
            program,
        } = self;
        write!(f, "{group} {started_ticks} {boot} {}", program.display())
    }
}

/// Writes down that the child `name` leads this group.
pub fn record(state: &StateDir, name: &str, record: &Record) -> Result<(), StateError> {
    state.write(&file(name), format!("{record}\n")).map(drop)
}

/// The child has been stopped, and its group with it.
pub fn forget(state: &StateDir, name: &str) {
    state.remove(&file(name));
}

fn file(name: &str) -> String {
    format!("{DIR}/{name}.pid")
}

/// Kills every group that is written down and still runs, and awaits its end. Returns the names.
pub async fn end(state: &StateDir) -> Vec<String> {
    let mut ended = Vec::new();
    let entries = fs::read_dir(state.path(DIR))
        .into_iter()
        .flatten()
        .flatten();
    for entry in entries {
        let path = entry.path();
        let Some(name) = path.file_stem().and_then(|stem| stem.to_str()) else {
            continue;
        };
        let record = fs::read_to_string(&path)
            .ok()
            .as_deref()
            .and_then(Record::parse);
        if let Some(record) = record
            && record.end().await
        {
            ended.push(name.to_owned());
        }
        let _ = fs::remove_file(&path);
    }
    ended.sort();
    ended
}

/// Kills a group and awaits its end, as far as that can be seen.
pub async fn kill_group(group: i32) {
    let begin = Instant::now();
    while killpg(Pid::from_raw(group), Signal::SIGKILL).is_ok()
        && !members(group).is_empty()
        && begin.elapsed() < KILL_PATIENCE
    {
        tokio::time::sleep(KILL_POLL).await;
    }
}

/// The living processes of a group. Those that wait for a parent to take note of their end are not among them.
pub fn members(group: i32) -> Vec<Stat> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| stat(entry.file_name().to_str()?.parse().ok()?))
        .filter(|stat| stat.group == group && !matches!(stat.state, 'Z' | 'X'))
        .collect()
}

fn stat(pid: i32) -> Option<Stat> {
    parse_stat(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// proc(5): the second field is the command in parentheses and may hold anything, so fields count from the last `)`.
fn parse_stat(pid: i32, text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        pid,
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        started_ticks: fields.get(19)?.parse().ok()?,
    })
}

/// Names this boot: process ids and start times begin anew with the next. A space would break the line.
fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    match id.trim() {
        "" => "-".to_owned(),
        id => id.replace(' ', ""),
    }
}

/// The program that a process runs, also where its file has been replaced since.
fn program(pid: i32) -> Option<PathBuf> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let text = path
        .to_str()
        .map(|text| text.strip_suffix(" (deleted)").unwrap_or(text));
    Some(text.map_or_else(|| path.clone(), |text| Path::new(text).to_owned()))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::CommandExt, process::Command};

    use super::*;
    use crate::local::state::tests::Scratch;

    #[test]
    fn a_stat_line_is_read_whatever_the_command_is_called() {
        let line = "42 (a) (b c) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2 3\n";
        let stat = parse_stat(42, line).unwrap();
        let expected = Stat {
            pid: 42,
            state: 'S',
            parent: 1,
            group: 42,
            started_ticks: 98_765,
        };
        assert_eq!(stat, expected);
    }

    #[tokio::test]
    async fn a_group_that_was_left_is_ended_and_a_stranger_is_not() {
        let scratch = Scratch::new("leftover");
        let state = StateDir::open(&scratch.0).await.unwrap();
        let start = |script: &str| {
            Command::new("sh")
                .args(["-c", script])
                .process_group(0)
                .spawn()
                .unwrap()
        };
        let mut left = start("sleep 1000 & wait");
        let mut stranger = start("sleep 1000 & wait");
        let (group, other) = (left.id().cast_signed(), stranger.id().cast_signed());
        record(&state, "left", &Record::of(group).unwrap()).unwrap();
        record(&state, "stranger", &Record::of(other).unwrap()).unwrap();
        let path = state.path("run/stranger.pid");
        let text = fs::read_to_string(&path).unwrap();
        let ticks = stat(other).unwrap().started_ticks.to_string();
        fs::write(&path, text.replace(&ticks, "1")).unwrap();

        assert_eq!(end(&state).await, ["left"]);
        assert!(members(group).is_empty());
        assert!(!members(other).is_empty());
        assert!(fs::read_dir(state.path("run")).unwrap().next().is_none());
        kill_group(other).await;
        left.wait().unwrap();
        stranger.wait().unwrap();
    }

    #[tokio::test]
    async fn a_group_whose_leader_was_killed_is_ended_too() {
        let scratch = Scratch::new("leaderless");
        let state = StateDir::open(&scratch.0).await.unwrap();
        // Leader and child run one program, as nginx's processes do.
        let mut leader = Command::new("sh")
            .args(["-c", "(while :; do sleep 1; done) & wait"])
            .process_group(0)
            .spawn()
            .unwrap();
        let group = leader.id().cast_signed();
        record(&state, "nginx", &Record::of(group).unwrap()).unwrap();
        let begin = Instant::now();
        while members(group).len() < 2 && begin.elapsed() < KILL_PATIENCE {
            tokio::time::sleep(KILL_POLL).await;
        }
        leader.kill().unwrap();
        leader.wait().unwrap();
        assert_eq!(end(&state).await, ["nginx"]);
        assert!(members(group).is_empty());
    }
}
