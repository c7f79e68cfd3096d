//! What each condition says.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use wsgateway_crds::report::Report;

use super::{Fault, Found, Holds, Verdict, Wanted, auth};
use crate::{
    rollout::{Paced, Replicas, Template, has_timed_out, is_complete},
    watch::PodView,
};

/// The verdict of a condition.
pub(super) fn of(type_: &str, found: &Found<'_>) -> Verdict {
    match type_ {
        "Ready" => ready(found),
        "Accepted" => accepted(found),
        "GatewayAvailable" => available(found),
        "TLSReady" => wanted(found, |wanted| tls(found, wanted)),
        "ExposureReady" => wanted(found, |wanted| wanted.exposure.clone()),
        "MonitoringReady" => wanted(found, |wanted| wanted.monitoring.clone()),
        "ConfigPropagated" => wanted(found, |wanted| propagation(found, wanted)),
        "NatsConnected" => nats(found),
        "AuthReady" => wanted(found, |wanted| auth::verdict(found, wanted)),
        "OwnershipConflict" => conflict(found),
        "Reconciling" => reconciling(found),
        _ => stalled(found),
    }
}

/// The first of the conditions that are needed and do not hold, or that all do.
fn ready(found: &Found<'_>) -> Verdict {
    let accepted = accepted(found);
    if accepted.holds != Holds::True {
        return Verdict::no(&accepted.reason, accepted.message);
    }
    let conflict = conflict(found);
    if conflict.holds == Holds::True {
        return Verdict::no(&conflict.reason, conflict.message);
    }
    if let Some(Fault { reason, message }) = found.failures.first() {
        return Verdict::no(reason, message);
    }
    // What else is wrong with keys leaves some who can come in.
    let auth = of("AuthReady", found);
    if auth.reason == auth::NOBODY {
        return Verdict::no(&auth.reason, auth.message);
    }
    let needed = [
        of("TLSReady", found),
        of("ExposureReady", found),
        available(found),
    ];
    for verdict in needed {
        if verdict.holds == Holds::False {
            return Verdict::no(&verdict.reason, verdict.message);
        }
    }
    let available = available(found);
    if available.holds == Holds::Unknown {
        return Verdict::no(&available.reason, available.message);
    }
    let url = found
        .wanted
        .as_ref()
        .and_then(|wanted| wanted.url.as_deref());
    Verdict::yes(
        "Ready",
        url.map_or_else(
            || "clients can connect".to_owned(),
            |url| format!("clients can connect to {url}"),
        ),
    )
}

fn accepted(found: &Found<'_>) -> Verdict {
    match &found.refused {
        Some(Fault { reason, message }) => Verdict::no(reason, message),
        None => Verdict::yes("Valid", "the spec is right"),
    }
}

/// What cannot be said of a spec that is not accepted.
fn wanted(found: &Found<'_>, verdict: impl FnOnce(&Wanted) -> Verdict) -> Verdict {
    found.wanted.as_ref().map_or_else(
        || Verdict::unknown("NotAccepted", "the spec is not accepted; see Accepted"),
        verdict,
    )
}

fn available(found: &Found<'_>) -> Verdict {
    let Some(deployment) = found.deployment else {
        return Verdict::no("NoDeployment", "there is no Deployment yet");
    };
    let status = deployment.status.as_ref();
    let ready = status
        .and_then(|status| status.ready_replicas)
        .unwrap_or_default();
    let running = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    let asked = found
        .wanted
        .as_ref()
        .map_or(running.unwrap_or_default(), |wanted| wanted.replicas);
    let spared = found
        .wanted
        .as_ref()
        .map_or(1, |wanted| wanted.max_unavailable);
    if asked == 0 {
        return Verdict::yes("ScaledToZero", "spec.replicas is 0: nobody is served");
    }
    let counts = format!("{ready} of {asked} gateways are ready");
    let refusal = refusal(deployment);
    let all_ready = ready >= asked;
    let trouble = refusal.or_else(|| trouble(found.pods).filter(|_| !all_ready));
    let message = match &trouble {
        Some((_, why)) => format!("{counts}; {why}"),
        None => counts,
    };
    if all_ready {
        return Verdict::yes("AllReady", message);
    }
    if ready >= (asked - spared).max(1) {
        return Verdict::yes("EnoughReady", message);
    }
    Verdict::no(
        trouble.map_or("NotEnoughReady", |(reason, _)| reason),
        message,
    )
}

/// Why no pod can be made of the newest template, as an admission controller or a quota says it.
fn refusal(deployment: &Deployment) -> Option<(&'static str, String)> {
    let mut conditions = deployment.status.as_ref()?.conditions.iter().flatten();
    let failure = conditions.find(|it| it.type_ == "ReplicaFailure" && it.status == "True")?;
    let why = failure.message.as_deref().unwrap_or_default();
    Some(("PodsRefused", format!("a pod is refused: {why}")))
}

/// What keeps a pod from serving, of the first that says.
fn trouble(pods: &[Arc<PodView>]) -> Option<(&'static str, String)> {
    let alive = || {
        pods.iter()
            .filter(|pod| !pod.is_terminating() && !pod.is_ready)
    };
    let waiting = alive().find_map(|pod| {
        let waiting = pod.waiting.as_ref()?;
        let name = &pod.metadata.name;
        let colon = if waiting.message.is_empty() { "" } else { ": " };
        let why = format!(
            "pod {name} waits: {}{colon}{}",
            waiting.reason, waiting.message
        );
        // A pod that has just begun waits for these.
        let is_usual = matches!(&*waiting.reason, "ContainerCreating" | "PodInitializing");
        Some((
            if is_usual {
                "PodsStarting"
            } else {
                "PodsFailing"
            },
            why,
        ))
    });
    waiting.or_else(|| {
        let unscheduled = alive().find(|pod| !pod.is_scheduled)?;
        let why = format!("pod {} has no node yet", unscheduled.metadata.name);
        Some(("PodsPending", why))
    })
}

/// Where the gateways end TLS themselves, what they make of the certificate counts too.
fn tls(found: &Found<'_>, wanted: &Wanted) -> Verdict {
    let rejected = reports(found).find_map(|(pod, report)| {
        let tls = report?.as_ref().ok()?.tls.as_ref()?;
        Some((pod, tls.rejected.as_ref()?))
    });
    match rejected {
        Some((pod, rejected)) if wanted.tls.holds != Holds::False => {
            let (name, message) = (&pod.metadata.name, &rejected.message);
            Verdict::no(
                "CertificateRejected",
                format!("pod {name} goes on with the certificate before, since {message}"),
            )
        }
        _ => wanted.tls.clone(),
    }
}

/// The pods that should serve, and what they reported.
pub(super) fn reports<'a>(
    found: &'a Found<'_>,
) -> impl Iterator<Item = (&'a PodView, Option<&'a Result<Report, String>>)> {
    found
        .pods
        .iter()
        .filter(|pod| !pod.is_terminating() && !pod.is_finished)
        .map(|pod| (&**pod, found.reports.get(&*pod.metadata.uid)))
}

/// How many pods run the wanted live configuration.
pub(super) fn propagated(found: &Found<'_>, live_hash: &str) -> usize {
    reports(found)
        .filter(|(_, report)| matches!(report, Some(Ok(report)) if report.live_hash == live_hash))
        .count()
}

fn propagation(found: &Found<'_>, wanted: &Wanted) -> Verdict {
    let all = reports(found).count();
    let propagated = propagated(found, &wanted.live_hash);
    for (pod, report) in reports(found) {
        if let Some(Ok(report)) = report
            && let Some(rejected) = &report.rejected
        {
            let (name, message) = (&pod.metadata.name, &rejected.message);
            return Verdict::no(
                "ConfigRejected",
                format!("pod {name} goes on with the configuration before, since {message}"),
            );
        }
    }
    let counts = format!(
        "{propagated} of {all} pods run live configuration {}",
        wanted.live_hash
    );
    if propagated == all {
        return Verdict::yes("AllPods", counts);
    }
    let silent = reports(found).find_map(|(pod, report)| match report {
        Some(Err(why)) => Some(format!(
            "; pod {} cannot be asked: {why}",
            pod.metadata.name
        )),
        _ => None,
    });
    match silent {
        Some(why) => Verdict::unknown("PodsSilent", counts + &why),
        None => Verdict::no("Propagating", counts),
    }
}

fn nats(found: &Found<'_>) -> Verdict {
    let answers: Vec<_> = reports(found)
        .filter_map(|(pod, report)| Some((pod, report?.as_ref().ok()?)))
        .collect();
    if answers.is_empty() {
        return Verdict::unknown("NoReport", "no gateway has told yet");
    }
    let cut_off: Vec<_> = answers
        .iter()
        .filter(|(_, report)| !report.nats.connected)
        .collect();
    let Some((pod, report)) = cut_off.first() else {
        let message = format!("{} gateways are connected", answers.len());
        return Verdict::yes("Connected", message);
    };
    let reason = Some(report.nats.reason.as_str()).filter(|reason| !reason.is_empty());
    let message = format!(
        "{} of {} gateways have no connection to NATS; pod {}: {}",
        cut_off.len(),
        answers.len(),
        pod.metadata.name,
        report.nats.message
    );
    Verdict::no(reason.unwrap_or("Disconnected"), message)
}

fn conflict(found: &Found<'_>) -> Verdict {
    if found.conflicts.is_empty() {
        return Verdict::no("NoConflict", "all names are free or of this WsGateway");
    }
    Verdict::yes("OwnershipConflict", found.conflicts.join("; "))
}

fn reconciling(found: &Found<'_>) -> Verdict {
    let Some(wanted) = &found.wanted else {
        return Verdict::no("NotAccepted", "the spec is not accepted; see Accepted");
    };
    let Some(paced) = &wanted.paced else {
        return Verdict::no("Paused", "spec.paused is true: nothing is changed");
    };
    if let Replicas::OneLess(count) | Replicas::Hold(count) = paced.replicas {
        return Verdict::yes(
            "ScalingIn",
            format!(
                "on the way to {} gateways, one by one: {count} now",
                wanted.replicas
            ),
        );
    }
    if found.has_written {
        return Verdict::yes("Applying", "objects were just written");
    }
    if let Some(deployment) = found.deployment
        && !is_complete(deployment)
        && !has_timed_out(deployment)
    {
        let message = "gateways are started or replaced, each after the one before is ready";
        return Verdict::yes("RollingOut", message);
    }
    if found.deployment.is_none() {
        return Verdict::yes("Creating", "the objects are being made");
    }
    if propagation(found, wanted).reason == "Propagating" {
        return Verdict::yes(
            "Propagating",
            "pods are about to read the live configuration",
        );
    }
    match paced.template {
        Template::Waits => Verdict::no("UpgradeWaits", waits(paced)),
        Template::Held => Verdict::no(
            "UpgradeHeld",
            "spec.upgrade is OnSpecChange: a newer operator's pods come with the next change of the spec",
        ),
        _ => Verdict::no("Settled", "everything is as the spec asks"),
    }
}

/// What a newer operator's pods wait for. Whose turn it is may be another's by the time that this is read: if all that
/// wait were told of each turn, a large fleet's upgrade would be mostly that.
fn waits(paced: &Paced) -> String {
    let names: Vec<String> = paced.behind.iter().map(ToString::to_string).collect();
    if names.is_empty() {
        return "a newer operator's pods come once all of these gateways are ready".to_owned();
    }
    let names = names.join(", ");
    format!("a newer operator's pods come in turn; at the last look it was that of {names}")
}

fn stalled(found: &Found<'_>) -> Verdict {
    if let Some(Fault { reason, message }) = &found.refused {
        return Verdict::yes(reason, message);
    }
    let conflict = conflict(found);
    if conflict.holds == Holds::True {
        return Verdict::yes(&conflict.reason, conflict.message);
    }
    if found.deployment.is_some_and(has_timed_out) {
        return Verdict::yes(
            "ProgressDeadlineExceeded",
            "the pods did not become ready in time; see GatewayAvailable",
        );
    }
    Verdict::no("Progressing", "nothing stands in the way")
}
