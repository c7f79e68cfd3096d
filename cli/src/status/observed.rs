//! What was seen of a `WsGateway` and of what was made for it.

use k8s_openapi::api::{core::v1::Pod, events::v1::Event};
use kube::api::DynamicObject;
use serde_json::Value;
use wsgateway_crds::{report::Report, v1alpha1::WsGatewayStatus};
use wsgateway_operator::kinds::Kind;

/// A `WsGateway`, and what was made for it.
#[derive(Debug)]
pub(super) struct Observed {
    /// As the API server has it: one that this version cannot read must be shown all the more.
    pub(super) gateway: DynamicObject,
    /// Its status; the default one where it has none, or none that can be read.
    pub(super) status: WsGatewayStatus,
    /// What it controls, Secrets, ReplicaSets and pods aside.
    pub(super) children: Vec<Child>,
    /// The ReplicaSets of its Deployment.
    pub(super) replica_sets: Vec<DynamicObject>,
    /// Its pods.
    pub(super) pods: Vec<PodSeen>,
    /// The Secrets of its certificate. What they hold is never asked for.
    pub(super) secrets: Vec<SecretSeen>,
    /// What was told of it, the newest last.
    pub(super) events: Vec<Event>,
}

/// An object that a `WsGateway` controls.
#[derive(Debug)]
pub(super) struct Child {
    /// Its kind.
    pub(super) kind: Kind,
    /// All of it.
    pub(super) object: DynamicObject,
}

/// A pod, and what its gateway said.
#[derive(Debug)]
pub(super) struct PodSeen {
    /// The pod.
    pub(super) pod: Pod,
    /// What its gateway said of itself. Absent where it was not asked.
    pub(super) report: Option<Result<Report, String>>,
}

/// A Secret by its name.
#[derive(Debug)]
pub(super) struct SecretSeen {
    /// Its name.
    pub(super) name: String,
    /// What it is for.
    pub(super) purpose: &'static str,
    /// Whether it is there.
    pub(super) state: SecretState,
}

/// Whether a Secret is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SecretState {
    /// It is.
    There,
    /// It is not.
    Missing,
    /// Who asks may not know.
    NotPermitted,
}

impl Observed {
    /// Whether its newest spec is what `Ready` speaks of, and holds.
    pub(super) fn is_ready(&self) -> bool {
        self.is_seen() && self.condition_holds("Ready")
    }

    /// Whether an operator has looked at the newest spec.
    pub(super) fn is_seen(&self) -> bool {
        self.status.observed_generation == self.gateway.metadata.generation
            && self.status.observed_generation.is_some()
    }

    fn condition_holds(&self, type_: &str) -> bool {
        let mut conditions = self.status.conditions.iter();
        conditions.any(|condition| condition.type_ == type_ && condition.status == "True")
    }

    /// The name.
    pub(super) fn name(&self) -> &str {
        self.gateway.metadata.name.as_deref().unwrap_or_default()
    }

    /// The namespace.
    pub(super) fn namespace(&self) -> &str {
        self.gateway
            .metadata
            .namespace
            .as_deref()
            .unwrap_or_default()
    }

    /// A value of the spec.
    pub(super) fn spec(&self, pointer: &str) -> Option<&Value> {
        self.gateway.data.get("spec")?.pointer(pointer)
    }

    /// A text of the spec.
    pub(super) fn spec_text(&self, pointer: &str) -> Option<&str> {
        self.spec(pointer)?.as_str()
    }
}
