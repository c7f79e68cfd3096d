//! The last steps: what users are told.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Resource,
    api::{DynamicObject, Patch, PatchParams},
    runtime::events::{Event, EventType},
};
use serde_json::json;
use wsgateway_crds::{
    config::{Access, Route},
    v1alpha1::{WsGateway, WsGatewayStatus},
};
use wsgateway_model::Gateway;

use super::{
    PROPAGATION_PERIOD, ReconcileError, Reconciler, Subject,
    act::{Applied, Observed, is_certificate_applied},
    lock,
};
use crate::{
    apply::{ApplyError, FIELD_MANAGER},
    build::{self, Desired, names},
    dereference::{Fronted, Tls},
    kinds::Kind,
    pods::Said,
    queue::Outcome,
    rollout::Paced,
    status::{Fault, Found, Issuers, Notice, Verdict, Wanted, notices, status},
    watch::gateway_metadata,
};

/// How soon a `WsGateway` is looked at again for which something was written.
const AFTER_WRITES: Duration = Duration::from_secs(1);

/// What the spec came to, for the status.
pub(super) fn wanted(
    gateway: &Gateway,
    desired: Desired,
    fronted: Fronted,
    tls: &Tls,
    paced: Option<Paced>,
    exposure: Verdict,
    applied: &Applied,
) -> Wanted {
    Wanted {
        replicas: i32::try_from(gateway.replicas).unwrap_or(i32::MAX),
        max_unavailable: i32::try_from(gateway.max_unavailable).unwrap_or(i32::MAX),
        paused: gateway.paused,
        selector: names::selector_text(gateway.name.as_str()),
        url: build::url(gateway),
        monitoring: monitoring(&desired, applied),
        exposure: missing_way_in(&desired).unwrap_or(exposure),
        live_hash: desired.live_hash,
        paced,
        tls: missing_issuer(&desired.missing).unwrap_or_else(|| tls.verdict.clone()),
        not_after: tls
            .not_after
            .and_then(|time| Timestamp::try_from(time).ok())
            .and_then(|time| Timestamp::from_second(time.as_second()).ok())
            .map(|time| time.to_string()),
        auth: issuers(gateway),
        retired: fronted.retired,
        dialect: desired.dialect,
        not_expressed: desired.not_expressed,
    }
}

fn issuers(gateway: &Gateway) -> Issuers {
    let live = &gateway.live;
    let providers = live.auth.iter().flat_map(|auth| &auth.providers);
    let asks = |route: &Route| route.authorization.access == Access::Token;
    Issuers {
        names: providers.map(|provider| provider.name.clone()).collect(),
        guard_all_routes: live.routes.iter().all(asks),
    }
}

const MONITORS: [Kind; 3] = [Kind::PodMonitor, Kind::ServiceMonitor, Kind::PrometheusRule];

fn monitoring(desired: &Desired, applied: &Applied) -> Verdict {
    if let Some(error) = applied
        .failures
        .iter()
        .find(|error| is_of_monitoring(error))
    {
        return Verdict::no(error.reason(), error.to_string());
    }
    let missing = desired.missing.iter().find(|kind| MONITORS.contains(kind));
    if let Some(kind) = missing {
        let name = kind.name();
        return Verdict::no(
            "CRDNotInstalled",
            not_installed(*kind, &format!("a {name}")),
        );
    }
    let made = desired
        .objects
        .iter()
        .filter(|object| MONITORS.contains(&object.kind));
    let made: Vec<_> = made.map(|object| object.kind.name()).collect();
    if made.is_empty() {
        Verdict::yes(
            "NothingAsked",
            "no monitor is asked for or can be made here",
        )
    } else {
        Verdict::yes("Made", format!("{} stand", made.join(" and ")))
    }
}

/// It never keeps anything else from being well.
fn is_of_monitoring(error: &ApplyError) -> bool {
    MONITORS.contains(&error.kind())
}

fn missing_way_in(desired: &Desired) -> Option<Verdict> {
    let is_missing = desired.missing.contains(&Kind::HttpRoute);
    is_missing.then(|| {
        Verdict::no(
            "CRDNotInstalled",
            not_installed(Kind::HttpRoute, "an HTTPRoute"),
        )
    })
}

fn missing_issuer(missing: &[Kind]) -> Option<Verdict> {
    let is_missing = missing.contains(&Kind::Certificate);
    is_missing.then(|| {
        Verdict::no(
            "CRDNotInstalled",
            not_installed(Kind::Certificate, "cert-manager"),
        )
    })
}

fn not_installed(kind: Kind, asked: &str) -> String {
    format!(
        "the spec asks for {asked}, but {}.{} is not installed in this cluster",
        kind.plural(),
        kind.group()
    )
}

impl Reconciler {
    /// Tells how everything stands, and when to look again.
    pub(super) async fn tell(
        &self,
        subject: &Subject,
        wanted: Wanted,
        applied: Applied,
        observed: Observed,
        tls: &Tls,
    ) -> Result<Outcome, ReconcileError> {
        let mut told = if is_certificate_applied(&applied, tls) {
            tls.notices.clone()
        } else {
            Vec::new()
        };
        let (conflicts, failures): (Vec<_>, Vec<_>) = applied
            .failures
            .iter()
            .filter(|error| !is_of_monitoring(error))
            .partition(|error| matches!(error, ApplyError::NotOurs { .. }));
        let fault = |error: &&ApplyError| Fault {
            reason: error.reason(),
            message: said(*error),
        };
        let mut failures: Vec<Fault> = failures.iter().map(fault).collect();
        if wanted.paced.is_some() && self.is_autoscaler_missing(subject) {
            failures.push(Fault {
                reason: "CRDNotInstalled",
                message: not_installed(Kind::ScaledObject, "KEDA"),
            });
        }
        let conflicts: Vec<String> = conflicts.iter().map(ToString::to_string).collect();
        let failed = applied
            .failures
            .iter()
            .find(|error| matches!(error, ApplyError::Request { .. }))
            .map(|error| ReconcileError::Incomplete {
                reason: error.reason(),
                message: said(error),
            });
        let live_hash = wanted.live_hash.clone();
        let standing = applied.failures.iter().map(again_after).min();
        let found = Found {
            generation: subject.generation,
            refused: None,
            deployment: observed.deployment.as_deref(),
            pods: &observed.pods,
            reports: &observed.reports,
            wanted: Some(wanted),
            conflicts,
            failures,
            has_written: applied.has_written,
        };
        let after = status(&found, &subject.before, Timestamp::now());
        let lags = |said: &Said| matches!(said, Ok(report) if report.live_hash != live_hash && report.rejected.is_none());
        let is_propagating = observed.reports.values().any(lags);
        told.extend(notices(&subject.before, &after));
        let connections = after.connections;
        self.publish(subject, after, told).await?;
        if let Some(failed) = failed {
            return Err(failed);
        }
        let periods = [
            standing,
            tls.again,
            is_propagating.then_some(PROPAGATION_PERIOD),
            // Not every kind that was written is watched, and the status spoke of what was there before.
            applied.has_written.then_some(AFTER_WRITES),
        ];
        let until = periods.into_iter().flatten().min();
        Ok(self.settled(&subject.owner.key, &observed.reports, connections, until))
    }

    /// Tells why the spec is not accepted. What runs is left alone, and told of.
    pub(super) async fn tell_refusal(
        &self,
        subject: &Subject,
        refusal: Fault,
    ) -> Result<Outcome, ReconcileError> {
        let key = &subject.owner.key;
        if lock(&self.unreadable).get(key) == Some(&refusal) {
            return Ok(Outcome::Settled);
        }
        let unreadable = subject.object.0.is_err().then(|| refusal.clone());
        let observed = self.observe(subject, None).await?;
        let found = Found {
            generation: subject.generation,
            refused: Some(refusal),
            wanted: None,
            deployment: observed.deployment.as_deref(),
            pods: &observed.pods,
            reports: &observed.reports,
            conflicts: Vec::new(),
            failures: Vec::new(),
            has_written: false,
        };
        let after = status(&found, &subject.before, Timestamp::now());
        let told = notices(&subject.before, &after);
        self.publish(subject, after, told).await?;
        if let Some(refusal) = unreadable {
            lock(&self.unreadable).insert(key.clone(), refusal);
        }
        Ok(Outcome::Settled)
    }

    fn is_autoscaler_missing(&self, subject: &Subject) -> bool {
        let Ok(gateway) = &subject.object.0 else {
            return false;
        };
        let served = self.context.served.borrow().clone().unwrap_or_default();
        gateway.spec.scaling.as_ref().is_some_and(|scaling| {
            scaling.type_ == wsgateway_crds::v1alpha1::ScalingType::Keda
                && !served.has(Kind::ScaledObject)
        })
    }

    /// Writes the status where it is another, and the events.
    async fn publish(
        &self,
        subject: &Subject,
        after: WsGatewayStatus,
        told: Vec<Notice>,
    ) -> Result<(), ReconcileError> {
        let key = &subject.owner.key;
        let is_ready = after
            .conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        lock(&self.ready).insert(key.clone(), is_ready);
        self.count();
        if after != subject.before {
            self.write_status(subject, &after).await?;
        }
        let reference = gateway_reference(subject);
        for Notice {
            is_warning,
            reason,
            message,
        } in told
        {
            let event = Event {
                type_: if is_warning {
                    EventType::Warning
                } else {
                    EventType::Normal
                },
                reason,
                note: Some(message),
                action: "Reconcile".to_owned(),
                secondary: None,
            };
            // An event is for people; that one could not be written must not keep the rest from being done.
            if let Err(error) = self.recorder.publish(&event, &reference).await {
                tracing::warn!(%error, "cannot publish an event");
            }
        }
        Ok(())
    }

    async fn write_status(
        &self,
        subject: &Subject,
        after: &WsGatewayStatus,
    ) -> Result<(), ReconcileError> {
        let key = &subject.owner.key;
        let api: Api<DynamicObject> = Api::namespaced_with(
            self.context.client.clone(),
            &key.namespace,
            &Kind::WsGateway.resource(),
        );
        let patch = json!({
            "apiVersion": WsGateway::api_version(&()),
            "kind": WsGateway::kind(&()),
            "metadata": {"name": key.name, "uid": subject.owner.uid},
            "status": after,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        match api
            .patch_status(&key.name, &params, &Patch::Apply(&patch))
            .await
        {
            Ok(_) => Ok(()),
            // It has gone meanwhile, or another one has its name.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(ReconcileError::Status(Box::new(error))),
        }
    }
}

fn gateway_reference(subject: &Subject) -> k8s_openapi::api::core::v1::ObjectReference {
    let metadata = gateway_metadata(&subject.object);
    k8s_openapi::api::core::v1::ObjectReference {
        api_version: Some(WsGateway::api_version(&()).into_owned()),
        kind: Some(WsGateway::kind(&()).into_owned()),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        resource_version: None,
        field_path: None,
    }
}

/// When something is tried again that no watch tells of: a foreign object that goes, a permission that comes. It is no
/// failure, so whatever else happens to the `WsGateway` is seen to at once.
const fn again_after(error: &ApplyError) -> Duration {
    match error {
        ApplyError::Deleting { .. } => Duration::from_secs(1),
        ApplyError::NotOurs { .. } => Duration::from_secs(10),
        _ => Duration::from_secs(30),
    }
}

/// An error with what lies beneath it.
fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
