//! A control plane of a test's own, for what the tests on the shared one would notice: its API server ends, definitions
//! come and go, permissions change. Its operator has the chart's permissions, as on every [`Stage`](crate::stage::Stage).

use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use wsgateway_crds::v1alpha1::WsGateway;
use wsgateway_e2e::{
    cluster::{ControlPlane, FakeNode, Identity, wait_for},
    operator::Launch,
    wait::SOON,
};

use crate::stage::{Mode, launch, manifest, permit_with, prepare, says};

/// Where the `WsGateways` are. It is there from the beginning.
pub(crate) const NAMESPACE: &str = "default";

/// Where the operator lives.
pub(crate) const OPERATOR_NAMESPACE: &str = "wsgateway-system";

/// A control plane whose operator is yet to be started.
pub(crate) struct Own {
    /// The programs.
    pub(crate) cluster: ControlPlane,
    /// An admin's.
    pub(crate) client: Client,
    mode: Mode,
    _node: FakeNode,
}

impl Own {
    /// Starts it. `values` are further ones of the chart, such as `secretAccess=Namespaced`.
    pub(crate) fn start(mode: Mode, values: &[&str]) -> Self {
        let cluster = ControlPlane::start();
        prepare(&cluster);
        cluster.kubectl(&["create", "namespace", OPERATOR_NAMESPACE]);
        let watched = (mode == Mode::Namespaced).then_some(NAMESPACE);
        permit_with(&cluster, OPERATOR_NAMESPACE, watched, values);
        let client = cluster.client();
        Self {
            mode,
            _node: FakeNode::start(&client, NAMESPACE),
            client,
            cluster,
        }
    }

    /// How an operator is started on it.
    pub(crate) fn launch(&self) -> Launch {
        let launch = launch(&self.cluster, OPERATOR_NAMESPACE);
        match self.mode {
            Mode::Cluster => launch,
            Mode::Namespaced => launch.watching(&[NAMESPACE]),
        }
    }

    /// Applies a `WsGateway` of this name and spec, in flow style.
    pub(crate) fn apply(&self, name: &str, spec: &str) {
        self.cluster.apply(&manifest(name, spec));
    }

    /// The objects of a kind.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Awaits that a condition of a `WsGateway` has a status and a reason, as `Stage::until` does.
    pub(crate) async fn until(&self, name: &str, condition: &str) -> WsGateway {
        self.until_within(name, condition, SOON).await
    }

    /// The same with a limit of its own.
    pub(crate) async fn until_within(
        &self,
        name: &str,
        condition: &str,
        within: Duration,
    ) -> WsGateway {
        wait_for(&self.api(), name, condition, within, |gateway| {
            says(gateway, condition)
        })
        .await
    }

    /// kubectl as an admin, with what it is to read.
    pub(crate) fn try_kubectl(&self, arguments: &[&str], input: &str) -> std::process::Output {
        self.cluster.try_kubectl(&Identity::Admin, arguments, input)
    }
}
