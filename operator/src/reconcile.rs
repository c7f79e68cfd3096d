//! One `WsGateway`, from its spec to the objects that it asks for and the status that tells of them. The function
//! below is the operator; each line is a step, in order.

mod act;
mod report;
mod sample;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use kube::{Resource, runtime::events::Recorder};
use wsgateway_crds::v1alpha1::WsGatewayStatus;
use wsgateway_model::{Gateway, Reasons, Referenced, validate};

use crate::{
    apply::{Children, FIELD_MANAGER, Owner},
    build::{self, Site},
    conflict::conflict,
    dereference::{self, DereferenceError, Fronted, Tls},
    entrance::{self, Probes},
    pods::Reports,
    queue::{Failure, Outcome, Reconcile, Visit},
    rollout::Turns,
    run::Context,
    status::{Fault, Verdict},
    watch::{GatewayObject, Key, gateway_metadata},
};

/// How old a report may be while the live configuration spreads.
const PROPAGATION_PERIOD: Duration = Duration::from_secs(2);

use sample::Sample;

/// Why a reconcile ends early or is made again soon. What users must know stands in the status, whatever this says.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Something that is named could not be read.
    #[error(transparent)]
    Dereference(#[from] DereferenceError),
    /// What is there could not be read.
    #[error("cannot read what is there")]
    Observe(#[source] Box<kube::Error>),
    /// The status could not be written.
    #[error("cannot write the status")]
    Status(#[source] Box<kube::Error>),
    /// Some objects could not be written; the status says which.
    #[error("{message}")]
    Incomplete {
        /// The reason of the first.
        reason: &'static str,
        /// The sentence of the first.
        message: String,
    },
}

impl Failure for ReconcileError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Dereference(_) => "DereferenceFailed",
            Self::Observe(_) => "ObserveFailed",
            Self::Status(_) => "StatusFailed",
            Self::Incomplete { reason, .. } => reason,
        }
    }
}

/// What reconciles share.
pub struct Reconciler {
    context: Context,
    children: Children,
    reports: Reports,
    probes: Probes,
    turns: Turns,
    recorder: Recorder,
    /// Who waits for a host and path, and whose they are.
    conflicts: Mutex<BTreeMap<Key, Key>>,
    /// How each stood when all of it was last looked at.
    samples: Mutex<BTreeMap<Key, Sample>>,
    /// What was told of those that cannot be read: their status cannot be read either.
    unreadable: Mutex<BTreeMap<Key, Fault>>,
    /// Which `WsGateways` are ready, for the metrics.
    ready: Mutex<BTreeMap<Key, bool>>,
}

/// A `WsGateway` that is to be made true.
struct Subject {
    object: Arc<GatewayObject>,
    owner: Owner,
    generation: i64,
    before: WsGatewayStatus,
}

impl fmt::Debug for Reconciler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconciler").finish_non_exhaustive()
    }
}

impl Reconcile for Reconciler {
    type Error = ReconcileError;

    async fn reconcile(&self, key: &Key, visit: Visit) -> Result<Outcome, ReconcileError> {
        if let Some(outcome) = self.sample(key, visit).await {
            return Ok(outcome);
        }
        let Some(subject) = self.subject(key) else {
            self.forget(key);
            return Ok(Outcome::Gone);
        };
        let gateway = match self.accept(&subject) {
            Ok(gateway) => gateway,
            Err(refusal) => {
                self.probes.forget(key);
                return self.tell_refusal(&subject, refusal).await;
            }
        };
        let client = &self.context.client;
        let front = dereference::front(client, &self.context.stores, &gateway).await?;
        let tls = dereference::tls(client, &gateway, &subject.owner, SystemTime::now()).await?;
        self.refer(key, &front, &tls);
        let mut desired = build::build(&gateway, &self.site(&subject, &front, &tls));
        let observed = self.observe(&subject, Some(&desired.live_hash)).await?;
        let paced = self
            .pace(&subject, &gateway, &mut desired, &observed)
            .await?;
        let applied = self.apply(&subject, &gateway, &desired).await;
        self.spread(&subject, &gateway, &desired, &observed).await?;
        let exposure = self
            .exposure(&subject, &gateway, &front, &tls, &observed)
            .await?;
        let wanted = report::wanted(&gateway, desired, front, &tls, paced, exposure, &applied);
        self.tell(&subject, wanted, applied, observed, &tls).await
    }
}

impl Reconciler {
    /// With the operator's own rights.
    pub fn new(context: Context) -> Self {
        let reporter = FIELD_MANAGER.into();
        Self {
            children: Children::new(context.client.clone(), context.metrics.clone()),
            reports: Reports::default(),
            probes: Probes::new(
                context.client.clone(),
                context.queue.clone(),
                context.metrics.clone(),
                context.config.probe_period,
            ),
            turns: Turns::new(context.config.max_concurrent_rollouts),
            recorder: Recorder::new(context.client.clone(), reporter),
            conflicts: Mutex::default(),
            unreadable: Mutex::default(),
            samples: Mutex::default(),
            ready: Mutex::default(),
            context,
        }
    }

    /// The `WsGateway`, where there is one that is not being deleted: its children go by their owner references.
    fn subject(&self, key: &Key) -> Option<Subject> {
        let object = self.context.stores.gateways.get(key)?;
        let metadata = gateway_metadata(&object);
        if metadata.deletion_timestamp.is_some() {
            return None;
        }
        let owner = Owner {
            key: key.clone(),
            uid: metadata.uid.clone()?,
        };
        let status = object
            .0
            .as_ref()
            .ok()
            .and_then(|gateway| gateway.status.clone());
        Some(Subject {
            generation: metadata.generation.unwrap_or_default(),
            owner,
            before: status.unwrap_or_default(),
            object,
        })
    }

    /// What the spec means, or why it means nothing.
    fn accept(&self, subject: &Subject) -> Result<Gateway, Fault> {
        let gateway = match &subject.object.0 {
            Ok(gateway) => gateway,
            Err(invalid) => {
                return Err(Fault {
                    reason: "Unreadable",
                    message: invalid.error.clone(),
                });
            }
        };
        let key = &subject.owner.key;
        lock(&self.unreadable).remove(key);
        let stored = self.context.stores.gateways.all();
        let others = stored.iter().filter_map(|other| other.0.as_ref().ok());
        let conflict = conflict(gateway, others);
        self.note_conflict(key, conflict.as_ref().map(|conflict| &conflict.older));
        if let Some(conflict) = conflict {
            return Err(Fault {
                reason: "HostConflict",
                message: conflict.to_string(),
            });
        }
        let referenced = Referenced {
            nats_servers: self.context.config.nats_servers.clone(),
            ..Referenced::mounted()
        };
        validate(gateway, &referenced).map_err(|reasons| fault(&reasons))
    }

    /// What the objects are made from beside the gateway.
    fn site(&self, subject: &Subject, front: &Fronted, tls: &Tls) -> Site {
        let config = &self.context.config;
        let served = self.context.served.borrow().clone().unwrap_or_default();
        let owner = subject.object.0.as_ref().ok();
        Site {
            image: config.image.clone(),
            operator_namespace: Some(config.operator_namespace.clone()),
            owner: owner.and_then(|gateway| gateway.controller_owner_ref(&())),
            served: served.optional().collect(),
            front: front.front.clone(),
            issued: tls.issued.clone(),
        }
    }

    /// A change of what is named by this `WsGateway` brings it back.
    fn refer(&self, key: &Key, front: &Fronted, tls: &Tls) {
        let referents: BTreeSet<_> = front.referents.union(&tls.referents).cloned().collect();
        self.context.stores.references.set(key, referents);
    }

    /// Whether clients can come in: what is known of who stands in front goes before what the object says.
    async fn exposure(
        &self,
        subject: &Subject,
        gateway: &Gateway,
        front: &Fronted,
        tls: &Tls,
        observed: &act::Observed,
    ) -> Result<Verdict, ReconcileError> {
        let key = &subject.owner.key;
        if let Some(fault) = &front.fault {
            self.probes.forget(key);
            return Ok(fault.clone());
        }
        let deployment = observed.deployment.as_ref();
        let ready = deployment.and_then(|it| it.status.as_ref()?.ready_replicas);
        let known = entrance::Known {
            front: &front.front,
            leaf: tls.leaf.as_ref(),
            ready_replicas: ready.unwrap_or_default(),
            via: self.context.config.probe_via.as_ref(),
        };
        let question = entrance::ask(&self.context.client, gateway, known)
            .await
            .map_err(|error| ReconcileError::Observe(Box::new(error)))?;
        let before = Verdict::of(&subject.before, "ExposureReady", subject.generation);
        Ok(self.probes.verdict(key, question, before))
    }

    /// Notes whose host and path a `WsGateway` waits for, and brings back those that wait for this one.
    fn note_conflict(&self, key: &Key, older: Option<&(String, String)>) {
        let mut conflicts = lock(&self.conflicts);
        match older {
            Some((namespace, name)) => {
                conflicts.insert(key.clone(), Key::new(namespace, name));
            }
            None => _ = conflicts.remove(key),
        }
        for (younger, older) in conflicts.iter() {
            if older == key {
                self.context
                    .queue
                    .trigger(younger, crate::queue::Cause::Event);
            }
        }
    }

    /// Forgets a `WsGateway` that is gone.
    fn forget(&self, key: &Key) {
        self.children.forget(key);
        self.probes.forget(key);
        self.turns.give_back(key);
        self.note_conflict(key, None);
        self.context.stores.references.set(key, BTreeSet::new());
        lock(&self.samples).remove(key);
        lock(&self.unreadable).remove(key);
        lock(&self.ready).remove(key);
        self.count();
        self.next_turn();
    }

    /// Looks at who waits for a turn that is free.
    fn next_turn(&self) {
        if let Some(next) = self.turns.next() {
            self.context
                .queue
                .trigger(&next, crate::queue::Cause::Event);
        }
    }

    fn count(&self) {
        let ready = lock(&self.ready);
        let is_ready = ready.values().filter(|is_ready| **is_ready).count();
        self.context
            .metrics
            .gateways(is_ready, ready.len() - is_ready);
    }
}

/// The first reason as the word, all of them as the sentence.
fn fault(reasons: &Reasons) -> Fault {
    let reason = reasons
        .iter()
        .next()
        .map_or("Invalid", |reason| reason.reason);
    let sentences: Vec<_> = reasons.iter().map(ToString::to_string).collect();
    Fault {
        reason,
        message: sentences.join("; "),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
