//! Which conditions are not as they should be, each said once.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use wsgateway_crds::v1alpha1::WsGatewayStatus;

/// The conditions in the order in which causes come before what follows from them, with what each should be.
const EXPECTED: [(&str, &str); 13] = [
    ("Accepted", "True"),
    ("OwnershipConflict", "False"),
    ("TLSReady", "True"),
    ("ExposureReady", "True"),
    ("GatewayAvailable", "True"),
    ("NatsConnected", "True"),
    ("AuthReady", "True"),
    ("ConfigPropagated", "True"),
    ("MonitoringReady", "True"),
    ("ControllerRetired", "False"),
    // These sum up the others: they are shown where they say something that no other does.
    ("Ready", "True"),
    ("Stalled", "False"),
    ("Reconciling", "False"),
];

/// The conditions that sum up others.
const SUMMARIES: [&str; 3] = ["Ready", "Stalled", "Reconciling"];

/// What follows from another condition that is shown, and what passes within seconds.
const QUIET: [&str; 3] = ["NotAccepted", "GatewaysNotReady", "Probing"];

/// What is not as it should be, causes first.
pub(super) fn amiss(status: &WsGatewayStatus) -> Vec<&Condition> {
    let mut amiss: Vec<&Condition> = Vec::new();
    for (type_, expected) in EXPECTED {
        let condition = status
            .conditions
            .iter()
            .find(|condition| condition.type_ == type_);
        let Some(condition) = condition.filter(|condition| condition.status != expected) else {
            continue;
        };
        let is_said = SUMMARIES.contains(&type_)
            && amiss.iter().any(|other| other.reason == condition.reason);
        if !is_said && !QUIET.contains(&condition.reason.as_str()) {
            amiss.push(condition);
        }
    }
    // What a newer operator says, and this version does not know, is not judged.
    amiss
}
