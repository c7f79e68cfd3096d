//! What users read: from what a reconcile found to `status`, and from one status to the next the events. Pure but for
//! the reports that pods gave.
//!
//! `Ready` is the summary that `kubectl wait` asks for, with `Reconciling` and `Stalled` as kstatus reads them. The
//! reason and the sentence of `Ready` are those of the first condition that keeps it from being true, so that
//! `kubectl get wsgw -o wide` says what is wrong.

mod auth;
mod events;
mod verdicts;

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::apps::v1::Deployment,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use wsgateway_crds::{
    report::Report,
    v1alpha1::{ExposureStatus, NotExpressedStatus, RevisionStatus, WsGatewayStatus},
};
use wsgateway_nginx_ingress::NotExpressed;

pub use self::events::{Notice, notices};
use crate::{
    rollout::{self, Paced},
    watch::PodView,
};

/// The longest sentence in a condition that was not written here.
const MESSAGE_BYTES_MAX: usize = 1_024;

/// A pod's connections are written when their sum has moved by this part of what was written.
const CONNECTIONS_STEP: f64 = 0.1;

/// What a condition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it holds.
    pub holds: Holds,
    /// A stable word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// Whether something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// It does.
    True,
    /// It does not.
    False,
    /// That is not known.
    Unknown,
}

impl Verdict {
    /// It holds.
    pub fn yes(reason: &str, message: impl Into<String>) -> Self {
        Self::new(Holds::True, reason, message)
    }

    /// It does not.
    pub fn no(reason: &str, message: impl Into<String>) -> Self {
        Self::new(Holds::False, reason, message)
    }

    /// That is not known.
    pub fn unknown(reason: &str, message: impl Into<String>) -> Self {
        Self::new(Holds::Unknown, reason, message)
    }

    /// What a status says of this generation of the spec.
    pub fn of(status: &WsGatewayStatus, type_: &str, generation: i64) -> Option<Self> {
        let condition = status
            .conditions
            .iter()
            .find(|condition| condition.type_ == type_)?;
        if condition.observed_generation != Some(generation) {
            return None;
        }
        let holds = match condition.status.as_str() {
            "True" => Holds::True,
            "False" => Holds::False,
            _ => Holds::Unknown,
        };
        Some(Self::new(holds, &condition.reason, &condition.message))
    }

    fn new(holds: Holds, reason: &str, message: impl Into<String>) -> Self {
        let mut message: String = message.into();
        let is_cut = |(at, _): &(usize, char)| *at >= MESSAGE_BYTES_MAX;
        if let Some((at, _)) = message.char_indices().find(is_cut) {
            message.truncate(at);
        }
        Self {
            holds,
            reason: reason.to_owned(),
            message,
        }
    }
}

/// What a reconcile found.
#[derive(Debug)]
pub struct Found<'a> {
    /// The generation of the spec that was looked at.
    pub generation: i64,
    /// Why the spec is not accepted, where it is not.
    pub refused: Option<Fault>,
    /// What the spec came to; none where it is not accepted.
    pub wanted: Option<Wanted>,
    /// The Deployment, where there is one that is ours.
    pub deployment: Option<&'a Deployment>,
    /// The gateways' pods.
    pub pods: &'a [Arc<PodView>],
    /// What they reported last, by UID; a text where one could not be asked.
    pub reports: &'a BTreeMap<String, Result<Report, String>>,
    /// Names that somebody else's objects have.
    pub conflicts: Vec<String>,
    /// What could not be applied or deleted, beside those.
    pub failures: Vec<Fault>,
    /// Whether something was written since the rest was found.
    pub has_written: bool,
}

/// What the spec came to.
#[derive(Debug)]
pub struct Wanted {
    /// How many gateways.
    pub replicas: i32,
    /// How many may be missing.
    pub max_unavailable: i32,
    /// Whether the operator leaves everything as it is.
    pub paused: bool,
    /// The pods' label selector.
    pub selector: String,
    /// Where clients connect.
    pub url: Option<String>,
    /// The hash of the live configuration.
    pub live_hash: String,
    /// What was settled of template and replicas; none where the operator is paused.
    pub paced: Option<Paced>,
    /// Whether clients get a certificate.
    pub tls: Verdict,
    /// When that ends.
    pub not_after: Option<String>,
    /// Whose tokens are accepted.
    pub auth: Issuers,
    /// Whether clients can come in.
    pub exposure: Verdict,
    /// Whether the controller in front has no more releases.
    pub retired: Verdict,
    /// Whether what was asked for Prometheus and Grafana is there.
    pub monitoring: Verdict,
    /// Whose words were written.
    pub dialect: Option<&'static str>,
    /// What they cannot say.
    pub not_expressed: Vec<NotExpressed>,
}

/// Whose tokens are accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Issuers {
    /// The names of the providers; empty where tokens are not looked at.
    pub names: Vec<String>,
    /// Whether every route asks for a token: then nobody comes in without their keys.
    pub guard_all_routes: bool,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// A stable word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// The conditions of every `WsGateway`, in the order in which they stand. Whether `Ready` waits for one is said with
/// it.
const ORDER: [&str; 12] = [
    "Ready",
    "Accepted",
    "GatewayAvailable",
    "TLSReady",
    "ExposureReady",
    "ConfigPropagated",
    "NatsConnected",
    "AuthReady",
    "MonitoringReady",
    "OwnershipConflict",
    "Reconciling",
    "Stalled",
];

/// The condition that is there only where it is true.
const RETIRED: &str = "ControllerRetired";

/// The status, from what was found and what it was. Transition times are kept where a condition's status is as it was.
pub fn status(found: &Found<'_>, before: &WsGatewayStatus, now: Timestamp) -> WsGatewayStatus {
    let mut conditions: Vec<Condition> = ORDER
        .iter()
        .map(|type_| {
            let verdict = verdicts::of(type_, found);
            condition(type_, verdict, found.generation, before, now)
        })
        .collect();
    if let Some(wanted) = &found.wanted
        && wanted.retired.holds == Holds::True
    {
        let verdict = wanted.retired.clone();
        conditions.push(condition(RETIRED, verdict, found.generation, before, now));
    }
    let deployed = found
        .deployment
        .and_then(|deployment| deployment.status.as_ref());
    let wanted = found.wanted.as_ref();
    WsGatewayStatus {
        observed_generation: Some(found.generation),
        replicas: Some(
            deployed
                .and_then(|status| status.replicas)
                .unwrap_or_default(),
        ),
        ready_replicas: Some(
            deployed
                .and_then(|status| status.ready_replicas)
                .unwrap_or_default(),
        ),
        // What a refused spec does not say stays as it was: it still runs.
        selector: wanted
            .map(|wanted| wanted.selector.clone())
            .or_else(|| before.selector.clone()),
        url: wanted.map_or_else(|| before.url.clone(), |wanted| wanted.url.clone()),
        revision: revision(found).or_else(|| before.revision.clone()),
        exposure: wanted.map_or_else(|| before.exposure.clone(), exposure),
        connections: connections(found, before.connections),
        conditions,
    }
}

fn condition(
    type_: &str,
    verdict: Verdict,
    generation: i64,
    before: &WsGatewayStatus,
    now: Timestamp,
) -> Condition {
    let Verdict {
        holds,
        reason,
        message,
    } = verdict;
    let status = match holds {
        Holds::True => "True",
        Holds::False => "False",
        Holds::Unknown => "Unknown",
    };
    let since = before
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_ && condition.status == status)
        .map(|condition| condition.last_transition_time.clone());
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason,
        message,
        observed_generation: Some(generation),
        // The API server keeps whole seconds.
        last_transition_time: since
            .unwrap_or_else(|| Time(Timestamp::from_second(now.as_second()).unwrap_or(now))),
    }
}

fn revision(found: &Found<'_>) -> Option<RevisionStatus> {
    let wanted = found.wanted.as_ref()?;
    let deployment = found.deployment;
    Some(RevisionStatus {
        desired: Some(wanted.live_hash.clone()),
        pods: Some(
            i32::try_from(verdicts::propagated(found, &wanted.live_hash)).unwrap_or(i32::MAX),
        ),
        image: deployment.and_then(rollout::image_of).map(str::to_owned),
        pod_template: deployment.and_then(rollout::template_hash),
    })
}

/// None where there is nothing to say: of an object whose last fields are taken away, server-side apply makes a null, which
/// the schema refuses.
fn exposure(wanted: &Wanted) -> Option<ExposureStatus> {
    let said = |it: &NotExpressed| NotExpressedStatus {
        field: it.field.to_owned(),
        why: it.why.clone(),
    };
    let exposure = ExposureStatus {
        dialect: wanted.dialect.map(str::to_owned),
        not_expressed: wanted.not_expressed.iter().map(said).collect(),
        certificate_not_after: wanted.not_after.clone(),
    };
    Some(exposure).filter(|exposure| *exposure != ExposureStatus::default())
}

/// The sum of what the pods reported, where it has moved by enough to be written.
fn connections(found: &Found<'_>, before: Option<i64>) -> Option<i64> {
    if found.pods.is_empty() && found.reports.values().flatten().next().is_none() {
        return None;
    }
    connections_of(found.reports, before)
}

/// The same of gateways that are there.
pub fn connections_of(
    reports: &BTreeMap<String, Result<Report, String>>,
    before: Option<i64>,
) -> Option<i64> {
    let mut sum: Option<i64> = None;
    for report in reports.values().flatten() {
        let more = i64::try_from(report.connections).unwrap_or(i64::MAX);
        sum = Some(sum.unwrap_or(0).saturating_add(more));
    }
    match (sum, before) {
        (None, before) => before,
        (Some(sum), Some(before)) if is_near(sum, before) => Some(before),
        (Some(sum), _) => Some(sum),
    }
}

fn is_near(sum: i64, before: i64) -> bool {
    (sum > 0) == (before > 0) && (sum - before).abs() as f64 <= before as f64 * CONNECTIONS_STEP
}

#[cfg(test)]
mod tests;
