//! A namespace of a test's own.

use std::{
    process::Output,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use k8s_openapi::api::core::v1::{self, ServiceAccount};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ObjectMeta, PostParams},
    core::NamespaceResourceScope,
};

use super::{Cluster, ControlPlane, blocking, waiting::wait_for};
use crate::wait::SOON;

/// A namespace. It is deleted when this is dropped, with what is in it, though nobody waits for that.
#[derive(Debug)]
pub struct Namespace<'a, C: Cluster = ControlPlane> {
    cluster: &'a C,
    name: String,
}

impl<'a, C: Cluster> Namespace<'a, C> {
    pub(super) fn make(cluster: &'a C) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let namespace = Self {
            cluster,
            // A cluster may hold what an earlier run left.
            name: format!("test-{}-{number}", std::process::id()),
        };
        let config = cluster.admin().config();
        let labels = cluster.namespace_labels().iter();
        let object = v1::Namespace {
            metadata: ObjectMeta {
                name: Some(namespace.name.clone()),
                labels: Some(
                    labels
                        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                        .collect(),
                ),
                ..ObjectMeta::default()
            },
            ..v1::Namespace::default()
        };
        blocking(async {
            let client = Client::try_from(config).unwrap();
            let api: Api<v1::Namespace> = Api::all(client.clone());
            api.create(&PostParams::default(), &object).await.unwrap();
            if cluster.has_controllers() {
                await_default_account(client, &namespace.name, SOON).await;
            }
        });
        namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster that it is on.
    pub fn cluster(&self) -> &'a C {
        self.cluster
    }

    /// The objects of a kind in it, for an admin. To be called in a tokio runtime, which the client belongs to.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.cluster.admin().client(), &self.name)
    }

    /// Applies manifests that name no namespace, or this one.
    pub fn apply(&self, manifests: &str) -> String {
        self.cluster
            .admin()
            .apply(&["--namespace", &self.name], manifests)
    }

    /// Runs kubectl in it as an admin, and panics when it fails. Returns what it wrote.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let namespace = ["--namespace", self.name.as_str()];
        self.cluster
            .admin()
            .kubectl(&[arguments, &namespace].concat())
    }

    /// Runs kubectl in it as an admin, with `input`.
    pub fn try_kubectl(&self, arguments: &[&str], input: &str) -> Output {
        let namespace = ["--namespace", self.name.as_str()];
        let arguments = [arguments, &namespace].concat();
        self.cluster.admin().try_kubectl(&arguments, input)
    }
}

impl<C: Cluster> Drop for Namespace<'_, C> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.cluster.explain(&self.name);
        }
        let config = self.cluster.admin().config();
        let name = &self.name;
        blocking(async move {
            let Ok(client) = Client::try_from(config) else {
                return;
            };
            let api: Api<v1::Namespace> = Api::all(client);
            let params = DeleteParams::background();
            let delete = api.delete(name, &params);
            // The test may have stopped the API server.
            let _ = tokio::time::timeout(Duration::from_secs(2), delete).await;
        });
    }
}

/// Awaits the account without which no pod is made.
pub(super) async fn await_default_account(client: Client, namespace: &str, within: Duration) {
    let api: Api<ServiceAccount> = Api::namespaced(client, namespace);
    wait_for(&api, "default", "it is there", within, |_| true).await;
}
