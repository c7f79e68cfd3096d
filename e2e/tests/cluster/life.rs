//! The cluster itself: that a second `make cluster-up` harms nothing, and that nothing is left of one whose owner is killed.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use wsgateway_e2e::{
    kubernetes::{
        Kubernetes, Options,
        life::{scripts, states},
    },
    needs,
    process::{Process, lasting},
    wait::{pause, until_true},
};

/// Set in the process that the test starts and kills.
const CHILD: &str = "WSGATEWAY_E2E_CHILD";

/// All but the nodes, which take what there is to leave.
const WITHOUT: &str = "monitoring sample ingress nats operator images";

const UP: Duration = Duration::from_secs(300);
const DOWN: Duration = Duration::from_secs(60);

#[test]
fn up_twice_is_harmless_and_nothing_is_left_of_a_cluster_whose_owner_is_killed() {
    needs!(Cluster);
    if env::var_os(CHILD).is_some() {
        let cluster = Kubernetes::start(&Options {
            nodes: 1,
            without: WITHOUT,
        });
        println!("{} is up", cluster.name());
        // Until it is killed.
        pause(Duration::from_secs(600));
    }
    // Not while all others await the shared one.
    drop(Kubernetes::shared());
    let mut command = Command::new(env::current_exe().unwrap());
    command.env(CHILD, "1").args([
        "--exact",
        "--nocapture",
        "life::up_twice_is_harmless_and_nothing_is_left_of_a_cluster_whose_owner_is_killed",
    ]);
    let mut owner = lasting(move || Process::start("the owner", &mut command));
    let line = owner.line(" is up", UP).text;
    let name = line.strip_suffix(" is up").unwrap().to_owned();

    let before = Traces::of(&name);
    assert!(before.processes.len() > 5, "{before:?}");
    assert!(!before.links.is_empty() && !before.groups.is_empty() && before.files);
    let again = Command::new(scripts().join("up"))
        .env("CLUSTER", &name)
        .env("WITHOUT", WITHOUT)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        again.status.success() && said.contains("runs already"),
        "{said}"
    );
    let after = Traces::of(&name);
    assert_eq!(
        (&after.links, &after.groups),
        (&before.links, &before.groups)
    );
    let first = |traces: &Traces| traces.processes.first().copied();
    assert_eq!(first(&after), first(&before));

    owner.kill();
    until_true("nothing is left of it", DOWN, || {
        Traces::of(&name).are_none()
    });
    // What it had mounted was in its nodes, and none of it here.
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&format!("/clusters/{name}")), "{mounts}");
}

/// What there is of a cluster on this machine.
#[derive(Debug)]
struct Traces {
    processes: BTreeSet<u32>,
    links: BTreeSet<String>,
    groups: BTreeSet<PathBuf>,
    files: bool,
}

impl Traces {
    fn of(name: &str) -> Self {
        let state = states().join(name);
        Self {
            processes: processes(&format!("wsgw-{name}-n"), &state),
            links: names(Path::new("/sys/class/net"))
                .filter(|link| {
                    link == &format!("wsgw-{name}") || link.ends_with(&format!("-{name}"))
                })
                .collect(),
            groups: groups(&format!("wsgw-{name}-n")),
            files: state.exists(),
        }
    }

    fn are_none(&self) -> bool {
        self.processes.is_empty() && self.links.is_empty() && self.groups.is_empty() && !self.files
    }
}

/// Those in its control groups, and those whose command lines or mounts name its folder.
fn processes(group: &str, state: &Path) -> BTreeSet<u32> {
    let state = format!("{}/", state.display());
    let names = |pid: u32, file: &str, text: &str| {
        fs::read(format!("/proc/{pid}/{file}"))
            .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text))
    };
    let pids = names_of_processes();
    pids.filter(|&pid| {
        names(pid, "cgroup", group) || names(pid, "cmdline", &state) || names(pid, "mounts", &state)
    })
    .collect()
}

fn names_of_processes() -> impl Iterator<Item = u32> {
    names(Path::new("/proc")).filter_map(|name| name.parse().ok())
}

/// In every hierarchy, or in the only one.
fn groups(prefix: &str) -> BTreeSet<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = names(root).map(|name| root.join(name));
    hierarchies
        .chain([root.to_owned()])
        .filter(|folder| folder.is_dir())
        .flat_map(|folder| {
            let inside: Vec<PathBuf> = names(&folder)
                .filter(|name| name.starts_with(prefix))
                .map(|name| folder.join(name))
                .collect();
            inside
        })
        .collect()
}

fn names(folder: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}
