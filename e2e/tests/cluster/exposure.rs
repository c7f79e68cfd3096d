//! Whether clients can come in, with the real controller in front: proven where all is well, and named where somebody
//! breaks it by what the operator does not own.

use std::time::{Duration, Instant};

use async_nats::jetstream;
use k8s_openapi::api::networking::v1::Ingress;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use wsgateway_crds::v1alpha1::WsGateway;
use wsgateway_e2e::{
    certificate::Authority,
    cluster::{Cluster, Namespace},
    http::{self, Metrics},
    kubernetes::{Kubernetes, READY, place::pod_address},
    needs,
    wait::until_true,
};

/// The operator looks again by itself where nothing tells it of a change, and the controller takes its time.
const NOTICED: Duration = Duration::from_secs(180);

const GATEWAY: &str = "
apiVersion: wsgateway.io/v1alpha1
kind: WsGateway
metadata: {name: proven}
spec:
  replicas: 1
  routes: [{name: echo, path: '/rooms/{room}', fromClient: {type: Echo}}]
  rollout: {propagation: 1s, drain: {period: 1s}}
  exposure:
    hosts: [HOST]
    ingress: {className: nginx}
";

const RIGHT: &str = "ExposureReady=True/HandshakeAnswered";

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_does_not_own_breaks_the_way_in_and_is_named() {
    needs!(Cluster);
    let cluster = Kubernetes::alone();
    let namespace = cluster.namespace();
    let manifest = GATEWAY.replace("HOST", &namespace.host("proven"));
    namespace.apply(&manifest);
    let gateway = told(&namespace, RIGHT).await;
    assert!(said(&gateway).contains("/rooms/"), "{}", said(&gateway));
    namespace.ready("proven").await;
    let ingresses: Api<Ingress> = namespace.api();
    let generation = ingresses.get("proven").await.unwrap().metadata.generation;

    // Somebody's annotation on the Ingress.
    let deny = "nginx.ingress.kubernetes.io/denylist-source-range";
    annotate(&namespace, &format!("{deny}=0.0.0.0/0"));
    let refused = told(&namespace, "ExposureReady=False/RefusedInFront").await;
    assert!(
        said(&refused).contains("answered 403"),
        "{}",
        said(&refused)
    );
    annotate(&namespace, &format!("{deny}-"));
    told(&namespace, RIGHT).await;

    // The controller's ConfigMap.
    configure(&cluster, &json!("0.0.0.0/0"));
    told(&namespace, "ExposureReady=False/RefusedInFront").await;
    configure(&cluster, &Value::Null);
    told(&namespace, RIGHT).await;

    // The class.
    let class = cluster
        .admin()
        .kubectl(&["get", "ingressclass", "nginx", "-o", "json"]);
    cluster
        .admin()
        .kubectl(&["delete", "ingressclass", "nginx"]);
    told(&namespace, "ExposureReady=False/IngressClassNotFound").await;
    let mut class: Value = serde_json::from_str(&class).unwrap();
    for field in [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "managedFields",
    ] {
        class["metadata"].as_object_mut().unwrap().remove(field);
    }
    cluster.admin().apply(&[], &class.to_string());
    told(&namespace, RIGHT).await;

    // The controller itself. It may take its address with it, so either hop is right.
    scale_controller(&cluster, 0);
    let gateway = told(&namespace, "ExposureReady=Unknown").await;
    let reason = condition(&gateway).0;
    assert!(
        ["NoAddress", "ConnectionRefused", "NoAnswer"].contains(&&*reason),
        "{reason}"
    );
    scale_controller(&cluster, 1);
    told(&namespace, RIGHT).await;
    let after = ingresses.get("proven").await.unwrap().metadata.generation;
    assert_eq!(after, generation, "the operator had nothing to write");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_the_user_that_goes_or_changes_is_missed() {
    needs!(Cluster);
    let cluster = Kubernetes::shared();
    let namespace = cluster.namespace();
    let host = namespace.host("proven");
    let authority = Authority::make();
    let put = |name: &str| {
        let leaf = authority.sign(&[name]);
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": "mine"},
            "stringData": {"tls.crt": leaf.certificate, "tls.key": leaf.key},
        });
        namespace.apply(&secret.to_string());
    };
    put(&host);
    let tls = "    tls: {type: Secret, secret: {name: mine}}\n";
    namespace.apply(&(GATEWAY.replace("HOST", &host) + tls));
    told(&namespace, RIGHT).await;

    namespace.kubectl(&["delete", "secret", "mine"]);
    let gateway = told(&namespace, "ExposureReady=False/WrongCertificate").await;
    assert!(
        said(&gateway).contains("Fake Certificate"),
        "{}",
        said(&gateway)
    );
    put(&host);
    told(&namespace, RIGHT).await;
    put("somebody-else.example.com");
    told(&namespace, "ExposureReady=False/WrongCertificate").await;
    put(&host);
    told(&namespace, RIGHT).await;
    namespace.ready("proven").await;
}

/// The client of NATS has a runtime of its own, and would not run within another.
#[test]
fn a_probe_takes_no_message_of_a_queue_and_no_place_in_any_count() {
    needs!(Cluster);
    let runtime = Runtime::new().unwrap();
    let cluster = Kubernetes::shared();
    let namespace = cluster.namespace();
    let nats = cluster.nats();
    let stream = format!("PROBED-{}", namespace.name());
    let subject = format!("probed.{}", namespace.name());
    let config = jetstream::stream::Config {
        name: stream.clone(),
        subjects: vec![subject.clone()],
        ..Default::default()
    };
    nats.run(nats.jetstream().create_stream(config)).unwrap();
    let source = format!(
        "fromClient: {{type: Discard}}, toClient: [{{name: jobs, type: Queue, queue: {{stream: {stream}, durable: workers, \
         filterSubjects: [{subject}]}}}}]"
    );
    let manifest = GATEWAY.replace("HOST", &namespace.host("proven"));
    namespace.apply(&manifest.replace("fromClient: {type: Echo}", &source));
    runtime.block_on(told(&namespace, RIGHT));
    let consumer = || {
        let info = async {
            let stream = nats.jetstream().get_stream(&stream).await.ok()?;
            stream.consumer_info("workers").await.ok()
        };
        nats.run(info)
    };
    until_true("the gateway has made its consumer", READY, || {
        consumer().is_some()
    });
    nats.publish(&subject, "work");
    until_true("the message waits", READY, || {
        consumer().unwrap().num_pending == 1
    });

    let pod = runtime
        .block_on(namespace.ready_pods("proven", 1))
        .remove(0);
    let metrics = || {
        let address = pod_address(&pod, 9000);
        let page = cluster.inside(async || http::get(address, "/metrics").text());
        Metrics::parse(&page)
    };
    let answered = || metrics().sum("wsgateway_probes_total", &[("result", "answered")]);
    let before = answered();
    until_true("three more probes are answered", NOTICED, || {
        answered() >= before + 3.0
    });
    let info = consumer().unwrap();
    assert_eq!((info.num_pending, info.num_ack_pending), (1, 0));
    assert_eq!(info.delivered.consumer_sequence, 0);
    let metrics = metrics();
    for name in [
        "wsgateway_connections",
        "wsgateway_connections_opened_total",
        "wsgateway_handshakes_refused_total",
    ] {
        assert!(metrics.sum(name, &[]).abs() < 0.5, "{name}");
    }
    nats.run(nats.jetstream().delete_stream(&stream)).unwrap();
}

/// Awaits what is told of the way in, and prints it with how long that took.
async fn told(namespace: &Namespace<'_, Kubernetes>, condition: &str) -> WsGateway {
    let begin = Instant::now();
    let gateway = namespace.until("proven", condition, NOTICED).await;
    println!(
        "{condition} after {:.1?}: {}",
        begin.elapsed(),
        said(&gateway)
    );
    gateway
}

/// Reason and sentence of `ExposureReady`.
fn condition(gateway: &WsGateway) -> (String, String) {
    let conditions = &gateway.status.as_ref().unwrap().conditions;
    let found = conditions
        .iter()
        .find(|found| found.type_ == "ExposureReady");
    let found = found.unwrap_or_else(|| panic!("{} has none", gateway.name_any()));
    (found.reason.clone(), found.message.clone())
}

fn said(gateway: &WsGateway) -> String {
    condition(gateway).1
}

fn annotate(namespace: &Namespace<'_, Kubernetes>, annotation: &str) {
    namespace.kubectl(&["annotate", "--overwrite", "ingress", "proven", annotation]);
}

/// Sets or removes `block-cidrs` in the `ConfigMap` of the controller.
fn configure(cluster: &Kubernetes, block: &Value) {
    let patch = json!({"data": {"block-cidrs": block}}).to_string();
    let map = [
        "patch",
        "configmap",
        "ingress-nginx-controller",
        "--namespace=ingress-nginx",
    ];
    let patch = ["--type=merge", "--patch", &patch];
    cluster.admin().kubectl(&[&map[..], &patch].concat());
}

fn scale_controller(cluster: &Kubernetes, replicas: u32) {
    let replicas = format!("--replicas={replicas}");
    let of = [
        "scale",
        "deployment",
        "ingress-nginx-controller",
        "--namespace=ingress-nginx",
    ];
    cluster.admin().kubectl(&[&of[..], &[&replicas]].concat());
}
