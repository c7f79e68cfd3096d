//! How many gateways may be taken away at once, as when a node is drained.

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use wsgateway_model::Gateway;

use super::{Object, Site, names};
use crate::kinds::Kind;

/// None below two gateways, or a node could never be drained. An autoscaler may go down to its least count at any time,
/// so that is the one that counts.
pub(super) fn budget(gateway: &Gateway, site: &Site) -> Option<Object> {
    let replicas = gateway
        .scaling
        .as_ref()
        .map_or(gateway.replicas, |scaling| scaling.min_replicas);
    if replicas < 2 {
        return None;
    }
    let object = PodDisruptionBudget {
        metadata: names::metadata(gateway, site, gateway.name.as_str()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(
                i32::try_from(gateway.max_unavailable).unwrap_or(i32::MAX),
            )),
            selector: Some(names::pods(gateway)),
            // A gateway that serves nobody protects nobody.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    };
    Some(names::typed(
        Kind::PodDisruptionBudget,
        &object.metadata,
        &object,
    ))
}
