//! Every child of a `WsGateway`: that it is there and whose it is, that drift and deletion are put right in no time, that
//! what others own is left alone, and that nothing is sent where nothing is wrong.

mod silence;
mod table;

use std::time::Duration;

use kube::{Client, ResourceExt, api::DynamicObject};
use serde_json::{Map, Value, json};
use wsgateway_e2e::{
    cluster::{ControlPlane, FakeNode, Optional},
    needs,
    operator::Operator,
    wait::SOON,
};

use self::{
    silence::nothing_is_sent,
    table::{GATEWAYS, children},
};
use crate::{
    objects::{Named, after, await_object, delete, meddle, objects, value},
    stage::{Mode, launch, manifest, permit, prepare},
};

/// What a busy machine may make of the second in which drift is repaired.
const REPAIR_MAX: Duration = Duration::from_secs(5);

/// The operator's labels.
const LABELS: &str = "app.kubernetes.io/";

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
        let bare = json!({"metadata": {"labels": {
            "app.kubernetes.io/instance": null, "app.kubernetes.io/managed-by": null,
        }}});
        meddle(&api, name, &bare).await;
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
