//! Real gateways in the place of pods: each listens at its pod's address, with the configuration of its `ConfigMaps`.
//! The test is the kubelet, and brings a changed configuration when it wants to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Pod},
};
use kube::{Api, ResourceExt, runtime::watcher};
use serde_json::Value;
use wsgateway_crds::v1alpha1::WsGateway;
use wsgateway_e2e::{
    cluster::{ControlPlane, FakeNode, Identity, Namespace, PodState, wait_for, wait_for_all},
    http,
    nats::NatsServer,
    operator::{Launch, Operator},
    process::{Process, command},
    program::Program,
    socket::RawSocket,
    volume::Volume,
    wait::{SOON, until_true},
};

use crate::stage::{ACCOUNT, IMAGE, manifest, permit, prepare, says};

/// The `WsGateway`.
pub(crate) const NAME: &str = "chat";

const ROUTES: &str = "[{name: live, path: /ws, fromClient: {type: Echo}}]";

/// A `WsGateway` whose gateways run, and an operator that asks them how they fare every second.
pub(crate) struct Running {
    /// The test's place.
    pub(crate) namespace: Namespace<'static>,
    /// What the gateways are connected to.
    pub(crate) nats: NatsServer,
    /// What says when a pod is ready, and lets it go.
    pub(crate) node: FakeNode,
    /// Its gateways, by the names of their pods.
    pub(crate) gateways: BTreeMap<String, Gateway>,
    operator: Option<Operator>,
}

/// A gateway that runs as a pod.
pub(crate) struct Gateway {
    address: Ipv4Addr,
    live: Volume,
    _process: Process,
}

impl Running {
    /// Starts so many, and awaits that they are ready.
    pub(crate) async fn start(replicas: usize) -> Self {
        let cluster = ControlPlane::shared();
        prepare(cluster);
        let namespace = cluster.namespace();
        permit(cluster, namespace.name(), Some(namespace.name()));
        let node = FakeNode::start(&cluster.client(), namespace.name());
        node.set(PodState::NotReady);
        let mut running = Self {
            namespace,
            nats: NatsServer::start(),
            node,
            gateways: BTreeMap::new(),
            operator: None,
        };
        running.start_operator();
        let url = running.nats.url();
        let spec =
            format!("{{replicas: {replicas}, nats: {{servers: ['{url}']}}, routes: {ROUTES}}}");
        running.namespace.apply(&manifest(NAME, &spec));
        running.start_gateways(replicas).await;
        running.until("Ready=True").await;
        running
    }

    /// Awaits the pods, and starts a gateway for each.
    async fn start_gateways(&mut self, count: usize) {
        let ours = watcher::Config::default().labels(&format!("app.kubernetes.io/instance={NAME}"));
        let what = format!("there are {count} pods");
        let pods = wait_for_all(&self.pods(), ours, &what, SOON, |pods| pods.len() == count).await;
        for pod in pods {
            let gateway = self.start_gateway(&pod).await;
            self.gateways.insert(pod.name_any(), gateway);
        }
        let running: BTreeSet<String> = self.gateways.keys().cloned().collect();
        let running = Arc::new(Mutex::new(running));
        self.node.set_rule(move |pod| {
            if running.lock().unwrap().contains(&pod.name_any()) {
                PodState::Ready
            } else {
                PodState::NotReady
            }
        });
    }

    async fn start_gateway(&self, pod: &Pod) -> Gateway {
        let address = self.node.address(&pod.name_any());
        let boot = format!("{NAME}-boot-{}", pod.labels()["wsgateway.io/boot"]);
        let boot = self.file_of(&boot, "boot.yaml").await;
        assert!(boot.contains("0.0.0.0:"), "{boot}");
        let boot = boot.replace("0.0.0.0:", &format!("{address}:"));
        let live = Volume::with("live.yaml", &self.live_file().await);
        let file = live.path("boot.yaml");
        fs::write(&file, boot).unwrap();
        let mut process = Process::start(
            "wsgateway",
            command(Program::Gateway.expect())
                .arg("--config")
                .arg(&file)
                .arg("--live")
                .arg(live.path("live.yaml")),
        );
        let gateway_admin = SocketAddr::from((address, 9000));
        until_true("the gateway is ready", SOON, || {
            assert!(process.is_running(), "the gateway ended");
            http::try_get(gateway_admin, "/readyz").is_ok_and(|answer| answer.status == 200)
        });
        Gateway {
            address,
            live,
            _process: process,
        }
    }

    async fn file_of(&self, config_map: &str, key: &str) -> String {
        let api: Api<ConfigMap> = self.namespace.api();
        let map = wait_for(&api, config_map, "it is there", SOON, |_| true).await;
        map.data.unwrap()[key].clone()
    }

    /// The live configuration as the `ConfigMap` has it.
    pub(crate) async fn live_file(&self) -> String {
        self.file_of(&format!("{NAME}-live"), "live.yaml").await
    }

    /// Starts the operator.
    pub(crate) fn start_operator(&mut self) {
        let name = self.namespace.name();
        let account = Identity::service_account(name, ACCOUNT);
        let launch = Launch::on(self.namespace.cluster(), &account)
            .watching(&[name])
            .args(&["--image", IMAGE, "--sample-period=1s"]);
        self.operator = Some(Operator::start(&launch));
    }

    /// Stops the operator.
    pub(crate) fn stop_operator(&mut self) {
        let mut operator = self.operator.take().unwrap();
        assert!(operator.stop(SOON).success());
    }

    /// Awaits that the operator has looked so often from now on.
    pub(crate) fn await_looks(&self, count: f64) {
        let operator = self.operator.as_ref().unwrap();
        let looks = || {
            operator
                .metrics()
                .sum("wsgateway_operator_reconciles_total", &[])
        };
        let before = looks();
        until_true("the operator has looked again", SOON, || {
            looks() >= before + count
        });
    }

    /// Merges a patch into the spec.
    pub(crate) fn patch(&self, spec: &Value) {
        let patch = serde_json::json!({ "spec": spec }).to_string();
        let patch = [
            "patch",
            "wsgateway",
            NAME,
            "--type=merge",
            "--patch",
            &patch,
        ];
        self.namespace.kubectl(&patch);
    }

    /// Awaits a condition, `Type=Status/Reason`, of the newest spec.
    pub(crate) async fn until(&self, condition: &str) -> WsGateway {
        self.until_so(condition, |gateway| says(gateway, condition))
            .await
    }

    /// Awaits that something is so.
    pub(crate) async fn until_so(
        &self,
        what: &str,
        is_so: impl Fn(&WsGateway) -> bool,
    ) -> WsGateway {
        wait_for(&self.namespace.api(), NAME, what, SOON, is_so).await
    }

    /// The pods.
    pub(crate) fn pods(&self) -> Api<Pod> {
        self.namespace.api()
    }

    /// The Deployment.
    pub(crate) async fn deployment(&self) -> Deployment {
        let api: Api<Deployment> = self.namespace.api();
        api.get(NAME).await.unwrap()
    }
}

impl Gateway {
    /// Connects a client.
    pub(crate) fn connect(&self) -> RawSocket {
        RawSocket::open(SocketAddr::from((self.address, 8000)), "/ws")
    }

    /// Brings another live configuration, as the kubelet does.
    pub(crate) fn bring(&mut self, live: &str) {
        self.live.update("live.yaml", live);
    }
}
