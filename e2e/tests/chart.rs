//! The chart: it is sound, it renders what Kubernetes takes, its permissions are what they are said to be, and Helm
//! installs, upgrades and uninstalls it. Also `manifests/install.yaml`, which is made from it.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // A test's own functions.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use wsgateway_e2e::{
    cluster::{ControlPlane, Identity, Optional},
    needs,
    process::command,
    program::Program,
    wait::{SOON, until_true},
};

/// A set of values, as a user writes them.
const DEFAULTS: &str = "{}";
const NAMESPACED: &str = "watchNamespaces: [team-a, team-b]";
const SECRETS_BY_NAMESPACE: &str = "{secretAccess: Namespaced, secretNamespaces: [team-a]}";
const SINGLE: &str = "{replicas: 1, leaderElection: {enabled: false}, crds: {enabled: false}}";
const EVERYTHING: &str = "
image: {digest: 'sha256:0000000000000000000000000000000000000000000000000000000000000000'}
imagePullSecrets: [{name: registry}]
gatewayImage: example.com/wsgateway:1
natsServers: ['nats://nats.nats.svc:4222']
watchNamespaces: [team-a]
probe: {via: 'ingress.infra.svc:8443', period: 30s}
logFormat: text
extraArgs: [--resync=1m]
extraEnv: [{name: RUST_LOG, value: debug}]
serviceAccount: {name: mine, annotations: {a: b}}
monitors:
  podMonitor: {enabled: true, labels: {release: prometheus}}
  prometheusRule: {enabled: true, labels: {release: prometheus}}
networkPolicy:
  enabled: true
  from: [{namespaceSelector: {}}]
  egress: [{ports: [{port: 443}]}]
priorityClassName: system-cluster-critical
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{operator: Exists}]
affinity: {nodeAffinity: {}}
topologySpreadConstraints: [{maxSkew: 2, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]
podAnnotations: {a: b}
podLabels: {c: d}
commonLabels: {e: f}
nameOverride: other
";
const ALL: [&str; 5] = [
    DEFAULTS,
    NAMESPACED,
    SECRETS_BY_NAMESPACE,
    SINGLE,
    EVERYTHING,
];

/// The oldest one that the chart takes.
const KUBERNETES: &str = "1.31";

/// Where the chart is installed.
const NAMESPACE: &str = "wsgateway-system";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn run(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that ends before it has read all says why itself.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn succeeded(what: &str, output: &Output) -> String {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{what}\n{out}{err}");
    out.into_owned()
}

/// Runs Helm on the chart, with values on its standard input.
fn helm(arguments: &[&str], values: &str) -> Output {
    let mut helm = command(Program::Helm.expect());
    helm.args(arguments)
        .arg(root().join("charts/wsgateway"))
        .arg("--values=-");
    run(helm, values)
}

fn template(values: &str) -> Output {
    let namespace = format!("--namespace={NAMESPACE}");
    let version = format!("--kube-version={KUBERNETES}");
    helm(&["template", "wsgateway", &namespace, &version], values)
}

fn rendered(values: &str) -> String {
    succeeded(values, &template(values))
}

#[test]
fn helm_finds_no_fault_with_it() {
    needs!(Helm);
    for values in ALL {
        succeeded(values, &helm(&["lint", "--strict", "--quiet"], values));
    }
}

#[test]
fn what_it_renders_keeps_to_the_schemas_of_kubernetes() {
    needs!(Helm, Kubeconform, Schemas);
    let schemas = Program::Schemas.expect();
    let schemas = schemas.join("{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json");
    for values in ALL {
        let mut kubeconform = command(Program::Kubeconform.expect());
        kubeconform
            .args(["-strict", "-summary", "-schema-location"])
            .arg(&schemas);
        succeeded(values, &run(kubeconform, &rendered(values)));
    }
}

#[test]
fn install_yaml_is_the_chart_with_its_defaults() {
    needs!(Helm);
    let mut script = command(root().join("hack/manifests"));
    script
        .arg("install")
        .env("WSGW_HELM", Program::Helm.expect());
    let made = succeeded("hack/manifests", &run(script, ""));
    let kept = std::fs::read_to_string(root().join("manifests/install.yaml")).unwrap();
    assert!(made == kept, "run `make manifests`");
}

#[test]
fn wrong_values_are_refused_with_a_sentence() {
    needs!(Helm);
    let table = [
        ("replica: 2", "replica"),
        ("replicas: two", "replicas"),
        ("secretAccess: Everywhere", "secretAccess"),
        ("watchNamespaces: [Team_A]", "watchNamespaces"),
        ("leaderElection: {leaseDuration: 15}", "leaseDuration"),
        ("image: {digest: abc}", "digest"),
        (
            "leaderElection: {enabled: false}",
            "two operators would work at once",
        ),
    ];
    for (values, expected) in table {
        let output = template(values);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{values} is taken");
        assert!(said.contains(expected), "{values}: {said}");
    }
}

#[test]
fn a_role_in_namespaces_is_all_that_watch_namespaces_takes() {
    needs!(Helm);
    let text = rendered(NAMESPACED);
    assert!(!text.contains("kind: ClusterRole"), "{text}");
    assert_eq!(text.matches("kind: Role\n").count(), 3 + 3); // With the bindings' references.
    for values in ALL {
        for line in rendered(values).lines() {
            let is_of_a_rule = ["verbs:", "resources:", "apiGroups:"]
                .iter()
                .any(|key| line.trim_start_matches("- ").trim_start().starts_with(key));
            assert!(!is_of_a_rule || !line.contains('*'), "{line}");
        }
    }
}

/// One after the other, since it is all about the one cluster: dry runs, permissions, and the life of a release.
#[test]
fn an_api_server_takes_it_and_grants_what_it_says() {
    needs!(Helm, Kubernetes, Crds);
    let cluster = ControlPlane::start();
    cluster.install_optional(&[Optional::Prometheus]);
    for namespace in [NAMESPACE, "team-a", "team-b", "team-c"] {
        cluster.kubectl(&["create", "namespace", namespace]);
    }
    let enforce = "pod-security.kubernetes.io/enforce=restricted";
    cluster.kubectl(&["label", "namespace", NAMESPACE, enforce]);

    let install = std::fs::read_to_string(root().join("manifests/install.yaml")).unwrap();
    for text in ALL.map(rendered).iter().chain([&install]) {
        let arguments = ["apply", "--server-side", "--dry-run=server", "-f", "-"];
        // The namespace is there already, by another manager.
        let arguments = [&arguments[..], &["--force-conflicts"]].concat();
        let output = cluster.try_kubectl(&Identity::Admin, &arguments, text);
        let warnings = String::from_utf8_lossy(&output.stderr).into_owned();
        succeeded(text, &output);
        assert!(!warnings.contains("Warning"), "{warnings}");
    }

    let release = Release { cluster: &cluster };
    release.install(DEFAULTS);
    // Pods were made, so the namespace's policy takes them.
    cluster.kubectl(&[
        "wait",
        "--namespace",
        NAMESPACE,
        "deployment/wsgateway-operator",
        "--for=jsonpath={.status.replicas}=2",
        "--timeout=60s",
    ]);
    cluster.kubectl(&[
        "wait",
        "crd/wsgateways.wsgateway.io",
        "--for=condition=Established",
    ]);
    release.may(&[
        ("get secrets -n team-a", true),
        ("create secrets -n team-c", true),
        ("list secrets -n team-a", false),
        ("watch secrets --all-namespaces", false),
        ("list wsgateways --all-namespaces", true),
        ("patch wsgateways --subresource=status -n team-a", true),
        ("patch wsgateways -n team-a", false),
        ("create deployments -n team-a", true),
        ("update deployments -n team-a", false),
        ("delete pods -n team-a", false),
        ("patch pods -n team-a", true),
        ("list ingressclasses", true),
        ("create leases -n wsgateway-system", true),
        ("update leases/wsgateway-operator -n wsgateway-system", true),
        ("update leases/other -n wsgateway-system", false),
        ("create leases -n team-a", false),
        ("create roles -n team-a", false),
        ("get pods --subresource=exec -n team-a", false),
    ]);
    let person = Identity::user("ann");
    cluster.kubectl(&[
        "create",
        "rolebinding",
        "ann",
        "--namespace=team-a",
        "--clusterrole=view",
        "--user=ann",
    ]);
    // The controller manager adds the rules to the role some time after it has seen them.
    cluster.kubectl(&[
        "wait",
        "clusterrole/view",
        "--for=jsonpath={.rules[?(@.resources[0]==\"wsgateways\")].resources[0]}=wsgateways",
        "--timeout=60s",
    ]);
    allowed(&cluster, &person, "list wsgateways -n team-a", true);
    allowed(&cluster, &person, "delete wsgateways -n team-a", false);

    release.upgrade(SECRETS_BY_NAMESPACE);
    release.may(&[
        ("get secrets -n team-a", true),
        ("list secrets -n team-a", false),
        ("get secrets -n team-c", false),
        ("create configmaps -n team-c", true),
    ]);

    release.upgrade(NAMESPACED);
    release.may(&[
        ("list secrets -n team-a", true),
        ("get secrets -n team-c", false),
        ("list wsgateways -n team-b", true),
        ("list wsgateways -n team-c", false),
        ("list ingressclasses", false),
        ("create deployments -n team-b", true),
        ("create deployments -n wsgateway-system", false),
        ("update leases/wsgateway-operator -n wsgateway-system", true),
    ]);

    release.uninstall();
    let left = cluster.kubectl(&["get", "crd", "wsgateways.wsgateway.io", "-o", "name"]);
    assert!(left.contains("wsgateways"), "{left}");
    let gone = ["get", "deployments,roles,rolebindings", "-A", "-o", "name"];
    let gone = cluster.kubectl(&gone);
    assert!(!gone.contains("wsgateway-operator"), "{gone}");
    // What was kept is no obstacle.
    release.install(DEFAULTS);
}

/// The chart, installed by Helm.
struct Release<'a> {
    cluster: &'a ControlPlane,
}

impl Release<'_> {
    fn helm(&self, arguments: &[&str], values: Option<&str>) {
        let mut helm = command(Program::Helm.expect());
        helm.args(arguments)
            .args(["--namespace", NAMESPACE])
            .env("KUBECONFIG", self.cluster.kubeconfig(&Identity::Admin));
        if values.is_some() {
            helm.arg(root().join("charts/wsgateway")).arg("--values=-");
        }
        let output = run(helm, values.unwrap_or_default());
        succeeded(&format!("{arguments:?}"), &output);
    }

    fn install(&self, values: &str) {
        self.helm(&["install", "wsgateway"], Some(values));
    }

    fn upgrade(&self, values: &str) {
        self.helm(&["upgrade", "wsgateway"], Some(values));
    }

    fn uninstall(&self) {
        self.helm(&["uninstall", "wsgateway", "--wait"], None);
    }

    fn may(&self, table: &[(&str, bool)]) {
        let operator = Identity::service_account(NAMESPACE, "wsgateway-operator");
        for (question, expected) in table {
            allowed(self.cluster, &operator, question, *expected);
        }
    }
}

/// The API server's authorizer learns of a role a moment after it was written.
fn allowed(cluster: &ControlPlane, identity: &Identity, question: &str, expected: bool) {
    let arguments: Vec<&str> = ["auth", "can-i"]
        .into_iter()
        .chain(question.split(' '))
        .collect();
    let expected = if expected { "yes" } else { "no" };
    let what = format!("{identity:?} may {question}: {expected}");
    until_true(&what, SOON, || {
        let output = cluster.try_kubectl(identity, &arguments, "");
        let answer = String::from_utf8_lossy(&output.stdout);
        answer.trim() == expected
    });
}
