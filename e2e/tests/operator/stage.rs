//! Where the operator's tests play: a namespace with a node, and an operator with the permissions that the chart gives
//! it, in either of its modes.

use std::{process::Command, sync::OnceLock, time::Duration};

use kube::{Api, Client};
use serde_json::json;
use wsgateway_crds::v1alpha1::WsGateway;
use wsgateway_e2e::{
    cluster::{ControlPlane, FakeNode, Identity, Namespace, wait_for},
    operator::{Launch, Operator},
    program::Program,
    wait::SOON,
};

pub(crate) use wsgateway_e2e::cluster::says;

/// The image that the tests' operators give to gateways.
pub(crate) const IMAGE: &str = "test.local/wsgateway:1";

/// The name of the operator's service account, as the chart calls it.
pub(crate) const ACCOUNT: &str = "wsgateway-operator";

/// What an operator is allowed to watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Everything, by a `ClusterRole`; no Secret is listed or watched.
    Cluster,
    /// One namespace, by a Role alone.
    Namespaced,
}

/// A namespace with a node, and an operator that looks after it.
pub(crate) struct Stage {
    /// What the operator is allowed.
    pub(crate) mode: Mode,
    /// The test's place.
    pub(crate) namespace: Namespace<'static>,
    /// What makes its pods run.
    pub(crate) node: FakeNode,
    /// An admin's.
    pub(crate) client: Client,
    /// Ends with the test. In cluster mode there is one for all tests.
    _operator: Option<Operator>,
}

/// Each test in both modes, under the permissions of each.
macro_rules! in_both_modes {
    ($($test:ident),* $(,)?) => {
        mod cluster_mode {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    wsgateway_e2e::needs!(Kubernetes, Helm, Crds);
                    super::$test($crate::stage::Stage::set($crate::stage::Mode::Cluster)).await;
                }
            )*
        }
        mod namespaced_mode {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    wsgateway_e2e::needs!(Kubernetes, Helm, Crds);
                    super::$test($crate::stage::Stage::set($crate::stage::Mode::Namespaced)).await;
                }
            )*
        }
    };
}
pub(crate) use in_both_modes;

impl Stage {
    /// Sets it.
    pub(crate) fn set(mode: Mode) -> Self {
        match mode {
            Mode::Cluster => {
                let cluster = cluster_wide();
                Self::of(mode, cluster.namespace(), None)
            }
            Mode::Namespaced => {
                let cluster = ControlPlane::shared();
                prepare(cluster);
                let namespace = cluster.namespace();
                permit(cluster, namespace.name(), Some(namespace.name()));
                let launch = launch(cluster, namespace.name()).watching(&[namespace.name()]);
                let operator = Operator::start(&launch);
                Self::of(mode, namespace, Some(operator))
            }
        }
    }

    fn of(mode: Mode, namespace: Namespace<'static>, operator: Option<Operator>) -> Self {
        let client = namespace.cluster().client();
        Self {
            mode,
            node: FakeNode::start(&client, namespace.name()),
            client,
            namespace,
            _operator: operator,
        }
    }

    /// Applies a `WsGateway` of this name and spec, in flow style, that closes clients quickly. Its host is named for it, so
    /// no two tests may have the same name: in cluster mode one operator sees them all, and the older keeps the host.
    pub(crate) fn apply(&self, name: &str, spec: &str) {
        self.namespace.apply(&manifest(name, spec));
    }

    /// The `WsGateways`.
    pub(crate) fn gateways(&self) -> Api<WsGateway> {
        self.namespace.api()
    }

    /// Awaits that a condition of a `WsGateway` has a status and a reason, `Type=Status/Reason` or `Type=Status`, of its
    /// newest spec.
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
        wait_for(&self.gateways(), name, condition, within, |gateway| {
            says(gateway, condition)
        })
        .await
    }
}

/// A `WsGateway` whose rollouts take no longer than they must.
pub(crate) fn manifest(name: &str, spec: &str) -> String {
    let mut gateway: serde_json::Value = serde_saphyr::from_str(&format!(
        "{{apiVersion: wsgateway.io/v1alpha1, kind: WsGateway, metadata: {{name: {name}}}, spec: {spec}}}"
    ))
    .unwrap();
    let spec = gateway["spec"].as_object_mut().unwrap();
    for (field, value) in [
        ("nats", json!({"servers": ["nats://nats.test:4222"]})),
        ("routes", json!([{"name": "live", "path": "/ws"}])),
        (
            "rollout",
            json!({"propagation": "0s", "drain": {"period": "0s"}}),
        ),
    ] {
        spec.entry(field).or_insert(value);
    }
    let hosts = json!([format!("{name}.example.com")]);
    let exposure = spec.entry("exposure").or_insert(json!({}));
    let exposure = exposure.as_object_mut().unwrap();
    exposure.entry("hosts").or_insert(hosts);
    let is_ingress = exposure.get("type").is_none_or(|type_| type_ == "Ingress");
    if is_ingress && !exposure.contains_key("ingress") {
        exposure.insert("ingress".to_owned(), json!({"className": "f5"}));
        // Where namespaces alone are watched, the class cannot be read.
        exposure
            .entry("controller")
            .or_insert(json!("nginx.org/ingress-controller"));
    }
    gateway.to_string()
}

/// How an operator is started that runs as the chart's service account of a namespace.
pub(crate) fn launch(cluster: &ControlPlane, namespace: &str) -> Launch {
    let account = Identity::service_account(namespace, ACCOUNT);
    Launch::on(cluster, &account).args(&["--image", IMAGE])
}

/// The control plane with an operator that watches all of it.
fn cluster_wide() -> &'static ControlPlane {
    static CLUSTER: OnceLock<(ControlPlane, Operator)> = OnceLock::new();
    let (cluster, _) = CLUSTER.get_or_init(|| {
        let cluster = ControlPlane::start();
        prepare(&cluster);
        let namespace = "wsgateway-system";
        cluster.kubectl(&["create", "namespace", namespace]);
        permit(&cluster, namespace, None);
        let operator = Operator::start(&launch(&cluster, namespace));
        (cluster, operator)
    });
    cluster
}

/// What every control plane of these tests has.
pub(crate) fn prepare(cluster: &ControlPlane) {
    cluster.install_crd();
    for (name, controller) in [
        ("f5", "nginx.org/ingress-controller"),
        ("community", "k8s.io/ingress-nginx"),
        ("other", "example.com/ingress"),
    ] {
        cluster.apply(
            &json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
                "metadata": {"name": name}, "spec": {"controller": controller},
            })
            .to_string(),
        );
    }
}

/// Gives the operator of a namespace what the chart gives it: for one watched namespace, or for all.
pub(crate) fn permit(cluster: &ControlPlane, namespace: &str, watched: Option<&str>) {
    permit_with(cluster, namespace, watched, &[]);
}

/// The same with further values of the chart, such as `secretAccess=Namespaced`.
pub(crate) fn permit_with(
    cluster: &ControlPlane,
    namespace: &str,
    watched: Option<&str>,
    values: &[&str],
) {
    let mut helm = Command::new(Program::Helm.expect());
    helm.args(["template", ACCOUNT, "--kube-version=1.36.0"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/wsgateway"))
        .args(["--namespace", namespace, "--set", "crds.enabled=false"]);
    if let Some(watched) = watched {
        helm.args(["--set", &format!("watchNamespaces={{{watched}}}")]);
    }
    for value in values {
        helm.args(["--set", value]);
    }
    let output = helm.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let kinds = [
        "ServiceAccount",
        "Role",
        "RoleBinding",
        "ClusterRole",
        "ClusterRoleBinding",
    ];
    let wanted = text.split("\n---\n").filter(|document| {
        kinds
            .iter()
            .any(|kind| document.contains(&format!("\nkind: {kind}\n")))
    });
    let wanted: Vec<&str> = wanted.collect();
    cluster.apply(&wanted.join("\n---\n"));
}
