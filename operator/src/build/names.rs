//! What the children of a `WsGateway` are called, and by what they are found.

use std::collections::BTreeMap;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
    serde::Serialize,
};
use serde_json::{Value, json};
use wsgateway_model::Gateway;

use super::{Object, Site};
use crate::kinds::Kind;

/// The port for clients, of the pods and of the Service.
pub const CLIENTS_PORT: u16 = 8000;
/// Its name.
pub const CLIENTS_PORT_NAME: &str = "ws";
/// The port for probes, metrics and `/status`.
pub const ADMIN_PORT: u16 = 9000;
/// Its name.
pub const ADMIN_PORT_NAME: &str = "admin";

/// The pods' label that names the boot configuration: `ReplicaSets` carry it too, so that a boot `ConfigMap` is kept
/// while one of them might start a pod again.
pub const BOOT_LABEL: &str = "wsgateway.io/boot";

const NAME_LABEL: &str = "app.kubernetes.io/name";
const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";
const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// The value of [`INSTANCE_LABEL`] is the name, so scraped series say it as their job.
pub const JOB_LABEL: &str = INSTANCE_LABEL;

/// The immutable `ConfigMap` with this boot configuration.
pub fn boot(name: &str, hash: &str) -> String {
    format!("{name}-boot-{hash}")
}

/// The `ConfigMap` with the live configuration.
pub fn live(name: &str) -> String {
    format!("{name}-live")
}

/// The headless Service that a `ServiceMonitor` selects.
pub fn metrics(name: &str) -> String {
    format!("{name}-metrics")
}

/// The Secret with the certificate that clients see.
pub fn tls(name: &str) -> String {
    format!("{name}-tls")
}

/// The Secret with the authority's certificate and key, and the `ConfigMap` with what clients must trust.
pub fn authority(name: &str) -> String {
    format!("{name}-ca")
}

/// The `ConfigMap` with the dashboard.
pub fn dashboard(name: &str) -> String {
    format!("{name}-dashboard")
}

/// The labels of every child.
pub fn labels(name: &str) -> BTreeMap<String, String> {
    labels_of(name, "gateway")
}

/// The labels of the metrics Service. Its component is another one, or a selector of the Service for clients would
/// find both and each pod would be scraped twice.
pub fn metrics_labels(name: &str) -> BTreeMap<String, String> {
    labels_of(name, "metrics")
}

fn labels_of(name: &str, component: &str) -> BTreeMap<String, String> {
    map([
        (NAME_LABEL, "wsgateway"),
        (INSTANCE_LABEL, name),
        (COMPONENT_LABEL, component),
        (MANAGED_BY_LABEL, "wsgateway-operator"),
    ])
}

/// By what the pods are selected. It can never change: a Deployment's selector is immutable.
pub fn selector(name: &str) -> BTreeMap<String, String> {
    map([(NAME_LABEL, "wsgateway"), (INSTANCE_LABEL, name)])
}

/// By what the metrics Service is selected.
pub(super) fn metrics_selector(name: &str) -> BTreeMap<String, String> {
    let mut selector = selector(name);
    selector.insert(COMPONENT_LABEL.to_owned(), "metrics".to_owned());
    selector
}

/// [`selector`] as objects of Kubernetes write it.
pub(super) fn pods(gateway: &Gateway) -> LabelSelector {
    LabelSelector {
        match_labels: Some(selector(gateway.name.as_str())),
        ..LabelSelector::default()
    }
}

/// [`selector`] as the scale subresource and `kubectl -l` take it.
pub fn selector_text(name: &str) -> String {
    let pairs = selector(name).into_iter();
    let pairs: Vec<String> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

/// The metadata of a child of this name.
pub(super) fn metadata(gateway: &Gateway, site: &Site, name: impl Into<String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace: Some(gateway.namespace.to_string()),
        labels: Some(labels(gateway.name.as_str())),
        owner_references: site.owner.clone().map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

/// The same for what Prometheus and Grafana find by the user's labels. The operator's own stay: the model refuses to
/// put others in their place.
pub(super) fn monitoring_metadata(
    gateway: &Gateway,
    site: &Site,
    name: impl Into<String>,
) -> ObjectMeta {
    let mut metadata = metadata(gateway, site, name);
    let mut labels = gateway.monitoring.labels.clone();
    labels.append(metadata.labels.get_or_insert_default());
    metadata.labels = Some(labels);
    metadata
}

/// An object of a kind that Rust has a type for.
pub(super) fn typed(kind: Kind, metadata: &ObjectMeta, object: &impl Serialize) -> Object {
    let manifest = serde_json::to_value(object)
        .expect("a Kubernetes object should have a JSON form: its maps are keyed by text");
    Object {
        kind,
        name: metadata.name.clone().unwrap_or_default(),
        manifest,
    }
}

/// An object of a kind of which only the definition in the cluster knows the form.
pub(super) fn untyped(kind: Kind, metadata: &ObjectMeta, spec: &Value) -> Object {
    let manifest = json!({
        "apiVersion": kind.resource().api_version,
        "kind": kind.name(),
        "metadata": metadata,
        "spec": spec,
    });
    Object {
        kind,
        name: metadata.name.clone().unwrap_or_default(),
        manifest,
    }
}

/// Whole seconds, rounded up: a period that is cut short closes clients too early.
pub(super) fn seconds(duration: std::time::Duration) -> i64 {
    let whole = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i64::try_from(whole).unwrap_or(i64::MAX)
}

fn map<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    let owned = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
    BTreeMap::from(owned)
}
