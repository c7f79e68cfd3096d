//! The operator as a process.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    cluster::{ControlPlane, Identity, Proxy},
    http::{self, Metrics},
    port::Port,
    process::{Line, Process, command, lasting},
    program::Program,
    wait::{SOON, until_true},
};

/// How an operator is to be started.
#[derive(Debug, Clone)]
pub struct Launch {
    kubeconfig: PathBuf,
    /// Where the lease is unless the arguments say otherwise; `None`: in the namespace of the kubeconfig.
    lease_namespace: Option<String>,
    account: bool,
    arguments: Vec<String>,
    program: PathBuf,
}

impl Launch {
    /// One that speaks as `identity` and watches the whole cluster.
    pub fn on(cluster: &ControlPlane, identity: &Identity) -> Self {
        Self {
            kubeconfig: cluster.kubeconfig(identity),
            lease_namespace: None,
            account: matches!(identity, Identity::ServiceAccount { .. }),
            arguments: Vec::new(),
            program: Program::Operator.expect(),
        }
    }

    /// Watches these namespaces alone. One that does not run as a service account, which has a namespace, keeps its lease
    /// in the first of them, apart from the operators of other tests.
    #[must_use]
    pub fn watching(mut self, namespaces: &[&str]) -> Self {
        if !self.account {
            self.lease_namespace = namespaces.first().map(ToString::to_string);
        }
        namespaces.iter().fold(self, |launch, namespace| {
            launch.args(&["--watch-namespace", namespace])
        })
    }

    /// With further arguments.
    #[must_use]
    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// Speaks to the API server by way of a proxy, as the service account that it is.
    #[must_use]
    pub fn through(mut self, proxy: &Proxy) -> Self {
        assert!(self.account, "only a token goes through a proxy");
        let text = fs::read_to_string(&self.kubeconfig).unwrap();
        let mut kubeconfig: Value = serde_json::from_str(&text).unwrap();
        kubeconfig["clusters"][0]["cluster"] = json!({"server": proxy.url()});
        self.kubeconfig = self.kubeconfig.with_extension("by-proxy");
        fs::write(&self.kubeconfig, kubeconfig.to_string()).unwrap();
        self
    }

    /// Another binary than the one that `make build` made.
    #[must_use]
    pub fn program(mut self, program: &Path) -> Self {
        program.clone_into(&mut self.program);
        self
    }

    /// Starts it, and does not wait for anything.
    pub fn start(&self) -> Operator {
        let admin = Port::lease();
        let mut command = command(&self.program);
        command
            .arg(format!("--admin={}", admin.address()))
            .args(&self.arguments)
            .env("KUBECONFIG", &self.kubeconfig);
        if let Some(namespace) = &self.lease_namespace {
            command.env("WSGATEWAY_LEASE_NAMESPACE", namespace);
        }
        let process = lasting(move || Process::start("wsgateway-operator", &mut command));
        Operator { process, admin }
    }
}

/// An operator that runs until this is dropped.
#[derive(Debug)]
pub struct Operator {
    process: Process,
    admin: Port,
}

impl Operator {
    /// Starts one, and awaits that it is ready.
    pub fn start(launch: &Launch) -> Self {
        let mut operator = launch.start();
        operator.await_ready(SOON);
        operator
    }

    /// Where it serves `/livez`, `/readyz` and `/metrics`.
    pub fn admin(&self) -> SocketAddr {
        self.admin.address()
    }

    /// Awaits that it says that it is ready.
    pub fn await_ready(&mut self, within: Duration) {
        let admin = self.admin();
        until_true("the operator is ready", within, || {
            assert!(self.process.is_running(), "the operator ended");
            http::try_get(admin, "/readyz").is_ok_and(|answer| answer.status == 200)
        });
    }

    /// Its metrics.
    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&http::get(self.admin(), "/metrics").text())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// All its lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.process.lines()
    }

    /// The next line, after the one that this returned last, that holds `text`.
    pub fn line(&mut self, text: &str, within: Duration) -> Line {
        self.process.line(text, within)
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Stops it as Kubernetes does, and awaits its end.
    pub fn stop(&mut self, within: Duration) -> ExitStatus {
        self.process.signal(Signal::SIGTERM);
        self.process.exit(within)
    }

    /// Stops it as a machine does that has no time for it: it says nothing, and does not know.
    pub fn freeze(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.process.signal(Signal::SIGCONT);
    }

    /// Kills it, without a chance to say a word.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}
