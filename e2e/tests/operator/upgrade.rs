//! What a newer operator does to the gateways of an older one: one `WsGateway` at a time, or nothing at all.
//!
//! The two operators are one program. The newer one has another default image, or claims another pod template.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::{Arc, Mutex},
};

use futures_util::StreamExt;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, PodTemplateSpec},
};
use kube::{
    Api, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use tokio::task::JoinHandle;
use wsgateway_crds::v1alpha1::WsGateway;
use wsgateway_e2e::{
    cluster::{ControlPlane, FakeNode, Identity, Namespace, PodState, wait_for, wait_for_all},
    needs,
    operator::{Launch, Operator},
    wait::SOON,
};

use crate::stage::{ACCOUNT, manifest, permit, prepare, says};

const OLD: &str = "test.local/wsgateway:1";
const NEW: &str = "test.local/wsgateway:2";
const PINNED: &str = "test.local/wsgateway:pinned";

/// The newer of two operators in their arguments.
const NEW_IMAGE: [&str; 2] = ["--image", NEW];
const OLD_IMAGE: [&str; 2] = ["--image", OLD];
const NEW_TEMPLATE: [&str; 4] = ["--image", OLD, "--pod-template-revision", "2"];

/// A namespace with an operator that one can be put in the place of.
struct Fleet {
    namespace: Namespace<'static>,
    node: FakeNode,
    history: History,
    operator: Option<Operator>,
}

impl Fleet {
    /// `WsGateways` of these names and specs that an operator has made ready.
    async fn of(gateways: &[(&str, &str)]) -> Self {
        let cluster = ControlPlane::shared();
        prepare(cluster);
        let namespace = cluster.namespace();
        permit(cluster, namespace.name(), Some(namespace.name()));
        let mut fleet = Self {
            node: FakeNode::start(&cluster.client(), namespace.name()),
            history: History::watch(namespace.api()),
            namespace,
            operator: None,
        };
        fleet.replace_operator(&OLD_IMAGE);
        for (name, spec) in gateways {
            fleet.namespace.apply(&manifest(name, spec));
        }
        for (name, _) in gateways {
            fleet.until(name, "Ready=True").await;
            fleet.until(name, "Reconciling=False/Settled").await;
        }
        fleet
    }

    /// Stops the operator that works, and starts one with these arguments.
    fn replace_operator(&mut self, arguments: &[&str]) {
        if let Some(mut operator) = self.operator.take() {
            assert!(operator.stop(SOON).success());
        }
        let name = self.namespace.name();
        let account = Identity::service_account(name, ACCOUNT);
        let launch = Launch::on(self.namespace.cluster(), &account)
            .watching(&[name])
            .args(arguments);
        self.operator = Some(Operator::start(&launch));
    }

    async fn until(&self, name: &str, condition: &str) -> WsGateway {
        wait_for(&self.namespace.api(), name, condition, SOON, |gateway| {
            says(gateway, condition)
        })
        .await
    }

    /// Merges a patch into the spec of one.
    fn patch(&self, name: &str, spec: &str) {
        let patch = format!("{{\"spec\": {spec}}}");
        self.namespace.kubectl(&[
            "patch",
            "wsgateway",
            name,
            "--type=merge",
            "--patch",
            &patch,
        ]);
    }

    async fn deployment(&self, name: &str) -> Deployment {
        self.deployments().get(name).await.unwrap()
    }

    fn deployments(&self) -> Api<Deployment> {
        self.namespace.api()
    }

    /// Awaits that the pods of one are all of an image, and ready.
    async fn until_runs(&self, name: &str, image: &str) -> Deployment {
        let what = format!("it runs {image}");
        wait_for(&self.deployments(), name, &what, SOON, |deployment| {
            image_of(deployment) == image && is_complete(deployment)
        })
        .await
    }

    /// Awaits that all but one of these say that they wait, and returns the one, and the others.
    async fn until_one_goes_first(&self, names: &[&str]) -> (String, Vec<String>) {
        let gateways: Api<WsGateway> = self.namespace.api();
        let is_of_us = |gateway: &&WsGateway| names.contains(&&*gateway.name_any());
        let waits = |gateway: &WsGateway| says(gateway, "Reconciling=False/UpgradeWaits");
        let what = format!("all but one of {names:?} wait");
        let seen = wait_for_all(&gateways, watcher::Config::default(), &what, SOON, |all| {
            let mut ours = all.iter().filter(is_of_us);
            ours.clone().filter(|gateway| waits(gateway)).count() == names.len() - 1
                && ours.any(|gateway| says(gateway, "Reconciling=True/RollingOut"))
        })
        .await;
        let ours = seen.iter().filter(is_of_us);
        let (others, first): (Vec<_>, Vec<_>) = ours.partition(|gateway| waits(gateway));
        let first = first[0].name_any();
        for other in &others {
            assert!(says(other, "Ready=True"), "its old gateways serve");
        }
        (first, others.iter().map(|other| other.name_any()).collect())
    }

    /// The pod templates: while they stay, no gateway is replaced.
    async fn templates(&self, names: &[String]) -> BTreeMap<String, PodTemplateSpec> {
        let mut templates = BTreeMap::new();
        for name in names {
            let deployment = self.deployment(name).await;
            templates.insert(name.clone(), deployment.spec.unwrap().template);
        }
        templates
    }
}

/// All that was ever seen of the namespace's Deployments, in order.
struct History {
    seen: Arc<Mutex<Vec<Deployment>>>,
    task: JoinHandle<()>,
}

impl History {
    fn watch(api: Api<Deployment>) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let events = watcher(api, watcher::Config::default());
            let mut events = pin!(events.default_backoff().applied_objects());
            while let Some(event) = events.next().await {
                if let Ok(deployment) = event {
                    into.lock().unwrap().push(deployment);
                }
            }
        });
        Self { seen, task }
    }

    /// The most `WsGateways` that were being upgraded at one moment: with a template that `is_new`, and not all ready.
    fn most_at_once(&self, is_new: impl Fn(&Deployment) -> bool) -> usize {
        let mut upgrading = BTreeSet::new();
        let mut most = 0;
        for deployment in &*self.seen.lock().unwrap() {
            if is_new(deployment) && !is_complete(deployment) {
                upgrading.insert(deployment.name_any());
            } else {
                upgrading.remove(&deployment.name_any());
            }
            most = most.max(upgrading.len());
        }
        most
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn message(gateway: &WsGateway, type_: &str) -> String {
    let mut conditions = gateway.status.iter().flat_map(|status| &status.conditions);
    let condition = conditions.find(|condition| condition.type_ == type_);
    condition.unwrap().message.clone()
}

fn image_of(deployment: &Deployment) -> &str {
    let pod = deployment.spec.as_ref().unwrap().template.spec.as_ref();
    pod.unwrap().containers[0].image.as_deref().unwrap()
}

/// An annotation of the pod template.
fn annotation<'a>(deployment: &'a Deployment, name: &str) -> Option<&'a str> {
    let template = &deployment.spec.as_ref()?.template;
    let annotations = template.metadata.as_ref()?.annotations.as_ref()?;
    annotations.get(name).map(String::as_str)
}

fn is_of_new_template(deployment: &Deployment) -> bool {
    annotation(deployment, "wsgateway.io/revision").is_some()
}

fn is_complete(deployment: &Deployment) -> bool {
    let status = deployment.status.clone().unwrap_or_default();
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    status.observed_generation == deployment.metadata.generation
        && [
            status.replicas,
            status.updated_replicas,
            status.available_replicas,
        ]
        .into_iter()
        .all(|count| count.unwrap_or_default() == wanted.unwrap_or(1))
}

/// Pods of this image do not become ready.
fn fails(image: &'static str) -> impl Fn(&Pod) -> PodState {
    move |pod| {
        let container = &pod.spec.as_ref().unwrap().containers[0];
        if container.image.as_deref() == Some(image) {
            PodState::ImageMissing
        } else {
            PodState::Ready
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_takes_one_at_a_time_and_stops_at_the_first_that_fails() {
    needs!(Kubernetes, Helm);
    let names = ["a", "b", "c"];
    let mut fleet = Fleet::of(&names.map(|name| (name, "{replicas: 2}"))).await;
    fleet.node.set_rule(fails(NEW));
    fleet.replace_operator(&NEW_IMAGE);
    let (first, others) = fleet.until_one_goes_first(&names).await;
    assert_eq!(image_of(&fleet.deployment(&first).await), NEW);
    let whose = format!("{}/{first}", fleet.namespace.name());
    for other in &others {
        let gateway = fleet.until(other, "Reconciling=False/UpgradeWaits").await;
        let message = message(&gateway, "Reconciling");
        assert!(message.ends_with(&whose), "{message} should name {whose}");
    }
    let untouched = fleet.templates(&others).await;

    // An operator that begins in the middle of it finds whose turn it is. A spec that changes nothing of the pods shows
    // that it has looked, and takes nothing along.
    fleet.replace_operator(&NEW_IMAGE);
    for other in &others {
        fleet.patch(other, r#"{"websocket": {"pingPeriod": "20s"}}"#);
        let gateway = fleet.until(other, "Reconciling=False/UpgradeWaits").await;
        assert!(says(&gateway, "Ready=True"));
    }
    assert_eq!(fleet.templates(&others).await, untouched);

    // With an image of its own the first is mended, and the next one fails.
    fleet.patch(&first, &format!(r#"{{"image": "{PINNED}"}}"#));
    fleet.until_runs(&first, PINNED).await;
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    let (second, third) = fleet.until_one_goes_first(&others).await;
    assert_eq!(image_of(&fleet.deployment(&second).await), NEW);
    assert_eq!(image_of(&fleet.deployment(&third[0]).await), OLD);

    // The image can be had by now.
    fleet.node.set(PodState::Ready);
    for name in others {
        fleet.until_runs(name, NEW).await;
        let gateway = fleet.until(name, "Reconciling=False/Settled").await;
        let revision = gateway.status.unwrap().revision.unwrap();
        assert_eq!(revision.image.as_deref(), Some(NEW));
    }
    assert_eq!(image_of(&fleet.deployment(&first).await), PINNED);
    let is_new = |deployment: &Deployment| image_of(deployment) == NEW;
    assert_eq!(fleet.history.most_at_once(is_new), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_before_mends_what_a_newer_one_broke_and_rolls_nothing_else() {
    needs!(Kubernetes, Helm);
    let names = ["a", "b", "c"];
    let mut fleet = Fleet::of(&names.map(|name| (name, "{}"))).await;
    let all = names.map(str::to_owned);
    let before = fleet.templates(&all).await;
    fleet.node.set_rule(|pod| {
        let annotations = pod.annotations();
        if annotations.contains_key("wsgateway.io/revision") {
            PodState::Crashing
        } else {
            PodState::Ready
        }
    });
    fleet.replace_operator(&NEW_TEMPLATE);
    let (first, others) = fleet.until_one_goes_first(&names).await;
    assert!(is_of_new_template(&fleet.deployment(&first).await));

    fleet.replace_operator(&OLD_IMAGE);
    for name in names {
        fleet.until(name, "Reconciling=False/Settled").await;
    }
    let deployment = fleet.deployment(&first).await;
    assert!(is_complete(&deployment) && !is_of_new_template(&deployment));
    for other in &others {
        let template = fleet.deployment(other).await.spec.unwrap().template;
        assert_eq!(template, before[other], "{other} was not touched");
    }

    // The newer one again, mended: it finds nothing left of its first try.
    fleet.node.set(PodState::Ready);
    fleet.replace_operator(&NEW_TEMPLATE);
    for name in names {
        let what = "it has the new template, and is ready";
        wait_for(&fleet.deployments(), name, what, SOON, |deployment| {
            is_of_new_template(deployment) && is_complete(deployment)
        })
        .await;
    }
    assert_eq!(fleet.history.most_at_once(is_of_new_template), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_back_gets_a_newer_template_with_a_change_of_the_spec() {
    needs!(Kubernetes, Helm);
    let mut fleet = Fleet::of(&[
        ("held", "{upgrade: OnSpecChange}"),
        ("pinned", &format!("{{image: '{PINNED}'}}")),
        ("eager", "{}"),
    ])
    .await;
    // What a person asked for stays, whoever applies later.
    fleet
        .namespace
        .kubectl(&["rollout", "restart", "deployment/held"]);
    let restarted = |deployment: &Deployment| {
        let restarted = annotation(deployment, "kubectl.kubernetes.io/restartedAt");
        restarted.map(str::to_owned)
    };
    let deployments = fleet.deployments();
    let what = "it is restarted";
    let deployment = wait_for(&deployments, "held", what, SOON, |deployment| {
        restarted(deployment).is_some() && is_complete(deployment)
    })
    .await;
    let restarted_at = restarted(&deployment);
    fleet.until("held", "Reconciling=False/Settled").await;
    let quiet = ["held".to_owned(), "pinned".to_owned()];
    let before = fleet.templates(&quiet).await;

    fleet.replace_operator(&NEW_IMAGE);
    fleet.until_runs("eager", NEW).await;
    let gateway = fleet.until("held", "Reconciling=False/UpgradeHeld").await;
    assert!(says(&gateway, "Ready=True"));
    // A running gateway takes this along, and a spec that changes shows that the operator has looked.
    for name in &quiet {
        fleet.patch(name, r#"{"websocket": {"pingPeriod": "20s"}}"#);
        let generation = fleet.until(name, "Ready=True").await.metadata.generation;
        let what = "it was held against the newest spec";
        wait_for(&deployments, name, what, SOON, |deployment| {
            let seen = deployment.annotations().get("wsgateway.io/generation");
            seen.cloned() == generation.map(|generation| generation.to_string())
        })
        .await;
    }
    fleet.until("held", "Reconciling=False/UpgradeHeld").await;
    fleet.until("pinned", "Reconciling=False/Settled").await;
    assert_eq!(fleet.templates(&quiet).await, before);
    let deployment = fleet.deployment("held").await;
    assert_eq!(image_of(&deployment), OLD);
    assert_eq!(restarted(&deployment), restarted_at);

    // Gateways are replaced for this anyway.
    fleet.patch(
        "held",
        r#"{"nats": {"servers": ["nats://other.test:4222"]}}"#,
    );
    let deployment = fleet.until_runs("held", NEW).await;
    assert_eq!(restarted(&deployment), restarted_at);
    fleet.until("held", "Reconciling=False/Settled").await;
    assert_eq!(image_of(&fleet.deployment("pinned").await), PINNED);
}
