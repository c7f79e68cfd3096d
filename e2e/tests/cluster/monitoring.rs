//! Prometheus, as prometheus-operator runs it, finds what is to be scraped and which rules are to be evaluated through
//! nothing but the monitors and rules that the charts and the operator have made.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    net::SocketAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
};
use serde_json::Value;
use wsgateway_e2e::{
    cluster::Cluster,
    http,
    kubernetes::{
        Kubernetes, READY,
        place::{is_ready, pod_address},
    },
    needs,
    socket::RawSocket,
    wait::{pause, until},
};

/// With nine clients it is nearly full, and it takes its time to drain.
const GATEWAY: &str = "
apiVersion: wsgateway.io/v1alpha1
kind: WsGateway
metadata: {name: NAME}
spec:
  replicas: 1
  routes: [{name: echo, path: /echo, fromClient: {type: Echo}}]
  limits: {connectionsPerPod: 10}
  rollout: {propagation: 1s, drain: {period: 60s}}
  exposure: {type: None, tls: {type: None}}
  monitoring: {metrics: KIND}
";

/// A `WsGateway` for each kind of monitor, and its name.
const KINDS: [(&str, &str); 2] = [("PodMonitor", "pods"), ("ServiceMonitor", "service")];

const PORT: u16 = 8000;

/// More than four fifths of those that a gateway admits here.
const CLIENTS: u32 = 9;

/// How often it scrapes here, as hack/cluster has it.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn it_scrapes_the_operator_the_gateways_and_nginx_and_evaluates_their_rules() {
    needs!(Cluster);
    let cluster = Kubernetes::shared();
    let namespace = cluster.namespace();
    let prometheus = Prometheus::of(&cluster);
    namespace.apply(&gateways());
    for (_, name) in KINDS {
        namespace
            .until(name, "MonitoringReady=True/Made", READY)
            .await;
        let expected = namespace.ready_pods(name, 1).await;
        let of_gateway = format!("namespace=\"{}\",job=\"{name}\"", namespace.name());
        prometheus.scrapes(&of_gateway, &expected);
        prometheus.evaluates(&format!("wsgateway/{}/{name}", namespace.name()));
    }

    let operators = "app.kubernetes.io/name=wsgateway-operator";
    let operators = pods(&cluster, "wsgateway-system", operators).await;
    prometheus.scrapes("job=\"wsgateway-system/wsgateway-operator\"", &operators);
    prometheus.evaluates("wsgateway-operator");
    prometheus.until(
        "one operator leads",
        "sum(wsgateway_operator_leader)",
        |found| matches!(found, [leaders] if leaders.is(1.0)),
    );

    let proxies = "app.kubernetes.io/component=controller";
    let proxies = pods(&cluster, "ingress-nginx", proxies).await;
    prometheus.scrapes("job=\"ingress-nginx-controller-metrics\"", &proxies);
    let connections = "nginx_ingress_controller_nginx_process_connections{state=\"active\"}";
    prometheus.until("nginx counts its connections", connections, |found| {
        !found.is_empty()
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_counted_and_who_drains_is_still_scraped() {
    needs!(Cluster);
    let cluster = Kubernetes::shared();
    let namespace = cluster.namespace();
    let prometheus = Prometheus::of(&cluster);
    namespace.apply(&gateways());
    for (_, name) in KINDS {
        let pod = namespace.ready_pods(name, 1).await.remove(0);
        let address = pod_address(&pod, PORT);
        let clients: Vec<_> = cluster.inside(async || {
            (0..CLIENTS)
                .map(|_| RawSocket::open(address, "/echo"))
                .collect()
        });
        let of_gateway = format!("namespace=\"{}\",job=\"{name}\"", namespace.name());
        let count = format!("sum(wsgateway_connections{{{of_gateway}}})");
        prometheus.until(
            "all clients are counted",
            &count,
            |found| matches!(found, [count] if count.is(CLIENTS.into())),
        );
        let alert = format!(
            "ALERTS{{alertname=\"WsGatewayNearlyFull\",namespace=\"{}\",wsgateway=\"{name}\"}}",
            namespace.name()
        );
        prometheus.until(
            "its rule is about to fire",
            &alert,
            |found| matches!(found, [alert] if alert.labels["alertstate"] == "pending"),
        );

        let pods = namespace.api::<Pod>();
        pods.delete(&pod.name_any(), &DeleteParams::default())
            .await
            .unwrap();
        let later = unix_seconds() + 2.0 * SCRAPE_INTERVAL.as_secs_f64();
        let of_pod = format!("{of_gateway},pod=\"{}\"", pod.name_any());
        let drains = format!(
            "wsgateway_draining{{{of_pod}}} == 1 and timestamp(up{{{of_pod}}} == 1) > {later}"
        );
        prometheus.until("the draining pod is scraped", &drains, |found| {
            found.len() == 1
        });
        let pod = pods
            .get(&pod.name_any())
            .await
            .expect("it should still drain");
        assert!(pod.metadata.deletion_timestamp.is_some(), "{pod:?}");
        drop(clients);
    }
}

fn gateways() -> String {
    KINDS
        .map(|(kind, name)| GATEWAY.replace("KIND", kind).replace("NAME", name))
        .join("---")
}

async fn pods(cluster: &Kubernetes, namespace: &str, labels: &str) -> Vec<Pod> {
    let pods: Api<Pod> = Api::namespaced(cluster.client(), namespace);
    let listed = pods
        .list(&ListParams::default().labels(labels))
        .await
        .unwrap();
    // One that an earlier rollout has left may still be going.
    listed.items.into_iter().filter(is_ready).collect()
}

/// The cluster's Prometheus.
struct Prometheus<'a> {
    cluster: &'a Kubernetes,
    address: SocketAddr,
}

/// A series, and its value now.
#[derive(Debug)]
struct Series {
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Series {
    /// As the API writes it: labels with values, and the time beside the value.
    fn read(result: &Value) -> Self {
        let labels = result["metric"].as_object().unwrap().iter();
        let label =
            |(name, value): (&String, &Value)| (name.clone(), value.as_str().unwrap().to_owned());
        Self {
            labels: labels.map(label).collect(),
            value: result["value"][1].as_str().unwrap().parse().unwrap(),
        }
    }

    fn is(&self, value: f64) -> bool {
        (self.value - value).abs() < 1e-9
    }
}

impl<'a> Prometheus<'a> {
    const NAMESPACE: &'static str = "monitoring";
    const POD: &'static str = "prometheus-cluster-0";

    fn of(cluster: &'a Kubernetes) -> Self {
        let ip = cluster.admin().kubectl(&[
            "get",
            "pod",
            Self::POD,
            "--namespace",
            Self::NAMESPACE,
            "--output=jsonpath={.status.podIP}",
        ]);
        let address = SocketAddr::new(ip.parse().unwrap(), 9090);
        Self { cluster, address }
    }

    /// Awaits that of what these labels select each of `pods` is scraped, with success, and nothing else is.
    fn scrapes(&self, labels: &str, pods: &[Pod]) {
        let expected: BTreeSet<_> = pods.iter().map(ResourceExt::name_any).collect();
        assert!(!expected.is_empty(), "there is no pod of {labels}");
        let what = format!("{labels} is up on {expected:?}");
        self.until(&what, &format!("up{{{labels}}}"), |found| {
            let up = found.iter().filter(|series| series.is(1.0));
            let up: BTreeSet<_> = up.map(|series| series.labels["pod"].clone()).collect();
            up == expected && found.len() == expected.len()
        });
    }

    /// Awaits that a group of rules has been loaded and that each of them can be evaluated; none of them fires.
    fn evaluates(&self, group: &str) {
        let rules = self.answers(
            &format!("the rules of {group} are evaluated"),
            "rules",
            |data| {
                let mut groups = data["groups"].as_array()?.iter();
                let found = groups.find(|found| found["name"] == group)?;
                let rules = found["rules"].as_array()?.clone();
                rules
                    .iter()
                    .all(|rule| rule["health"] != "unknown")
                    .then_some(rules)
            },
        );
        assert!(!rules.is_empty());
        for rule in rules {
            assert_eq!(rule["health"], "ok", "{rule}");
            assert_ne!(rule["state"], "firing", "{rule}");
        }
    }

    /// Awaits that a query has an answer of which `condition` is true.
    fn until(&self, what: &str, query: &str, condition: impl Fn(&[Series]) -> bool + Sync + Send) {
        self.answers(
            &format!("{what}: {query}"),
            &format!("query?query={}", encoded(query)),
            |data| {
                let found: Vec<_> = data["result"]
                    .as_array()?
                    .iter()
                    .map(Series::read)
                    .collect();
                condition(&found).then_some(())
            },
        );
    }

    /// Asks its API until `read` finds what it looks for, and returns that.
    fn answers<T: Send>(
        &self,
        what: &str,
        path: &str,
        read: impl Fn(&Value) -> Option<T> + Sync + Send,
    ) -> T {
        let mut touched = Instant::now();
        self.touch();
        until(what, READY, || {
            let text = self
                .cluster
                .inside(async || http::get(self.address, &format!("/api/v1/{path}")).text());
            let answer: Value =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert_eq!(answer["status"], "success", "{answer}");
            let found = read(&answer["data"]);
            if found.is_none() {
                if touched.elapsed() > SCRAPE_INTERVAL {
                    touched = Instant::now();
                    self.touch();
                }
                // Nothing is new before the next scrape.
                pause(SCRAPE_INTERVAL / 4);
            }
            found
        })
    }

    /// A kubelet brings new configuration to a pod within some ninety seconds, and at once where the pod has changed.
    fn touch(&self) {
        let now = format!("wsgateway.io/touched={}", unix_seconds());
        self.cluster.admin().kubectl(&[
            "annotate",
            "--overwrite",
            "pod",
            Self::POD,
            "--namespace",
            Self::NAMESPACE,
            &now,
        ]);
    }
}

/// What may stand in a URL's query.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut url, byte| {
        // Writing to a String does not fail.
        let _ = if byte.is_ascii_alphanumeric() {
            write!(url, "{}", char::from(byte))
        } else {
            write!(url, "%{byte:02X}")
        };
        url
    })
}

/// The time as Prometheus has it.
fn unix_seconds() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}
