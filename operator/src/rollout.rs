//! When gateways are replaced, and how many there are: pure. It takes the Deployment as the spec asks for it and
//! the one that runs, and settles what is applied now.
//!
//! - The pod template changes at once where the spec changed it. Where only the operator's version did, it changes
//!   with `upgrade: Automatic` alone, and as [`Turns`] allows: a few `WsGateways` at a time.
//! - Replicas rise at once and fall by one, each after the pod before is gone: a Deployment by itself would end them
//!   all together.
//!
//! What was applied last is kept on the Deployment itself, in annotations: a newer operator must know the template
//! of an older one to leave it alone.

mod turns;

use k8s_openapi::api::{apps::v1::Deployment, core::v1::PodTemplateSpec};
use serde_json::Value;
use wsgateway_crds::{report::hash, v1alpha1::Upgrade};
use wsgateway_model::gateway::CONTAINER;

pub use self::turns::Turns;
use crate::{build::names::BOOT_LABEL, watch::Key};

/// The pod template as it was applied, as JSON.
pub const POD_TEMPLATE: &str = "wsgateway.io/pod-template";

/// The hash of what the spec alone brings to the pod template.
const INPUTS: &str = "wsgateway.io/inputs";

/// The generation of the `WsGateway` that the template was last held against.
const GENERATION: &str = "wsgateway.io/generation";

/// The hash of the template that came by a newer operator and not by the spec.
const UPGRADE: &str = "wsgateway.io/upgrade";

/// The annotation of a pod template that claims a revision, in tests of upgrades.
const REVISION: &str = "wsgateway.io/revision";

/// What the spec asks for.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The generation of the `WsGateway`.
    pub generation: i64,
    /// The image that the spec names.
    pub image: Option<&'a str>,
    /// How many gateways.
    pub replicas: i32,
    /// Whether a newer operator may replace them.
    pub upgrade: Upgrade,
}

/// What runs.
#[derive(Debug)]
pub struct Running<'a> {
    /// The Deployment, where there is one that is ours.
    pub deployment: Option<&'a Deployment>,
    /// Pods that were told to end and have not.
    pub terminating: usize,
    /// Pods that were not.
    pub alive: usize,
    /// Whether the boot configuration of the template in force is still there.
    pub has_boot: bool,
}

/// What is applied now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paced {
    /// Which pod template.
    pub template: Template,
    /// Whose gateways a newer operator's template waits for, beside its own.
    pub behind: Vec<Key>,
    /// How many gateways.
    pub replicas: Replicas,
}

/// Which pod template is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    /// The one in force is the one that is wanted.
    Current,
    /// The first one, or one that the spec changed.
    FromSpec,
    /// A newer operator's, whose turn it is.
    Upgraded,
    /// A newer operator's, out of turn: of the old one's gateways none is ready, and none is about to be.
    Rescued,
    /// The old one: a newer operator's waits until others are done, or until these gateways are ready.
    Waits,
    /// The old one: the spec says that no operator changes it.
    Held,
}

impl Template {
    /// Whether the template in force is an older operator's.
    pub const fn is_old(self) -> bool {
        matches!(self, Self::Waits | Self::Held)
    }
}

/// How many gateways are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replicas {
    /// As many as wanted.
    Wanted,
    /// One less than now, on the way down.
    OneLess(i32),
    /// As many as now: one of them is still ending.
    Hold(i32),
}

impl Replicas {
    /// The number.
    pub const fn count(self, wanted: i32) -> i32 {
        match self {
            Self::Wanted => wanted,
            Self::OneLess(count) | Self::Hold(count) => count,
        }
    }
}

/// Settles the template and replicas of the Deployment that is to be applied. `may_upgrade` is asked only where a
/// newer operator's template is at hand, and takes the turn.
pub fn pace(
    desired: &mut Deployment,
    wanted: &Wanted<'_>,
    running: &Running<'_>,
    may_upgrade: impl FnOnce() -> bool,
) -> Paced {
    let template = template_of(desired);
    let inputs = hash(&inputs_of(&template, wanted.image));
    let text = text_of(&template);
    let before = running.deployment.and_then(Recorded::of);
    let decided = match &before {
        None => Template::FromSpec,
        Some(before) if before.text == text => Template::Current,
        Some(before) => {
            let is_of_spec = before.generation != wanted.generation && before.inputs != inputs;
            if is_of_spec || !running.has_boot {
                Template::FromSpec
            } else if wanted.upgrade == Upgrade::OnSpecChange {
                Template::Held
            } else if running.deployment.is_some_and(is_mid_upgrade_or_complete) && may_upgrade() {
                Template::Upgraded
            } else if running.deployment.is_some_and(is_stuck) {
                Template::Rescued
            } else {
                Template::Waits
            }
        }
    };
    let in_force = match &before {
        Some(before) if decided.is_old() => before.text.clone(),
        _ => text,
    };
    let upgrade = match decided {
        Template::Upgraded => Some(hash(&in_force)),
        Template::Current | Template::Waits | Template::Held => {
            before.and_then(|before| before.upgrade)
        }
        Template::FromSpec | Template::Rescued => None,
    };
    if decided.is_old() {
        set_template(desired, &in_force);
    }
    let annotations = desired.metadata.annotations.get_or_insert_default();
    annotations.insert(POD_TEMPLATE.to_owned(), in_force);
    annotations.insert(INPUTS.to_owned(), inputs);
    annotations.insert(GENERATION.to_owned(), wanted.generation.to_string());
    if let Some(upgrade) = upgrade {
        annotations.insert(UPGRADE.to_owned(), upgrade);
    }
    let replicas = replicas(wanted.replicas, running);
    if let Some(spec) = &mut desired.spec {
        spec.replicas = Some(replicas.count(wanted.replicas));
    }
    Paced {
        template: decided,
        behind: Vec::new(),
        replicas,
    }
}

/// Down by one, and only while nothing else takes gateways away.
fn replicas(wanted: i32, running: &Running<'_>) -> Replicas {
    let spec = running
        .deployment
        .and_then(|deployment| deployment.spec.as_ref());
    let Some(now) = spec.and_then(|spec| spec.replicas) else {
        return Replicas::Wanted;
    };
    if wanted >= now {
        return Replicas::Wanted;
    }
    let is_rolling = running
        .deployment
        .is_some_and(|deployment| !is_updated(deployment));
    // The Deployment may be known to be smaller before its pods are known to end.
    let is_one_to_end = i32::try_from(running.alive).unwrap_or(i32::MAX) > now;
    // A rollout that never ends, or that nobody is served by, is no reason to keep what is not wanted.
    let is_idle = running
        .deployment
        .is_some_and(|deployment| has_timed_out(deployment) || serves_nobody(deployment));
    if running.terminating > 0 || (!is_idle && (is_one_to_end || is_rolling)) {
        Replicas::Hold(now)
    } else {
        Replicas::OneLess(now - 1)
    }
}

fn serves_nobody(deployment: &Deployment) -> bool {
    let status = deployment.status.as_ref();
    let ready = status.and_then(|status| status.ready_replicas);
    ready.unwrap_or_default() == 0
}

/// Makes the template another one, as a newer operator's would be.
pub fn claim_revision(desired: &mut Deployment, revision: &str) {
    if let Some(spec) = &mut desired.spec {
        let metadata = spec.template.metadata.get_or_insert_default();
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.insert(REVISION.to_owned(), revision.to_owned());
    }
}

/// Whether a Deployment has carried out its newest spec: every pod is of it, ready, and long enough.
pub fn is_complete(deployment: &Deployment) -> bool {
    let available = deployment
        .status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or_default();
    is_updated(deployment) && available >= wanted_replicas(deployment)
}

/// Whether the pods are those of its newest template, and no others are left.
fn is_updated(deployment: &Deployment) -> bool {
    let Some(status) = &deployment.status else {
        return false;
    };
    let wanted = wanted_replicas(deployment);
    let is_observed = status.observed_generation.unwrap_or_default()
        >= deployment.metadata.generation.unwrap_or_default();
    is_observed
        && status.updated_replicas.unwrap_or_default() >= wanted
        && status.replicas.unwrap_or_default() <= wanted
}

fn wanted_replicas(deployment: &Deployment) -> i32 {
    let spec = deployment.spec.as_ref();
    spec.and_then(|spec| spec.replicas).unwrap_or(1)
}

/// Whether the pods of this Deployment are being replaced by a newer operator's. It takes a turn until it is done.
pub fn is_upgrading(deployment: &Deployment) -> bool {
    Recorded::of(deployment).is_some_and(|recorded| {
        recorded.upgrade.as_deref() == Some(&*hash(&recorded.text)) && !is_complete(deployment)
    })
}

/// Who may get a newer operator's template: gateways that are all ready, and those that an operator's upgrade has
/// broken, which another operator may mend.
fn is_mid_upgrade_or_complete(deployment: &Deployment) -> bool {
    is_complete(deployment) || is_upgrading(deployment)
}

/// Whether the Deployment controller gave up waiting for pods to become ready.
pub fn has_timed_out(deployment: &Deployment) -> bool {
    let status = deployment.status.as_ref();
    let mut conditions = status
        .and_then(|status| status.conditions.as_ref())
        .into_iter()
        .flatten();
    conditions.any(|condition| {
        condition.type_.as_str() == "Progressing"
            && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
    })
}

/// Whether nobody is served and nobody is about to be: such gateways lose nothing by being replaced, and if they kept a
/// turn, they would hold up all others for what may be no fault of the operator's.
fn is_stuck(deployment: &Deployment) -> bool {
    has_timed_out(deployment) && serves_nobody(deployment)
}

/// The hash of the pod template in force, for status.
pub fn template_hash(deployment: &Deployment) -> Option<String> {
    Recorded::of(deployment).map(|recorded| hash(&recorded.text))
}

/// The boot configuration that the template in force names.
pub fn boot_in_force(deployment: &Deployment) -> Option<&str> {
    let template = &deployment.spec.as_ref()?.template;
    let labels = template.metadata.as_ref()?.labels.as_ref()?;
    labels.get(BOOT_LABEL).map(String::as_str)
}

/// The image of the gateways' container.
pub fn image_of(deployment: &Deployment) -> Option<&str> {
    let spec = deployment.spec.as_ref()?.template.spec.as_ref()?;
    let gateway = spec
        .containers
        .iter()
        .find(|container| container.name == CONTAINER)?;
    gateway.image.as_deref()
}

/// What the annotations keep.
struct Recorded {
    text: String,
    inputs: String,
    generation: i64,
    upgrade: Option<String>,
}

impl Recorded {
    fn of(deployment: &Deployment) -> Option<Self> {
        let annotations = deployment.metadata.annotations.as_ref()?;
        let text = annotations.get(POD_TEMPLATE)?;
        // One that a hand has broken is worth nothing: the template is made anew.
        serde_json::from_str::<PodTemplateSpec>(text).ok()?;
        Some(Self {
            text: text.clone(),
            inputs: annotations.get(INPUTS).cloned().unwrap_or_default(),
            generation: annotations.get(GENERATION)?.parse().ok()?,
            upgrade: annotations.get(UPGRADE).cloned(),
        })
    }
}

fn template_of(deployment: &Deployment) -> PodTemplateSpec {
    deployment
        .spec
        .as_ref()
        .map(|spec| spec.template.clone())
        .unwrap_or_default()
}

fn set_template(deployment: &mut Deployment, text: &str) {
    if let (Some(spec), Ok(template)) = (&mut deployment.spec, serde_json::from_str(text)) {
        spec.template = template;
    }
}

/// The template with the operator's own image left out: what is left is the spec's.
fn inputs_of(template: &PodTemplateSpec, image: Option<&str>) -> String {
    let mut template = template.clone();
    let containers = template
        .spec
        .iter_mut()
        .flat_map(|spec| &mut spec.containers);
    for container in containers.filter(|container| container.name == CONTAINER) {
        container.image = image.map(str::to_owned);
    }
    text_of(&template)
}

/// JSON with its keys in order, since a [`Value`] keeps them so.
fn text_of(template: &PodTemplateSpec) -> String {
    serde_json::to_value(template)
        .unwrap_or(Value::Null)
        .to_string()
}

#[cfg(test)]
mod tests;
