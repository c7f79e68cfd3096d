//! An admin's way to an API server: by kubectl as a person runs it, and by a client.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use super::{Namespace, blocking};
use crate::{process::command, program::Program};

/// Who has an API server, so that tests can have namespaces on it.
pub trait Cluster: Sync {
    /// The admin's way to it.
    fn admin(&self) -> &Access;

    /// A new namespace.
    fn namespace(&self) -> Namespace<'_, Self>
    where
        Self: Sized,
    {
        Namespace::make(self)
    }

    /// Labels that each of the tests' namespaces has.
    fn namespace_labels(&self) -> &[(&str, &str)] {
        &[]
    }

    /// Whether a namespace gets what a controller manager puts into it.
    fn has_controllers(&self) -> bool {
        true
    }

    /// Tells what helps to understand why a test has failed that had this namespace.
    fn explain(&self, namespace: &str) {
        let _ = namespace;
    }
}

/// A kubeconfig, and what speaks by it.
#[derive(Debug, Clone)]
pub struct Access {
    kubeconfig: PathBuf,
    /// Where programs may keep what they have learnt.
    cache: PathBuf,
}

impl Access {
    /// By a kubeconfig that is there, with a folder for what programs keep.
    pub fn new(kubeconfig: impl Into<PathBuf>, cache: impl Into<PathBuf>) -> Self {
        Self {
            kubeconfig: kubeconfig.into(),
            cache: cache.into(),
        }
    }

    /// The kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A client. It belongs to the runtime in which it was made.
    pub fn client(&self) -> Client {
        Client::try_from(self.config()).unwrap()
    }

    /// What a client is made of, in whatever runtime.
    pub fn config(&self) -> Config {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).unwrap();
        blocking(async move {
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .unwrap()
        })
    }

    /// Runs kubectl, and panics when it fails. Returns what it wrote.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        succeeded("kubectl", arguments, &self.try_kubectl(arguments, ""))
    }

    /// Runs kubectl with `input`.
    pub fn try_kubectl(&self, arguments: &[&str], input: &str) -> Output {
        let mut kubectl = self.program(Program::Kubernetes);
        kubectl.arg("kubectl").args(arguments);
        output(kubectl, input)
    }

    /// A kubectl that is yet to be run, as one that goes on until it is ended.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut kubectl = self.program(Program::Kubernetes);
        kubectl.arg("kubectl").args(arguments);
        kubectl
    }

    /// Runs helm, and panics when it fails. Returns what it wrote.
    pub fn helm(&self, arguments: &[&str]) -> String {
        succeeded("helm", arguments, &self.try_helm(arguments, ""))
    }

    /// Runs helm with `input`.
    pub fn try_helm(&self, arguments: &[&str], input: &str) -> Output {
        let mut helm = self.program(Program::Helm);
        helm.args(arguments);
        output(helm, input)
    }

    /// Applies manifests, by server-side apply, with further arguments of kubectl.
    pub fn apply(&self, arguments: &[&str], manifests: &str) -> String {
        let arguments = [&["apply", "--server-side", "-f", "-"], arguments].concat();
        let output = self.try_kubectl(&arguments, manifests);
        assert!(
            output.status.success(),
            "{}\n{manifests}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn program(&self, program: Program) -> Command {
        let mut command = command(program.expect());
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBECACHEDIR", self.cache.join("kubectl"))
            .env("KUBERC", "off") // The user's own settings are none of a test's.
            .env("HELM_CACHE_HOME", self.cache.join("helm/cache"))
            .env("HELM_CONFIG_HOME", self.cache.join("helm/config"))
            .env("HELM_DATA_HOME", self.cache.join("helm/data"));
        command
    }
}

fn output(mut command: Command, input: &str) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    // It may have refused its arguments and be gone.
    let _ = pipe.write_all(input.as_bytes());
    drop(pipe);
    child.wait_with_output().unwrap()
}

fn succeeded(program: &str, arguments: &[&str], output: &Output) -> String {
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
