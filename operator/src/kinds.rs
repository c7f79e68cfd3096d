//! The kinds that the operator reads and writes, and which of the optional ones the API server serves now.

mod served;

use kube::core::{ApiResource, GroupVersionKind};

pub use self::served::{DISCOVERY_PERIOD, Served, discover};

/// A kind of object that the operator reads or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// What users write.
    WsGateway,
    /// The identity that the gateways run under.
    ServiceAccount,
    /// The boot and live configuration, a dashboard, a CA's certificate.
    ConfigMap,
    /// Keys and certificates.
    Secret,
    /// The gateways' address in the cluster.
    Service,
    /// The gateways.
    Deployment,
    /// The way in through a proxy.
    Ingress,
    /// How many gateways an eviction may take.
    PodDisruptionBudget,
    /// Scales the `WsGateway`.
    HorizontalPodAutoscaler,
    /// Who may reach the gateways.
    NetworkPolicy,
    /// The way in through Gateway API.
    HttpRoute,
    /// Body sizes, for NGINX Gateway Fabric.
    ClientSettingsPolicy,
    /// Timeouts and buffers, for NGINX Gateway Fabric.
    ProxySettingsPolicy,
    /// Balancing, for NGINX Gateway Fabric.
    UpstreamSettingsPolicy,
    /// Makes Prometheus scrape the gateways' pods.
    PodMonitor,
    /// Makes Prometheus scrape the gateways' Service.
    ServiceMonitor,
    /// Alerts.
    PrometheusRule,
    /// A certificate from cert-manager.
    Certificate,
    /// Scales the `WsGateway` by KEDA.
    ScaledObject,
    /// A Deployment's generations of pods. Only read.
    ReplicaSet,
    /// The running gateways. The operator writes annotations of theirs alone.
    Pod,
    /// Names the ingress controller. Only read.
    IngressClass,
    /// Names Gateway API's controller. Only read.
    GatewayClass,
    /// The listeners that an `HTTPRoute` hangs on. Only read.
    Gateway,
}

/// What the API server calls a kind.
struct Facts {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
}

const fn facts(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
) -> Facts {
    Facts {
        group,
        version,
        kind,
        plural,
    }
}

const GATEWAY_API: &str = "gateway.networking.k8s.io";
const FABRIC: &str = "gateway.nginx.org";
const PROMETHEUS: &str = "monitoring.coreos.com";

impl Kind {
    /// All of them.
    pub const ALL: [Self; 24] = [
        Self::WsGateway,
        Self::ServiceAccount,
        Self::ConfigMap,
        Self::Secret,
        Self::Service,
        Self::Deployment,
        Self::Ingress,
        Self::PodDisruptionBudget,
        Self::HorizontalPodAutoscaler,
        Self::NetworkPolicy,
        Self::HttpRoute,
        Self::ClientSettingsPolicy,
        Self::ProxySettingsPolicy,
        Self::UpstreamSettingsPolicy,
        Self::PodMonitor,
        Self::ServiceMonitor,
        Self::PrometheusRule,
        Self::Certificate,
        Self::ScaledObject,
        Self::ReplicaSet,
        Self::Pod,
        Self::IngressClass,
        Self::GatewayClass,
        Self::Gateway,
    ];

    const fn facts(self) -> Facts {
        match self {
            Self::WsGateway => facts("wsgateway.io", "v1alpha1", "WsGateway", "wsgateways"),
            Self::ServiceAccount => facts("", "v1", "ServiceAccount", "serviceaccounts"),
            Self::ConfigMap => facts("", "v1", "ConfigMap", "configmaps"),
            Self::Secret => facts("", "v1", "Secret", "secrets"),
            Self::Service => facts("", "v1", "Service", "services"),
            Self::Deployment => facts("apps", "v1", "Deployment", "deployments"),
            Self::Ingress => facts("networking.k8s.io", "v1", "Ingress", "ingresses"),
            Self::PodDisruptionBudget => facts(
                "policy",
                "v1",
                "PodDisruptionBudget",
                "poddisruptionbudgets",
            ),
            Self::HorizontalPodAutoscaler => facts(
                "autoscaling",
                "v2",
                "HorizontalPodAutoscaler",
                "horizontalpodautoscalers",
            ),
            Self::NetworkPolicy => facts(
                "networking.k8s.io",
                "v1",
                "NetworkPolicy",
                "networkpolicies",
            ),
            Self::HttpRoute => facts(GATEWAY_API, "v1", "HTTPRoute", "httproutes"),
            Self::ClientSettingsPolicy => facts(
                FABRIC,
                "v1alpha1",
                "ClientSettingsPolicy",
                "clientsettingspolicies",
            ),
            Self::ProxySettingsPolicy => facts(
                FABRIC,
                "v1alpha1",
                "ProxySettingsPolicy",
                "proxysettingspolicies",
            ),
            Self::UpstreamSettingsPolicy => facts(
                FABRIC,
                "v1alpha1",
                "UpstreamSettingsPolicy",
                "upstreamsettingspolicies",
            ),
            Self::PodMonitor => facts(PROMETHEUS, "v1", "PodMonitor", "podmonitors"),
            Self::ServiceMonitor => facts(PROMETHEUS, "v1", "ServiceMonitor", "servicemonitors"),
            Self::PrometheusRule => facts(PROMETHEUS, "v1", "PrometheusRule", "prometheusrules"),
            Self::Certificate => facts("cert-manager.io", "v1", "Certificate", "certificates"),
            Self::ScaledObject => facts("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects"),
            Self::ReplicaSet => facts("apps", "v1", "ReplicaSet", "replicasets"),
            Self::Pod => facts("", "v1", "Pod", "pods"),
            Self::IngressClass => {
                facts("networking.k8s.io", "v1", "IngressClass", "ingressclasses")
            }
            Self::GatewayClass => facts(GATEWAY_API, "v1", "GatewayClass", "gatewayclasses"),
            Self::Gateway => facts(GATEWAY_API, "v1", "Gateway", "gateways"),
        }
    }

    /// The kind as the API writes it: `HTTPRoute`.
    pub const fn name(self) -> &'static str {
        self.facts().kind
    }

    /// The API group; empty for the core group.
    pub const fn group(self) -> &'static str {
        self.facts().group
    }

    /// The version that the operator speaks.
    pub const fn version(self) -> &'static str {
        self.facts().version
    }

    /// The resource as paths and roles write it: `httproutes`.
    pub const fn plural(self) -> &'static str {
        self.facts().plural
    }

    /// The resource, for a client of dynamic objects.
    pub fn resource(self) -> ApiResource {
        let Facts {
            group,
            version,
            kind,
            plural,
        } = self.facts();
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
    }

    /// Whether the operator makes objects of this kind for a `WsGateway`.
    pub const fn is_child(self) -> bool {
        !matches!(
            self,
            Self::WsGateway
                | Self::ReplicaSet
                | Self::Pod
                | Self::IngressClass
                | Self::GatewayClass
                | Self::Gateway
        )
    }

    /// Whether a cluster may lack this kind: its definition comes and goes while the operator runs.
    pub const fn is_optional(self) -> bool {
        matches!(
            self,
            Self::HttpRoute
                | Self::ClientSettingsPolicy
                | Self::ProxySettingsPolicy
                | Self::UpstreamSettingsPolicy
                | Self::PodMonitor
                | Self::ServiceMonitor
                | Self::PrometheusRule
                | Self::Certificate
                | Self::ScaledObject
                | Self::GatewayClass
                | Self::Gateway
        )
    }

    /// Whether objects of this kind lie in no namespace, so that a Role cannot permit to read them.
    pub const fn is_cluster_scoped(self) -> bool {
        matches!(self, Self::IngressClass | Self::GatewayClass)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_stands_in_the_list_once() {
        let distinct: BTreeSet<_> = Kind::ALL.into_iter().collect();
        assert_eq!(distinct.len(), Kind::ALL.len());
        // A kind added to the enum but not to the list would be the last one plus one.
        assert_eq!(
            Kind::ALL.last().map(|kind| *kind as usize),
            Some(Kind::ALL.len() - 1)
        );
        let plurals: BTreeSet<_> = Kind::ALL.map(|kind| (kind.group(), kind.plural())).into();
        assert_eq!(plurals.len(), Kind::ALL.len());
    }

    #[test]
    fn resources_are_named_as_the_api_names_them() {
        let resource = Kind::HttpRoute.resource();
        assert_eq!(resource.api_version, "gateway.networking.k8s.io/v1");
        assert_eq!(resource.kind, "HTTPRoute");
        assert_eq!(resource.plural, "httproutes");
        assert_eq!(Kind::Pod.resource().api_version, "v1");
    }
}
