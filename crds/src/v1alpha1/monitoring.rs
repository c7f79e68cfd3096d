//! `spec.monitoring`: what is made for Prometheus and Grafana.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// What is made for Prometheus and Grafana.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Monitoring {
    /// What tells Prometheus to scrape the gateways. `Auto`: a `PodMonitor`, where that kind is installed.
    /// `PodMonitor` or `ServiceMonitor`: that one; a condition says so where it is not installed. `Disabled`:
    /// nothing. Default `Auto`. Example: `metrics: ServiceMonitor`
    pub metrics: MetricsMode,
    /// Whether a `PrometheusRule` with alerts is made. `Auto`: where that kind is installed. `Enabled`: yes; a
    /// condition says so where it is not installed. `Disabled`: no. Default `Auto`. Example: `rules: Disabled`
    pub rules: RulesMode,
    /// Whether a `ConfigMap` with a dashboard is made, labelled `grafana_dashboard: "1"` as Grafana's sidecar looks
    /// for it. Default `Disabled`. Example: `dashboard: Enabled`
    pub dashboard: DashboardMode,
    /// Labels of these objects, by which a Prometheus may select them. Default: none.
    /// Example: `labels: {release: kube-prometheus}`
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub labels: BTreeMap<String, String>,
}

/// What tells Prometheus to scrape the gateways.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetricsMode {
    /// A `PodMonitor`, where that kind is installed.
    #[default]
    Auto,
    /// A `PodMonitor`.
    PodMonitor,
    /// A `ServiceMonitor`.
    ServiceMonitor,
    /// Nothing.
    Disabled,
}

/// Whether alerts are made.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RulesMode {
    /// Where the kind is installed.
    #[default]
    Auto,
    /// Yes.
    Enabled,
    /// No.
    Disabled,
}

/// Whether a dashboard is made.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DashboardMode {
    /// Yes.
    Enabled,
    /// No.
    #[default]
    Disabled,
}
