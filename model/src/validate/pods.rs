//! What surrounds the workers' pods: `spec.monitoring`, `networkPolicy`, `podDisruptionBudget` and `podTemplate`.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, PodSpec, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::{Map, Value};
use wsgateway_crds::v1alpha1::{
    self, NetworkPolicyMode, PodDisruptionBudget, PodMetadata, PodTemplate,
};

use super::findings::Findings;
use crate::gateway::{CONTAINER, Monitoring, NetworkPolicy, OWN_LABELS, OWN_PREFIX};

/// The longest name of a label or annotation, and the longest prefix of it.
const KEY_NAME_BYTES_MAX: usize = 63;
const KEY_PREFIX_BYTES_MAX: usize = 253;

pub(super) fn monitoring(
    spec: v1alpha1::Monitoring,
    findings: &mut Findings<'_>,
) -> Option<Monitoring> {
    let v1alpha1::Monitoring {
        metrics,
        rules,
        dashboard,
        labels,
    } = spec;
    Some(Monitoring {
        metrics,
        rules,
        dashboard,
        labels: self::labels("spec.monitoring.labels", labels, findings)?,
    })
}

/// None where the mode is so; an error where it is wrong, and has been noted.
pub(super) fn network_policy(
    spec: v1alpha1::NetworkPolicy,
    findings: &mut Findings<'_>,
) -> Result<Option<NetworkPolicy>, ()> {
    let v1alpha1::NetworkPolicy {
        mode,
        client_namespaces,
        metrics_namespaces,
    } = spec;
    let path = "spec.networkPolicy";
    let clients = findings.parse_all(
        &format!("{path}.clientNamespaces"),
        &client_namespaces,
        "InvalidName",
    );
    let metrics = findings.parse_all(
        &format!("{path}.metricsNamespaces"),
        &metrics_namespaces,
        "InvalidName",
    );
    let policy = NetworkPolicy {
        clients: clients.ok_or(())?,
        metrics: metrics.ok_or(())?,
    };
    Ok(match mode {
        NetworkPolicyMode::Enabled => Some(policy),
        NetworkPolicyMode::Disabled => None,
    })
}

pub(super) fn max_unavailable(spec: &PodDisruptionBudget) -> u32 {
    let PodDisruptionBudget { max_unavailable } = *spec;
    max_unavailable
}

pub(super) fn pod_template(
    spec: PodTemplate,
    findings: &mut Findings<'_>,
) -> Option<PodTemplateSpec> {
    let PodTemplate { metadata, spec } = spec;
    let PodMetadata {
        labels,
        annotations,
    } = metadata;
    let path = "spec.podTemplate.metadata";
    let labels = self::labels(&format!("{path}.labels"), labels, findings);
    let annotations = self::annotations(&format!("{path}.annotations"), annotations, findings);
    let spec = pod_spec(spec, findings);
    let (labels, annotations) = (labels?, annotations?);
    let some = |map: BTreeMap<_, _>| (!map.is_empty()).then_some(map);
    Some(PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: some(labels),
            annotations: some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(spec?),
    })
}

/// Reads the fields of a pod's spec. The CRD keeps them as they come: the schema of a whole pod would make it too
/// large for `kubectl apply`.
fn pod_spec(spec: Map<String, Value>, findings: &mut Findings<'_>) -> Option<PodSpec> {
    const PATH: &str = "spec.podTemplate.spec";
    let mut spec = spec;
    // Kubernetes demands containers, which a template that only adds to them need not name.
    spec.entry("containers")
        .or_insert_with(|| Value::Array(Vec::new()));
    let mut unknown = Vec::new();
    let spec: Result<PodSpec, _> = serde_ignored::deserialize(Value::Object(spec), |path| {
        unknown.push(as_written(&path.to_string()));
    });
    for field in &unknown {
        findings.refuse(
            &format!("{PATH}.{field}"),
            "UnknownField",
            "a pod's spec has no such field",
        );
    }
    let spec = findings.take(PATH, spec, "InvalidPodSpec")?;
    for (path, why) in protected(&spec) {
        findings.refuse(&format!("{PATH}.{path}"), "Protected", why);
    }
    unknown.is_empty().then_some(spec)
}

/// `containers.0.?.shape` is `containers[0].shape` to who wrote it: `?` stands for a step through an `Option`.
fn as_written(path: &str) -> String {
    let mut written = String::new();
    for step in path.split('.').filter(|step| *step != "?") {
        if step.bytes().all(|byte| byte.is_ascii_digit()) {
            written.extend(["[", step, "]"]);
        } else {
            let dot = if written.is_empty() { "" } else { "." };
            written.extend([dot, step]);
        }
    }
    written
}

/// What the operator derives, and where to ask for it instead.
fn protected(spec: &PodSpec) -> Vec<(String, &'static str)> {
    let mut found = Vec::new();
    let mut refuse = |is_set: bool, path: String, why| {
        if is_set {
            found.push((path, why));
        }
    };
    refuse(
        spec.termination_grace_period_seconds.is_some(),
        "terminationGracePeriodSeconds".to_owned(),
        "it is derived from spec.rollout, so that every client is closed in order",
    );
    refuse(
        spec.restart_policy.is_some(),
        "restartPolicy".to_owned(),
        "a Deployment restarts its pods always",
    );
    let gateways = spec
        .containers
        .iter()
        .enumerate()
        .filter(|(_, container)| container.name == CONTAINER);
    for (index, container) in gateways {
        let Container {
            image,
            command,
            args,
            ports,
            liveness_probe,
            readiness_probe,
            startup_probe,
            lifecycle,
            ..
        } = container;
        let at = |field: &str| format!("containers[{index}].{field}");
        refuse(
            image.is_some(),
            at("image"),
            "set spec.image, which status shows",
        );
        let why = "how the gateway is started is derived from the spec";
        refuse(command.is_some(), at("command"), why);
        refuse(args.is_some(), at("args"), why);
        let why = "the gateway's ports are named by its Service and its monitors";
        refuse(ports.is_some(), at("ports"), why);
        let why = "the gateway's probes tell apart who lives and who is ready";
        refuse(liveness_probe.is_some(), at("livenessProbe"), why);
        refuse(readiness_probe.is_some(), at("readinessProbe"), why);
        refuse(startup_probe.is_some(), at("startupProbe"), why);
        refuse(
            lifecycle.is_some(),
            at("lifecycle"),
            "the gateway drains by itself; a hook would take from its grace period",
        );
    }
    found
}

/// Labels of a user, none of them the operator's own.
fn labels(
    path: &str,
    labels: BTreeMap<String, String>,
    findings: &mut Findings<'_>,
) -> Option<BTreeMap<String, String>> {
    let mut is_right = true;
    for (key, value) in &labels {
        let fault = if OWN_LABELS.contains(&key.as_str()) {
            Some("it is the operator's own, by which it finds what it made")
        } else if !is_key(key) {
            Some(KEY_FORM)
        } else if !value.is_empty() && !is_name(value) {
            Some(
                "its value must be at most 63 letters, digits, -, _ and dots, with a letter or digit at both ends",
            )
        } else {
            None
        };
        if let Some(fault) = fault {
            findings.refuse(&format!("{path}.{key}"), "InvalidLabel", fault);
            is_right = false;
        }
    }
    is_right.then_some(labels)
}

/// Annotations of a user, none of them the operator's own.
pub(super) fn annotations(
    path: &str,
    annotations: BTreeMap<String, String>,
    findings: &mut Findings<'_>,
) -> Option<BTreeMap<String, String>> {
    let mut is_right = true;
    for key in annotations.keys() {
        let fault = if key.starts_with(OWN_PREFIX) {
            Some("annotations below wsgateway.io/ are the operator's own")
        } else if !is_key(key) {
            Some(KEY_FORM)
        } else {
            None
        };
        if let Some(fault) = fault {
            findings.refuse(&format!("{path}.{key}"), "InvalidAnnotation", fault);
            is_right = false;
        }
    }
    is_right.then_some(annotations)
}

const KEY_FORM: &str = "its key must be a name of at most 63 letters, digits, -, _ and dots, which may follow a domain and a slash";

/// A label's or annotation's key, as the API server takes it.
fn is_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_domain(prefix) && is_name(name),
        None => is_name(key),
    }
}

fn is_name(name: &str) -> bool {
    let is_end = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    name.len() <= KEY_NAME_BYTES_MAX
        && is_end(name.bytes().next())
        && is_end(name.bytes().last())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn is_domain(domain: &str) -> bool {
    domain.len() <= KEY_PREFIX_BYTES_MAX
        && domain.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        })
}
