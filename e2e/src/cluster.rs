//! A real Kubernetes control plane on free ports of this machine: etcd, the API server, the controller
//! manager, and kubectl. No node runs; [`FakeNode`] plays the kubelet.
//!
//! ```ignore
//! let cluster = ControlPlane::shared();          // Or `start()`, for a test that restarts it.
//! cluster.install_crd();
//! let namespace = cluster.namespace();
//! let client = cluster.client();                 // An admin's. In a tokio runtime, which it belongs to.
//! namespace.apply(MANIFEST);
//! let node = FakeNode::start(&client, namespace.name());
//! let api: Api<Deployment> = Api::namespaced(client, namespace.name());
//! wait_for(&api, "chat", "it is available", SOON, |deployment| …).await;
//! ```
//!
//! The modules: [`pki`] and [`identity`] say who is who, `programs` has the command lines, [`access`] and `kubectl` speak as
//! a person does, [`namespace`] is a test's own place, [`crds`] installs CRDs, [`requests`] counts what the API server was asked,
//! [`waiting`] awaits objects, [`fake_node`] makes pods run, and [`proxy`] answers otherwise than the API server would.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, MutexGuard, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::{
    directory::Directory,
    port::Port,
    process::{Process, lasting},
    wait::until,
};

pub mod access;
pub mod crds;
pub mod fake_node;
pub mod identity;
mod kubectl;
pub mod namespace;
pub mod pki;
mod programs;
pub mod proxy;
pub mod requests;
pub mod waiting;

pub use access::{Access, Cluster};
pub use crds::Optional;
pub use fake_node::{FakeNode, PodState};
pub use identity::Identity;
pub use namespace::Namespace;
pub use proxy::{Answer, Proxy};
pub use requests::Requests;
pub use waiting::{says, wait_for, wait_for_all, wait_gone};

use pki::Pki;

/// How long the control plane may take to begin on a busy machine.
const START: Duration = Duration::from_secs(120);

/// Its first try may meet a program that is just being killed and still writes.
const JANITOR: &str = "cat >/dev/null; rm -rf \"$1\" 2>/dev/null || { sleep 1; rm -rf \"$1\"; }";

/// What a control plane is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether Deployments become pods, and what belongs to a deleted object goes.
    pub controller_manager: bool,
    /// Whether pods are given to the nodes that are there. A [`FakeNode`] takes its pods without it.
    pub scheduler: bool,
    /// Further arguments of the API server.
    pub api_server: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            controller_manager: true,
            scheduler: false,
            api_server: Vec::new(),
        }
    }
}

/// A control plane that runs until this is dropped, or this process ends.
pub struct ControlPlane {
    options: Options,
    pki: Pki,
    ports: Ports,
    etcd: Mutex<Option<Process>>,
    api_server: Mutex<Option<Process>>,
    controller_manager: Mutex<Option<Process>>,
    scheduler: Mutex<Option<Process>>,
    /// The CRDs that are installed.
    installed: Mutex<BTreeSet<String>>,
    admin: OnceLock<Access>,
    ready_after: Duration,
    directory: Directory,
    /// Removes the folder where this is never dropped. Its end of the pipe tells it that this process is gone.
    _janitor: Process,
}

/// What its programs listen on.
#[derive(Debug)]
struct Ports {
    etcd: Port,
    etcd_peer: Port,
    api_server: Port,
}

impl ControlPlane {
    /// Starts one of the test's own, for who restarts it, or touches what belongs to the whole cluster.
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// As [`ControlPlane::start`], with other options.
    pub fn start_with(options: Options) -> Self {
        let begin = Instant::now();
        let directory = Directory::make();
        let mut cluster = Self {
            options,
            pki: Pki::write(directory.path()),
            ports: Ports {
                etcd: Port::lease(),
                etcd_peer: Port::lease(),
                api_server: Port::lease(),
            },
            etcd: Mutex::default(),
            api_server: Mutex::default(),
            controller_manager: Mutex::default(),
            scheduler: Mutex::default(),
            installed: Mutex::default(),
            admin: OnceLock::new(),
            ready_after: Duration::ZERO,
            _janitor: janitor(directory.path()),
            directory,
        };
        *held(&cluster.etcd) = Some(run("etcd", programs::etcd(&cluster)));
        cluster.start_api_server();
        if cluster.options.controller_manager {
            cluster.start_controller_manager();
        }
        if cluster.options.scheduler {
            let mut scheduler = held(&cluster.scheduler);
            *scheduler = Some(run("kube-scheduler", programs::scheduler(&cluster)));
        }
        cluster.await_default_account();
        cluster.ready_after = begin.elapsed();
        cluster
    }

    /// The one that all tests of this process use, each in a [`Namespace`] of its own. It ends with the process.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<ControlPlane> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// How long it took from nothing until it was ready.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// Where the API server listens, such as `https://127.0.0.1:20001`.
    pub fn url(&self) -> String {
        format!("https://{}", self.ports.api_server.address())
    }

    /// Where its files are, for as long as it runs.
    pub fn folder(&self) -> &Path {
        self.directory.path()
    }

    /// The process ids of what runs.
    pub fn pids(&self) -> Vec<u32> {
        let programs = [
            &self.etcd,
            &self.api_server,
            &self.controller_manager,
            &self.scheduler,
        ];
        programs
            .iter()
            .filter_map(|program| held(program).as_ref().map(Process::pid))
            .collect()
    }

    /// Kills the API server, as a node's failure does. What watches it sees connections reset.
    pub fn stop_api_server(&self) {
        *held(&self.api_server) = None;
    }

    /// Starts the API server on its old port with the old data, and awaits that it is ready.
    pub fn start_api_server(&self) {
        *held(&self.api_server) = Some(run("kube-apiserver", programs::api_server(self)));
        self.await_ready();
    }

    /// Kills the API server and starts it again.
    pub fn restart_api_server(&self) {
        self.stop_api_server();
        self.start_api_server();
    }

    /// Ends the controller manager, so that nothing makes pods or collects garbage.
    pub fn stop_controller_manager(&self) {
        *held(&self.controller_manager) = None;
    }

    /// Starts the controller manager.
    pub fn start_controller_manager(&self) {
        let process = run(
            "kube-controller-manager",
            programs::controller_manager(self),
        );
        *held(&self.controller_manager) = Some(process);
    }

    /// The file by which a program speaks as `identity`. A service account must be there.
    pub fn kubeconfig(&self, identity: &Identity) -> PathBuf {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let text = identity.kubeconfig(self, &self.pki);
        self.directory.write(&format!("{number}.kubeconfig"), text)
    }

    /// An admin's client. It belongs to the runtime in which it was made.
    pub fn client(&self) -> Client {
        self.admin().client()
    }

    /// A client that speaks as `identity`.
    pub fn client_as(&self, identity: &Identity) -> Client {
        Client::try_from(self.config(identity)).unwrap()
    }

    fn config(&self, identity: &Identity) -> Config {
        let text = identity.kubeconfig(self, &self.pki);
        blocking(async move {
            let kubeconfig = Kubeconfig::from_yaml(&text).unwrap();
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .unwrap()
        })
    }

    fn await_ready(&self) {
        let what = "the API server is ready";
        // A client for each question: one that was refused a connection may wait before the next.
        until(what, START, || {
            let running = held(&self.api_server)
                .as_mut()
                .is_some_and(Process::is_running);
            assert!(running, "the API server ended:\n{}", self.api_server_log());
            let config = self.config(&Identity::Admin);
            blocking(async move {
                let client = Client::try_from(config).unwrap();
                let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
                client.request_text(request).await.ok()
            })
        });
    }

    /// Every pod needs one, and the controller manager makes it: then both work.
    fn await_default_account(&self) {
        if self.options.controller_manager {
            let config = self.config(&Identity::Admin);
            blocking(async move {
                let client = Client::try_from(config).unwrap();
                namespace::await_default_account(client, "default", START).await;
            });
        }
    }

    /// The API server's last lines.
    pub fn api_server_log(&self) -> String {
        held(&self.api_server)
            .as_ref()
            .map(Process::last_lines)
            .unwrap_or_default()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // They are gone before their files are.
        for program in [
            &self.scheduler,
            &self.controller_manager,
            &self.api_server,
            &self.etcd,
        ] {
            *held(program) = None;
        }
    }
}

impl fmt::Debug for ControlPlane {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.url())
    }
}

/// A lock that a test which failed has held before is as good as any.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn run(name: &'static str, mut command: Command) -> Process {
    lasting(move || Process::start(name, &mut command))
}

/// Removes `folder` once this process is gone. The shared control plane is never dropped, and a test run may be killed.
fn janitor(folder: &Path) -> Process {
    let mut command = Command::new("sh");
    command.args(["-c", JANITOR, "janitor"]).arg(folder);
    Process::start("janitor", &mut command)
}

/// Runs what is async where the caller is not, or is in a runtime that must not be held up by waiting.
pub(crate) fn blocking<T: Send>(work: impl Future<Output = T> + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(work)
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
