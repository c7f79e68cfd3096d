//! What the operator learns of running gateways, and what it tells them: a live configuration reaches each without
//! harm to its clients, their connections are counted, and who has the fewest goes first.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::StreamExt;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;
use tokio::task::JoinHandle;
use wsgateway_crds::v1alpha1::{RevisionStatus, WsGateway};
use wsgateway_e2e::{
    cluster::{wait_for, wait_for_all},
    frame::Frame,
    needs,
    socket::RawSocket,
    wait::SOON,
};

use crate::{
    running::{Gateway, NAME, Running},
    stage::says,
};

const LIVE: &str = "wsgateway.io/live";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

fn revision(gateway: &WsGateway) -> RevisionStatus {
    gateway.status.as_ref().unwrap().revision.clone().unwrap()
}

fn connections(gateway: &WsGateway) -> Option<i64> {
    gateway.status.as_ref()?.connections
}

fn assert_open(socket: &mut RawSocket) {
    socket.send_frame(&Frame::text("still here"));
    assert_eq!(socket.message(SOON), "still here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_change_reaches_every_gateway_and_closes_no_client() {
    needs!(Kubernetes, Helm, NatsServer);
    let mut running = Running::start(2).await;
    let gateway = running.until("ConfigPropagated=True/AllPods").await;
    assert_eq!(revision(&gateway).pods, Some(2));
    let before = revision(&gateway).desired;
    let template = running.deployment().await.spec.unwrap().template;
    let mut sockets: Vec<RawSocket> = running.gateways.values().map(Gateway::connect).collect();

    running.patch(&json!({"websocket": {"pingPeriod": "20s"}}));
    let gateway = running.until("ConfigPropagated=False/Propagating").await;
    assert_eq!(revision(&gateway).pods, Some(0));
    let desired = revision(&gateway).desired.unwrap();
    assert_ne!(Some(&desired), before.as_ref());
    // A change of a pod is what makes its kubelet look at once.
    for pod in running.gateways.keys() {
        let what = "it names the wanted configuration";
        let names = |pod: &Pod| pod.annotations().get(LIVE) == Some(&desired);
        wait_for(&running.pods(), pod, what, SOON, names).await;
    }
    let live = running.live_file().await;
    assert!(live.contains("pingPeriod: 20s"), "{live}");
    for (count, gateway) in (1..).zip(running.gateways.values_mut()) {
        gateway.bring(&live);
        let what = format!("{count} of the pods run it");
        wait_for::<WsGateway>(&running.namespace.api(), NAME, &what, SOON, |gateway| {
            revision(gateway).pods == Some(count)
                && says(gateway, "ConfigPropagated=True/AllPods") == (count == 2)
        })
        .await;
    }
    running.until("Reconciling=False/Settled").await;

    // One gateway gets a file that it refuses.
    let gateway = running.gateways.values_mut().next().unwrap();
    gateway.bring("websocket: nonsense\n");
    let refused = running.until("ConfigPropagated=False/ConfigRejected").await;
    assert!(says(&refused, "Ready=True"), "the one before still runs");
    let gateway = running.gateways.values_mut().next().unwrap();
    gateway.bring(&live);
    running.until("ConfigPropagated=True/AllPods").await;

    for socket in &mut sockets {
        assert_open(socket);
    }
    assert_eq!(running.deployment().await.spec.unwrap().template, template);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_gateways_report_stands_in_the_status() {
    needs!(Kubernetes, Helm, NatsServer);
    let mut running = Running::start(1).await;
    running.until("NatsConnected=True/Connected").await;
    running.nats.kill();
    let gateway = running.until("NatsConnected=False/Unreachable").await;
    assert!(says(&gateway, "Ready=True"), "clients stay");
    running.nats.restart();
    running.until("NatsConnected=True/Connected").await;

    // So that no sample is taken while they open.
    running.stop_operator();
    let pod = running.gateways.keys().next().unwrap().clone();
    let connect = |running: &Running| running.gateways[&pod].connect();
    let mut sockets: Vec<RawSocket> = (0..20).map(|_| connect(&running)).collect();
    running.start_operator();
    let gateway = running
        .until_so("20 are open", |gateway| connections(gateway) == Some(20))
        .await;
    let version = gateway.resource_version();
    sockets.push(connect(&running));
    sockets.push(connect(&running));
    running.await_looks(3.0);
    let what = "two more of 20 are no news";
    let gateway = running.until_so(what, |_| true).await;
    assert_eq!(gateway.resource_version(), version, "{what}");
    sockets.push(connect(&running));
    running
        .until_so("23 are open", |gateway| connections(gateway) == Some(23))
        .await;
    sockets.truncate(0);
    running
        .until_so("none is open", |gateway| connections(gateway) == Some(0))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_with_the_fewest_clients_goes_first_and_one_at_a_time() {
    needs!(Kubernetes, Helm, NatsServer);
    let running = Running::start(3).await;
    let names: Vec<&String> = running.gateways.keys().collect();
    let mut sockets = Vec::new();
    for (name, count) in names.iter().zip([5, 9, 2]) {
        sockets.push(
            (0..count)
                .map(|_| running.gateways[*name].connect())
                .collect::<Vec<_>>(),
        );
    }
    running.node.terminate_after(Duration::from_millis(500));
    let history = History::watch(&running);
    running.patch(&json!({"replicas": 1}));
    wait_for_all::<Pod>(
        &running.pods(),
        watcher::Config::default(),
        "one is left",
        SOON,
        |pods| pods.len() == 1 && pods[0].name_any() == *names[1],
    )
    .await;
    let gateway = running.until("Reconciling=False/Settled").await;
    assert_eq!(gateway.status.unwrap().replicas, Some(1));
    assert_open(&mut sockets[1][0]);

    // Versions of all kinds come from one counter.
    let two = history.when(|seen| seen.replicas() == Some(2));
    let one = history.when(|seen| seen.replicas() == Some(1));
    for (name, falls, before) in [(names[2], two, None), (names[0], one, Some(names[2]))] {
        let chosen = history.when(|seen| seen.is_chosen(name));
        assert!(chosen < falls, "{name} is chosen before the count falls");
        let ends = history.when(|seen| seen.is_ending(name));
        assert!(falls < ends, "{name} ends since the count fell");
        if let Some(before) = before {
            let gone = history.when(|seen| seen.is_gone(before));
            assert!(gone < falls, "{before} is gone before the next is taken");
        }
    }
}

/// What was seen of the Deployment and the pods.
struct History {
    seen: Arc<Mutex<Vec<Seen>>>,
    tasks: [JoinHandle<()>; 2],
}

enum Seen {
    Deployment(Deployment),
    Pod(Pod),
    Gone(Pod),
}

impl Seen {
    fn version(&self) -> u64 {
        let version = match self {
            Self::Deployment(deployment) => deployment.resource_version(),
            Self::Pod(pod) | Self::Gone(pod) => pod.resource_version(),
        };
        version.unwrap().parse().unwrap()
    }

    fn replicas(&self) -> Option<i32> {
        match self {
            Self::Deployment(deployment) => deployment.spec.as_ref()?.replicas,
            _ => None,
        }
    }

    fn is_chosen(&self, name: &str) -> bool {
        matches!(self, Self::Pod(pod) if pod.name_any() == name && pod.annotations().contains_key(DELETION_COST))
    }

    fn is_ending(&self, name: &str) -> bool {
        matches!(self, Self::Pod(pod) if pod.name_any() == name && pod.metadata.deletion_timestamp.is_some())
    }

    fn is_gone(&self, name: &str) -> bool {
        matches!(self, Self::Gone(pod) if pod.name_any() == name)
    }
}

impl History {
    fn watch(running: &Running) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let deployments: Api<Deployment> = running.namespace.api();
        let (pods, of_pods, of_deployments) =
            (running.pods(), Arc::clone(&seen), Arc::clone(&seen));
        let tasks = [
            tokio::spawn(async move {
                let events = watcher(deployments, watcher::Config::default());
                let mut events = pin!(events.default_backoff().applied_objects());
                while let Some(event) = events.next().await {
                    let seen = event.ok().map(Seen::Deployment);
                    of_deployments.lock().unwrap().extend(seen);
                }
            }),
            tokio::spawn(async move {
                let mut events = pin!(watcher(pods, watcher::Config::default()).default_backoff());
                while let Some(event) = events.next().await {
                    let seen = match event {
                        Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => {
                            Some(Seen::Pod(pod))
                        }
                        Ok(watcher::Event::Delete(pod)) => Some(Seen::Gone(pod)),
                        _ => None,
                    };
                    of_pods.lock().unwrap().extend(seen);
                }
            }),
        ];
        Self { seen, tasks }
    }

    /// The version at which something was first so.
    fn when(&self, is_so: impl Fn(&Seen) -> bool) -> u64 {
        let seen = self.seen.lock().unwrap();
        let first = seen.iter().find(|seen| is_so(seen));
        first.expect("it should have been so").version()
    }
}

impl Drop for History {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
