//! What a node's kubelet does to pods, where no node runs: gives them an address, makes them ready, and lets them go.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, TcpListener},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use k8s_openapi::{
    api::core::v1::{Pod, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::{WatchStreamExt, watcher, watcher::Event},
};
use serde_json::{Value, json};
use tokio::{sync::Notify, task::JoinHandle};

use super::held;

/// The ports of a gateway's pod, which a test may listen on at the pod's address.
const POD_PORTS: [u16; 2] = [8000, 9000];

/// What the kubelet says of a pod's containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodState {
    /// They run and answer.
    Ready,
    /// They run, and their readiness probe fails.
    NotReady,
    /// Their image cannot be had.
    ImageMissing,
    /// They ended, and are started again more and more slowly.
    Crashing,
}

/// A rule that says how a pod fares.
type Rule = Arc<dyn Fn(&Pod) -> PodState + Send + Sync>;

/// Makes the pods of one namespace run, each with an address of its own in 127.0.0.0/8, until this is dropped.
///
/// Every pod is ready unless a rule says otherwise. A pod that is deleted goes at once, or after
/// [`FakeNode::terminate_after`].
#[derive(Debug)]
pub struct FakeNode {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    api: Api<Pod>,
    rule: Mutex<Rule>,
    termination: Mutex<Duration>,
    addresses: Mutex<BTreeMap<String, Ipv4Addr>>,
    changed: Notify,
}

impl FakeNode {
    /// Begins. To be called in the runtime that `client` belongs to.
    pub fn start(client: &Client, namespace: &str) -> Self {
        let shared = Arc::new(Shared {
            api: Api::namespaced(client.clone(), namespace),
            rule: Mutex::new(Arc::new(|_| PodState::Ready)),
            termination: Mutex::default(),
            addresses: Mutex::default(),
            changed: Notify::new(),
        });
        let task = tokio::spawn(Arc::clone(&shared).run());
        Self { shared, task }
    }

    /// From now on all pods fare so.
    pub fn set(&self, state: PodState) {
        self.set_rule(move |_| state);
    }

    /// From now on each pod fares as `rule` says, those that are there too.
    pub fn set_rule(&self, rule: impl Fn(&Pod) -> PodState + Send + Sync + 'static) {
        *held(&self.shared.rule) = Arc::new(rule);
        self.shared.changed.notify_one();
    }

    /// From now on a deleted pod stays for so long, as a gateway does that drains.
    pub fn terminate_after(&self, period: Duration) {
        *held(&self.shared.termination) = period;
    }

    /// The address of the pod with this name, which stays the same, whether or not there is one yet. Its ports are free
    /// for a test to listen on.
    pub fn address(&self, pod: &str) -> Ipv4Addr {
        self.shared.address(pod)
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "pods {:?}", held(&self.addresses))
    }
}

impl Shared {
    async fn run(self: Arc<Self>) {
        let mut events =
            pin!(watcher(self.api.clone(), watcher::Config::default()).default_backoff());
        let mut pods = BTreeMap::new();
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(Event::Init)) => pods.clear(),
                    Some(Ok(Event::Apply(pod) | Event::InitApply(pod))) => {
                        self.tend(&pod).await;
                        pods.insert(pod.name_any(), pod);
                    }
                    Some(Ok(Event::Delete(pod))) => {
                        pods.remove(&pod.name_any());
                    }
                    // A watch that breaks begins again by itself.
                    Some(Ok(Event::InitDone) | Err(_)) => {}
                    None => return,
                },
                () = self.changed.notified() => {
                    for pod in pods.values() {
                        self.tend(pod).await;
                    }
                }
            }
        }
    }

    /// Does the next thing that a pod needs. What fails, since the pod has changed meanwhile, is followed by an event
    /// that tells of the change.
    async fn tend(self: &Arc<Self>, pod: &Pod) {
        if pod.metadata.deletion_timestamp.is_some() {
            self.terminate(pod);
        } else if pod
            .spec
            .as_ref()
            .is_some_and(|spec| spec.node_name.is_none())
        {
            self.take(pod).await;
        } else {
            self.report(pod).await;
        }
    }

    /// What a scheduler does.
    async fn take(&self, pod: &Pod) {
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.name_any(), "uid": pod.uid()},
            "target": {"apiVersion": "v1", "kind": "Node", "name": "fake-node"},
        });
        let params = PostParams::default();
        let _: Result<Value, _> = self
            .api
            .create_subresource("binding", &pod.name_any(), &params, &binding)
            .await;
    }

    async fn report(&self, pod: &Pod) {
        let rule = Arc::clone(&held(&self.rule));
        let status = status(pod, rule(pod), self.address(&pod.name_any()));
        if is_so(pod, &status) {
            return;
        }
        let patch = Patch::Merge(json!({"metadata": {"uid": pod.uid()}, "status": status}));
        let _ = self
            .api
            .patch_status(&pod.name_any(), &PatchParams::default(), &patch)
            .await;
    }

    /// Takes the pod away, which only its kubelet may do. One task for each time that it is seen does no harm.
    fn terminate(self: &Arc<Self>, pod: &Pod) {
        let period = *held(&self.termination);
        let (shared, name) = (Arc::clone(self), pod.name_any());
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: pod.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        tokio::spawn(async move {
            tokio::time::sleep(period).await;
            let _ = shared.api.delete(&name, &params).await;
        });
    }

    fn address(&self, pod: &str) -> Ipv4Addr {
        let mut addresses = held(&self.addresses);
        *addresses.entry(pod.to_owned()).or_insert_with(free_address)
    }
}

/// An address where nobody listens on a pod's ports.
fn free_address() -> Ipv4Addr {
    // Test binaries may run at once, and begin at different places.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id() % 250 + 1;
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed) % (250 * 250);
        let address = Ipv4Addr::new(
            127,
            begin as u8,
            (number / 250) as u8,
            (number % 250 + 1) as u8,
        );
        if POD_PORTS
            .iter()
            .all(|&port| TcpListener::bind((address, port)).is_ok())
        {
            return address;
        }
    }
}

fn status(pod: &Pod, state: PodState, address: Ipv4Addr) -> PodStatus {
    let now = Time(Timestamp::now());
    // minReadySeconds is counted from it: no test has the time to await that.
    let long_ago = Time(now.0 - SignedDuration::from_hours(1));
    let ready = state == PodState::Ready;
    let condition = |kind: &str, holds: bool| {
        let status = if holds { "True" } else { "False" };
        let old = pod
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten())
            .find(|condition| condition.type_ == kind && condition.status == status);
        let since = old.and_then(|condition| condition.last_transition_time.clone());
        json!({"type": kind, "status": status, "lastTransitionTime": since.unwrap_or(long_ago.clone())})
    };
    let started = pod
        .status
        .as_ref()
        .and_then(|status| status.start_time.clone());
    let started = started.unwrap_or(now.clone());
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let (phase, container) = match state {
        PodState::Ready | PodState::NotReady => {
            ("Running", json!({"running": {"startedAt": started}}))
        }
        PodState::ImageMissing => ("Pending", waiting("ImagePullBackOff")),
        PodState::Crashing => ("Running", waiting("CrashLoopBackOff")),
    };
    let runs = matches!(state, PodState::Ready | PodState::NotReady);
    let status = json!({
        "phase": phase,
        "hostIP": "127.0.0.1",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": started,
        "conditions": [
            condition("PodScheduled", true),
            condition("Initialized", true),
            condition("ContainersReady", ready),
            condition("Ready", ready),
        ],
        "containerStatuses": containers
            .map(|one| json!({
                "name": one.name,
                "image": one.image,
                "imageID": "",
                "ready": ready,
                "started": runs,
                "restartCount": i32::from(state == PodState::Crashing),
                "state": container,
            }))
            .collect::<Vec<_>>(),
    });
    serde_json::from_value(status).unwrap()
}

fn waiting(reason: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": format!("a test says {reason}")}})
}

/// Whether the pod's status says all that `status` does.
fn is_so(pod: &Pod, status: &PodStatus) -> bool {
    let Some(seen) = &pod.status else {
        return false;
    };
    let conditions = |status: &PodStatus| -> BTreeMap<String, String> {
        let conditions = status.conditions.iter().flatten();
        conditions
            .map(|condition| (condition.type_.clone(), condition.status.clone()))
            .collect()
    };
    let seen_conditions = conditions(seen);
    seen.phase == status.phase
        && seen.pod_ip == status.pod_ip
        && conditions(status)
            .iter()
            .all(|(kind, holds)| seen_conditions.get(kind) == Some(holds))
        && seen
            .container_statuses
            .as_ref()
            .map(|all| all.iter().map(|one| one.state.clone()).collect::<Vec<_>>())
            == status
                .container_statuses
                .as_ref()
                .map(|all| all.iter().map(|one| one.state.clone()).collect())
}
