//! How a cluster begins and ends. hack/cluster/up and hack/cluster/down do both, as they do for a person.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use crate::{
    process::{Process, lasting},
    program::Program,
    resources::started,
    wait::pause,
};

/// How long it may take where all programs have been obtained and the machine is busy.
const UP: Duration = Duration::from_secs(600);

const DOWN: Duration = Duration::from_secs(60);

/// Brings it up, and takes it down once the other end of its input is gone: however the test process ends, and also in the
/// middle of the way up. Nothing is left half done by a write that nobody reads.
const KEEPER: &str = r#"
trap : PIPE
"$1/up" >"$2" 2>&1 </dev/null
echo "ended $?"
cat >/dev/null
"$1/down" >>"$2" 2>&1 </dev/null && rm -f "$2"
"#;

/// What a cluster has.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many nodes, from 1 to 9.
    pub nodes: usize,
    /// What it lacks, as `WITHOUT` of hack/cluster/up: `monitoring`, `sample`, `ingress`, `nats`, `operator`, by spaces.
    pub without: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 2,
            without: "sample",
        }
    }
}

/// A cluster's, from up to down.
#[derive(Debug)]
pub struct Life {
    name: String,
    state: PathBuf,
    story: String,
    /// Takes it down. There is none where the cluster is somebody else's.
    keeper: Option<Process>,
}

impl Life {
    /// That of the cluster which `WSGATEWAY_E2E_CLUSTER` names, if it does: one that is up, and stays so. Who writes tests
    /// need not wait for a new one each time.
    pub fn of_another() -> Option<Self> {
        let name = env::var("WSGATEWAY_E2E_CLUSTER").ok()?;
        let state = states().join(&name);
        assert!(
            state.join("pki/admin.kubeconfig").exists(),
            "CLUSTER={name} NODES=2 hack/cluster/up has not been run"
        );
        Some(Self {
            name,
            state,
            story: String::new(),
            keeper: None,
        })
    }
    /// Brings one up, and panics with what was said where that fails.
    pub fn begin(options: &Options) -> Self {
        let begin = Instant::now();
        remove_orphans();
        let name = new_name();
        let log = env::temp_dir().join(format!("wsgateway-cluster-{name}.log"));
        let mut command = Command::new("bash");
        command
            .args(["-c", KEEPER, "keeper"])
            .arg(scripts())
            .arg(&log)
            .env("CLUSTER", &name)
            .env("NODES", options.nodes.to_string())
            .env("WITHOUT", options.without)
            .env("OWNER", process::id().to_string())
            .env("WSGATEWAY_BIN_DIR", programs());
        // From here on it is taken down, also where it does not come up.
        let mut life = Self {
            state: states().join(&name),
            name,
            story: String::new(),
            keeper: Some(lasting(move || {
                Process::start("hack/cluster", &mut command)
            })),
        };
        let ended = life.keeper.as_mut().map(|keeper| keeper.line("ended ", UP));
        let said = fs::read_to_string(&log).unwrap_or_default();
        assert!(
            ended.is_some_and(|line| line.text == "ended 0"),
            "hack/cluster/up failed:\n{said}"
        );
        life.story = format!(
            "{}\ncluster {}: up after {:.1} s",
            said.lines()
                .take_while(|line| !line.is_empty())
                .collect::<Vec<_>>()
                .join("\n"),
            life.name,
            begin.elapsed().as_secs_f64()
        );
        println!("{}", life.story);
        life
    }

    /// How many nodes it has.
    pub fn nodes(&self) -> usize {
        fs::read_dir(self.state.join("nodes")).unwrap().count()
    }

    /// As `CLUSTER` has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its files are.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// What was said on the way up.
    pub fn story(&self) -> &str {
        &self.story
    }
}

/// The end of a test's own cluster is awaited.
impl Drop for Life {
    fn drop(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.close_input();
            // Where a test fails already, a second failure would end all of them.
            let deadline = Instant::now() + DOWN;
            while keeper.is_running() && Instant::now() < deadline {
                pause(Duration::from_millis(50));
            }
        }
    }
}

/// Where the scripts are.
pub fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../hack/cluster")
}

/// Where the clusters of this user are, as hack/cluster/common has it.
pub fn states() -> PathBuf {
    let state = env::var_os("XDG_STATE_HOME").map_or_else(
        || PathBuf::from(env::var_os("HOME").expect("HOME should be set")).join(".local/state"),
        PathBuf::from,
    );
    state.join("wsgateway/clusters")
}

/// The folder of our own programs, which go into images.
fn programs() -> PathBuf {
    let operator = Program::Operator.expect();
    let folder = operator.parent().expect("a program should be in a folder");
    folder.canonicalize().unwrap()
}

/// One that no other has: who runs now has another process id, and who ran before left nothing. At most eight letters
/// and digits.
fn new_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut number = u64::from(process::id()) * 36;
    number += u64::from(NEXT.fetch_add(1, Ordering::Relaxed)) % 36;
    let mut digits = Vec::new();
    while number > 0 {
        let digit = u8::try_from(number % 36).expect("it is below 36");
        digits.push(char::from(if digit < 10 {
            b'0' + digit
        } else {
            b'a' + digit - 10
        }));
        number /= 36;
    }
    digits.push('t');
    digits.iter().rev().collect()
}

/// Ends what tests made that were killed together with what should have ended it. A person's clusters have no owner.
fn remove_orphans() {
    for name in orphans(&states()) {
        let mut down = Command::new(scripts().join("down"));
        // Another run may be at it too.
        let _ = down.env("CLUSTER", name).output();
    }
}

/// The clusters whose owner is gone.
fn orphans(states: &Path) -> Vec<String> {
    let Ok(folders) = fs::read_dir(states) else {
        return Vec::new();
    };
    let is_orphan = |folder: &Path| {
        let owner = fs::read_to_string(folder.join("owner")).ok()?;
        let (pid, began) = owner.trim().split_once(' ')?;
        Some(started(pid.parse().ok()?) != began.parse().ok())
    };
    folders
        .flatten()
        .filter(|folder| is_orphan(&folder.path()).unwrap_or(false))
        .map(|folder| folder.file_name().to_string_lossy().into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Directory;

    #[test]
    fn who_has_no_owner_or_a_living_one_is_no_orphan() {
        let states = Directory::make();
        let own = process::id();
        let began = started(own).unwrap();
        for (name, owner) in [
            ("dev", None),
            ("mine", Some(format!("{own} {began}\n"))),
            ("reused", Some(format!("{own} {}\n", began + 1))),
            ("gone", Some("4194305 7\n".to_owned())),
        ] {
            let folder = states.path().join(name);
            fs::create_dir(&folder).unwrap();
            if let Some(owner) = owner {
                fs::write(folder.join("owner"), owner).unwrap();
            }
        }
        let mut found = orphans(states.path());
        found.sort();
        assert_eq!(found, ["gone", "reused"]);
    }

    #[test]
    fn names_are_short_and_differ() {
        let (one, other) = (new_name(), new_name());
        assert!(one.len() <= 8 && one.starts_with('t') && one != other);
    }
}
