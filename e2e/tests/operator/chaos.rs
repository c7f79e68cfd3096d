//! What the operator stands on fails as a whole: the API server is killed, our definition is deleted, an object is stored
//! that nobody can read. Each test has a control plane of its own.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        core::v1::{ConfigMap, Event, Pod, Secret, Service},
        networking::v1::Ingress,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
    runtime::watcher,
};
use serde_json::json;
use wsgateway_crds::v1alpha1::WsGateway;
use wsgateway_e2e::{
    cluster::{wait_for, wait_for_all, wait_gone},
    http, needs,
    operator::Operator,
    wait::{SOON, pause, until_true},
};

use crate::{
    own::Own,
    stage::{Mode, manifest, says},
};

/// How many are under way when the API server is killed.
const COUNT: usize = 50;

/// How many of them are ready by then.
const BEFORE: usize = 10;

/// How long the control plane's own controllers may take: the garbage collector looks for new kinds every 30 s.
const LONG: Duration = Duration::from_secs(120);

/// Asks again and again whether the operator lives.
struct Heartbeat {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Heartbeat {
    fn start(admin: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut count = 0;
            while !ended.load(Ordering::Relaxed) {
                let answer = http::get(admin, "/livez");
                assert_eq!(answer.status, 200, "{answer:?}");
                count += 1;
                pause(Duration::from_millis(50));
            }
            count
        });
        Self { stop, thread }
    }

    /// Panics where it has once not lived.
    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let count = self.thread.join().unwrap();
        println!("/livez answered 200 {count} times");
        assert!(count > 0);
    }
}

/// Awaits that it says that it is not ready, and why.
fn until_unready(operator: &Operator, why: &str) {
    until_true("it is not ready", SOON, || {
        let answer = http::get(operator.admin(), "/readyz");
        answer.status == 503 && answer.text().contains(why)
    });
}

async fn count<K>(own: &Own, labels: &str) -> usize
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let params = ListParams::default().labels(labels);
    own.api::<K>().list(&params).await.unwrap().items.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_is_killed_in_the_middle_of_fifty_reconciles() {
    needs!(Kubernetes, Helm);
    let own = Own::start(Mode::Cluster, &[]);
    let mut operator = Operator::start(&own.launch());
    let pid = operator.pid();
    let heartbeat = Heartbeat::start(operator.admin());
    let names = (0..COUNT).map(|number| format!("chat-{number:02}"));
    let manifests: Vec<String> = names.map(|name| manifest(&name, "{replicas: 1}")).collect();
    let begin = Instant::now();
    own.cluster.apply(&manifests.join("\n---\n"));
    let gateways: Api<WsGateway> = own.api();
    let ready = |all: &[WsGateway]| {
        let ready = all.iter().filter(|gateway| says(gateway, "Ready=True"));
        ready.count()
    };
    let all = watcher::Config::default;
    let what = "some are ready";
    let seen = wait_for_all(&gateways, all(), what, LONG, |all| ready(all) >= BEFORE).await;
    own.cluster.stop_api_server();
    println!(
        "{} of {} were ready when it was killed",
        ready(&seen),
        seen.len()
    );
    assert!(ready(&seen) < COUNT, "they are done already");
    until_unready(&operator, "the watch of wsgateways failed");
    own.cluster.start_api_server();
    let back = Instant::now();
    let what = "all are ready";
    wait_for_all(&gateways, all(), what, LONG, |all| ready(all) == COUNT).await;
    println!(
        "all {COUNT} are ready {:?} after it was back, {:?} after they were applied",
        back.elapsed(),
        begin.elapsed()
    );
    operator.await_ready(SOON);
    heartbeat.end();
    assert!(operator.is_running() && operator.pid() == pid);

    let ours = "app.kubernetes.io/managed-by=wsgateway-operator";
    assert_eq!(count::<Deployment>(&own, ours).await, COUNT);
    assert_eq!(count::<Ingress>(&own, ours).await, COUNT);
    assert_eq!(count::<Secret>(&own, ours).await, 2 * COUNT);
    assert_eq!(count::<ConfigMap>(&own, ours).await, 3 * COUNT);
    assert_eq!(count::<ReplicaSet>(&own, "").await, COUNT);
    assert_eq!(count::<Pod>(&own, "").await, COUNT);
    let events = own.api::<Event>().list(&ListParams::default()).await;
    let replaced = events.unwrap().items.into_iter().filter(|event| {
        let reason = event.reason.as_deref();
        matches!(reason, Some("AuthorityReplaced" | "CertificateRepaired"))
    });
    assert_eq!(replaced.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn our_definition_is_deleted_and_comes_back() {
    needs!(Kubernetes, Helm);
    let own = Own::start(Mode::Cluster, &[]);
    // It looks for kinds when it begins, and then every 30 s.
    own.cluster.stop_controller_manager();
    own.cluster.start_controller_manager();
    let mut operator = Operator::start(&own.launch());
    let heartbeat = Heartbeat::start(operator.admin());
    own.apply("one", "{replicas: 1}");
    own.until("one", "Ready=True").await;
    let begin = Instant::now();
    own.cluster.uninstall_crd();
    // Its children go with it, by the control plane's own garbage collector.
    wait_gone(&own.api::<Deployment>(), "one", LONG).await;
    wait_gone(&own.api::<Service>(), "one", LONG).await;
    println!(
        "the children are gone {:?} after the definition",
        begin.elapsed()
    );
    until_unready(&operator, "the watch of wsgateways failed");
    let before = operator.metrics();
    let begin = Instant::now();
    own.cluster.install_crd();
    own.apply("two", "{replicas: 1}");
    own.until("two", "Ready=True").await;
    println!(
        "a new WsGateway is ready {:?} after the definition",
        begin.elapsed()
    );
    // One that had the name before is another one now.
    own.apply("one", "{replicas: 1}");
    own.until("one", "Ready=True").await;
    operator.await_ready(SOON);
    assert!(operator.is_running());
    heartbeat.end();
    let failed = |metrics: &http::Metrics| {
        let all = metrics.sum("wsgateway_operator_reconciles_total", &[]);
        all - metrics.sum(
            "wsgateway_operator_reconciles_total",
            &[("result", "success")],
        )
    };
    // Nobody repaired children of a WsGateway that was gone.
    assert!(failed(&before) < 3.0, "{}", operator.lines().join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wsgateway_that_nobody_can_read_concerns_itself_alone() {
    needs!(Kubernetes, Helm);
    let own = Own::start(Mode::Cluster, &[]);
    let mut operator = Operator::start(&own.launch());
    own.apply("before", "{replicas: 1}");
    own.until("before", "Ready=True").await;
    let definitions: Api<CustomResourceDefinition> = Api::all(own.client.clone());
    let right = definitions.get("wsgateways.wsgateway.io").await.unwrap();
    loosen(&definitions, &right).await;
    // The API server reads its own definitions a moment later.
    until_true("it is stored", SOON, || {
        let broken = manifest("broken", "{nats: [many]}");
        let arguments = ["apply", "--server-side", "--validate=false", "-f", "-"];
        own.try_kubectl(&arguments, &broken).status.success()
    });
    let refused = "--for=condition=Accepted=false";
    own.cluster
        .kubectl(&["wait", "wsgw/broken", refused, "--timeout=20s"]);
    let path = "-o=jsonpath={.status.conditions[?(@.type=='Accepted')].reason}:\
        {.status.conditions[?(@.type=='Accepted')].message}";
    let said = own.cluster.kubectl(&["get", "wsgw", "broken", path]);
    println!("{said}");
    assert!(said.starts_with("Unreadable:"), "{said}");

    // To the others it is as if it were not there.
    own.apply("after", "{replicas: 1}");
    // A typed list would not get past it, and neither would a test's.
    let ready = "--for=condition=Ready";
    own.cluster
        .kubectl(&["wait", "wsgw/before", "wsgw/after", ready, "--timeout=20s"]);
    let services: Api<Service> = own.api();
    services
        .delete("before", &DeleteParams::default())
        .await
        .unwrap();
    wait_for(&services, "before", "it is back", SOON, |_| true).await;

    own.apply("broken", "{replicas: 1}");
    own.until("broken", "Ready=True").await;
    assert!(operator.is_running());
}

/// Lets any spec in.
async fn loosen(definitions: &Api<CustomResourceDefinition>, right: &CustomResourceDefinition) {
    let mut loose = serde_json::to_value(right).unwrap();
    let schema = &mut loose["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    schema["properties"]["spec"] =
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    schema
        .as_object_mut()
        .unwrap()
        .remove("x-kubernetes-validations");
    let loose: CustomResourceDefinition = serde_json::from_value(loose).unwrap();
    let params = PostParams::default();
    definitions
        .replace(&right.name_any(), &params, &loose)
        .await
        .unwrap();
}
