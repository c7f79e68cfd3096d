//! From `kubectl apply` to ready, and what becomes of a `WsGateway` after that.
//!
//! All `WsGateways` of one operator share its hosts, so each test gives its own another name.

mod changes;
mod exposure;
mod refusal;
mod scale;
mod tls;

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount},
    networking::v1::Ingress,
};
use kube::{Api, ResourceExt, api::ListParams, runtime::watcher};
use serde_json::{Value, json};
use wsgateway_crds::v1alpha1::WsGateway;
use wsgateway_e2e::{
    cluster::{PodState, wait_for, wait_for_all, wait_gone},
    wait::SOON,
};

use crate::{
    objects::{await_object, meddle, objects, value},
    stage::{IMAGE, Stage, in_both_modes, says},
};

in_both_modes!(
    an_applied_gateway_becomes_ready,
    kubectl_waits_and_shows,
    nothing_is_repaired_while_paused,
    a_deleted_gateway_leaves_nothing_behind,
);

/// Merges a patch into the spec of a `WsGateway`.
pub(crate) async fn change(stage: &Stage, name: &str, spec: Value) {
    let gateways = objects(&stage.client, stage.namespace.name(), "wsgateways");
    meddle(&gateways, name, &json!({ "spec": spec })).await;
}

/// Whether there is an object.
pub(crate) async fn is_there(stage: &Stage, plural: &str, name: &str) -> bool {
    let api = objects(&stage.client, stage.namespace.name(), plural);
    api.get_opt(name).await.unwrap().is_some()
}

/// Awaits that an object is there, or that it is not.
pub(crate) async fn await_presence(stage: &Stage, plural: &str, name: &str, shall_be: bool) {
    let api = objects(&stage.client, stage.namespace.name(), plural);
    let what = format!("{plural}/{name} is there: {shall_be}");
    await_object(&api, name, &what, |found| found.is_some() == shall_be).await;
}

async fn an_applied_gateway_becomes_ready(stage: Stage) {
    stage.apply("chat", "{replicas: 2}");
    stage.until("chat", "Ready=True").await;
    // One of two is enough to be ready.
    let gateway = stage.until("chat", "GatewayAvailable=True/AllReady").await;
    let status = gateway.status.unwrap();
    assert_eq!(status.url.as_deref(), Some("wss://chat.example.com/ws"));
    assert_eq!((status.replicas, status.ready_replicas), (Some(2), Some(2)));
    let deployments: Api<Deployment> = stage.namespace.api();
    let deployment = deployments.get("chat").await.unwrap();
    let pod = deployment.spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.containers[0].image.as_deref(), Some(IMAGE));
    let ingresses: Api<Ingress> = stage.namespace.api();
    let ingress = ingresses.get("chat").await.unwrap();
    let annotations = ingress.metadata.annotations.unwrap();
    assert_eq!(annotations["nginx.org/websocket-services"], "chat");
    let secrets: Api<Secret> = stage.namespace.api();
    assert!(secrets.get("chat-tls").await.unwrap().data.is_some());
    let services: Api<Service> = stage.namespace.api();
    services.get("chat").await.unwrap();
    let maps: Api<ConfigMap> = stage.namespace.api();
    wait_for(&maps, "chat-live", "it is there", SOON, |_| true).await;
}

/// `kubectl wait` and tools that read kstatus see it become ready, and the columns say what there is to say.
async fn kubectl_waits_and_shows(stage: Stage) {
    stage.node.set(PodState::NotReady);
    stage.apply("shown", "{replicas: 2}");
    let starting = stage.until("shown", "Reconciling=True/RollingOut").await;
    for condition in [
        "Ready=False",
        "GatewayAvailable=False",
        "Accepted=True",
        "Stalled=False",
    ] {
        assert!(
            says(&starting, condition),
            "{condition}: {:?}",
            starting.status
        );
    }
    assert_eq!(
        columns(&stage, &[])[..4],
        ["shown", "False", "2", "0"].map(str::to_owned)
    );
    stage.node.set(PodState::Ready);
    let wait = [
        "wait",
        "--for=condition=Ready",
        "wsgw/shown",
        "--timeout=20s",
    ];
    stage.namespace.kubectl(&wait);
    let ready = stage.until("shown", "Reconciling=False/Settled").await;
    let status = ready.status.as_ref().unwrap();
    assert_eq!(status.observed_generation, ready.metadata.generation);
    for condition in &status.conditions {
        assert_eq!(condition.observed_generation, ready.metadata.generation);
        assert!(!condition.reason.is_empty() && !condition.message.is_empty());
    }
    assert!(says(&ready, "Stalled=False") && says(&ready, "Ready=True/Ready"));
    assert_eq!(
        columns(&stage, &[])[..5],
        ["shown", "True", "2", "2", "wss://shown.example.com/ws"].map(str::to_owned)
    );
    let wide = columns(&stage, &["--output=wide"]);
    assert!(wide.contains(&"Ready".to_owned()), "{wide:?}");
}

/// The words of the second line of `kubectl get`.
fn columns(stage: &Stage, arguments: &[&str]) -> Vec<String> {
    let arguments = [&["get", "wsgw", "shown"], arguments].concat();
    let table = stage.namespace.kubectl(&arguments);
    println!("{table}");
    let line = table.lines().nth(1).unwrap();
    line.split_whitespace().map(str::to_owned).collect()
}

/// The status goes on; what is spoilt is put right afterwards.
async fn nothing_is_repaired_while_paused(stage: Stage) {
    stage.apply("paused", "{replicas: 1}");
    stage.until("paused", "Ready=True").await;
    change(&stage, "paused", json!({"paused": true, "replicas": 3})).await;
    stage.until("paused", "Reconciling=False/Paused").await;
    let maps = objects(&stage.client, stage.namespace.name(), "configmaps");
    let right = maps.get("paused-live").await.unwrap();
    let spoilt = json!({"data": {"live.yaml": "{}"}});
    let spoilt = meddle(&maps, "paused-live", &spoilt).await;
    // What is told after that proves that the operator has looked.
    stage.node.set(PodState::NotReady);
    stage.until("paused", "GatewayAvailable=False").await;
    stage.node.set(PodState::Ready);
    stage
        .until("paused", "GatewayAvailable=False/NotEnoughReady")
        .await;
    let still = maps.get("paused-live").await.unwrap();
    assert_eq!(still.resource_version(), spoilt.resource_version());
    let deployments: Api<Deployment> = stage.namespace.api();
    let deployment = deployments.get("paused").await.unwrap();
    assert_eq!(deployment.spec.unwrap().replicas, Some(1));
    change(&stage, "paused", json!({"paused": false})).await;
    await_object(&maps, "paused-live", "it is put right", |map| {
        map.is_some_and(|map| map.data == right.data)
    })
    .await;
    let gateway = stage
        .until("paused", "GatewayAvailable=True/AllReady")
        .await;
    assert_eq!(gateway.status.unwrap().replicas, Some(3));
}

/// All that a `WsGateway` had goes by the garbage collector of the real control plane.
async fn a_deleted_gateway_leaves_nothing_behind(stage: Stage) {
    stage.apply(
        "gone",
        "{replicas: 2, networkPolicy: {mode: Enabled}, monitoring: {dashboard: Enabled}}",
    );
    stage.until("gone", "Ready=True").await;
    let plurals = [
        "serviceaccounts",
        "configmaps",
        "secrets",
        "services",
        "deployments",
        "ingresses",
        "poddisruptionbudgets",
        "networkpolicies",
    ];
    stage
        .namespace
        .kubectl(&["delete", "wsgw", "gone", "--wait=false"]);
    let gateways: Api<WsGateway> = stage.gateways();
    wait_gone(&gateways, "gone", SOON).await;
    // The garbage collector looks for kinds that are new to it every 30 s; this may be the first test after our CRD came.
    let accounts: Api<ServiceAccount> = stage.namespace.api();
    wait_gone(&accounts, "gone", 4 * SOON).await;
    for (plural, name) in [
        ("serviceaccounts", "gone"),
        ("configmaps", "gone-live"),
        ("configmaps", "gone-ca"),
        ("configmaps", "gone-dashboard"),
        ("secrets", "gone-tls"),
        ("secrets", "gone-ca"),
        ("services", "gone"),
        ("deployments", "gone"),
        ("ingresses", "gone"),
        ("poddisruptionbudgets", "gone"),
        ("networkpolicies", "gone"),
    ] {
        await_presence(&stage, plural, name, false).await;
    }
    let (what, within) = ("they are gone", SOON);
    let pods: Api<Pod> = stage.namespace.api();
    wait_for_all(
        &pods,
        watcher::Config::default(),
        what,
        within,
        <[Pod]>::is_empty,
    )
    .await;
    let sets: Api<ReplicaSet> = stage.namespace.api();
    wait_for_all(
        &sets,
        watcher::Config::default(),
        what,
        within,
        <[ReplicaSet]>::is_empty,
    )
    .await;
    // The boot configuration, too, whose name is not known here; and nothing has come back meanwhile.
    let maps: Api<ConfigMap> = stage.namespace.api();
    let is_none = |maps: &[ConfigMap]| maps.iter().all(|map| !map.name_any().starts_with("gone"));
    wait_for_all(&maps, watcher::Config::default(), what, within, is_none).await;
    for plural in plurals {
        let api = objects(&stage.client, stage.namespace.name(), plural);
        let left = api.list(&ListParams::default()).await.unwrap();
        let left = left
            .iter()
            .find(|object| object.name_any().starts_with("gone"));
        assert!(left.is_none(), "{}", left.map(value).unwrap_or_default());
    }
}
