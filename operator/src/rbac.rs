//! What the operator may do: for each kind the verbs that the code beside this needs, and nothing more. The roles in
//! the chart are made from it by `cargo run -p wsgateway-operator --bin rbacgen`.
//!
//! Server-side apply that makes an object needs `create` as well as `patch`. There is no `update` but for the lease,
//! and no `*`.

use std::{collections::BTreeMap, fmt::Write};

use crate::kinds::Kind;

/// In what the operator is permitted to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In every namespace, by a `ClusterRole`.
    Cluster,
    /// In some namespaces, by a Role in each.
    Namespaced,
}

type Verbs = &'static [&'static str];

const NONE: Verbs = &[];
const READ: Verbs = &["get", "list", "watch"];
const CHILD: Verbs = &["get", "list", "watch", "create", "patch", "delete"];

/// What the operator does with objects of a kind.
pub const fn verbs(kind: Kind, mode: Mode) -> Verbs {
    match (kind, mode) {
        // To list Secrets is to read those of everybody, so across the cluster they are fetched by name alone.
        (Kind::Secret, Mode::Cluster) => &["get", "create", "patch", "delete"],
        // Annotations of theirs make the kubelet bring a new configuration at once.
        (Kind::Pod, _) => &["get", "list", "watch", "patch"],
        // It is read to know which boot configurations may still start a pod.
        (Kind::ReplicaSet, _) => &["list", "watch"],
        // No Role can permit them.
        (Kind::IngressClass | Kind::GatewayClass, Mode::Namespaced) => NONE,
        (Kind::WsGateway | Kind::IngressClass | Kind::GatewayClass | Kind::Gateway, _) => READ,
        (
            Kind::ServiceAccount
            | Kind::ConfigMap
            | Kind::Secret
            | Kind::Service
            | Kind::Deployment
            | Kind::Ingress
            | Kind::PodDisruptionBudget
            | Kind::HorizontalPodAutoscaler
            | Kind::NetworkPolicy
            | Kind::HttpRoute
            | Kind::ClientSettingsPolicy
            | Kind::ProxySettingsPolicy
            | Kind::UpstreamSettingsPolicy
            | Kind::PodMonitor
            | Kind::ServiceMonitor
            | Kind::PrometheusRule
            | Kind::Certificate
            | Kind::ScaledObject,
            _,
        ) => CHILD,
    }
}

/// What is no kind of [`Kind::ALL`]: group, resource, verbs.
const BESIDE: [(&str, &str, Verbs); 3] = [
    ("wsgateway.io", "wsgateways/status", &["patch"]),
    // Where owner references that block deletion are guarded, as on OpenShift, children cannot be made without it.
    ("wsgateway.io", "wsgateways/finalizers", &["update"]),
    // What the controller in front says of an Ingress is quoted.
    ("events.k8s.io", "events", &["create", "patch", "list"]),
];

/// A rule of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The API group.
    pub group: &'static str,
    /// The resources, all of that group.
    pub resources: Vec<&'static str>,
    /// What may be done with each.
    pub verbs: Verbs,
}

/// The rules for all but Secrets, which have a role of their own.
pub fn rules(mode: Mode) -> Vec<Rule> {
    let kinds = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Secret);
    let kinds = kinds.map(|kind| (kind.group(), kind.plural(), verbs(kind, mode)));
    let mut merged: BTreeMap<(&str, Verbs), Vec<&str>> = BTreeMap::new();
    for (group, resource, verbs) in kinds.chain(BESIDE) {
        if !verbs.is_empty() {
            merged.entry((group, verbs)).or_default().push(resource);
        }
    }
    let merged = merged.into_iter();
    merged
        .map(|((group, verbs), mut resources)| {
            resources.sort_unstable();
            Rule {
                group,
                resources,
                verbs,
            }
        })
        .collect()
}

/// The rule for Secrets.
pub fn secrets(mode: Mode) -> Rule {
    Rule {
        group: Kind::Secret.group(),
        resources: vec![Kind::Secret.plural()],
        verbs: verbs(Kind::Secret, mode),
    }
}

/// `charts/wsgateway/templates/_rules.tpl`, which the chart's roles include.
pub fn template() -> String {
    let mut text =
        "{{- /* Made by `cargo run -p wsgateway-operator --bin rbacgen`; do not edit. */ -}}\n"
            .to_owned();
    let definitions = [
        ("cluster", rules(Mode::Cluster)),
        ("namespaced", rules(Mode::Namespaced)),
        ("secrets.cluster", vec![secrets(Mode::Cluster)]),
        ("secrets.namespaced", vec![secrets(Mode::Namespaced)]),
    ];
    for (name, rules) in definitions {
        define(&mut text, name, &rules);
    }
    text.push_str(LEASE);
    text
}

/// The one lease, and the Deployment that it goes with. The lease's name cannot be named where it is created.
const LEASE: &str = r#"
{{- define "wsgateway.rules.lease" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "wsgateway.fullname" . }}]
  verbs: [get, update]
- apiGroups: [apps]
  resources: [deployments]
  resourceNames: [{{ include "wsgateway.fullname" . }}]
  verbs: [get]
{{- end }}
"#;

fn define(text: &mut String, name: &str, rules: &[Rule]) {
    // Writing to a String does not fail.
    let _ = writeln!(text, "\n{{{{- define \"wsgateway.rules.{name}\" -}}}}");
    for rule in rules {
        let group = if rule.group.is_empty() {
            "\"\""
        } else {
            rule.group
        };
        let _ = writeln!(text, "- apiGroups: [{group}]");
        let _ = writeln!(text, "  resources: [{}]", rule.resources.join(", "));
        let _ = writeln!(text, "  verbs: [{}]", rule.verbs.join(", "));
    }
    text.push_str("{{- end }}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_permitted_that_the_code_does_not_do() {
        for mode in [Mode::Cluster, Mode::Namespaced] {
            for kind in Kind::ALL {
                let verbs = verbs(kind, mode);
                assert_eq!(kind.is_child(), verbs.contains(&"delete"), "{kind:?}");
                assert!(
                    !verbs.contains(&"*") && !verbs.contains(&"update"),
                    "{kind:?}"
                );
                let is_watched = kind != Kind::Secret || mode == Mode::Namespaced;
                let is_reachable = !kind.is_cluster_scoped() || mode == Mode::Cluster;
                assert_eq!(
                    verbs.contains(&"watch"),
                    is_watched && is_reachable,
                    "{kind:?}"
                );
            }
            assert!(
                rules(mode)
                    .iter()
                    .all(|rule| !rule.resources.contains(&"secrets"))
            );
        }
    }
}
