//! What the operator knows of the cluster: each kind's watch is a task of its own with a backoff of its own,
//! so that one that fails delays no other, and fills a store that the reconciler reads.
//!
//! kube's `Controller` has one backoff for all that triggers it; so the watches feed [`crate::queue`]
//! directly.

mod health;
mod meta;
mod object;
mod references;
mod reflect;
mod store;

use std::{fmt, pin::pin, sync::Arc, time::Duration};

use k8s_openapi::api::apps::v1::Deployment;
use kube::Client;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    health::{Fault, Health, HealthCollector, STUCK_AFTER, WatchKey},
    meta::{Controller, INSTANCE_LABEL, Meta, Owner, PREFIX, Pairs, Presence},
    object::{ClassView, GatewayObject, MetaObject, PodView, Waiting, Watched, gateway_metadata},
    references::{References, Referent},
    store::Store,
};
use crate::{
    args::Scope,
    kinds::{Kind, Served},
    metrics::Metrics,
    queue::{Cause, Queue},
};

/// What every object that the operator makes is labelled with.
const MANAGED: &str = "app.kubernetes.io/managed-by=wsgateway-operator";

/// What the pods of gateways, and so their `ReplicaSets`, are labelled with.
const PODS: &str = "app.kubernetes.io/name=wsgateway";

/// The namespace and the name of an object; the namespace is empty for cluster-scoped kinds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace.
    pub namespace: Box<str>,
    /// The name.
    pub name: Box<str>,
}

impl Key {
    /// Of a namespace and a name.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The same namespace, another name.
    #[must_use]
    pub fn sibling(&self, name: &str) -> Self {
        Self::new(&self.namespace, name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup<T> {
    /// The kind is not watched there, or has not been listed yet: it has to be asked for.
    Unknown,
    /// There is no such object, or it lacks the operator's labels.
    Absent,
    /// There it is.
    Found(T),
}

/// The objects that the operator knows.
#[derive(Debug)]
pub struct Stores {
    /// What users wrote, also where it cannot be read.
    pub gateways: Arc<Store<GatewayObject>>,
    /// The Deployments that the operator made, in full but for `managedFields`.
    pub deployments: Arc<Store<Deployment>>,
    /// The pods of gateways.
    pub pods: Arc<Store<PodView>>,
    /// The `IngressClasses`; unknown where only namespaces are watched.
    pub ingress_classes: Arc<Store<ClassView>>,
    /// Gateway API's classes; unknown where only namespaces are watched.
    pub gateway_classes: Arc<Store<ClassView>>,
    /// Metadata of every other kind, in the order of [`Kind::ALL`].
    metas: Vec<Arc<Store<MetaObject>>>,
    /// Which `WsGateways` name objects that are not theirs.
    pub references: References,
}

impl Stores {
    fn new() -> Self {
        Self {
            gateways: Arc::default(),
            deployments: Arc::default(),
            pods: Arc::default(),
            ingress_classes: Arc::default(),
            gateway_classes: Arc::default(),
            metas: Kind::ALL.iter().map(|_| Arc::default()).collect(),
            references: References::default(),
        }
    }

    /// What is known of the object of a kind of which only metadata is kept. Other kinds are `Unknown` here.
    pub fn meta(&self, kind: Kind, key: &Key) -> Lookup<Arc<MetaObject>> {
        self.metas
            .get(kind as usize)
            .map_or(Lookup::Unknown, |store| lookup(store, key))
    }

    /// Whether what [`Stores::metas_of`] gives for a namespace is all there is.
    pub fn is_synced(&self, kind: Kind, namespace: &str) -> bool {
        let store = self.metas.get(kind as usize);
        store.is_some_and(|store| store.is_synced(namespace))
    }

    /// The objects of a kind that belong to a `WsGateway`, of which only metadata is kept.
    pub fn metas_of(&self, kind: Kind, gateway: &Key) -> Vec<Arc<MetaObject>> {
        let store = self.metas.get(kind as usize);
        store.map(|store| store.of(gateway)).unwrap_or_default()
    }

    /// What is known of a Deployment.
    pub fn deployment(&self, key: &Key) -> Lookup<Arc<Deployment>> {
        lookup(&self.deployments, key)
    }

    /// What is known of an `IngressClass`.
    pub fn ingress_class(&self, name: &str) -> Lookup<Arc<ClassView>> {
        lookup(&self.ingress_classes, &Key::new("", name))
    }

    /// What is known of a `GatewayClass`.
    pub fn gateway_class(&self, name: &str) -> Lookup<Arc<ClassView>> {
        lookup(&self.gateway_classes, &Key::new("", name))
    }
}

fn lookup<T: Watched>(store: &Store<T>, key: &Key) -> Lookup<Arc<T>> {
    // In this order: what is synced after it was not found is then truly absent, or about to be told of.
    let is_synced = store.is_synced(&key.namespace);
    match store.get(key) {
        Some(object) => Lookup::Found(object),
        None if is_synced => Lookup::Absent,
        None => Lookup::Unknown,
    }
}

/// Whom changes are told to.
#[derive(Debug, Clone)]
struct Notices {
    queue: Queue,
    stores: Arc<Stores>,
}

impl Notices {
    fn one(&self, gateway: &Key, cause: Cause) {
        // What is labelled for a WsGateway that does not exist is nobody's.
        if cause == Cause::Spec || self.stores.gateways.get(gateway).is_some() {
            self.queue.trigger(gateway, cause);
        }
    }

    fn everyone(&self, cause: Cause) {
        for gateway in self.stores.gateways.keys() {
            self.queue.trigger(&gateway, cause);
        }
    }

    fn referrers(&self, kind: Kind, key: &Key, cause: Cause) {
        for gateway in self.stores.references.of(kind, key) {
            self.queue.trigger(&gateway, cause);
        }
    }
}

/// The running watches.
#[derive(Debug)]
pub struct Watches {
    /// What is known.
    pub stores: Arc<Stores>,
    /// How the watches fare.
    pub health: Arc<Health>,
    tasks: TaskTracker,
}

impl Watches {
    /// Starts them all. Those of optional kinds start and stop as `served` says. One that is silent for longer than
    /// `silence` is begun anew.
    pub fn start(
        client: &Client,
        scope: &Scope,
        silence: Duration,
        served: &watch::Receiver<Option<Served>>,
        queue: &Queue,
        metrics: &Metrics,
        shutdown: &CancellationToken,
    ) -> Self {
        let stores = Arc::new(Stores::new());
        let starter = Starter {
            client: client.clone(),
            health: Arc::new(Health::default()),
            notices: Notices {
                queue: queue.clone(),
                stores: stores.clone(),
            },
            metrics: metrics.clone(),
            silence,
            served: served.clone(),
            shutdown: shutdown.clone(),
            tasks: TaskTracker::new(),
        };
        for kind in Kind::ALL {
            match scope {
                // Secrets could be listed there only with a permission to read those of everybody.
                Scope::Cluster if kind == Kind::Secret => {}
                Scope::Cluster => starter.kind(&(kind, None)),
                Scope::Namespaces(_) if kind.is_cluster_scoped() => {}
                Scope::Namespaces(namespaces) => {
                    for namespace in namespaces {
                        starter.kind(&(kind, Some(namespace.as_str().into())));
                    }
                }
            }
        }
        starter.tasks.close();
        Self {
            stores,
            health: starter.health,
            tasks: starter.tasks,
        }
    }

    /// Waits until all have ended, after shutdown.
    pub async fn ended(&self) {
        self.tasks.wait().await;
    }
}

/// What every watch is started with.
struct Starter {
    client: Client,
    health: Arc<Health>,
    notices: Notices,
    metrics: Metrics,
    silence: Duration,
    served: watch::Receiver<Option<Served>>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl Starter {
    /// Starts the watch of a kind into the store that it has.
    fn kind(&self, key: &WatchKey) {
        let stores = self.notices.stores.clone();
        match key.0 {
            Kind::WsGateway => self.watch(key, "", false, stores.gateways.clone()),
            Kind::Deployment => self.watch(key, MANAGED, false, stores.deployments.clone()),
            Kind::Pod => self.watch(key, PODS, false, stores.pods.clone()),
            Kind::IngressClass => self.watch(key, "", false, stores.ingress_classes.clone()),
            Kind::GatewayClass => self.watch(key, "", false, stores.gateway_classes.clone()),
            kind => {
                let labels = match kind {
                    Kind::ReplicaSet => PODS,
                    // Those of users are named by WsGateways, too.
                    Kind::Secret | Kind::Gateway => "",
                    _ => MANAGED,
                };
                if let Some(store) = stores.metas.get(kind as usize) {
                    self.watch(key, labels, true, store.clone());
                }
            }
        }
    }

    fn watch<T: Watched>(
        &self,
        key: &WatchKey,
        labels: &'static str,
        is_metadata: bool,
        store: Arc<Store<T>>,
    ) {
        let reflector = {
            let (client, health) = (self.client.clone(), self.health.clone());
            let (notices, metrics) = (self.notices.clone(), self.metrics.clone());
            let (key, silence) = (key.clone(), self.silence);
            move || reflect::Reflector {
                key: key.clone(),
                labels,
                is_metadata,
                silence,
                client: client.clone(),
                store: store.clone(),
                health: health.clone(),
                notices: notices.clone(),
                metrics: metrics.clone(),
            }
        };
        let shutdown = self.shutdown.clone();
        if !key.0.is_optional() {
            self.tasks.spawn(reflector().run(shutdown));
            return;
        }
        let (kind, mut served) = (key.0, self.served.clone());
        let notices = self.notices.clone();
        self.tasks.spawn(async move {
            let is_served =
                |served: &Option<Served>| served.as_ref().is_some_and(|served| served.has(kind));
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    found = served.wait_for(is_served) => if found.is_err() { return },
                }
                let gone = shutdown.child_token();
                let mut run = pin!(reflector().run(gone.clone()));
                tokio::select! {
                    () = &mut run => return,
                    _ = served.wait_for(|served| !is_served(served)) => gone.cancel(),
                }
                run.await;
                notices.everyone(Cause::Event);
            }
        });
    }
}
