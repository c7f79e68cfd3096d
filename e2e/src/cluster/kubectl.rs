//! kubectl, as a person runs it.

use std::{
    io::Write,
    process::{Output, Stdio},
};

use super::{ControlPlane, Identity};
use crate::{process::command, program::Program};

impl ControlPlane {
    /// Runs kubectl as an admin, and panics when it fails. Returns what it wrote.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(&Identity::Admin, arguments, "");
        assert!(
            output.status.success(),
            "kubectl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs kubectl as `identity`, with `input`.
    pub fn try_kubectl(&self, identity: &Identity, arguments: &[&str], input: &str) -> Output {
        let mut kubectl = command(Program::Kubernetes.expect());
        kubectl
            .arg("kubectl")
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig(identity))
            .env("KUBECACHEDIR", self.directory.path().join("kubectl"))
            .env("KUBERC", "off") // The user's own settings are none of a test's.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = kubectl.spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(input.as_bytes()).unwrap();
        drop(pipe);
        child.wait_with_output().unwrap()
    }

    /// Applies manifests as an admin, by server-side apply.
    pub fn apply(&self, manifests: &str) -> String {
        self.apply_with(&[], manifests)
    }

    pub(super) fn apply_with(&self, arguments: &[&str], manifests: &str) -> String {
        let arguments = [&["apply", "--server-side", "-f", "-"], arguments].concat();
        let output = self.try_kubectl(&Identity::Admin, &arguments, manifests);
        assert!(
            output.status.success(),
            "{}\n{manifests}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}
