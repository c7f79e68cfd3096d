//! What a change of the spec changes, and what it does not.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{ConfigMap, Pod},
};
use kube::{Api, ResourceExt, api::ListParams, runtime::watcher};
use serde_json::json;
use wsgateway_e2e::{
    cluster::{Optional, wait_for_all},
    wait::SOON,
};

use super::{await_presence, change, is_there};
use crate::{
    objects::{objects, value},
    stage::{Stage, in_both_modes},
};

in_both_modes!(
    a_live_change_rolls_nothing_and_reloads_no_proxy,
    what_pods_start_with_rolls_them,
    what_is_asked_for_comes_and_goes,
);

/// What must not change with the live configuration: what pods are made from, the pods themselves, and the versions of
/// what a proxy reads.
async fn fixed(stage: &Stage, name: &str) -> [String; 4] {
    let version = async |plural: &str| {
        let api = objects(&stage.client, stage.namespace.name(), plural);
        api.get(name).await.unwrap().resource_version().unwrap()
    };
    let deployments: Api<Deployment> = stage.namespace.api();
    let deployment = deployments.get(name).await.unwrap();
    let pods: Api<Pod> = stage.namespace.api();
    let pods = pods.list(&ListParams::default()).await.unwrap();
    let pods: BTreeSet<_> = pods.iter().filter_map(ResourceExt::uid).collect();
    [
        // The operator notes the newest generation of the WsGateway in an annotation, for which the API server counts
        // up the Deployment's own; so that is not what counts.
        format!("{:?}", deployment.spec),
        format!("{pods:?}"),
        version("ingresses").await,
        version("services").await,
    ]
}

async fn a_live_change_rolls_nothing_and_reloads_no_proxy(stage: Stage) {
    stage.apply("live", "{replicas: 1}");
    stage.until("live", "Reconciling=False/Settled").await;
    let before = fixed(&stage, "live").await;
    let maps: Api<ConfigMap> = stage.namespace.api();
    let text = async || maps.get("live-live").await.unwrap().data.unwrap()["live.yaml"].clone();
    let mut texts = BTreeSet::from([text().await]);
    for (patch, expected) in [
        (
            json!({"limits": {"outbox": {"messagesPerConnection": 123}}}),
            "123",
        ),
        (
            json!({"websocket": {"allowedOrigins": ["https://app.example.com"]}}),
            "https://app.example.com",
        ),
        (
            json!({"routes": [{"name": "live", "path": "/ws", "fromClient": {"type": "Discard"}}]}),
            "Discard",
        ),
    ] {
        change(&stage, "live", patch).await;
        let gateway = stage.until("live", "Ready=True").await;
        let text = text().await;
        assert!(text.contains(expected), "{text}");
        texts.insert(text);
        assert_eq!(fixed(&stage, "live").await, before, "{expected}");
        let revision = gateway.status.unwrap().revision.unwrap();
        assert_eq!(revision.desired.map(|hash| hash.len()), Some(16));
    }
    assert_eq!(texts.len(), 4);
    // Another path is another line of the proxy's configuration, and still no reason to restart a gateway.
    let routes = json!([{"name": "live", "path": "/ws"}, {"name": "more", "path": "/more"}]);
    change(&stage, "live", json!({ "routes": routes })).await;
    stage.until("live", "Ready=True").await;
    let after = fixed(&stage, "live").await;
    assert_eq!(after[..2], before[..2]);
    assert_ne!(after[2], before[2]);
    assert_eq!(after[3], before[3]);
}

/// The hashes of the boot configurations that `ReplicaSets` name, and those that are there.
async fn boots(stage: &Stage, name: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let sets: Api<ReplicaSet> = stage.namespace.api();
    let sets = sets.list(&ListParams::default()).await.unwrap();
    let named = sets
        .iter()
        .map(|set| set.labels()["wsgateway.io/boot"].clone());
    let maps: Api<ConfigMap> = stage.namespace.api();
    let maps = maps.list(&ListParams::default()).await.unwrap();
    let prefix = format!("{name}-boot-");
    let there = maps
        .iter()
        .filter_map(|map| Some(map.name_any().strip_prefix(&prefix)?.to_owned()));
    (named.collect(), there.collect())
}

/// Each rollout is awaited. A boot configuration stays for as long as a `ReplicaSet` names it, which might start a pod of
/// it again, and goes with the last one.
async fn what_pods_start_with_rolls_them(stage: Stage) {
    stage.apply("rolls", "{replicas: 1}");
    stage.until("rolls", "Reconciling=False/Settled").await;
    let (first, there) = boots(&stage, "rolls").await;
    assert_eq!((first.len(), &there), (1, &first));
    let first = first.first().unwrap().clone();
    let template = json!({
        "metadata": {"labels": {"team": "chat"}, "annotations": {"example.com/note": "theirs"}},
        "spec": {
            "priorityClassName": "system-cluster-critical",
            "containers": [
                {"name": "gateway", "env": [{"name": "RUST_LOG", "value": "debug"}],
                 // The API server writes this in another way.
                 "resources": {"requests": {"cpu": "1000m"}}},
                {"name": "sidecar", "image": "test.local/sidecar:1"},
            ],
        },
    });
    let nats = |server: &str| json!({"nats": {"servers": [format!("nats://{server}.test:4222")]}});
    for patch in [
        json!({"image": "test.local/wsgateway:2"}),
        json!({"podTemplate": template}),
        nats("b"),
        nats("c"),
    ] {
        change(&stage, "rolls", patch).await;
        stage.until("rolls", "Reconciling=False/Settled").await;
        let (named, there) = boots(&stage, "rolls").await;
        assert_eq!(named, there);
    }
    // Two old generations are kept, and the older of them is of the first configuration.
    let (_, there) = boots(&stage, "rolls").await;
    assert_eq!(there.len(), 3, "{there:?}");
    assert!(there.contains(&first));
    let pods: Api<Pod> = stage.namespace.api();
    let is_one = |pods: &[Pod]| pods.len() == 1;
    let pods = wait_for_all(
        &pods,
        watcher::Config::default(),
        "one is left",
        SOON,
        is_one,
    )
    .await;
    let pod = &pods[0];
    assert_eq!(pod.labels()["team"], "chat");
    assert_eq!(pod.annotations()["example.com/note"], "theirs");
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!(spec.containers.len(), 2);
    let gateway = spec.containers.iter().find(|one| one.name == "gateway");
    let gateway = gateway.unwrap();
    assert_eq!(gateway.image.as_deref(), Some("test.local/wsgateway:2"));
    assert!(
        gateway
            .env
            .as_ref()
            .unwrap()
            .iter()
            .any(|env| env.name == "RUST_LOG")
    );
    assert!(gateway.liveness_probe.is_some() && gateway.readiness_probe.is_some());

    change(&stage, "rolls", nats("d")).await;
    stage.until("rolls", "Reconciling=False/Settled").await;
    await_presence(&stage, "configmaps", &format!("rolls-boot-{first}"), false).await;
    let (named, there) = boots(&stage, "rolls").await;
    assert_eq!((there.len(), &there), (3, &named));
}

async fn what_is_asked_for_comes_and_goes(stage: Stage) {
    stage
        .namespace
        .cluster()
        .install_optional(&[Optional::Prometheus]);
    let scaling = "{type: HPA, minReplicas: 2, maxReplicas: 4, metrics: [{type: CPU, averageUtilization: 70}]}";
    stage.apply("asks", &format!("{{replicas: 2, scaling: {scaling}, networkPolicy: {{mode: Enabled}},
        monitoring: {{metrics: PodMonitor, rules: Enabled, dashboard: Enabled, labels: {{release: prometheus}}}}}}"));
    let first = [
        ("horizontalpodautoscalers", "asks"),
        ("networkpolicies", "asks"),
        ("podmonitors", "asks"),
        ("prometheusrules", "asks"),
        ("configmaps", "asks-dashboard"),
        ("poddisruptionbudgets", "asks"),
    ];
    for (plural, name) in first {
        await_presence(&stage, plural, name, true).await;
    }
    let gateway = stage.until("asks", "MonitoringReady=True/Made").await;
    let monitors = objects(&stage.client, stage.namespace.name(), "podmonitors");
    assert_eq!(
        monitors.get("asks").await.unwrap().labels()["release"],
        "prometheus"
    );
    let scaler = objects(
        &stage.client,
        stage.namespace.name(),
        "horizontalpodautoscalers",
    );
    let target = &value(&scaler.get("asks").await.unwrap())["spec"]["scaleTargetRef"];
    assert_eq!(
        (&target["kind"], &target["name"]),
        (&json!("WsGateway"), &json!("asks"))
    );
    let generation = gateway.metadata.generation;

    stage.apply(
        "asks",
        "{replicas: 2, monitoring: {metrics: ServiceMonitor, rules: Disabled}}",
    );
    for (plural, name) in [("servicemonitors", "asks"), ("services", "asks-metrics")] {
        await_presence(&stage, plural, name, true).await;
    }
    for (plural, name) in &first[..5] {
        await_presence(&stage, plural, name, false).await;
    }
    assert!(is_there(&stage, "poddisruptionbudgets", "asks").await);

    stage.apply(
        "asks",
        "{replicas: 1, monitoring: {metrics: Disabled, rules: Disabled}}",
    );
    for (plural, name) in [
        ("servicemonitors", "asks"),
        ("services", "asks-metrics"),
        ("poddisruptionbudgets", "asks"),
    ] {
        await_presence(&stage, plural, name, false).await;
    }
    let gateway = stage
        .until("asks", "MonitoringReady=True/NothingAsked")
        .await;
    assert!(gateway.metadata.generation > generation);
}
