//! The steps that read what is there and make it what it should be.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, ResourceExt};
use wsgateway_model::Gateway;

use super::{PROPAGATION_PERIOD, ReconcileError, Reconciler, Subject};
use crate::{
    apply::{ApplyError, Outcome, Seen},
    build::{Desired, Object, names, possible},
    dereference::Tls,
    kinds::Kind,
    pods::{Annotator, Said, first_to_go},
    rollout::{self, Paced, Replicas, Running, Template, Wanted, boot_in_force},
    watch::{Key, Lookup, PodView},
};

/// How many reports of pods that are gone do no harm.
const SPARE_REPORTS: usize = 64;

/// What is there.
#[derive(Debug)]
pub(super) struct Observed {
    /// The Deployment, where it is ours.
    pub(super) deployment: Option<Arc<Deployment>>,
    /// The gateways' pods.
    pub(super) pods: Vec<Arc<PodView>>,
    /// What they say, by UID.
    pub(super) reports: BTreeMap<String, Said>,
}

/// What applying came to.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// What could not be written.
    pub(super) failures: Vec<ApplyError>,
    /// Whether anything was written. What was observed before is then out of date.
    pub(super) has_written: bool,
}

impl Applied {
    fn note(&mut self, result: &Result<Outcome, ApplyError>) {
        self.has_written |= matches!(result, Ok(Outcome::Created | Outcome::Configured));
    }
}

impl Reconciler {
    /// Reads the Deployment, the pods and what they say.
    pub(super) async fn observe(
        &self,
        subject: &Subject,
        live_hash: Option<&str>,
    ) -> Result<Observed, ReconcileError> {
        let stores = &self.context.stores;
        let key = &subject.owner.key;
        let deployment = match stores.deployment(key) {
            Lookup::Found(deployment) => Some(deployment),
            Lookup::Absent => None,
            Lookup::Unknown => {
                let api: Api<Deployment> =
                    Api::namespaced(self.context.client.clone(), &key.namespace);
                let found = api.get_opt(&key.name).await;
                found
                    .map_err(|error| ReconcileError::Observe(Box::new(error)))?
                    .map(Arc::new)
            }
        };
        let is_ours = |deployment: &Arc<Deployment>| {
            let mut owners = deployment.owner_references().iter();
            owners.any(|owner| owner.controller == Some(true) && owner.uid == subject.owner.uid)
        };
        let pods = stores.pods.of(key);
        let sample_period = self.context.config.sample_period;
        let mut reports = self.reports.of(&pods, sample_period).await;
        let lags = |said: &Said| {
            said.as_ref()
                .is_ok_and(|report| Some(&*report.live_hash) != live_hash)
        };
        if live_hash.is_some() && reports.values().any(lags) {
            reports = self.reports.of(&pods, PROPAGATION_PERIOD).await;
        }
        // Half of what is kept may be of pods that are gone, before those are looked for.
        self.reports
            .trim(2 * stores.pods.len() + SPARE_REPORTS, |uid| {
                let mut pods = stores.pods.all().into_iter();
                pods.any(|pod| &*pod.metadata.uid == uid)
            });
        Ok(Observed {
            deployment: deployment.filter(is_ours),
            pods,
            reports,
        })
    }

    /// Settles which pod template is applied and how many gateways; nothing where the operator is paused.
    pub(super) async fn pace(
        &self,
        subject: &Subject,
        gateway: &Gateway,
        desired: &mut Desired,
        observed: &Observed,
    ) -> Result<Option<Paced>, ReconcileError> {
        if gateway.paused {
            return Ok(None);
        }
        let key = &subject.owner.key;
        let deployment = observed.deployment.as_deref();
        if let Some(revision) = &self.context.config.pod_template_revision {
            rollout::claim_revision(&mut desired.deployment, revision);
        }
        let wanted = Wanted {
            generation: subject.generation,
            image: gateway.image.as_deref(),
            replicas: i32::try_from(gateway.replicas).unwrap_or(i32::MAX),
            upgrade: gateway.upgrade,
        };
        let terminating = observed
            .pods
            .iter()
            .filter(|pod| pod.is_terminating())
            .count();
        let finished = observed.pods.iter().filter(|pod| pod.is_finished).count();
        let running = Running {
            deployment,
            terminating,
            alive: observed.pods.len().saturating_sub(terminating + finished),
            has_boot: deployment
                .and_then(boot_in_force)
                .is_some_and(|hash| self.has_boot(key, hash)),
        };
        let take_turn = || self.turns.take(key, || self.upgrading());
        let mut paced = rollout::pace(&mut desired.deployment, &wanted, &running, take_turn);
        if paced.template == Template::Upgraded {
            tracing::info!("a newer operator's pods take their turn");
        }
        if !paced.template.is_old()
            && paced.template != Template::Upgraded
            && deployment.is_some_and(rollout::is_complete)
        {
            self.turns.give_back(key);
        }
        if paced.template == Template::Waits {
            paced.behind = self.turns.of_others(key);
        }
        self.next_turn();
        if paced.template.is_old() {
            keep_boot(desired);
        }
        if let Replicas::OneLess(_) = paced.replicas {
            self.choose_first_to_go(subject, observed).await?;
        }
        Ok(Some(paced))
    }

    /// Whether the boot configuration of this hash is there, as far as is known.
    fn has_boot(&self, key: &Key, hash: &str) -> bool {
        let boot = key.sibling(&names::boot(&key.name, hash));
        self.context.stores.meta(Kind::ConfigMap, &boot) != Lookup::Absent
    }

    /// The upgrades that are seen to be under way.
    fn upgrading(&self) -> Vec<Key> {
        let deployments = self.context.stores.deployments.all();
        let upgrading = deployments
            .iter()
            .filter(|deployment| rollout::is_upgrading(deployment));
        upgrading
            .map(|deployment| {
                Key::new(
                    deployment.namespace().as_deref().unwrap_or_default(),
                    &deployment.name_any(),
                )
            })
            .collect()
    }

    /// Just before a gateway is taken away: the one with the fewest connections shall be it.
    async fn choose_first_to_go(
        &self,
        subject: &Subject,
        observed: &Observed,
    ) -> Result<(), ReconcileError> {
        // What they said a moment ago may be from before their clients came.
        let reports = self.reports.of(&observed.pods, Duration::ZERO).await;
        let Some((pod, cost)) = first_to_go(&observed.pods, &reports) else {
            return Ok(());
        };
        if pod.deletion_cost() == cost {
            return Ok(());
        }
        self.annotator(subject)
            .deletion_cost(pod, cost)
            .await
            .map_err(|error| ReconcileError::Observe(Box::new(error)))
    }

    /// Applies all objects, the Deployment last, and deletes what is no longer asked for. One that fails does not keep
    /// the others; but pods are not told of a configuration that is not ours.
    pub(super) async fn apply(
        &self,
        subject: &Subject,
        gateway: &Gateway,
        desired: &Desired,
    ) -> Applied {
        let mut applied = Applied::default();
        if gateway.paused {
            return applied;
        }
        let owner = &subject.owner;
        let mut may_deploy = true;
        for object in &desired.objects {
            let seen = self.seen(object.kind, &owner.key.sibling(&object.name));
            let result = self.children.apply(owner, object, &seen).await;
            applied.note(&result);
            match result {
                Ok(Outcome::Created | Outcome::Configured) if object.kind == Kind::Ingress => {
                    let dialect = desired.dialect.unwrap_or("unknown");
                    self.context.metrics.ingress_written(dialect);
                }
                Ok(_) => {}
                Err(error) => {
                    may_deploy &= !matches!(object.kind, Kind::ConfigMap | Kind::ServiceAccount);
                    applied.failures.push(error);
                }
            }
        }
        if may_deploy {
            let object = deployment_object(desired);
            let seen = self.seen(Kind::Deployment, &owner.key);
            let result = self.children.apply(owner, &object, &seen).await;
            applied.note(&result);
            applied.failures.extend(result.err());
        }
        self.prune(subject, desired, &mut applied).await;
        applied
    }

    /// What is ours by name and not asked for.
    async fn prune(&self, subject: &Subject, desired: &Desired, applied: &mut Applied) {
        let owner = &subject.owner;
        let asked: BTreeSet<(Kind, &str)> = desired
            .objects
            .iter()
            .map(|object| (object.kind, object.name.as_str()))
            .chain(
                desired
                    .kept
                    .iter()
                    .map(|(kind, name)| (*kind, name.as_str())),
            )
            .chain([(Kind::Deployment, &*owner.key.name)])
            .collect();
        let served = self.context.served.borrow().clone().unwrap_or_default();
        let old_boots = self.old_boots(&owner.key, desired);
        let possible = possible(&owner.key.name)
            .into_iter()
            .chain(old_boots.into_iter().map(|name| (Kind::ConfigMap, name)));
        for (kind, name) in possible {
            if asked.contains(&(kind, name.as_str())) || !served.has(kind) {
                continue;
            }
            let seen = self.seen(kind, &owner.key.sibling(&name));
            let result = self.children.delete(owner, kind, &name, &seen).await;
            applied.failures.extend(result.err());
        }
    }

    /// Boot configurations that no pod will read again: no `ReplicaSet` names them, nor does the template in force.
    fn old_boots(&self, key: &Key, desired: &Desired) -> Vec<String> {
        let stores = &self.context.stores;
        if !stores.is_synced(Kind::ReplicaSet, &key.namespace) {
            return Vec::new();
        }
        let replica_sets = stores.metas_of(Kind::ReplicaSet, key);
        let mut used: BTreeSet<&str> = replica_sets
            .iter()
            .filter_map(|set| set.metadata.labels.get(names::BOOT_LABEL))
            .collect();
        used.insert(&desired.boot_hash);
        used.extend(boot_in_force(&desired.deployment));
        let used: BTreeSet<String> = used
            .iter()
            .map(|hash| names::boot(&key.name, hash))
            .collect();
        let prefix = names::boot(&key.name, "");
        let all = stores.metas_of(Kind::ConfigMap, key);
        all.iter()
            .map(|map| map.metadata.name.to_string())
            .filter(|name| name.starts_with(&prefix) && !used.contains(name))
            .collect()
    }

    /// What a watch knows of a child.
    fn seen(&self, kind: Kind, key: &Key) -> Seen {
        match kind {
            Kind::Deployment => match self.context.stores.deployment(key) {
                Lookup::Found(deployment) => Seen::of_deployment(&deployment),
                Lookup::Absent => Seen::Absent,
                Lookup::Unknown => Seen::Unknown,
            },
            kind => Seen::of(self.context.stores.meta(kind, key)),
        }
    }

    /// Makes the kubelets of pods that run another live configuration bring the wanted one.
    pub(super) async fn spread(
        &self,
        subject: &Subject,
        gateway: &Gateway,
        desired: &Desired,
        observed: &Observed,
    ) -> Result<(), ReconcileError> {
        if gateway.paused {
            return Ok(());
        }
        let hash = &desired.live_hash;
        let annotator = self.annotator(subject);
        for pod in &observed.pods {
            let said = observed.reports.get(&*pod.metadata.uid);
            let runs_another = matches!(said, Some(Ok(report)) if report.live_hash != *hash);
            if runs_another && pod.live() != Some(hash) {
                let annotated = annotator.live(pod, hash).await;
                annotated.map_err(|error| ReconcileError::Observe(Box::new(error)))?;
            }
        }
        Ok(())
    }

    fn annotator(&self, subject: &Subject) -> Annotator {
        Annotator::new(self.context.client.clone(), &subject.owner.key.namespace)
    }
}

/// The template in force names its own boot configuration; the new one has no reader.
fn keep_boot(desired: &mut Desired) {
    let Some(in_force) = boot_in_force(&desired.deployment).map(str::to_owned) else {
        return;
    };
    if in_force != desired.boot_hash {
        let name = desired.deployment.name_any();
        let unread = names::boot(&name, &desired.boot_hash);
        desired.objects.retain(|object| object.name != unread);
        desired.boot_hash = in_force;
    }
}

fn deployment_object(desired: &Desired) -> Object {
    let mut manifest = serde_json::to_value(&desired.deployment).unwrap_or_default();
    if let Some(fields) = manifest.as_object_mut() {
        fields.insert("apiVersion".to_owned(), "apps/v1".into());
        fields.insert("kind".to_owned(), "Deployment".into());
    }
    Object {
        kind: Kind::Deployment,
        name: desired.deployment.name_any(),
        manifest,
    }
}

/// What was done to the certificate is told once it is applied.
pub(super) fn is_certificate_applied(applied: &Applied, tls: &Tls) -> bool {
    let is_secret = |error: &ApplyError| matches!(error.kind(), Kind::Secret | Kind::ConfigMap);
    tls.issued.is_some() && applied.has_written && !applied.failures.iter().any(is_secret)
}
