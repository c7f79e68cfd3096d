//! What is there before the file is applied.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::DynamicObject;
use serde_json::Value;
use wsgateway_operator::{build::Front, kinds::Kind};

use crate::defaults::Defaults;

/// What is there of a `WsGateway`.
#[derive(Debug)]
pub(super) struct Before {
    /// The `WsGateway`; none where the file makes it.
    pub(super) gateway: Option<DynamicObject>,
    /// The objects that it has or may have, by kind and name. What is not here does not exist.
    pub(super) children: BTreeMap<(Kind, String), Child>,
    /// Its pods that have not ended.
    pub(super) pods: Vec<PodAtWork>,
    /// Pods that were told to end and have not.
    pub(super) terminating: usize,
    /// Who stands in front after the file is applied.
    pub(super) front: Front,
    /// Why that is not known, or what was taken for it.
    pub(super) front_note: Option<String>,
    /// The optional kinds that the API server serves.
    pub(super) served: Vec<Kind>,
    /// A `WsGateway` that is older and has the same host and path.
    pub(super) conflict: Option<String>,
    /// What the operator puts in where a spec says nothing, as far as it is known.
    pub(super) defaults: Defaults,
}

/// An object that has a name which the operator would use.
#[derive(Debug)]
pub(super) enum Child {
    /// The `WsGateway` controls it.
    Ours(Box<Value>),
    /// Somebody else's.
    Theirs,
    /// Who asks may not read it.
    Hidden,
}

/// A pod, and how many connections it has.
#[derive(Debug)]
pub(super) struct PodAtWork {
    /// Open connections by route, or why they are not known.
    pub(super) connections: Result<BTreeMap<String, u64>, String>,
}

impl Before {
    /// An object of ours.
    pub(super) fn ours(&self, kind: Kind, name: &str) -> Option<&Value> {
        match self.children.get(&(kind, name.to_owned()))? {
            Child::Ours(object) => Some(object),
            Child::Theirs | Child::Hidden => None,
        }
    }

    /// The Deployment, where it is ours.
    pub(super) fn deployment(&self, name: &str) -> Option<Deployment> {
        serde_json::from_value(self.ours(Kind::Deployment, name)?.clone()).ok()
    }
}
