//! What the gateways' pods are, beside what they serve: `spec.upgrade`, `networkPolicy`, `podDisruptionBudget` and
//! `podTemplate`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::schema::{self, Rule};

/// Whether a newer operator may replace gateways whose spec has not changed.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Upgrade {
    /// It may.
    #[default]
    Automatic,
    /// It waits until the spec changes.
    OnSpecChange,
}

/// Who may reach the gateways' pods.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = Rule::new(
    "self.mode != 'Disabled' || (!has(self.clientNamespaces) && !has(self.metricsNamespaces))",
    "clientNamespaces and metricsNamespaces must not be set when mode is Disabled"
))]
pub struct NetworkPolicy {
    /// `Enabled`: a `NetworkPolicy` lets in who is named below and the operator, and nobody else; what the gateways
    /// reach, such as NATS and issuers of tokens, is not limited. `Disabled`: there is none. Default `Disabled`. Example: `mode: Enabled`
    pub mode: NetworkPolicyMode,
    /// The namespaces whose pods may connect as clients, up to 32: that of the ingress controller. Default: none,
    /// which lets in those of the same namespace. Example: `clientNamespaces: [ingress-nginx]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::namespaces")]
    pub client_namespaces: Vec<String>,
    /// The namespaces whose pods may read metrics, up to 32: that of Prometheus. Default: none, which lets in those
    /// of the same namespace. Example: `metricsNamespaces: [monitoring]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::namespaces")]
    pub metrics_namespaces: Vec<String>,
}

/// Whether there is a `NetworkPolicy`.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkPolicyMode {
    /// There is.
    Enabled,
    /// There is none.
    #[default]
    Disabled,
}

/// How many gateways may be taken away at once.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodDisruptionBudget {
    /// How many may be missing when a node is drained. With fewer than two gateways there is no budget, or a node
    /// could never be drained. Default 1. Example: `maxUnavailable: 2`
    #[schemars(range(min = 1, max = 1_000))]
    pub max_unavailable: u32,
}

impl Default for PodDisruptionBudget {
    fn default() -> Self {
        Self { max_unavailable: 1 }
    }
}

/// What the gateways' pods have beside what the operator gives them.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodTemplate {
    /// Labels and annotations of the pods. Example: `metadata: {annotations: {example.com/team: chat}}`
    pub metadata: PodMetadata,
    /// Fields of a pod's spec, as Kubernetes documents them. Not the gateway's own ports, probes, command, image and
    /// grace period, which are derived. Default: none.
    /// Example: `spec: {containers: [{name: gateway, resources: {limits: {memory: 1Gi}}}]}`
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "schema::foreign")]
    pub spec: Map<String, Value>,
}

/// Labels and annotations of the pods.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodMetadata {
    /// Labels to add; not those that the operator sets. Default: none. Example: `labels: {team: chat}`
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub labels: BTreeMap<String, String>,
    /// Annotations to add. Default: none. Example: `annotations: {sidecar.istio.io/inject: "false"}`
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotations")]
    pub annotations: BTreeMap<String, String>,
}
