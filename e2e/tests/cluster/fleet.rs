//! Gateways with a thousand clients, behind the ingress, and what is done to them.

use std::{
    collections::BTreeMap,
    panic,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use async_nats::jetstream;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use wsgateway_e2e::{
    cluster::Namespace,
    http,
    kubernetes::{
        Entrance, Kubernetes, READY,
        clients::{Clients, Destination, Group, History},
        endings::Endings,
        place::pod_address,
    },
    nats::Nats,
    wait::{SOON, pause, until_true},
};

/// The name of the `WsGateway`. Each test has a namespace of its own.
pub(crate) const NAME: &str = "fleet";

/// A gateway that is told to end accepts for so long, and then closes its clients over so long. ingress-nginx looks at
/// what has changed every 3.3 s at most (`--sync-rate-limit`). Until then it tries another gateway where one refuses to
/// connect; but while many clients come, its turns may give one request the same gateway three times, and that is a 502.
const PROPAGATION: Duration = Duration::from_secs(4);

/// See [`PROPAGATION`].
const DRAIN: Duration = Duration::from_secs(1);

/// How many clients get what is published to all.
pub(crate) const LISTENERS: usize = 900;

/// How many share the work of a queue.
pub(crate) const WORKERS: usize = 100;

const MANIFEST: &str = "
apiVersion: wsgateway.io/v1alpha1
kind: WsGateway
metadata: {name: fleet}
spec:
  replicas: REPLICAS
  routes:
    - name: news
      path: /news
      toClient: [{name: news, type: Core, core: {subjects: [PREFIX.news]}}]
    - name: jobs
      path: /jobs
      fromClient: {type: Discard}
      toClient: [{name: jobs, type: Queue, queue: {stream: PREFIX, durable: fleet, ackWait: 10s}}]
  websocket: {writeWait: 1s}
  rollout: {propagation: PROPAGATION, drain: {period: DRAIN}}
  exposure: {hosts: [HOST], affinity: None}
  podTemplate: {spec: {containers: [{name: gateway, resources: {requests: {cpu: 10m, memory: 32Mi}}}]}}
";

/// Gateways, and where their clients come in.
pub(crate) struct Fleet {
    pub(crate) namespace: Namespace<'static, Kubernetes>,
    pub(crate) destination: Destination,
    cluster: &'static Kubernetes,
}

impl Fleet {
    /// So many of them, ready.
    pub(crate) async fn start(cluster: &'static Kubernetes, replicas: usize) -> Self {
        let namespace = cluster.namespace();
        let stream = jetstream::stream::Config {
            name: namespace.name().to_owned(),
            subjects: vec![format!("{}.jobs", namespace.name())],
            ..Default::default()
        };
        with_nats(cluster, |nats| {
            nats.run(nats.jetstream().create_stream(stream)).unwrap();
        });
        namespace.apply(
            &MANIFEST
                .replace("REPLICAS", &replicas.to_string())
                .replace("PROPAGATION", &format!("{}s", PROPAGATION.as_secs()))
                .replace("DRAIN", &format!("{}s", DRAIN.as_secs()))
                .replace("PREFIX", namespace.name())
                .replace("HOST", &namespace.host(NAME)),
        );
        namespace.ready(NAME).await;
        let entrance = namespace.entrance(NAME).await;
        let Entrance {
            address,
            host,
            authority_pem,
            ..
        } = &entrance;
        let destination = Destination {
            network: cluster.network(),
            address: *address,
            host: host.clone(),
            authority: authority_pem.clone(),
        };
        let fleet = Self {
            namespace,
            destination,
            cluster,
        };
        fleet.pods(replicas).await;
        fleet
    }

    /// Clients of these kinds, all of them connected.
    pub(crate) fn connect(&self, groups: &[Group]) -> Clients {
        let begin = Instant::now();
        let clients = Clients::start(&self.destination, groups);
        let count = groups.iter().map(|group| group.count).sum();
        clients.until_open(count, READY);
        println!("{count} clients are open after {:?}", begin.elapsed());
        clients
    }

    /// A thousand clients: listeners from number 0 on, then workers.
    pub(crate) fn connect_thousand(&self) -> Clients {
        self.connect(&[Group::new(LISTENERS, "/news"), Group::new(WORKERS, "/jobs")])
    }

    /// Changes the spec, as `kubectl patch` does.
    pub(crate) fn patch(&self, spec: &Value) {
        let patch = json!({"spec": spec}).to_string();
        self.namespace.kubectl(&[
            "patch",
            "wsgateway",
            NAME,
            "--type=merge",
            "--patch",
            &patch,
        ]);
    }

    /// Awaits that so many gateways run, none of which is about to go.
    pub(crate) async fn pods(&self, count: usize) -> Vec<Pod> {
        self.namespace.ready_pods(NAME, count).await
    }

    /// Writes down how gateways end.
    pub(crate) async fn endings(&self) -> Endings {
        let selector = format!("app.kubernetes.io/instance={NAME}");
        Endings::watch(self.namespace.api(), &selector).await
    }

    /// How many clients each gateway has, as it says itself, by the pod's name.
    pub(crate) fn connections(&self, pods: &[Pod]) -> BTreeMap<String, usize> {
        let ask = |pod: &Pod| {
            let address = pod_address(pod, 9000);
            let text = self
                .cluster
                .inside(async || http::get(address, "/status").text());
            let report: Value = serde_json::from_str(&text).unwrap();
            let connections = report["connections"].as_u64().unwrap();
            (pod.name_any(), connections as usize)
        };
        pods.iter().map(ask).collect()
    }

    /// Publishes work for the queue until it is told to stop.
    pub(crate) fn publish_jobs(&self) -> Jobs {
        Jobs::begin(self.cluster, format!("{}.jobs", self.namespace.name()))
    }

    /// Publishes one message to all listeners, and awaits that each of them gets it, once.
    pub(crate) fn tell_all(&self, clients: &Clients, message: &str) {
        let subject = format!("{}.news", self.namespace.name());
        with_nats(self.cluster, |nats| nats.publish(&subject, message));
        clients.until_received_by(LISTENERS, message, SOON);
        assert_eq!(clients.received(message), LISTENERS);
    }
}

/// Work that is being published, each of it under a name of its own.
pub(crate) struct Jobs {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<String>>>,
}

impl Jobs {
    /// So that some are under way at any moment.
    const PERIOD: Duration = Duration::from_millis(20);

    fn begin(cluster: &'static Kubernetes, subject: String) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let stop = Arc::<AtomicBool>::default();
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let nats = cluster.nats();
            let jetstream = nats.jetstream();
            let mut published = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let job = format!("job {}", NEXT.fetch_add(1, Ordering::Relaxed));
                nats.run(async {
                    let payload = job.clone().into();
                    let stored = jetstream.publish(subject.clone(), payload).await.unwrap();
                    stored.await.unwrap();
                });
                published.push(job);
                pause(Self::PERIOD);
            }
            published
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Stops, and awaits that each job has come to a worker.
    pub(crate) fn end(mut self, clients: &Clients) {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it ends once");
        let published = thread.join().unwrap();
        assert!(!published.is_empty());
        clients.until_received(&published, READY);
        let received: usize = published.iter().map(|job| clients.received(job)).sum();
        println!(
            "{} jobs were published and came {received} times",
            published.len()
        );
    }
}

/// Also where the test fails.
impl Drop for Jobs {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Does something with a client of NATS on a thread that no runtime runs on: the client has one of its own.
fn with_nats<T: Send>(cluster: &Kubernetes, work: impl FnOnce(&Nats) -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| work(&cluster.nats()));
        thread
            .join()
            .unwrap_or_else(|panic| panic::resume_unwind(panic))
    })
}

/// Awaits that all who were told to end are gone, and that each ended in order: with what it was given, by itself.
pub(crate) fn assert_ended_in_order(endings: &Endings, count: usize) {
    until_true("who was told to end is gone", READY, || {
        endings.so_far().len() == count && endings.are_over()
    });
    println!("{endings}");
    for ending in endings.so_far() {
        assert_eq!(ending.exit_code, Some(0), "{ending:?}");
        let took = ending.took().unwrap();
        assert!(took < ending.grace, "{ending:?}");
    }
}

/// Clients were told to come back, and all of them could at once.
pub(crate) fn assert_clients_were_served(history: &History) {
    println!("{history}");
    let mut codes = history.closes().into_keys();
    let drained = (1012, "Draining".to_owned());
    assert!(codes.all(|code| code == drained), "{history}");
    assert_eq!(history.refusals(), BTreeMap::new(), "{history}");
}
