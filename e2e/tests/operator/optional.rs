//! What a cluster may have or lack, and may permit or not, comes and goes while the operator runs: a condition says so,
//! and nothing else suffers. Each test has a control plane of its own.

use std::time::{Duration, Instant};

use kube::runtime::watcher;
use serde_json::{Value, json};
use wsgateway_crds::v1alpha1::WsGateway;
use wsgateway_e2e::{
    cluster::{Optional, wait_for_all},
    http, needs,
    operator::Operator,
    wait::{SOON, pause},
};

use crate::{
    objects::{await_object, delete, objects},
    own::{NAMESPACE, OPERATOR_NAMESPACE, Own},
    stage::{Mode, says},
};

/// Which of other projects' definitions come and go.
const GROUPS: [Optional; 4] = [
    Optional::Prometheus,
    Optional::CertManager,
    Optional::Keda,
    Optional::GatewayApi,
];

/// How long what a new kind makes possible may take. The API server is asked every 5 s.
const APPEAR: Duration = Duration::from_secs(10);

/// A permission that comes is told by nothing; it is tried again every 30 s.
const PERMITTED: Duration = Duration::from_secs(45);

/// What is asked for: of each optional kind one, and nothing.
const SPECS: [(&str, &str); 5] = [
    ("plain", "{replicas: 1}"),
    (
        "watched",
        "{replicas: 1, monitoring: {metrics: ServiceMonitor, rules: Enabled}}",
    ),
    (
        "certified",
        "{replicas: 1, exposure: {tls: {type: CertManager, certManager: {issuerRef: {name: letsencrypt}}}}}",
    ),
    (
        "scaled",
        "{replicas: 1, scaling: {type: KEDA, minReplicas: 1, maxReplicas: 3, \
         metrics: [{type: Connections, averageValue: '6000'}], \
         keda: {prometheus: 'http://prometheus.monitoring.svc:9090'}}}",
    ),
    (
        "routed",
        "{replicas: 1, exposure: {type: HTTPRoute, httpRoute: {parentRefs: [{name: public}]}}}",
    ),
];

/// What is said where the kinds are not installed.
const WITHOUT: [(&str, &str); 7] = [
    ("plain", "Ready=True"),
    ("plain", "MonitoringReady=True/NothingAsked"),
    ("watched", "MonitoringReady=False/CRDNotInstalled"),
    ("watched", "Ready=True"),
    ("certified", "TLSReady=False/CRDNotInstalled"),
    ("scaled", "Ready=False/CRDNotInstalled"),
    ("routed", "ExposureReady=False/CRDNotInstalled"),
];

/// What is said where they are, and nobody works with them.
const WITH: [(&str, &str); 6] = [
    ("plain", "MonitoringReady=True/Made"),
    ("watched", "MonitoringReady=True/Made"),
    ("certified", "TLSReady=False/CertificateNotIssued"),
    ("scaled", "Ready=True"),
    ("routed", "ExposureReady=False/GatewayNotFound"),
    ("plain", "Ready=True"),
];

/// What is made by then.
const MADE: [(&str, &str); 6] = [
    ("podmonitors", "plain"),
    ("servicemonitors", "watched"),
    ("prometheusrules", "watched"),
    ("certificates", "certified"),
    ("scaledobjects", "scaled"),
    ("podmonitors", "routed"),
];

#[tokio::test(flavor = "multi_thread")]
async fn kinds_come_and_go_in_the_whole_cluster() {
    needs!(Kubernetes, Helm, Crds);
    kinds_come_and_go(Mode::Cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_come_and_go_in_a_namespace() {
    needs!(Kubernetes, Helm, Crds);
    kinds_come_and_go(Mode::Namespaced).await;
}

async fn kinds_come_and_go(mode: Mode) {
    let own = Own::start(mode, &[]);
    let mut operator = Operator::start(&own.launch());
    for (name, spec) in SPECS {
        own.apply(name, spec);
    }
    all_say(&own, &WITHOUT, SOON).await;

    own.cluster.install_optional(&GROUPS);
    let begin = Instant::now();
    for (plural, name) in MADE {
        let api = objects(&own.client, NAMESPACE, plural);
        await_object(&api, name, "it is made", |object| object.is_some()).await;
    }
    let took = begin.elapsed();
    println!("{mode:?}: what new kinds make possible is there {took:?} after them");
    assert!(took < APPEAR, "{took:?}");
    all_say(&own, &WITH, APPEAR).await;

    own.cluster.uninstall_optional(&GROUPS);
    let begin = Instant::now();
    all_say(&own, &WITHOUT, APPEAR).await;
    println!(
        "{mode:?}: that they are gone is told {:?} after that",
        begin.elapsed()
    );
    is_quiet(&own, &operator).await;

    // Where they are, but nobody may touch them, it is the same.
    let role = Role::of(mode);
    let right = role.read(&own);
    let is_kept = |rule: &&Value| rule["apiGroups"] != json!(["monitoring.coreos.com"]);
    let rules = right["rules"].as_array().unwrap();
    let kept: Vec<&Value> = rules.iter().filter(is_kept).collect();
    assert_eq!(kept.len() + 1, rules.len());
    role.write(&own, &json!(kept));
    own.cluster.install_optional(&[Optional::Prometheus]);
    let denied = [
        ("plain", "MonitoringReady=False/AccessDenied"),
        ("plain", "Ready=True"),
        ("watched", "MonitoringReady=False/AccessDenied"),
        ("watched", "Ready=True"),
    ];
    all_say(&own, &denied, SOON).await;
    is_quiet(&own, &operator).await;
    role.write(&own, &right["rules"]);
    let begin = Instant::now();
    all_say(&own, &WITH[..2], PERMITTED).await;
    println!(
        "{mode:?}: what was permitted is made {:?} after that",
        begin.elapsed()
    );
    assert!(operator.is_running());
    let alive = http::get(operator.admin(), "/livez");
    assert_eq!(alive.status, 200, "{alive:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_secrets_are_not_permitted_the_rest_works() {
    needs!(Kubernetes, Helm);
    let own = Own::start(Mode::Cluster, &["secretAccess=Namespaced"]);
    let operator = Operator::start(&own.launch());
    own.apply("chat", "{replicas: 1}");
    let gateway = own
        .until("chat", "TLSReady=Unknown/SecretAccessDenied")
        .await;
    let conditions = gateway.status.unwrap().conditions;
    let tls = conditions.iter().find(|one| one.type_ == "TLSReady");
    let message = &tls.unwrap().message;
    println!("{message}");
    // What it says is what helps.
    assert!(message.contains("RoleBinding") && message.contains("wsgateway-operator-secrets"));
    own.until("chat", "GatewayAvailable=True").await;
    own.until("chat", "Ready=True").await;
    is_quiet(&own, &operator).await;
    let account = format!("--serviceaccount={OPERATOR_NAMESPACE}:wsgateway-operator");
    own.cluster.kubectl(&[
        "create",
        "rolebinding",
        "secrets",
        "--clusterrole=wsgateway-operator-secrets",
        &account,
        "--namespace",
        NAMESPACE,
    ]);
    let begin = Instant::now();
    own.until_within("chat", "TLSReady=True/Issued", PERMITTED)
        .await;
    println!(
        "the certificate is made {:?} after that was permitted",
        begin.elapsed()
    );
    let secrets = objects(&own.client, NAMESPACE, "secrets");
    await_object(&secrets, "chat-tls", "it is there", |secret| {
        secret.is_some()
    })
    .await;
}

/// Awaits that all of this is said of the newest specs.
async fn all_say(own: &Own, said: &[(&str, &str)], within: Duration) {
    let what = format!("they say {said:?}");
    let all = watcher::Config::default();
    wait_for_all(&own.api::<WsGateway>(), all, &what, within, |gateways| {
        said.iter().all(|(name, condition)| {
            let mut gateways = gateways.iter();
            let named = gateways.find(|gateway| gateway.metadata.name.as_deref() == Some(name));
            named.is_some_and(|gateway| says(gateway, condition))
        })
    })
    .await;
}

/// What is missing is no reason to try again and again, and keeps nothing else from being repaired.
async fn is_quiet(own: &Own, operator: &Operator) {
    let services = objects(&own.client, NAMESPACE, "services");
    let name = SPECS[0].0;
    if services.get_opt(name).await.unwrap().is_some() {
        delete(&services, name).await;
        await_object(&services, name, "it is back", |service| service.is_some()).await;
    }
    let period = Duration::from_secs(4);
    let count = || {
        let metrics = operator.metrics();
        metrics.sum("wsgateway_operator_reconciles_total", &[])
    };
    // What was set going by then has ended a moment later.
    pause(Duration::from_secs(1));
    let (before, lines) = (count(), operator.lines().len());
    pause(period);
    let (reconciles, lines) = (count() - before, operator.lines().len() - lines);
    println!("in {period:?} of rest there were {reconciles} reconciles and {lines} lines");
    assert!(
        reconciles <= 10.0 && lines <= 10,
        "{}",
        operator.lines().join("\n")
    );
}

/// What the operator may do.
struct Role {
    kind: &'static str,
    arguments: Vec<&'static str>,
}

impl Role {
    fn of(mode: Mode) -> Self {
        match mode {
            Mode::Cluster => Self {
                kind: "clusterrole",
                arguments: vec![],
            },
            Mode::Namespaced => Self {
                kind: "role",
                arguments: vec!["--namespace", NAMESPACE],
            },
        }
    }

    fn read(&self, own: &Own) -> Value {
        let get = ["get", self.kind, "wsgateway-operator", "-o=json"];
        let text = own.cluster.kubectl(&[&get, &*self.arguments].concat());
        serde_json::from_str(&text).unwrap()
    }

    fn write(&self, own: &Own, rules: &Value) {
        let patch = format!("--patch={}", json!({"rules": rules}));
        let command = [
            "patch",
            self.kind,
            "wsgateway-operator",
            "--type=merge",
            &patch,
        ];
        own.cluster.kubectl(&[&command, &*self.arguments].concat());
    }
}
