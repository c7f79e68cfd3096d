//! A part of what the operator stands on fails, and the rest goes on as if nothing were: one kind's watch is refused, is
//! too old or falls silent, one object cannot be written, another is written slowly. A proxy makes it so.

use std::time::{Duration, Instant};

use k8s_openapi::api::{core::v1::Service, networking::v1::Ingress};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use wsgateway_crds::v1alpha1::WsGateway;
use wsgateway_e2e::{
    cluster::{Answer, ControlPlane, FakeNode, Namespace, Proxy, proxy::Asked, wait_for},
    http, needs,
    operator::Operator,
    wait::{SOON, pause, until_true},
};

use crate::stage::{launch, manifest, permit, prepare, says};

/// How long the API server says that a version is too old, each time that it is watched from.
const TOO_OLD: Duration = Duration::from_secs(4);

/// How long a watch is refused.
const REFUSED: Duration = Duration::from_secs(12);

/// A refusal is tried again every 30 s at most.
const RECOVERED: Duration = Duration::from_secs(40);

/// What everything else takes, as a rule.
const QUICK: Duration = Duration::from_secs(1);

/// A namespace whose operator speaks through a proxy.
struct Scene {
    namespace: Namespace<'static>,
    proxy: Proxy,
    operator: Operator,
    _node: FakeNode,
}

impl Scene {
    fn set(arguments: &[&str]) -> Self {
        let cluster = ControlPlane::shared();
        prepare(cluster);
        let namespace = cluster.namespace();
        permit(cluster, namespace.name(), Some(namespace.name()));
        let proxy = Proxy::start(cluster);
        let launch = launch(cluster, namespace.name())
            .watching(&[namespace.name()])
            .args(arguments)
            .through(&proxy);
        Self {
            operator: Operator::start(&launch),
            _node: FakeNode::start(&cluster.client(), namespace.name()),
            namespace,
            proxy,
        }
    }

    fn apply(&self, name: &str, spec: &str) {
        self.namespace.apply(&manifest(name, spec));
    }

    /// Says how long it took.
    async fn until(&self, name: &str, condition: &str) -> Duration {
        let begin = Instant::now();
        let gateways: Api<WsGateway> = self.namespace.api();
        wait_for(&gateways, name, condition, SOON, |gateway| {
            says(gateway, condition)
        })
        .await;
        begin.elapsed()
    }

    /// Changes an Ingress, and says how long it takes until it is as it was.
    async fn ingress_drift(&self, name: &str) -> Duration {
        let ingresses: Api<Ingress> = self.namespace.api();
        let word = "nginx.org/websocket-services";
        let edit = json!({"metadata": {"annotations": {word: "another"}}});
        let params = PatchParams::default();
        ingresses
            .patch(name, &params, &Patch::Merge(&edit))
            .await
            .unwrap();
        let begin = Instant::now();
        wait_for(&ingresses, name, "it is as it was", SOON, |ingress| {
            let annotations = ingress.metadata.annotations.as_ref();
            annotations.is_some_and(|all| all.get(word).is_some_and(|value| value == name))
        })
        .await;
        begin.elapsed()
    }

    /// The same of a Service.
    async fn service_drift(&self, name: &str) -> Duration {
        let services: Api<Service> = self.namespace.api();
        let edit = json!({"metadata": {"labels": {"app.kubernetes.io/component": "another"}}});
        let params = PatchParams::default();
        services
            .patch(name, &params, &Patch::Merge(&edit))
            .await
            .unwrap();
        let begin = Instant::now();
        let label = "app.kubernetes.io/component";
        wait_for(&services, name, "it is as it was", SOON, |service| {
            let labels = service.metadata.labels.as_ref();
            labels.is_some_and(|all| all.get(label).is_some_and(|value| value == "gateway"))
        })
        .await;
        begin.elapsed()
    }

    /// Drift of other kinds, again and again for so long.
    async fn drift_for(&self, period: Duration, what: &str) {
        let begin = Instant::now();
        let mut took = Vec::new();
        while begin.elapsed() < period {
            took.push(self.ingress_drift("one").await);
            pause(Duration::from_millis(500));
        }
        took.sort();
        let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
        println!(
            "while {what}, {} drifts of an Ingress were repaired in {median:?}, the slowest in {worst:?}",
            took.len()
        );
        assert!(median < QUICK, "{took:?}");
    }

    fn failing(&self, kind: &str) -> bool {
        let labels = [("kind", kind)];
        let metrics = self.operator.metrics();
        metrics.sum("wsgateway_operator_watch_failing", &labels) > 0.5
    }

    fn errors(&self, kind: &str, code: &str) -> f64 {
        let labels = [("kind", kind), ("code", code)];
        let metrics = self.operator.metrics();
        metrics.sum("wsgateway_operator_watch_errors_total", &labels)
    }

    fn assert_alive(&mut self) {
        assert!(self.operator.is_running());
        let alive = http::get(self.operator.admin(), "/livez");
        assert_eq!(alive.status, 200, "{alive:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_kinds_watch_is_refused_and_too_old_and_the_rest_is_quick() {
    needs!(Kubernetes, Helm);
    let mut scene = Scene::set(&[]);
    scene.apply("one", "{replicas: 1}");
    scene.until("one", "Ready=True").await;

    let is_watch = |asked: &Asked| asked.resource == "services" && asked.verb == "watch";
    scene
        .proxy
        .set(move |asked| Answer::Failure(410).only_if(is_watch(asked)));
    scene
        .drift_for(TOO_OLD, "the watch of Services was too old")
        .await;
    let errors = scene.errors("Service", "410");
    // Neither silent nor a busy loop.
    assert!((2.0..=20.0).contains(&errors), "{errors}");

    scene.proxy.set(|asked| {
        let is_read = matches!(asked.verb, "watch" | "list");
        Answer::Failure(403).only_if(is_read && asked.resource == "services")
    });
    until_true("it says which watch fails", SOON, || {
        scene.failing("Service")
    });
    scene.apply("two", "{replicas: 1}");
    let took = scene.until("two", "Ready=True").await;
    println!("while Services were refused, a new WsGateway was ready in {took:?}");
    scene
        .drift_for(REFUSED, "the watch of Services was refused")
        .await;
    let errors = scene.errors("Service", "403");
    assert!((2.0..=12.0).contains(&errors), "{errors}");
    let metrics = scene.operator.metrics();
    let failing = metrics.sum("wsgateway_operator_watch_failing", &[]);
    assert!((failing - 1.0).abs() < 0.1, "{failing}");
    scene.until("one", "Ready=True").await;

    let begin = Instant::now();
    scene.proxy.clear();
    until_true("it watches again", RECOVERED, || !scene.failing("Service"));
    println!(
        "the watch works again {:?} after it was allowed",
        begin.elapsed()
    );
    let took = scene.service_drift("one").await;
    println!("drift of a Service is repaired in {took:?}");
    assert!(took < QUICK, "{took:?}");
    scene.assert_alive();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_falls_silent_is_begun_anew() {
    needs!(Kubernetes, Helm);
    let silence = Duration::from_secs(5);
    let mut scene = Scene::set(&["--watch-silence", "5s"]);
    scene.apply("one", "{replicas: 1}");
    scene.until("one", "Ready=True").await;
    let is_watch = |asked: &Asked| asked.resource == "services" && asked.verb == "watch";
    // Those that run fall silent; who begins anew gets through.
    scene
        .proxy
        .set(move |asked| Answer::Silence.only_if(is_watch(asked)));
    pause(Duration::from_millis(200));
    scene.proxy.clear();
    let took = scene.service_drift("one").await;
    println!("with a watch that is silent for {silence:?}, drift is repaired in {took:?}");
    assert!(took < 2 * silence + QUICK, "{took:?}");
    let took = scene.service_drift("one").await;
    println!("and then in {took:?}");
    assert!(took < QUICK, "{took:?}");
    scene.assert_alive();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_written_waits_longer_each_time_and_alone() {
    needs!(Kubernetes, Helm);
    let mut scene = Scene::set(&[]);
    scene.apply("one", "{replicas: 1}");
    scene.until("one", "Ready=True").await;
    let is_bad = |asked: &Asked| {
        asked.is_write() && asked.resource == "deployments" && asked.name.as_deref() == Some("bad")
    };
    let fail = move |asked: &Asked| Answer::Failure(500).only_if(is_bad(asked));
    scene.proxy.set(fail);
    scene.apply("bad", "{replicas: 1}");
    until_true("it has tried five times", SOON, || {
        scene.proxy.times(is_bad).len() >= 5
    });
    let times = scene.proxy.times(is_bad);
    let waits: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    println!("it waited {waits:?}");
    let grows = |pair: &[Duration]| pair[1] >= pair[0].mul_f64(0.9);
    assert!(waits[..4].windows(2).all(grows), "{waits:?}");
    assert!(waits[3] > 2 * waits[0], "{waits:?}");
    scene.until("bad", "Ready=False/RequestFailed").await;
    let took = scene.ingress_drift("one").await;
    println!("meanwhile drift of another was repaired in {took:?}");
    assert!(took < QUICK, "{took:?}");

    let begin = Instant::now();
    scene.proxy.clear();
    scene.until("bad", "Ready=True").await;
    println!(
        "it is ready {:?} after it could be written",
        begin.elapsed()
    );
    let before = scene.proxy.times(is_bad).len();
    scene.proxy.set(fail);
    scene.apply("bad", "{replicas: 2}");
    until_true("it has tried twice", SOON, || {
        scene.proxy.times(is_bad).len() >= before + 2
    });
    let times = scene.proxy.times(is_bad);
    let wait = times[before + 1] - times[before];
    println!("after it was well, it waited {wait:?}");
    assert!(wait < waits[3], "{wait:?}");

    // An API server that takes its time for one takes nobody else's.
    scene.proxy.set(|asked| {
        let is_slow = asked
            .name
            .as_deref()
            .is_some_and(|name| name.starts_with("slow"));
        Answer::Late(Duration::from_millis(500)).only_if(is_slow && asked.is_write())
    });
    scene.apply("slow", "{replicas: 1}");
    let took = scene.ingress_drift("one").await;
    println!("while another's writes took 500 ms each, drift was repaired in {took:?}");
    assert!(took < QUICK, "{took:?}");
    let took = scene.until("slow", "Ready=True").await;
    println!("the slow one is ready in {took:?}");
    scene.assert_alive();
}
