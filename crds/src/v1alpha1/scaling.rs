//! `spec.scaling`: what changes replicas by load.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::{self, Rule};

/// What changes replicas by load.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = Rule::new(
    "self.minReplicas <= self.maxReplicas",
    "minReplicas must not be more than maxReplicas"
).at("minReplicas"))]
#[schemars(transform = Rule::member(&["HPA", "KEDA"], "KEDA", "keda"))]
pub struct Scaling {
    /// `HPA`: a `HorizontalPodAutoscaler`. `KEDA`: a `ScaledObject`, where KEDA is installed. Either writes the
    /// replicas of the `WsGateway` through its scale subresource. Example: `type: HPA`
    #[serde(rename = "type")]
    pub type_: ScalingType,
    /// The fewest gateways. Default 2. Example: `minReplicas: 3`
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 1_000))]
    pub min_replicas: u32,
    /// The most gateways. Example: `maxReplicas: 12`
    #[schemars(range(min = 1, max = 1_000))]
    pub max_replicas: u32,
    /// What is measured, 1 to 2 of them; the one that asks for the most gateways decides.
    /// Example: `metrics: [{type: Connections, averageValue: "6000"}]`
    #[schemars(length(min = 1, max = 2))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub metrics: Vec<Metric>,
    /// Where KEDA asks for connections, with type `KEDA`.
    /// Example: `keda: {prometheus: "http://prometheus.monitoring.svc:9090"}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keda: Option<KedaScaling>,
}

fn two() -> u32 {
    2
}

/// What changes the number of gateways.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScalingType {
    /// A `HorizontalPodAutoscaler`.
    #[serde(rename = "HPA")]
    Hpa,
    /// A `ScaledObject`.
    #[serde(rename = "KEDA")]
    Keda,
}

/// What is measured.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = Rule::member(&["Connections", "CPU"], "Connections", "averageValue"))]
#[schemars(transform = Rule::member(&["Connections", "CPU"], "CPU", "averageUtilization"))]
pub struct Metric {
    /// `Connections`: open connections of a gateway; an HPA reads `wsgateway_connections` from the custom metrics
    /// API, which an adapter must serve. `CPU`: a share of what the pods request. Example: `type: Connections`
    #[serde(rename = "type")]
    pub type_: MetricType,
    /// Connections that each gateway should have, with type `Connections`. Example: `averageValue: "6000"`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub average_value: Option<String>,
    /// Percent of the requested CPU that each gateway should use, with type `CPU`.
    /// Example: `averageUtilization: 70`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub average_utilization: Option<u32>,
}

/// The kinds of measure.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetricType {
    /// Open connections.
    Connections,
    /// Processor time.
    #[serde(rename = "CPU")]
    Cpu,
}

/// Where KEDA asks for connections.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KedaScaling {
    /// The address of Prometheus, as KEDA reaches it.
    /// Example: `prometheus: "http://prometheus.monitoring.svc:9090"`
    #[schemars(schema_with = "schema::prometheus")]
    pub prometheus: String,
}
