//! A line about each object: what a person would ask of its kind.

use k8s_openapi::api::core::v1::Pod;
use kube::api::DynamicObject;
use serde_json::Value;
use wsgateway_crds::report::Report;
use wsgateway_operator::kinds::Kind;

use super::observed::{Child, PodSeen, SecretSeen, SecretState};

/// The annotation by which the operator tells a pod which live configuration to read.
const LIVE: &str = "wsgateway.io/live";

/// Kinds in the order in which they are shown.
pub(super) fn rank(kind: Kind) -> usize {
    const ORDER: [Kind; 18] = [
        Kind::Deployment,
        Kind::Service,
        Kind::Ingress,
        Kind::HttpRoute,
        Kind::ClientSettingsPolicy,
        Kind::ProxySettingsPolicy,
        Kind::UpstreamSettingsPolicy,
        Kind::Certificate,
        Kind::Secret,
        Kind::ConfigMap,
        Kind::HorizontalPodAutoscaler,
        Kind::ScaledObject,
        Kind::PodDisruptionBudget,
        Kind::NetworkPolicy,
        Kind::PodMonitor,
        Kind::ServiceMonitor,
        Kind::PrometheusRule,
        Kind::ServiceAccount,
    ];
    ORDER
        .iter()
        .position(|other| *other == kind)
        .unwrap_or(ORDER.len())
}

/// The line of a child.
pub(super) fn line(child: &Child) -> String {
    let Child { kind, object } = child;
    let data = &object.data;
    let facts = match kind {
        Kind::Deployment => deployment(data),
        Kind::Service => service(data),
        Kind::Ingress => ingress(data),
        Kind::HttpRoute => http_route(data),
        Kind::Certificate => ready(data),
        Kind::HorizontalPodAutoscaler => autoscaler(data),
        Kind::ScaledObject => {
            let most = number(data, "/spec/maxReplicaCount");
            [vec![format!("up to {most}")], ready(data)].concat()
        }
        Kind::PodDisruptionBudget => {
            vec![format!(
                "{} may be evicted now",
                number(data, "/status/disruptionsAllowed")
            )]
        }
        _ => Vec::new(),
    };
    named(
        kind.name(),
        object.metadata.name.as_deref(),
        &facts,
        object.metadata.deletion_timestamp.is_some(),
    )
}

/// The line of a `ReplicaSet`.
pub(super) fn replica_set(object: &DynamicObject) -> String {
    let data = &object.data;
    let (ready, wanted) = (
        number(data, "/status/readyReplicas"),
        number(data, "/spec/replicas"),
    );
    let facts = [format!("{ready}/{wanted} ready")];
    named(
        "ReplicaSet",
        object.metadata.name.as_deref(),
        &facts,
        object.metadata.deletion_timestamp.is_some(),
    )
}

/// The line of a pod. `wanted` is the hash of the live configuration that it should run.
pub(super) fn pod(seen: &PodSeen, wanted: Option<&str>) -> String {
    let PodSeen { pod, report } = seen;
    let mut facts = vec![state(pod)];
    if let Some(Ok(report)) = report {
        facts.extend(said(report, wanted));
    } else {
        let annotations = pod.metadata.annotations.as_ref();
        let told = annotations.and_then(|annotations| annotations.get(LIVE));
        facts.extend(told.map(|live| format!("told of live {live}")));
    }
    named(
        "Pod",
        pod.metadata.name.as_deref(),
        &facts,
        pod.metadata.deletion_timestamp.is_some(),
    )
}

/// What a gateway says of itself.
fn said(report: &Report, wanted: Option<&str>) -> Vec<String> {
    let live = &report.live_hash;
    let mut facts = vec![count(report.connections, "connection")];
    if report.draining {
        facts.push("drains".to_owned());
    }
    if !report.nats.connected {
        facts.push(format!("no NATS: {}", report.nats.reason));
    }
    facts.push(match (&report.rejected, wanted) {
        (Some(rejected), _) => {
            let message = &rejected.message;
            format!(
                "live {live}; the newest is refused: {}: {message}",
                rejected.reason
            )
        }
        (None, Some(wanted)) if wanted != live => format!("live {live}, not yet {wanted}"),
        (None, _) => format!("live {live}"),
    });
    facts
}

/// The line of a Secret.
pub(super) fn secret(secret: &SecretSeen) -> String {
    let SecretSeen {
        name,
        purpose,
        state,
    } = secret;
    let state = match state {
        SecretState::There => "",
        SecretState::Missing => ", is missing",
        SecretState::NotPermitted => ", not looked at: you may not get secrets",
    };
    format!("Secret {name}  {purpose}{state}")
}

fn named(kind: &str, name: Option<&str>, facts: &[String], is_deleting: bool) -> String {
    let name = name.unwrap_or_default();
    let deleting = is_deleting.then_some("is being deleted");
    let facts = facts.iter().map(String::as_str).chain(deleting);
    facts.fold(format!("{kind} {name}"), |line, fact| {
        format!("{line}  {fact}")
    })
}

fn state(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let containers = status.container_statuses.unwrap_or_default();
    let waits = containers
        .iter()
        .find_map(|container| container.state.as_ref()?.waiting.as_ref());
    let condition = |type_: &str, holds: &str| {
        let mut conditions = status.conditions.iter().flatten();
        conditions.any(|condition| condition.type_ == type_ && condition.status == holds)
    };
    let restarts: i32 = containers
        .iter()
        .map(|container| container.restart_count)
        .sum();
    let state = if let Some(waits) = waits {
        let reason = waits.reason.as_deref().unwrap_or("unknown");
        match waits.message.as_deref() {
            Some(message) => format!("waits: {reason}: {message}"),
            None => format!("waits: {reason}"),
        }
    } else if condition("PodScheduled", "False") {
        "has no node yet".to_owned()
    } else if condition("Ready", "True") {
        "ready".to_owned()
    } else {
        match status.phase.as_deref() {
            Some("Running") | None => "not ready".to_owned(),
            Some(phase) => phase.to_owned(),
        }
    };
    match restarts {
        0 => state,
        _ => format!("{state}  {}", count(restarts as u64, "restart")),
    }
}

fn deployment(data: &Value) -> Vec<String> {
    let of = |pointer| number(data, pointer);
    let (ready, wanted) = (of("/status/readyReplicas"), of("/spec/replicas"));
    let updated = of("/status/updatedReplicas");
    let mut facts = vec![format!("{ready}/{wanted} ready")];
    if updated < wanted {
        facts.push(format!("{updated} of the newest template"));
    }
    facts
}

fn service(data: &Value) -> Vec<String> {
    let type_ = text(data, "/spec/type").unwrap_or("ClusterIP");
    let ip = text(data, "/spec/clusterIP").unwrap_or_default();
    let ports: Vec<_> = items(data, "/spec/ports")
        .filter_map(|port| port.get("port")?.as_i64())
        .map(|port| port.to_string())
        .collect();
    let mut facts = vec![format!("{type_} {ip}:{}", ports.join(","))];
    if ip == "None" {
        facts = vec![format!("headless, port {}", ports.join(","))];
    }
    if type_ == "LoadBalancer" {
        facts.push(addresses(data));
    }
    facts
}

fn ingress(data: &Value) -> Vec<String> {
    let class = text(data, "/spec/ingressClassName").map_or_else(
        || "of no class".to_owned(),
        |class| format!("of class {class}"),
    );
    let hosts: Vec<_> = items(data, "/spec/rules")
        .filter_map(|rule| text(rule, "/host"))
        .collect();
    let hosts = if hosts.is_empty() {
        "any host".to_owned()
    } else {
        hosts.join(", ")
    };
    vec![class, hosts, addresses(data)]
}

/// Of an Ingress or a Service, which say them alike.
fn addresses(data: &Value) -> String {
    let addresses: Vec<_> = items(data, "/status/loadBalancer/ingress")
        .filter_map(|point| text(point, "/ip").or_else(|| text(point, "/hostname")))
        .collect();
    if addresses.is_empty() {
        "no address yet".to_owned()
    } else {
        format!("at {}", addresses.join(", "))
    }
}

fn http_route(data: &Value) -> Vec<String> {
    let hosts: Vec<_> = items(data, "/spec/hostnames")
        .filter_map(Value::as_str)
        .collect();
    let hosts = if hosts.is_empty() {
        "any host".to_owned()
    } else {
        hosts.join(", ")
    };
    let parents: Vec<_> = items(data, "/status/parents")
        .map(|parent| {
            let name = text(parent, "/parentRef/name").unwrap_or_default();
            let refusal = items(parent, "/conditions")
                .filter(|condition| {
                    matches!(text(condition, "/type"), Some("Accepted" | "ResolvedRefs"))
                })
                .find(|condition| text(condition, "/status") == Some("False"));
            match refusal.and_then(|refusal| text(refusal, "/reason")) {
                Some(reason) => format!("refused by Gateway {name}: {reason}"),
                None => format!("accepted by Gateway {name}"),
            }
        })
        .collect();
    let parents = if parents.is_empty() {
        vec!["no Gateway has taken it up yet".to_owned()]
    } else {
        parents
    };
    [vec![hosts], parents].concat()
}

/// Of what has a condition of this name: whether it holds, and else why.
fn ready(data: &Value) -> Vec<String> {
    let condition = items(data, "/status/conditions")
        .find(|condition| text(condition, "/type") == Some("Ready"));
    let Some(condition) = condition else {
        return vec!["not seen by its controller yet".to_owned()];
    };
    if text(condition, "/status") == Some("True") {
        let until = text(data, "/status/notAfter").map(|until| format!(" until {until}"));
        return vec![format!("ready{}", until.unwrap_or_default())];
    }
    let reason = text(condition, "/reason").unwrap_or_default();
    vec![format!(
        "not ready: {reason}: {}",
        text(condition, "/message").unwrap_or_default()
    )]
}

fn autoscaler(data: &Value) -> Vec<String> {
    let of = |pointer| number(data, pointer);
    let mut facts = vec![
        format!("{}–{}", of("/spec/minReplicas"), of("/spec/maxReplicas")),
        format!("wants {} now", of("/status/desiredReplicas")),
    ];
    let inactive = items(data, "/status/conditions").find(|condition| {
        text(condition, "/type") == Some("ScalingActive")
            && text(condition, "/status") == Some("False")
    });
    if let Some(condition) = inactive {
        let (reason, message) = (text(condition, "/reason"), text(condition, "/message"));
        facts.push(format!(
            "does not scale: {}: {}",
            reason.unwrap_or_default(),
            message.unwrap_or_default()
        ));
    }
    facts
}

/// `1 connection`, `2 connections`.
pub(super) fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn number(data: &Value, pointer: &str) -> i64 {
    data.pointer(pointer)
        .and_then(Value::as_i64)
        .unwrap_or_default()
}

fn text<'a>(data: &'a Value, pointer: &str) -> Option<&'a str> {
    data.pointer(pointer)?.as_str()
}

fn items<'a>(data: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    data.pointer(pointer)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}
