//! Who may reach the gateways' pods. What they reach is not limited: where NATS is cannot be told from here.
//!
//! The kubelet's probes come from the node that the pod runs on, and such traffic is let in by every plugin.

use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
        NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use wsgateway_model::{
    Gateway,
    gateway::{self, Entrance},
};
use wsgateway_nginx_ingress::value::ObjectName;

use super::{Object, Site, names};
use crate::kinds::Kind;

/// The label that the API server puts on every namespace.
const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

pub(super) fn network_policy(
    gateway: &Gateway,
    site: &Site,
    policy: &gateway::NetworkPolicy,
) -> Object {
    let is_load_balancer = matches!(gateway.entrance, Entrance::LoadBalancer { .. });
    let clients = if is_load_balancer && policy.clients.is_empty() {
        // They come from outside of the cluster, in no namespace. Without a `from` everyone is let in.
        None
    } else {
        Some(peers(&policy.clients))
    };
    let mut readers = peers(&policy.metrics);
    let operator = site.operator_namespace.as_deref();
    readers.extend(
        operator
            .map(namespace)
            .filter(|peer| !readers.contains(peer)),
    );
    let object = NetworkPolicy {
        metadata: names::metadata(gateway, site, gateway.name.as_str()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(names::pods(gateway)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![
                rule(names::CLIENTS_PORT, clients),
                rule(names::ADMIN_PORT, Some(readers)),
            ]),
            ..NetworkPolicySpec::default()
        }),
    };
    names::typed(Kind::NetworkPolicy, &object.metadata, &object)
}

fn rule(port: u16, from: Option<Vec<NetworkPolicyPeer>>) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from,
        ports: Some(vec![NetworkPolicyPort {
            port: Some(IntOrString::Int(i32::from(port))),
            ..NetworkPolicyPort::default()
        }]),
    }
}

/// The pods of these namespaces; of the gateways' own where none is named.
fn peers(namespaces: &[ObjectName]) -> Vec<NetworkPolicyPeer> {
    if namespaces.is_empty() {
        let own = NetworkPolicyPeer {
            pod_selector: Some(LabelSelector::default()),
            ..NetworkPolicyPeer::default()
        };
        return vec![own];
    }
    namespaces
        .iter()
        .map(|name| namespace(name.as_str()))
        .collect()
}

fn namespace(name: &str) -> NetworkPolicyPeer {
    let labels = [(NAMESPACE_LABEL.to_owned(), name.to_owned())];
    NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector {
            match_labels: Some(labels.into()),
            ..LabelSelector::default()
        }),
        ..NetworkPolicyPeer::default()
    }
}
