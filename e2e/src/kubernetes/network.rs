//! A node, and what is done in its network, where pods and Services have their addresses.

use std::{
    ffi::OsStr,
    fs::{self, File},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    thread::{self, JoinHandle},
};

use nix::sched::{CloneFlags, setns};
use tokio::runtime::{Builder, Runtime};

use super::{Kubernetes, NATS};
use crate::{nats::Nats, process::command, program::Program, websocat::Websocat, wscat::Wscat};

/// A node.
#[derive(Debug)]
pub struct Node {
    number: usize,
    /// Its first process, whose namespaces are the node's.
    pid: u32,
    address: Ipv4Addr,
}

impl Node {
    pub(super) fn of(state: &Path, number: usize) -> Self {
        let process = fs::read_to_string(state.join(format!("nodes/n{number}/process"))).unwrap();
        let cluster = fs::read_to_string(state.join("number")).unwrap();
        let cluster: u8 = cluster.trim().parse().unwrap();
        let own = u8::try_from(number + 1).expect("a cluster should have less than ten nodes");
        Self {
            number,
            pid: process.split(' ').next().unwrap().parse().unwrap(),
            address: Ipv4Addr::new(10, 231, cluster, own),
        }
    }

    /// What Kubernetes calls it.
    pub fn node_name(&self) -> String {
        format!("n{}", self.number)
    }

    /// Its address, which this machine reaches too.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its first process, as this machine numbers it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Does `work` in the node's network, on a thread of its own with a runtime of its own, and waits for it. Sockets that
    /// are made there stay there, whoever uses them later.
    pub fn inside<T: Send>(&self, work: impl AsyncFnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| self.enter().block_on(work()));
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The same, while the test goes on.
    pub fn spawn_inside<T: Send + 'static>(
        &self,
        work: impl AsyncFnOnce() -> T + Send + 'static,
    ) -> Task<T> {
        let network = self.network();
        // Such that a failure is told under the test's name.
        let name = thread::current().name().unwrap_or("inside").to_owned();
        let thread = thread::Builder::new()
            .name(name)
            .spawn(move || enter(&network).block_on(work()))
            .unwrap();
        Task(thread)
    }

    /// A program that will run in the node's network, and sees this machine's files. It ends with the test's thread, as
    /// those of [`command`] do.
    pub fn command_inside(&self, program: impl AsRef<OsStr>) -> Command {
        let mut inside = command("nsenter");
        inside
            .arg(format!("--net={}", self.network().display()))
            .arg("--")
            .arg(program);
        inside
    }

    /// A wscat inside, connected. The certificate is not checked.
    pub fn wscat(&self, url: &str, options: &[&str]) -> Wscat {
        let mut wscat = self.try_wscat(url, options);
        wscat.connected();
        wscat
    }

    /// A wscat inside that has been started.
    pub fn try_wscat(&self, url: &str, options: &[&str]) -> Wscat {
        Wscat::of(
            self.command_inside(Program::Wscat.expect()),
            url,
            &[&["--no-check"], options].concat(),
        )
    }

    /// A websocat inside, whose lines are messages. The certificate is not checked.
    pub fn websocat(&self, url: &str, options: &[&str]) -> Websocat {
        Websocat::of(
            self.command_inside(Program::Websocat.expect()),
            url,
            options,
        )
    }

    /// A client of the cluster's NATS.
    pub fn nats(&self) -> Nats {
        // Its runtime is made inside, so that its threads are there.
        self.inside(async || {
            // Not in this runtime: the client has one.
            thread::scope(|scope| scope.spawn(|| Nats::connect(NATS)).join().unwrap())
        })
    }

    /// Its network, as a file of this machine.
    pub fn network(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.pid))
    }

    fn enter(&self) -> Runtime {
        enter(&self.network())
    }
}

/// Moves this thread alone into a network, and those that it will start, and gives it a runtime.
pub(super) fn enter(network: &Path) -> Runtime {
    let namespace =
        File::open(network).unwrap_or_else(|error| panic!("{}: {error}", network.display()));
    setns(namespace, CloneFlags::CLONE_NEWNET).expect("root should be let into a network");
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// What goes on inside while the test does something else.
#[derive(Debug)]
pub struct Task<T>(JoinHandle<T>);

impl<T> Task<T> {
    /// Awaits its end, and fails as it failed.
    pub fn join(self) -> T {
        self.0
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl Kubernetes {
    /// The process of a container, as this machine numbers it: the one whose command line begins with `program` in the
    /// pod of this name.
    pub fn process_of(&self, namespace: &str, pod: &str, program: &str) -> Vec<u32> {
        let uid = super::place::pod_uid(&self.admin, namespace, pod);
        let in_pod = |pid: u32| {
            fs::read_to_string(format!("/proc/{pid}/cgroup"))
                .is_ok_and(|groups| groups.contains(&uid))
        };
        let pids = fs::read_dir("/proc").unwrap().flatten();
        pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|&pid| in_pod(pid))
            .filter(|&pid| {
                crate::resources::command_line(pid)
                    .first()
                    .is_some_and(|word| word.contains(program))
            })
            .collect()
    }
}
