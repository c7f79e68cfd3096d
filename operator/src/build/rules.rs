//! Alerts on the gateways' own series.

use wsgateway_model::Gateway;

use super::{Object, Site};

pub(super) fn rules(gateway: &Gateway, site: &Site) -> Object {
    let metadata = super::names::monitoring_metadata(gateway, site, gateway.name.as_str());
    super::names::untyped(
        crate::kinds::Kind::PrometheusRule,
        &metadata,
        &serde_json::json!({"groups": []}),
    )
}
