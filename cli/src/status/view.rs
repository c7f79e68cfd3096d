//! A `WsGateway` as text: what it is, what is amiss and what to do about it, what was made for it, what was told.

use std::fmt::Write;

use k8s_openapi::{
    api::{core::v1::Pod, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference},
    jiff::Timestamp,
};
use wsgateway_operator::kinds::Kind;

use super::{
    advice::{Whose, advice},
    child,
    conditions::amiss,
    observed::{Observed, PodSeen},
    tree::{Node, Tree},
};

/// How many events are shown, the newest.
const EVENTS_MAX: usize = 8;

/// All of it.
pub(super) fn text(observed: &Observed, now: Timestamp) -> String {
    let mut text = header(observed);
    for line in troubles(observed, now) {
        text.push('\n');
        text.push_str(&line);
    }
    let nodes = children(observed);
    if !nodes.is_empty() {
        let tree = Tree {
            nodes: &nodes,
            indent: "  ",
        };
        let _ = write!(text, "\n{tree}");
    }
    if let Some(line) = silent(&observed.pods) {
        let _ = writeln!(text, "  {line}");
    }
    let events = events(&observed.events, now);
    if !events.is_empty() {
        let _ = write!(text, "\n{events}");
    }
    printable(&text)
}

/// What others wrote may hold what a terminal takes for a command.
fn printable(text: &str) -> String {
    let shown = |c: char| {
        if c.is_control() && c != '\n' {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.chars().map(shown).collect()
}

fn header(observed: &Observed) -> String {
    let (namespace, name) = (observed.namespace(), observed.name());
    let ready = observed
        .status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Ready");
    let state = match ready {
        _ if !observed.is_seen() => "is not Ready: no operator has seen its newest spec".to_owned(),
        Some(ready) if ready.status == "True" => "is Ready".to_owned(),
        Some(ready) => format!("is not Ready: {}", ready.reason),
        None => "is not Ready".to_owned(),
    };
    let mut text = format!("WsGateway {namespace}/{name} {state}\n");
    for (label, value) in facts(observed) {
        let _ = writeln!(text, "  {label:<12} {value}");
    }
    text
}

fn facts(observed: &Observed) -> Vec<(&'static str, String)> {
    let status = &observed.status;
    let number = |pointer| observed.spec(pointer).and_then(serde_json::Value::as_i64);
    let mut facts = Vec::new();
    if let Some(url) = &status.url {
        facts.push(("url", url.clone()));
    }
    let ready = status.ready_replicas.unwrap_or_default();
    let wanted = number("/replicas").map_or_else(|| "?".to_owned(), |wanted| wanted.to_string());
    facts.push(("replicas", format!("{ready} of {wanted} ready")));
    let said: Vec<u64> = reports(observed).map(|report| report.connections).collect();
    let asked = observed
        .pods
        .iter()
        .filter(|seen| seen.report.is_some())
        .count();
    if said.len() == asked && !said.is_empty() {
        facts.push(("connections", said.iter().sum::<u64>().to_string()));
    } else if let Some(sampled) = status.connections {
        facts.push((
            "connections",
            format!("{sampled}, as the operator last counted"),
        ));
    }
    let revision = status.revision.clone().unwrap_or_default();
    if let Some(image) = revision.image {
        facts.push(("image", image));
    }
    facts.push(("upgrade", upgrade(observed)));
    if let Some(hash) = revision.desired {
        let pods = revision.pods.unwrap_or_default();
        let all = observed.pods.len();
        facts.push(("live", format!("{hash}, runs in {pods} of {all} pods")));
    }
    let exposure = status.exposure.clone().unwrap_or_default();
    if let Some(dialect) = exposure.dialect {
        facts.push(("dialect", dialect));
    }
    for missing in exposure.not_expressed {
        facts.push(("", format!("cannot say {}: {}", missing.field, missing.why)));
    }
    if let Some(until) = exposure.certificate_not_after {
        facts.push(("certificate", format!("until {until}")));
    }
    facts
}

/// What becomes of a newer operator's gateways.
fn upgrade(observed: &Observed) -> String {
    let upgrade = observed.spec_text("/upgrade").unwrap_or("Automatic");
    let reconciling = observed
        .status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Reconciling");
    match reconciling.map(|condition| condition.reason.as_str()) {
        Some("UpgradeWaits") => {
            format!("{upgrade}; a newer operator's gateways wait for their turn")
        }
        Some("UpgradeHeld") => {
            format!("{upgrade}; a newer operator's gateways come with the next change of the spec")
        }
        Some("Paused") => {
            format!("{upgrade}; paused: nothing is changed until spec.paused is false")
        }
        _ => upgrade.to_owned(),
    }
}

fn reports(observed: &Observed) -> impl Iterator<Item = &wsgateway_crds::report::Report> {
    observed
        .pods
        .iter()
        .filter_map(|seen| seen.report.as_ref()?.as_ref().ok())
}

/// What is not as it should be, each with what to do about it.
fn troubles(observed: &Observed, now: Timestamp) -> Vec<String> {
    let mut troubles = Vec::new();
    if !observed.is_seen() {
        let generation = observed.gateway.metadata.generation.unwrap_or_default();
        let what = match observed.status.observed_generation {
            None => "No operator has looked at it yet".to_owned(),
            Some(seen) => {
                format!(
                    "The status is of generation {seen}, and the spec of generation {generation}"
                )
            }
        };
        troubles.push(format!(
            "  ! {what}\n    → see that an operator runs and watches this namespace: \
             kubectl get pods -A -l app.kubernetes.io/name=wsgateway-operator\n"
        ));
    }
    let whose = Whose {
        namespace: observed.namespace(),
        name: observed.name(),
    };
    let conditions = amiss(&observed.status);
    troubles.extend(
        conditions
            .into_iter()
            .map(|condition| trouble(condition, whose, now)),
    );
    troubles
}

fn trouble(condition: &Condition, whose: Whose<'_>, now: Timestamp) -> String {
    let Condition {
        type_,
        status,
        reason,
        message,
        last_transition_time,
        ..
    } = condition;
    let age = age(last_transition_time.0, now);
    let message = message.replace('\n', "\n    ");
    let advice = advice(condition, whose);
    format!("  ! {type_} is {status} for {age}: {reason}\n    {message}\n    → {advice}\n")
}

fn children(observed: &Observed) -> Vec<Node> {
    let mut nodes: Vec<(usize, Node)> = Vec::new();
    let wanted = observed
        .status
        .revision
        .as_ref()
        .and_then(|revision| revision.desired.as_deref());
    for child in &observed.children {
        let mut node = Node::leaf(child::line(child));
        if child.kind == Kind::Deployment {
            node.children = generations(observed, child.object.metadata.uid.as_deref(), wanted);
        }
        nodes.push((child::rank(child.kind), node));
    }
    let secrets = observed.secrets.iter();
    nodes.extend(
        secrets.map(|secret| (child::rank(Kind::Secret), Node::leaf(child::secret(secret)))),
    );
    nodes.sort_by(|(a, left), (b, right)| (a, &left.text).cmp(&(b, &right.text)));
    nodes.into_iter().map(|(_, node)| node).collect()
}

/// The `ReplicaSets` of a Deployment that have pods or should have, each with its pods.
fn generations(observed: &Observed, deployment: Option<&str>, wanted: Option<&str>) -> Vec<Node> {
    let sets = observed.replica_sets.iter().filter(|set| {
        deployment.is_some_and(|uid| is_owned(set.metadata.owner_references.as_ref(), uid))
    });
    let nodes = sets.filter_map(|set| {
        let uid = set.metadata.uid.as_deref()?;
        let pods: Vec<_> = observed
            .pods
            .iter()
            .filter(|seen| is_owned(seen.pod.metadata.owner_references.as_ref(), uid))
            .map(|seen| Node::leaf(child::pod(seen, wanted)))
            .collect();
        let wants = set
            .data
            .pointer("/spec/replicas")
            .and_then(serde_json::Value::as_i64);
        (!pods.is_empty() || wants.unwrap_or_default() > 0).then(|| Node {
            text: child::replica_set(set),
            children: pods,
        })
    });
    nodes.collect()
}

fn is_owned(references: Option<&Vec<OwnerReference>>, uid: &str) -> bool {
    references
        .into_iter()
        .flatten()
        .any(|reference| reference.uid == uid)
}

/// Why pods did not say what they run, once.
fn silent(pods: &[PodSeen]) -> Option<String> {
    let silent = |seen: &&PodSeen| matches!(seen.report, Some(Err(_)));
    let count = pods.iter().filter(silent).count();
    let first = pods
        .iter()
        .find_map(|seen| seen.report.as_ref()?.as_ref().err())?;
    let pods = child::count(count as u64, "pod");
    Some(format!(
        "{pods} could not be asked what runs there: {first}"
    ))
}

/// The newest events, oldest first.
fn events(events: &[Event], now: Timestamp) -> String {
    let skipped = events.len().saturating_sub(EVENTS_MAX);
    events
        .iter()
        .skip(skipped)
        .fold(String::new(), |mut text, event| {
            let age = last_time(event).map_or_else(|| "?".to_owned(), |time| age(time, now));
            let type_ = event.type_.as_deref().unwrap_or_default();
            let reason = event.reason.as_deref().unwrap_or_default();
            let note = event.note.as_deref().unwrap_or_default();
            let times = event
                .series
                .as_ref()
                .map(|series| format!(" ({} times)", series.count));
            let times = times.unwrap_or_default();
            let _ = writeln!(text, "  {age:>4} ago  {type_:<7}  {reason}{times}: {note}");
            text
        })
}

/// When an event was seen last.
pub(super) fn last_time(event: &Event) -> Option<Timestamp> {
    let of_series = event
        .series
        .as_ref()
        .map(|series| series.last_observed_time.0);
    of_series
        .or_else(|| event.event_time.as_ref().map(|time| time.0))
        .or_else(|| event.deprecated_last_timestamp.as_ref().map(|time| time.0))
        .or_else(|| {
            event
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|time| time.0)
        })
}

/// The pods' order within a `ReplicaSet`.
pub(super) fn by_name(a: &Pod, b: &Pod) -> std::cmp::Ordering {
    a.metadata.name.cmp(&b.metadata.name)
}

/// A time from then till now in its largest unit.
fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests;
