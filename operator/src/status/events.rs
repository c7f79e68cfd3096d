//! What a user is told by an event: what got worse, what is well again, and what was done that is felt.

use wsgateway_crds::v1alpha1::WsGatewayStatus;

/// An event to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Whether a user should act.
    pub is_warning: bool,
    /// A stable word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// The conditions of which a user is told: what is bad of each.
const TOLD: [(&str, &str); 9] = [
    ("Accepted", "False"),
    ("GatewayAvailable", "False"),
    ("TLSReady", "False"),
    ("ExposureReady", "False"),
    ("MonitoringReady", "False"),
    ("NatsConnected", "False"),
    ("AuthReady", "False"),
    ("OwnershipConflict", "True"),
    ("ConfigPropagated", "False"),
];

/// What passes by itself, and is no news.
const PASSING: [&str; 5] = [
    "Propagating",
    "NoDeployment",
    "NotEnoughReady",
    "PodsStarting",
    "PodsPending",
];

/// What is told when a status follows another.
pub fn notices(before: &WsGatewayStatus, after: &WsGatewayStatus) -> Vec<Notice> {
    let mut notices = Vec::new();
    for (type_, bad) in TOLD {
        let Some(now) = condition(after, type_) else {
            continue;
        };
        let was = condition(before, type_);
        let is_same = was.is_some_and(|was| was.status == now.status && was.reason == now.reason);
        if now.status == bad && !is_same && !PASSING.contains(&now.reason.as_str()) {
            notices.push(Notice {
                is_warning: true,
                reason: now.reason.clone(),
                message: now.message.clone(),
            });
        }
    }
    let is_ready = |status| condition(status, "Ready").is_some_and(|ready| ready.status == "True");
    if is_ready(after) && !is_ready(before) {
        let message = condition(after, "Ready").map(|ready| ready.message.clone());
        notices.push(Notice {
            is_warning: false,
            reason: "Ready".to_owned(),
            message: message.unwrap_or_default(),
        });
    }
    notices
}

fn condition<'a>(
    status: &'a WsGatewayStatus,
    type_: &str,
) -> Option<&'a k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
}
