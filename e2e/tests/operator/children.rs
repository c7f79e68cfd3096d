//! Every child of a `WsGateway`: that it is there and whose it is, that drift and deletion are put right in no time, that
//! what others own is left alone, and that nothing is sent where nothing is wrong.

use std::time::Duration;

use kube::{Client, ResourceExt, api::DynamicObject};
use serde_json::{Map, Value, json};
use wsgateway_e2e::{
    cluster::{ControlPlane, FakeNode, Optional, Requests},
    needs,
    operator::Operator,
    wait::{SOON, pause, until_true},
};

use crate::{
    objects::{Named, after, await_object, delete, meddle, objects, value},
    stage::{Mode, launch, manifest, permit, prepare},
};

/// What a busy machine may make of the second in which drift is repaired.
const REPAIR_MAX: Duration = Duration::from_secs(5);

/// So long nothing happens, where nothing shall.
const SILENCE: Duration = Duration::from_secs(2);

/// The operator's labels.
const LABELS: &str = "app.kubernetes.io/";

/// Three `WsGateways` that together ask for a child of every kind.
const GATEWAYS: [(&str, &str); 3] = [
    (
        "chat",
        "{replicas: 2,
          scaling: {type: HPA, minReplicas: 2, maxReplicas: 4, metrics: [{type: CPU, averageUtilization: 70}]},
          networkPolicy: {mode: Enabled},
          monitoring: {metrics: PodMonitor, rules: Enabled, dashboard: Enabled}}",
    ),
    (
        "feed",
        "{replicas: 1,
          exposure: {tls: {type: CertManager, certManager: {issuerRef: {name: ours}}}},
          scaling: {type: KEDA, minReplicas: 1, maxReplicas: 4, metrics: [{type: CPU, averageUtilization: 70}],
                    keda: {prometheus: 'http://prometheus.test:9090'}},
          monitoring: {metrics: ServiceMonitor, rules: Disabled}}",
    ),
    (
        "room",
        "{replicas: 1, monitoring: {metrics: Disabled, rules: Disabled},
          exposure: {type: HTTPRoute, controller: gateway.nginx.org/nginx-gateway-controller,
                     tls: {type: Secret, secret: {name: room-tls}}, httpRoute: {parentRefs: [{name: public}]}}}",
    ),
];

/// A child, and the patch by which somebody spoils it; none where the API server allows that nobody.
fn children(boot: &str) -> Vec<(Named<'_>, Option<Value>)> {
    let drift = |child, patch| (child, Some(patch));
    vec![
        drift(
            ("serviceaccounts", "chat"),
            json!({"automountServiceAccountToken": true}),
        ),
        (("configmaps", boot), None),
        drift(
            ("configmaps", "chat-live"),
            json!({"data": {"live.yaml": "{}"}}),
        ),
        drift(("configmaps", "chat-ca"), json!({"data": {"ca.crt": "x"}})),
        drift(("configmaps", "chat-dashboard"), json!({"data": null})),
        drift(
            ("services", "chat"),
            json!({"spec": {"ports": [{"name": "ws", "port": 8001, "targetPort": "ws"}]}}),
        ),
        drift(
            ("services", "feed-metrics"),
            json!({"spec": {"publishNotReadyAddresses": false}}),
        ),
        drift(
            ("ingresses", "chat"),
            json!({
                "metadata": {"annotations": {"nginx.org/websocket-services": null}},
                "spec": {"ingressClassName": "community"},
            }),
        ),
        drift(
            ("poddisruptionbudgets", "chat"),
            json!({"spec": {"maxUnavailable": 2}}),
        ),
        drift(
            ("horizontalpodautoscalers", "chat"),
            json!({"spec": {"maxReplicas": 9}}),
        ),
        drift(
            ("networkpolicies", "chat"),
            json!({"spec": {"ingress": null}}),
        ),
        drift(
            ("podmonitors", "chat"),
            json!({"spec": {"jobLabel": "other"}}),
        ),
        drift(
            ("servicemonitors", "feed"),
            json!({"spec": {"jobLabel": "other"}}),
        ),
        drift(("prometheusrules", "chat"), json!({"spec": {"groups": []}})),
        drift(
            ("certificates", "feed"),
            json!({"spec": {"secretName": "other"}}),
        ),
        drift(
            ("scaledobjects", "feed"),
            json!({"spec": {"maxReplicaCount": 99}}),
        ),
        drift(
            ("httproutes", "room"),
            json!({"spec": {"hostnames": ["other.example.com"]}}),
        ),
        drift(
            ("proxysettingspolicies", "room"),
            json!({"spec": {"timeout": {"read": "1s"}}}),
        ),
        drift(
            ("clientsettingspolicies", "room"),
            json!({"spec": {"body": {"maxSize": "1"}}}),
        ),
        drift(
            ("upstreamsettingspolicies", "room"),
            json!({"spec": {"loadBalancingMethod": "random"}}),
        ),
        drift(
            ("deployments", "chat"),
            json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": 2}}}}),
        ),
        // Last, since another authority brings about another certificate.
        drift(
            ("secrets", "chat-tls"),
            json!({"data": {"tls.crt": "eA=="}}),
        ),
        drift(("secrets", "chat-ca"), json!({"data": {"tls.crt": "eA=="}})),
    ]
}

/// A control plane of the test's own, whose every request can be told apart.
struct Place<'a> {
    mode: Mode,
    cluster: &'a ControlPlane,
    namespace: &'a str,
    client: Client,
}

impl Place<'_> {
    /// A change of the `WsGateway` that means nothing. In cluster mode a Secret is looked at only then.
    async fn touch(&self, gateway: &str) {
        let gateways = objects(&self.client, self.namespace, "wsgateways");
        let before = gateways.get(gateway).await.unwrap();
        let patch = json!({"metadata": {"labels": {"touched": before.resource_version()}}});
        meddle(&gateways, gateway, &patch).await;
    }

    /// Spoils a child, and tells how long it took the operator to put it right.
    async fn repair(
        &self,
        (plural, name): Named<'_>,
        what: &str,
        spoil: impl Future<Output = ()>,
        is_right: impl Fn(Option<&DynamicObject>) -> bool,
    ) -> Duration {
        let api = objects(&self.client, self.namespace, plural);
        let spoil = async {
            spoil.await;
            if plural == "secrets" && self.mode == Mode::Cluster {
                self.touch("chat").await;
            }
        };
        let taken = after(&api, name, what, spoil, is_right).await;
        println!("{taken:>10.1?}  {what} of {plural}/{name}");
        assert!(
            taken < REPAIR_MAX,
            "{taken:?} for {what} of {plural}/{name}"
        );
        taken
    }

    fn operator(&self) -> Operator {
        let place = match self.mode {
            Mode::Cluster => "wsgateway-system",
            Mode::Namespaced => self.namespace,
        };
        let launch = launch(self.cluster, place);
        Operator::start(&match self.mode {
            Mode::Cluster => launch,
            Mode::Namespaced => launch.watching(&[self.namespace]),
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn children_are_kept_true_in_cluster_mode() {
    needs!(Kubernetes, Helm, Crds);
    children_are_kept_true(Mode::Cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn children_are_kept_true_in_namespaced_mode() {
    needs!(Kubernetes, Helm, Crds);
    children_are_kept_true(Mode::Namespaced).await;
}

async fn children_are_kept_true(mode: Mode) {
    let cluster = ControlPlane::start();
    prepare(&cluster);
    cluster.install_optional(&[
        Optional::Prometheus,
        Optional::CertManager,
        Optional::Keda,
        Optional::GatewayApi,
        Optional::NginxGatewayFabric,
    ]);
    let namespace = cluster.namespace();
    let place = Place {
        mode,
        cluster: &cluster,
        namespace: namespace.name(),
        client: cluster.client(),
    };
    match mode {
        Mode::Cluster => {
            cluster.kubectl(&["create", "namespace", "wsgateway-system"]);
            permit(&cluster, "wsgateway-system", None);
        }
        Mode::Namespaced => permit(&cluster, place.namespace, Some(place.namespace)),
    }
    let mut operator = place.operator();
    let node = FakeNode::start(&place.client, place.namespace);
    for (name, spec) in GATEWAYS {
        namespace.apply(&manifest(name, spec));
    }
    let gateways = objects(&place.client, place.namespace, "wsgateways");
    await_object(&gateways, "chat", "it is ready", |gateway| {
        gateway.is_some_and(|gateway| is_ready(&value(gateway)))
    })
    .await;
    let boots = objects(&place.client, place.namespace, "configmaps");
    let boots = boots.list(&kube::api::ListParams::default()).await.unwrap();
    let mut boots = boots.iter().map(ResourceExt::name_any);
    let boot = boots.find(|name| name.starts_with("chat-boot-")).unwrap();

    let mut times = Vec::new();
    for (child, drift) in children(&boot) {
        times.extend(is_kept_true(&place, child, drift).await);
    }
    times.sort();
    println!(
        "{mode:?}: {} repairs, half of them within {:.0?}, the slowest {:.0?}",
        times.len(),
        times[times.len() / 2],
        times[times.len() - 1],
    );
    a_sidecar_stays(&place).await;

    await_object(&gateways, "chat", "it is ready again", |gateway| {
        gateway.is_some_and(|gateway| is_ready(&value(gateway)))
    })
    .await;
    // From here on nobody but the operator has a reason to write.
    cluster.stop_controller_manager();
    drop(node);
    nothing_is_sent(&place, &operator, 0.0, || async {
        for (name, _) in GATEWAYS {
            place.touch(name).await;
        }
    })
    .await;
    operator.stop(SOON);
    let operator = place.operator();
    nothing_is_sent(&place, &operator, GATEWAYS.len() as f64, || async {}).await;
}

fn is_ready(gateway: &Value) -> bool {
    let conditions = gateway["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| {
        condition["type"] == "Ready"
            && condition["status"] == "True"
            && condition["observedGeneration"] == gateway["metadata"]["generation"]
    })
}

/// One child: whose it is, and that each way to spoil it is put right.
async fn is_kept_true(place: &Place<'_>, child: Named<'_>, drift: Option<Value>) -> Vec<Duration> {
    let (plural, name) = child;
    let api = objects(&place.client, place.namespace, plural);
    await_object(&api, name, "it is there", |child| child.is_some()).await;
    let made = api.get(name).await.unwrap();
    let gateway = made.labels()["app.kubernetes.io/instance"].clone();
    is_of(place, &gateway, &made).await;

    // What others say stays through all that follows.
    let note = json!({"metadata": {"labels": {"team": "red"}, "annotations": {"example.com/note": "theirs"}}});
    let before = shape(&meddle(&api, name, &note).await);
    let is_as_before = |now: Option<&DynamicObject>| now.is_some_and(|now| shape(now) == before);
    let mut times = Vec::new();
    if let Some(drift) = &drift {
        let spoil = async {
            let spoilt = meddle(&api, name, drift).await;
            assert!(
                shape(&spoilt) != before,
                "{plural}/{name}: {drift} changes nothing"
            );
        };
        // A certificate that is broken is made anew, so it is another one.
        let is_right = |now: Option<&DynamicObject>| match plural {
            "secrets" => now.is_some_and(|now| now.data["data"]["tls.crt"] != "eA=="),
            _ => is_as_before(now),
        };
        times.push(place.repair(child, "a field", spoil, is_right).await);
    }
    let right = api.get(name).await.unwrap();
    let is_labelled =
        |now: Option<&DynamicObject>| now.is_some_and(|now| now.labels() == right.labels());
    let spoil = async {
        let none = json!({"metadata": {"labels": {
            "app.kubernetes.io/instance": null, "app.kubernetes.io/managed-by": null,
        }}});
        meddle(&api, name, &none).await;
    };
    times.push(place.repair(child, "its labels", spoil, is_labelled).await);

    let is_made_anew = |now: Option<&DynamicObject>| {
        now.is_some_and(|now| now.uid() != made.uid() && ours(now) == ours(&made))
    };
    let spoil = delete(&api, name);
    times.push(place.repair(child, "deletion", spoil, is_made_anew).await);
    times
}

/// The labels, the owner and the writer.
async fn is_of(place: &Place<'_>, gateway: &str, child: &DynamicObject) {
    let gateways = objects(&place.client, place.namespace, "wsgateways");
    let gateway = gateways.get(gateway).await.unwrap();
    let owners = child.owner_references();
    assert_eq!(owners.len(), 1, "{owners:?}");
    assert_eq!(owners[0].controller, Some(true));
    assert_eq!(owners[0].kind, "WsGateway");
    assert_eq!(Some(&owners[0].uid), gateway.metadata.uid.as_ref());
    let labels = child.labels();
    assert_eq!(labels["app.kubernetes.io/name"], "wsgateway");
    assert_eq!(labels["app.kubernetes.io/instance"], gateway.name_any());
    assert_eq!(labels["app.kubernetes.io/managed-by"], "wsgateway-operator");
    assert!(labels.contains_key("app.kubernetes.io/component"));
    let fields = child.metadata.managed_fields.as_ref().unwrap();
    let is_ours = |operation: &str| {
        fields.iter().any(|entry| {
            entry.manager.as_deref() == Some("wsgateway-operator")
                && entry.operation.as_deref() == Some(operation)
        })
    };
    assert!(is_ours("Apply") && !is_ours("Update"), "{fields:?}");
}

/// All of an object but what the API server and controllers count.
fn shape(object: &DynamicObject) -> Value {
    let mut value = value(object);
    let fields = value.as_object_mut().unwrap();
    fields.remove("status");
    let metadata = fields["metadata"].as_object_mut().unwrap();
    for counted in ["resourceVersion", "generation", "managedFields"] {
        metadata.remove(counted);
    }
    if let Some(annotations) = metadata["annotations"].as_object_mut() {
        annotations.remove("deployment.kubernetes.io/revision");
    }
    value
}

/// The labels of ours and the owner.
fn ours(object: &DynamicObject) -> (Map<String, Value>, Value) {
    let value = value(object);
    let labels = value["metadata"]["labels"].as_object().unwrap();
    let labels = labels.iter().filter(|(name, _)| name.starts_with(LABELS));
    let labels = labels.map(|(name, value)| (name.clone(), value.clone()));
    (
        labels.collect(),
        value["metadata"]["ownerReferences"].clone(),
    )
}

/// A container that somebody put beside the gateway's stays when the operator puts its own right.
async fn a_sidecar_stays(place: &Place<'_>) {
    let api = objects(&place.client, place.namespace, "deployments");
    let containers = |name: &str, image: &str| {
        let containers = json!([{"name": name, "image": image}]);
        kube::api::Patch::Strategic(
            json!({"spec": {"template": {"spec": {"containers": containers}}}}),
        )
    };
    let params = kube::api::PatchParams::default();
    let sidecar = containers("sidecar", "test.local/sidecar");
    let with_sidecar = api.patch("chat", &params, &sidecar).await.unwrap();
    let before = shape(&with_sidecar);
    let spoil = async {
        let other = containers("gateway", "test.local/other");
        api.patch("chat", &params, &other).await.unwrap();
    };
    let child = ("deployments", "chat");
    let is_right = |now: Option<&DynamicObject>| now.is_some_and(|now| shape(now) == before);
    place.repair(child, "the image", spoil, is_right).await;
    let containers = &before["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers.as_array().map(Vec::len), Some(2));
}

/// After `act`, the operator reconciles at least so many times, and writes nothing.
async fn nothing_is_sent<F: Future<Output = ()>>(
    place: &Place<'_>,
    operator: &Operator,
    reconciles: f64,
    act: impl FnOnce() -> F,
) {
    let count = || {
        let metrics = operator.metrics();
        let sum = |name: &str| metrics.sum(&format!("wsgateway_operator_{name}"), &[]);
        let waiting = sum("queue_depth") + sum("queue_running") + sum("queue_backoff");
        (sum("reconciles_total"), waiting)
    };
    let enough =
        |least: f64| move || matches!(count(), (done, waiting) if done >= least && waiting < 0.5);
    until_true("the operator is done", SOON, enough(reconciles));
    // A moment for what the last writes before this bring about.
    pause(SILENCE);
    let (done, _) = count();
    let before = Requests::count(&place.client).await;
    act().await;
    if reconciles < 0.5 {
        let all = done + GATEWAYS.len() as f64;
        until_true("all are reconciled again", SOON, enough(all));
    }
    pause(SILENCE);
    let sent = Requests::count(&place.client).await.since(&before);
    // The test's own touch is a patch of the WsGateway itself, which the operator never writes.
    let sent = sent
        .mutating()
        .filter(|request| request.resource != "wsgateways");
    assert_eq!(sent.total(), 0, "{sent}");
}
