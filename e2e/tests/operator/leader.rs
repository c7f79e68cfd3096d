//! Two operators and one lease: only one of them writes, and the other goes on where that one ends.
//!
//! Each speaks through a proxy, which notes when it wrote what.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use wsgateway_crds::v1alpha1::WsGateway;
use wsgateway_e2e::{
    cluster::{Answer, ControlPlane, FakeNode, Namespace, Proxy, proxy::Asked, wait_for},
    http, needs,
    operator::Operator,
    wait::{SOON, until_true},
};

use crate::stage::{launch, manifest, permit, prepare, says};

/// How long a takeover may take after a polite stop.
const POLITE_MAX: Duration = Duration::from_secs(2);

/// How long a takeover may take where the leader fell silent: the lease is 15 s.
const SILENT_MAX: Duration = Duration::from_secs(17);

/// An operator, and what it asks for.
struct Member {
    proxy: Proxy,
    operator: Operator,
}

/// A namespace with two operators, of which the first leads.
struct Pair {
    namespace: Namespace<'static>,
    _node: FakeNode,
    first: Member,
    second: Member,
}

impl Member {
    fn start(namespace: &Namespace<'static>, identity: &str) -> Self {
        let proxy = Proxy::start(namespace.cluster());
        let launch = launch(namespace.cluster(), namespace.name())
            .watching(&[namespace.name()])
            .args(&["--identity", identity])
            .through(&proxy);
        let operator = Operator::start(&launch);
        Self { proxy, operator }
    }

    /// When it wrote what is not the lease.
    fn writes(&self) -> Vec<Instant> {
        self.proxy.times(is_work)
    }

    fn leads(&self) -> bool {
        self.operator
            .metrics()
            .sum("wsgateway_operator_leader", &[])
            > 0.5
    }
}

fn is_work(asked: &Asked) -> bool {
    asked.is_write() && asked.resource != "leases"
}

impl Pair {
    async fn start() -> Self {
        let cluster = ControlPlane::shared();
        prepare(cluster);
        let namespace = cluster.namespace();
        permit(cluster, namespace.name(), Some(namespace.name()));
        let mut first = Member::start(&namespace, "first");
        first.operator.line("leading", SOON);
        let mut second = Member::start(&namespace, "second");
        second.operator.line("standing by", SOON);
        let pair = Self {
            _node: FakeNode::start(&cluster.client(), namespace.name()),
            namespace,
            first,
            second,
        };
        pair.apply("one");
        pair.until_ready("one").await;
        assert!(pair.first.leads() && !pair.second.leads());
        assert!(pair.second.writes().is_empty());
        // It is warm: it knows what there is.
        let ready = http::get(pair.second.operator.admin(), "/readyz");
        assert_eq!(ready.status, 200, "{ready:?}");
        pair
    }

    fn apply(&self, name: &str) {
        self.namespace.apply(&manifest(name, "{replicas: 1}"));
    }

    async fn until_ready(&self, name: &str) {
        let gateways: Api<WsGateway> = self.namespace.api();
        let ready = |gateway: &WsGateway| says(gateway, "Ready=True");
        wait_for(&gateways, name, "it is ready", SOON, ready).await;
    }

    async fn holder(&self) -> Option<String> {
        let leases: Api<Lease> = self.namespace.api();
        let lease = leases.get("wsgateway-operator").await.unwrap();
        lease.spec.unwrap().holder_identity
    }

    /// Awaits that the second leads, and says how long that took.
    fn takeover(&mut self, from: Instant) -> Duration {
        let line = self.second.operator.line("leading", SILENT_MAX + SOON);
        line.at.saturating_duration_since(from)
    }

    /// No write of the first came after one of the second.
    fn assert_apart(&self) {
        let (last, next) = (self.first.writes(), self.second.writes());
        let (last, next) = (last.last().unwrap(), next.first().unwrap());
        assert!(last < next, "both wrote: {:?}", *last - *next);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_stopped_politely_gives_the_lease_away() {
    needs!(Kubernetes, Helm);
    let mut pair = Pair::start().await;
    let from = Instant::now();
    let stopped = pair.first.operator.stop(SOON);
    assert!(stopped.success(), "{stopped}");
    pair.apply("two");
    pair.first.operator.line("released the lease", SOON);
    let took = pair.takeover(from);
    println!("after a polite stop the standby leads in {took:?}");
    assert!(took <= POLITE_MAX, "{took:?}");
    pair.until_ready("two").await;
    assert_eq!(pair.holder().await.as_deref(), Some("second"));
    pair.assert_apart();
    // Nobody is left: the lease is nobody's, so whoever comes begins at once.
    assert!(pair.second.operator.stop(SOON).success());
    assert_eq!(pair.holder().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_killed_is_replaced_when_its_lease_has_ended() {
    needs!(Kubernetes, Helm);
    let mut pair = Pair::start().await;
    let from = Instant::now();
    pair.first.operator.kill();
    pair.apply("two");
    let took = pair.takeover(from);
    println!("after kill -9 the standby leads in {took:?}");
    assert!(took <= SILENT_MAX, "{took:?}");
    pair.until_ready("two").await;
    pair.assert_apart();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_frozen_for_longer_than_its_lease_writes_no_more() {
    needs!(Kubernetes, Helm);
    let mut pair = Pair::start().await;
    // It is frozen while it awaits the answer to a write, with more of them to come.
    let slow = Duration::from_secs(2);
    pair.first
        .proxy
        .set(move |asked| Answer::Late(slow).only_if(is_work(asked)));
    pair.apply("two");
    let of_two = |asked: &Asked| is_work(asked) && asked.name.as_deref() == Some("two");
    until_true("it is in the middle of its work", SOON, || {
        !pair.first.proxy.times(of_two).is_empty()
    });
    let from = Instant::now();
    pair.first.operator.freeze();
    let frozen = pair.first.writes().len();
    let took = pair.takeover(from);
    println!("after the leader froze the standby leads in {took:?}");
    assert!(took <= SILENT_MAX, "{took:?}");
    pair.until_ready("two").await;

    pair.first.proxy.clear();
    pair.first.operator.thaw();
    pair.first.operator.line("standing by", SOON);
    assert_eq!(pair.first.writes().len(), frozen);
    assert!(!pair.first.leads() && pair.second.leads());
    let alive = http::get(pair.first.operator.admin(), "/livez");
    assert_eq!(alive.status, 200, "{alive:?}");
    pair.apply("three");
    pair.until_ready("three").await;
    pair.assert_apart();

    // It stands by as before, and leads again when it is its turn.
    assert!(pair.second.operator.stop(SOON).success());
    pair.first.operator.line("leading", SOON);
    pair.apply("four");
    pair.until_ready("four").await;
    assert!(pair.first.operator.is_running());
}
