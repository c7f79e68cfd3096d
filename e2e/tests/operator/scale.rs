//! Many `WsGateways`: how long it takes until all are as they should be, what the operator needs for them, and that it
//! then writes nothing.
//!
//! `make test` runs a small fleet. `make scale` runs 1,000 with the release build, waits five idle minutes, and keeps the
//! figures.

mod measure;

use std::{
    collections::BTreeSet,
    env,
    fmt::Display,
    pin::pin,
    str::FromStr,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use kube::{
    Api, Client, ResourceExt,
    api::PostParams,
    runtime::{WatchStreamExt, watcher},
};
use tokio::time::{sleep, timeout};
use wsgateway_crds::v1alpha1::WsGateway;
use wsgateway_e2e::{
    cluster::{ControlPlane, FakeNode, PodState, Requests},
    needs,
    operator::Operator,
    wait::SOON,
};

use self::measure::{Measured, Meter, write_report};
use crate::stage::{launch, manifest, permit, prepare, says};

/// How many `WsGateways` are in one namespace.
const PER_NAMESPACE: usize = 100;

/// How many are created at once.
const CREATED_AT_ONCE: usize = 32;

/// The goal, for 1,000.
const RESIDENT_BYTES_MAX: u64 = 100_000_000;

/// What the API server writes in another way than this.
const WRITTEN_OTHERWISE: &str = "{replicas: 1, podTemplate: {spec: {containers: \
    [{name: gateway, resources: {requests: {cpu: '0.010'}}}]}}}";

/// How large the fleet is.
struct Scale {
    gateways: usize,
    idle: Duration,
    /// Where the figures are written, without the endings.
    report: Option<String>,
}

impl Scale {
    fn from_env() -> Self {
        Self {
            gateways: setting("WSGATEWAY_SCALE", 50),
            idle: Duration::from_secs(setting("WSGATEWAY_SCALE_IDLE", 20)),
            report: env::var("WSGATEWAY_SCALE_REPORT").ok(),
        }
    }

    /// How long anything may take that has to do with each of them.
    fn within(&self) -> Duration {
        SOON + Duration::from_millis(500) * u32::try_from(self.gateways).unwrap()
    }
}

fn setting<T: FromStr<Err: Display>>(name: &str, default: T) -> T {
    env::var(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|error| panic!("{name}={text}: {error}"))
    })
}

/// The fleet's namespaces and what runs their pods.
struct Fleet {
    client: Client,
    nodes: Vec<FakeNode>,
    gateways: Vec<WsGateway>,
}

impl Fleet {
    fn new(cluster: &ControlPlane, gateways: usize) -> Self {
        let client = cluster.client();
        let mut fleet = Self {
            nodes: Vec::new(),
            gateways: Vec::new(),
            client,
        };
        for number in 0..gateways {
            let namespace = format!("team-{}", number / PER_NAMESPACE);
            if number % PER_NAMESPACE == 0 {
                cluster.kubectl(&["create", "namespace", &namespace]);
                let node = FakeNode::start(&fleet.client, &namespace);
                fleet.nodes.push(node);
            }
            let spec = match number % 10 {
                0 => WRITTEN_OTHERWISE,
                _ => "{replicas: 1}",
            };
            let gateway = manifest(&format!("chat-{number}"), spec);
            let mut gateway: WsGateway = serde_json::from_str(&gateway).unwrap();
            gateway.metadata.namespace = Some(namespace);
            fleet.gateways.push(gateway);
        }
        fleet
    }

    async fn create(&self) {
        let create = |gateway: &WsGateway| {
            let namespace = gateway.namespace().unwrap();
            let api: Api<WsGateway> = Api::namespaced(self.client.clone(), &namespace);
            let gateway = gateway.clone();
            async move {
                let params = PostParams::default();
                api.create(&params, &gateway).await.unwrap();
            }
        };
        let all = stream::iter(self.gateways.iter().map(create));
        all.buffer_unordered(CREATED_AT_ONCE).collect::<()>().await;
    }

    fn set(&self, state: PodState) {
        for node in &self.nodes {
            node.set(state);
        }
    }

    /// Awaits that conditions are so of all.
    async fn until(&self, conditions: &[&str], within: Duration) {
        let api: Api<WsGateway> = Api::all(self.client.clone());
        let mut so = BTreeSet::new();
        let all = async {
            let events = watcher(api, watcher::Config::default());
            let mut events = pin!(events.default_backoff().applied_objects());
            while let Some(event) = events.next().await {
                let Ok(gateway) = event else { continue };
                let name = gateway.name_any();
                if conditions.iter().all(|condition| says(&gateway, condition)) {
                    so.insert(name);
                } else {
                    so.remove(&name);
                }
                if so.len() == self.gateways.len() {
                    return;
                }
            }
        };
        let all = timeout(within, all).await;
        assert!(
            all.is_ok(),
            "after {within:?} only {} are {conditions:?}",
            so.len()
        );
    }

    /// Awaits that nothing more is written, and returns the count of requests then.
    async fn until_quiet(&self) -> Requests {
        let quiet = async {
            let mut before = Requests::count(&self.client).await;
            loop {
                sleep(Duration::from_secs(3)).await;
                let now = Requests::count(&self.client).await;
                if now.since(&before).mutating().total() == 0 {
                    return now;
                }
                before = now;
            }
        };
        timeout(SOON * 3, quiet).await.expect("writes should end")
    }
}

const SETTLED: [&str; 2] = ["Ready=True", "Reconciling=False/Settled"];

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_settles_and_then_nothing_is_written() {
    needs!(Kubernetes, Helm);
    let scale = Scale::from_env();
    let cluster = ControlPlane::start();
    prepare(&cluster);
    let namespace = "wsgateway-system";
    cluster.kubectl(&["create", "namespace", namespace]);
    permit(&cluster, namespace, None);
    let fleet = Fleet::new(&cluster, scale.gateways);
    let operator = Operator::start(&launch(&cluster, namespace));
    let meter = Meter::new(&cluster, operator.pid());
    let mut measured = Measured::at_rest(&meter);

    let begin = (Requests::count(&fleet.client).await, meter.read());
    let start = Instant::now();
    fleet.create().await;
    let created_after = start.elapsed();
    fleet.until(&SETTLED, scale.within()).await;
    let settled_after = start.elapsed();
    let requests = Requests::count(&fleet.client).await.since(&begin.0);
    measured.settled(
        &meter.since(&begin.1),
        created_after,
        settled_after,
        &requests,
    );

    let begin = (fleet.until_quiet().await, meter.read());
    sleep(scale.idle).await;
    let requests = Requests::count(&fleet.client).await.since(&begin.0);
    measured.idle(&meter.since(&begin.1), &requests);
    println!("{}", measured.table(scale.gateways));
    if let Some(path) = &scale.report {
        write_report(path, scale.gateways, &measured);
        assert!(
            measured.resident_bytes() <= RESIDENT_BYTES_MAX,
            "too much memory"
        );
    } else {
        // Pods come and go; what does not change is not applied again.
        fleet.set(PodState::NotReady);
        fleet.until(&["Ready=False"], scale.within()).await;
        fleet.set(PodState::Ready);
        fleet.until(&SETTLED, scale.within()).await;
        let requests = Requests::count(&fleet.client).await.since(&begin.0);
        let applied = requests
            .filter(|request| request.verb == "APPLY" && !request.resource.ends_with("/status"));
        assert_eq!(applied.total(), 0, "{applied}");
    }
    let written = requests.mutating();
    assert_eq!(written.total(), 0, "while nothing happened:\n{written}");
}
