//! kubectl and a namespace, as the control plane's users have them.

use std::process::Output;

use super::{Access, Cluster, ControlPlane, Identity, Namespace};

impl Cluster for ControlPlane {
    fn admin(&self) -> &Access {
        let cache = self.directory.path();
        self.admin
            .get_or_init(|| Access::new(self.kubeconfig(&Identity::Admin), cache))
    }

    fn has_controllers(&self) -> bool {
        self.options.controller_manager
    }
}

impl ControlPlane {
    /// A new namespace.
    pub fn namespace(&self) -> Namespace<'_> {
        Cluster::namespace(self)
    }

    /// Runs kubectl as an admin, and panics when it fails. Returns what it wrote.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.admin().kubectl(arguments)
    }

    /// Runs kubectl as `identity`, with `input`.
    pub fn try_kubectl(&self, identity: &Identity, arguments: &[&str], input: &str) -> Output {
        match identity {
            Identity::Admin => self.admin().try_kubectl(arguments, input),
            _ => Access::new(self.kubeconfig(identity), self.directory.path())
                .try_kubectl(arguments, input),
        }
    }

    /// Applies manifests as an admin, by server-side apply.
    pub fn apply(&self, manifests: &str) -> String {
        self.admin().apply(&[], manifests)
    }
}
