//! A real Kubernetes cluster with nodes, as `make cluster-up` makes it: kubelets, containerd, ingress-nginx as class
//! `nginx`, NATS, Prometheus, and the operator from its chart.
//!
//! ```ignore
//! needs!(Cluster, Wscat);
//! let cluster = Kubernetes::shared();              // With others. `Kubernetes::alone()`, for who disturbs them all.
//! let namespace = cluster.namespace();             // It enforces the `restricted` Pod Security level.
//! let host = namespace.host("chat");               // Nobody else's.
//! namespace.apply(&format!("apiVersion: wsgateway.io/v1alpha1 … hosts: [{host}] …"));
//! let gateway = namespace.ready("chat").await;     // The WsGateway. Its conditions are shown where it does not get so.
//!
//! let entrance = namespace.entrance("chat").await; // Address, host, authority.
//! let mut wscat = cluster.wscat(&entrance.url("/ws"), &["--host", &entrance.host]);
//! let pod_answer = cluster.inside(async || http::get(pod_address, "/readyz"));
//! let socket = cluster.inside(async || RawSocket::connect(pod_address)); // It stays inside, whoever uses it.
//! let clients = cluster.spawn_inside(async move { … }); // A thread and a runtime of its own; `clients.join()`.
//! Process::start("tool", cluster.command_inside("tool").arg("--flag"));
//! cluster.nats().publish("orders.new", "1");       // A client of the cluster's NATS.
//! ```
//!
//! - `cluster.admin()` is the way to the API server: `.kubectl(&[…])`, `.helm(&[…])`, `.client()`, `.kubeconfig()`; a
//!   namespace has `.kubectl`, `.apply` and `.api::<Pod>()` of its own. All of these work outside of the nodes.
//! - Pods, Services and the ingress have addresses that only the nodes' network knows: [`Kubernetes::inside`] and its kin
//!   run there, on the first node; [`Kubernetes::node`] gives another. The ingress alone ([`Entrance`]) is also reached
//!   from outside.
//! - The cluster is made when a test first asks for it, and ends with the test process, however that ends. It has two nodes
//!   and no sample. [`Kubernetes::start`] makes one of a test's own.
//! - `WSGATEWAY_E2E_CLUSTER=mine` lets tests use a cluster that is up already and stays so, which saves a minute each time
//!   while a test is being written: `CLUSTER=mine NODES=2 WITHOUT=sample hack/cluster/up` makes it.
//! - When a test fails, its namespace's events, pods and logs are shown, and what the operator and the ingress controller
//!   said.
//!
//! - A thousand clients: [`clients`]; how pods end meanwhile: [`endings`].
//!
//! The modules: [`life`] makes and ends clusters, [`turns`] keeps who disturbs apart from who shares, [`network`] is inside
//! of a node, [`place`] has what a test needs of a `WsGateway`, `explain` tells of failures.

use std::{
    fmt, fs,
    net::{IpAddr, SocketAddr},
    ops::Deref,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kube::Client;

use crate::cluster::{Access, Cluster, Namespace};

pub mod clients;
pub mod endings;
mod explain;
pub mod life;
pub mod network;
pub mod place;
pub mod turns;

pub use life::Options;
pub use network::{Node, Task};
pub use place::Entrance;
pub use turns::Turn;

use life::Life;

/// How long a pod, a rollout or a `WsGateway` may take to become ready on a busy machine.
pub const READY: Duration = Duration::from_secs(120);

/// Where NATS is, inside.
pub const NATS: &str = "nats://10.96.0.42:4222";

/// What the namespaces of tests are held to.
const RESTRICTED: &[(&str, &str)] = &[
    ("pod-security.kubernetes.io/enforce", "restricted"),
    ("pod-security.kubernetes.io/warn", "restricted"),
];

/// A cluster that runs until this is dropped, or this process ends.
pub struct Kubernetes {
    admin: Access,
    nodes: Vec<Node>,
    life: Life,
}

impl Kubernetes {
    /// The one that all tests of this process use, for who does not disturb others.
    pub fn shared() -> Turn {
        turns::with_others(Self::of_all())
    }

    /// The same one for a test that disturbs the others, as who drains a node does. No other test uses it meanwhile. What
    /// was disturbed is to be as it was before this is dropped.
    pub fn alone() -> Turn {
        turns::alone(Self::of_all())
    }

    fn of_all() -> &'static Self {
        static SHARED: OnceLock<Kubernetes> = OnceLock::new();
        static TRIED: AtomicBool = AtomicBool::new(false);
        SHARED.get_or_init(|| {
            // Minutes each, and to the same end.
            let tried = TRIED.swap(true, Ordering::Relaxed);
            assert!(!tried, "the cluster did not come up, as another test tells");
            let options = Options::default();
            Self::of(Life::of_another().unwrap_or_else(|| Life::begin(&options)))
        })
    }

    /// Makes one of the test's own.
    pub fn start(options: &Options) -> Self {
        Self::of(Life::begin(options))
    }

    fn of(life: Life) -> Self {
        let state = life.state();
        Self {
            admin: Access::new(state.join("pki/admin.kubeconfig"), state.join("cache")),
            nodes: (1..=life.nodes())
                .map(|index| Node::of(state, index))
                .collect(),
            life,
        }
    }

    /// Its name, as `CLUSTER` has it for `make cluster-down`.
    pub fn name(&self) -> &str {
        self.life.name()
    }

    /// What hack/cluster/up said, and how long it took.
    pub fn story(&self) -> &str {
        self.life.story()
    }

    /// Where its files are.
    pub fn state(&self) -> &Path {
        self.life.state()
    }

    /// The API server's log, or that of another program of a node.
    pub fn log(&self, node: usize, program: &str) -> String {
        let file: PathBuf = self
            .state()
            .join(format!("nodes/n{node}/log/{program}.log"));
        fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    /// A node, `n1` by 1.
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number - 1]
    }

    /// Its nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// An admin's client. It belongs to the runtime in which it was made.
    pub fn client(&self) -> Client {
        self.admin.client()
    }

    /// A namespace of the test's own, which enforces the `restricted` Pod Security level.
    pub fn namespace(&self) -> Namespace<'_, Self> {
        Cluster::namespace(self)
    }

    /// Where the ingress controller listens with TLS, inside and outside.
    pub fn ingress(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.node(1).address()), 443)
    }
}

impl Cluster for Kubernetes {
    fn admin(&self) -> &Access {
        &self.admin
    }

    fn namespace_labels(&self) -> &[(&str, &str)] {
        RESTRICTED
    }

    fn explain(&self, namespace: &str) {
        explain::explain(&self.admin, namespace);
    }
}

/// What is done inside is done on the first node.
impl Deref for Kubernetes {
    type Target = Node;

    fn deref(&self) -> &Node {
        self.node(1)
    }
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
