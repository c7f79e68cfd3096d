//! What makes Prometheus scrape the gateways, by the kinds of prometheus-operator.

use serde_json::json;
use wsgateway_model::Gateway;

use super::{Object, Site, names};
use crate::kinds::Kind;

/// By what the scraped series of this gateway are selected: both monitors give the name as their job.
pub(super) fn selector(gateway: &Gateway) -> String {
    format!(
        "namespace=\"{}\",job=\"{}\"",
        gateway.namespace, gateway.name
    )
}

/// Of the pods themselves, so that those that drain are still seen.
pub(super) fn pod_monitor(gateway: &Gateway, site: &Site) -> Object {
    let name = gateway.name.as_str();
    let spec = json!({
        "jobLabel": names::JOB_LABEL,
        "selector": names::pods(gateway),
        "podMetricsEndpoints": [{"port": names::ADMIN_PORT_NAME}],
    });
    let metadata = names::monitoring_metadata(gateway, site, name);
    names::untyped(Kind::PodMonitor, &metadata, &spec)
}

/// Of the metrics Service, which publishes pods that are not ready too.
pub(super) fn service_monitor(gateway: &Gateway, site: &Site) -> Object {
    let name = gateway.name.as_str();
    let spec = json!({
        "jobLabel": names::JOB_LABEL,
        "selector": {"matchLabels": names::metrics_selector(name)},
        "endpoints": [{"port": names::ADMIN_PORT_NAME}],
    });
    let metadata = names::monitoring_metadata(gateway, site, name);
    names::untyped(Kind::ServiceMonitor, &metadata, &spec)
}
