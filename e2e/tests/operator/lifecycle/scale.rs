//! How many gateways: `kubectl scale`, at once up and one by one down.

use std::{
    collections::BTreeSet,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::StreamExt;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, ResourceExt,
    runtime::{WatchStreamExt, watcher, watcher::Event},
};
use tokio::task::JoinHandle;

use crate::stage::{Stage, in_both_modes};

in_both_modes!(gateways_come_at_once_and_leave_one_by_one);

/// How long a gateway drains here.
const DRAIN: Duration = Duration::from_millis(300);

/// What was seen, in the order in which the API server told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// The Deployment asks for so many.
    Asked(i32),
    /// So many pods are ending.
    Ending(usize),
}

/// Writes down what happens to a Deployment and its pods, until it is dropped.
struct Recorder {
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Recorder {
    fn start(stage: &Stage, name: &str) -> Self {
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let (deployments, pods): (Api<Deployment>, Api<Pod>) =
            (stage.namespace.api(), stage.namespace.api());
        let (name, into) = (name.to_owned(), seen.clone());
        let task = tokio::spawn(async move {
            let mut deployment = pin!(watcher::watch_object(deployments, &name).default_backoff());
            let mut pods = pin!(watcher(pods, watcher::Config::default()).default_backoff());
            let mut ending = BTreeSet::new();
            loop {
                let seen = tokio::select! {
                    Some(Ok(Some(deployment))) = deployment.next() => {
                        Seen::Asked(deployment.spec.unwrap().replicas.unwrap())
                    }
                    Some(Ok(event)) = pods.next() => {
                        match event {
                            Event::Apply(pod) | Event::InitApply(pod) => {
                                if pod.metadata.deletion_timestamp.is_some() {
                                    ending.insert(pod.name_any());
                                }
                            }
                            Event::Delete(pod) => _ = ending.remove(&pod.name_any()),
                            Event::Init | Event::InitDone => {}
                        }
                        Seen::Ending(ending.len())
                    }
                };
                let mut into = into.lock().unwrap();
                if into.last() != Some(&seen) {
                    into.push(seen);
                }
            }
        });
        Self { seen, task }
    }

    /// All so far.
    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn gateways_come_at_once_and_leave_one_by_one(stage: Stage) {
    stage.apply("scales", "{replicas: 2}");
    stage.until("scales", "Reconciling=False/Settled").await;
    stage.node.terminate_after(DRAIN);
    let recorder = Recorder::start(&stage, "scales");
    let scale = |count: &str| {
        stage
            .namespace
            .kubectl(&["scale", "wsgw/scales", &format!("--replicas={count}")]);
    };
    scale("5");
    let gateway = stage
        .until("scales", "GatewayAvailable=True/AllReady")
        .await;
    let status = gateway.status.unwrap();
    assert_eq!((status.replicas, status.ready_replicas), (Some(5), Some(5)));
    let selector = "app.kubernetes.io/instance=scales,app.kubernetes.io/name=wsgateway";
    assert_eq!(status.selector.as_deref(), Some(selector));
    let up = recorder.seen();
    assert!(
        !up.contains(&Seen::Asked(3)) && !up.contains(&Seen::Asked(4)),
        "{up:?}"
    );

    scale("1");
    stage.until("scales", "Reconciling=True/ScalingIn").await;
    let gateway = stage.until("scales", "Reconciling=False/Settled").await;
    assert_eq!(gateway.status.unwrap().replicas, Some(1));
    let down = recorder.seen().split_off(up.len());
    println!("{down:?}");
    let mut asked = down.iter().filter_map(|seen| match seen {
        Seen::Asked(count) => Some(*count),
        Seen::Ending(_) => None,
    });
    let mut steps: Vec<i32> = asked.by_ref().collect();
    steps.dedup();
    assert_eq!(
        steps
            .iter()
            .copied()
            .filter(|count| *count < 5)
            .collect::<Vec<_>>(),
        [4, 3, 2, 1]
    );
    let most = down.iter().map(|seen| match seen {
        Seen::Ending(count) => *count,
        Seen::Asked(_) => 0,
    });
    assert_eq!(most.max(), Some(1), "{down:?}");
}
