//! What is kept of each kind of object, and which `WsGateway` a change of it concerns.

use k8s_openapi::{api::apps::v1::Deployment, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::core::DeserializeGuard;
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use wsgateway_crds::v1alpha1::WsGateway;

use super::{
    Key,
    meta::{Controller, INSTANCE_LABEL, Meta, Pairs},
};
use crate::queue::Cause;

/// An object that is watched and kept.
pub trait Watched: DeserializeOwned + Clone + Send + Sync + 'static {
    /// Namespace and name; the namespace is empty for a cluster-scoped object.
    fn key(&self) -> Key;

    /// Changes with every write.
    fn resource_version(&self) -> &str;

    /// The `WsGateway` that the object belongs to.
    fn gateway(&self) -> Option<Key>;

    /// What a change from `before` is to that `WsGateway`; `None` where nothing changed that is read.
    fn change(&self, before: &Self) -> Option<Cause> {
        (self.resource_version() != before.resource_version()).then_some(Cause::Event)
    }

    /// Drops what is not read.
    fn slim(&mut self) {}
}

/// An object of which only metadata is kept.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct MetaObject {
    /// Its metadata.
    pub metadata: Meta,
}

impl Watched for MetaObject {
    fn key(&self) -> Key {
        self.metadata.key()
    }

    fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }

    fn gateway(&self) -> Option<Key> {
        self.metadata.gateway()
    }
}

/// A `WsGateway`, or what is known of one that cannot be read.
pub type GatewayObject = DeserializeGuard<WsGateway>;

/// The metadata of a `WsGateway`, whether or not the rest of it can be read.
pub fn gateway_metadata(object: &GatewayObject) -> &ObjectMeta {
    match &object.0 {
        Ok(gateway) => &gateway.metadata,
        Err(invalid) => &invalid.metadata,
    }
}

impl Watched for GatewayObject {
    fn key(&self) -> Key {
        key_of(gateway_metadata(self))
    }

    fn resource_version(&self) -> &str {
        let version = &gateway_metadata(self).resource_version;
        version.as_deref().unwrap_or_default()
    }

    fn gateway(&self) -> Option<Key> {
        Some(self.key())
    }

    /// A write of the status, such as our own, changes nothing for the reconciler.
    fn change(&self, before: &Self) -> Option<Cause> {
        let asked = |object: &Self| {
            let metadata = gateway_metadata(object);
            let is_deleting = metadata.deletion_timestamp.is_some();
            (metadata.uid.clone(), metadata.generation, is_deleting)
        };
        let (now, then) = (gateway_metadata(self), gateway_metadata(before));
        if asked(self) != asked(before)
            || now.labels != then.labels
            || now.annotations != then.annotations
            || self.0.is_ok() != before.0.is_ok()
        {
            Some(Cause::Spec)
        } else {
            None
        }
    }

    fn slim(&mut self) {
        match &mut self.0 {
            Ok(gateway) => slim(&mut gateway.metadata),
            Err(invalid) => slim(&mut invalid.metadata),
        }
    }
}

impl Watched for Deployment {
    fn key(&self) -> Key {
        key_of(&self.metadata)
    }

    fn resource_version(&self) -> &str {
        self.metadata
            .resource_version
            .as_deref()
            .unwrap_or_default()
    }

    fn gateway(&self) -> Option<Key> {
        let owners = self.metadata.owner_references.clone().unwrap_or_default();
        let instance = || self.metadata.labels.as_ref()?.get(INSTANCE_LABEL).cloned();
        let name = match Controller::of(owners).gateway() {
            Some(owner) => owner.name.to_string(),
            None => instance()?,
        };
        let namespace = self.metadata.namespace.as_deref().unwrap_or_default();
        Some(Key::new(namespace, &name))
    }

    fn slim(&mut self) {
        slim(&mut self.metadata);
    }
}

fn key_of(metadata: &ObjectMeta) -> Key {
    Key::new(
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

fn slim(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

/// What is kept of a pod.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "RawPod")]
#[allow(clippy::struct_excessive_bools)] // Each is a fact of its own in a pod's status.
pub struct PodView {
    /// Its metadata: the instance, the template's hash, the annotations of ours.
    pub metadata: Meta,
    /// Its address, once it has one.
    pub ip: Option<Box<str>>,
    /// Whether its condition `Ready` is `True`.
    pub is_ready: bool,
    /// Whether a container of it runs.
    pub is_running: bool,
    /// Whether it has ended for good: it was evicted, or its node went away.
    pub is_finished: bool,
    /// Whether it has been given a node.
    pub is_scheduled: bool,
    /// Why a container of it does not run, such as `ImagePullBackOff`, with the kubelet's sentence.
    pub waiting: Option<Waiting>,
    /// How often its containers were restarted.
    pub restarts: u32,
}

/// Why a container does not run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// Such as `ImagePullBackOff`.
    pub reason: Box<str>,
    /// The kubelet's sentence; may be empty.
    pub message: Box<str>,
}

impl PodView {
    /// Whether it was told to end.
    pub fn is_terminating(&self) -> bool {
        self.metadata.is_deleting.0
    }

    /// The hash of the live configuration that it was last annotated with.
    pub fn live(&self) -> Option<&str> {
        self.metadata.annotations.get("wsgateway.io/live")
    }

    /// What the `ReplicaSet` controller compares when it removes pods: the lower, the sooner.
    pub fn deletion_cost(&self) -> i32 {
        let annotations: &Pairs = &self.metadata.annotations;
        annotations
            .get("controller.kubernetes.io/pod-deletion-cost")
            .and_then(|cost| cost.parse().ok())
            .unwrap_or(0)
    }
}

impl Watched for PodView {
    fn key(&self) -> Key {
        self.metadata.key()
    }

    fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }

    /// A pod's controller is a `ReplicaSet`, so the label is what counts.
    fn gateway(&self) -> Option<Key> {
        self.metadata.gateway()
    }

    /// Kubelets write a pod's status for much that is not read here.
    fn change(&self, before: &Self) -> Option<Cause> {
        let mut before = before.clone();
        before
            .metadata
            .resource_version
            .clone_from(&self.metadata.resource_version);
        (*self != before).then_some(Cause::Event)
    }
}

#[derive(Deserialize)]
struct RawPod {
    metadata: Meta,
    #[serde(default)]
    spec: RawPodSpec,
    #[serde(default)]
    status: RawPodStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawPodSpec {
    node_name: Option<Box<str>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawPodStatus {
    #[serde(rename = "podIP")]
    pod_ip: Option<Box<str>>,
    phase: Option<Box<str>>,
    conditions: Option<Vec<RawCondition>>,
    container_statuses: Option<Vec<RawContainerStatus>>,
    init_container_statuses: Option<Vec<RawContainerStatus>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawCondition {
    r#type: Box<str>,
    status: Box<str>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawContainerStatus {
    restart_count: u32,
    state: Option<RawContainerState>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawContainerState {
    waiting: Option<Waiting>,
    running: Option<IgnoredAny>,
}

impl From<RawPod> for PodView {
    fn from(pod: RawPod) -> Self {
        let RawPodStatus {
            pod_ip,
            phase,
            conditions,
            container_statuses,
            init_container_statuses,
        } = pod.status;
        let is_ready = conditions
            .unwrap_or_default()
            .iter()
            .any(|condition| &*condition.r#type == "Ready" && &*condition.status == "True");
        let containers = || {
            init_container_statuses
                .iter()
                .chain(&container_statuses)
                .flatten()
        };
        Self {
            metadata: pod.metadata,
            ip: pod_ip.filter(|ip| !ip.is_empty()),
            is_ready,
            is_running: containers()
                .any(|one| one.state.as_ref().is_some_and(|it| it.running.is_some())),
            is_finished: matches!(phase.as_deref(), Some("Succeeded" | "Failed")),
            is_scheduled: pod.spec.node_name.is_some_and(|node| !node.is_empty()),
            waiting: containers().find_map(|one| one.state.as_ref()?.waiting.clone()),
            restarts: containers().map(|one| one.restart_count).sum(),
        }
    }
}

/// An `IngressClass` or a `GatewayClass`: who serves it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "RawClass")]
pub struct ClassView {
    /// Its metadata.
    pub metadata: Meta,
    /// What its controller calls itself, such as `nginx.org/ingress-controller`.
    pub controller: Box<str>,
}

impl ClassView {
    /// Whether it is the class of Ingresses that name none.
    pub fn is_default(&self) -> bool {
        let annotation = "ingressclass.kubernetes.io/is-default-class";
        self.metadata.annotations.get(annotation) == Some("true")
    }
}

impl Watched for ClassView {
    fn key(&self) -> Key {
        self.metadata.key()
    }

    fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }

    fn gateway(&self) -> Option<Key> {
        None
    }
}

#[derive(Deserialize)]
struct RawClass {
    metadata: Meta,
    #[serde(default)]
    spec: RawClassSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawClassSpec {
    /// As an `IngressClass` calls it, and as a `GatewayClass` does.
    #[serde(alias = "controllerName")]
    controller: Option<Box<str>>,
}

impl From<RawClass> for ClassView {
    fn from(class: RawClass) -> Self {
        Self {
            metadata: class.metadata,
            controller: class.spec.controller.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(version: &str, ready: &str, message: &str) -> PodView {
        serde_json::from_value(json!({
            "metadata": {"namespace": "shop", "name": "chat-1", "resourceVersion": version,
                "labels": {"app.kubernetes.io/instance": "chat"},
                "annotations": {"wsgateway.io/live": "abc"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "gateway"}]},
            "status": {"podIP": "10.0.0.1", "phase": "Running",
                "conditions": [{"type": "Ready", "status": ready, "message": message}],
                "containerStatuses": [{"restartCount": 2,
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]},
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_is_kept_small_and_its_changes_are_those_that_are_read() {
        let one = pod("1", "True", "a");
        assert!(one.is_ready && one.is_scheduled && !one.is_finished && !one.is_terminating());
        assert_eq!(one.gateway(), Some(Key::new("shop", "chat")));
        assert_eq!((one.live(), one.restarts), (Some("abc"), 2));
        assert_eq!(&*one.waiting.clone().unwrap().reason, "CrashLoopBackOff");
        assert_eq!(pod("2", "True", "b").change(&one), None);
        assert_eq!(pod("2", "False", "a").change(&one), Some(Cause::Event));
    }

    #[test]
    fn both_classes_name_their_controller() {
        for spec in [
            json!({"controller": "x/y"}),
            json!({"controllerName": "x/y"}),
        ] {
            let class: ClassView = serde_json::from_value(json!({
                "metadata": {"name": "nginx", "annotations":
                    {"ingressclass.kubernetes.io/is-default-class": "true"}},
                "spec": spec,
            }))
            .unwrap();
            assert_eq!(&*class.controller, "x/y");
            assert!(class.is_default());
            assert_eq!(class.key(), Key::new("", "nginx"));
        }
    }

    fn gateway(version: &str, generation: i64, rest: &serde_json::Value) -> GatewayObject {
        let mut object = json!({
            "apiVersion": "wsgateway.io/v1alpha1", "kind": "WsGateway",
            "metadata": {"namespace": "shop", "name": "chat", "uid": "u",
                "resourceVersion": version, "generation": generation},
        });
        object
            .as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_written_status_is_no_change_and_a_written_spec_is_one() {
        let spec = json!({"spec": {"routes": [{"name": "chat", "path": "/chat"}]}});
        let one = gateway("1", 1, &spec);
        assert!(one.0.is_ok(), "{:?}", one.0);
        assert_eq!(gateway("2", 1, &spec).change(&one), None);
        assert_eq!(gateway("2", 2, &spec).change(&one), Some(Cause::Spec));
    }

    #[test]
    fn an_object_that_cannot_be_read_is_known_by_its_metadata() {
        let one = gateway("1", 1, &json!({"spec": {"routes": "many"}}));
        assert!(one.0.is_err());
        assert_eq!(one.gateway(), Some(Key::new("shop", "chat")));
    }
}
