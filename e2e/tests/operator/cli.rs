//! `wsgw` against a cluster: what it shows is there, and what it foresees is what then happens.
//!
//! The API server never reaches a pod of these tests, since their addresses are loopback ones: that `wsgw` says so, and
//! goes on, is tested; what pods answer is in `cli`'s own tests. Each test has a name of its own for its `WsGateway`: in
//! cluster mode two of one host would be in conflict.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, ResourceExt};
use wsgateway_e2e::{
    cluster::{Identity, PodState},
    program::Program,
    wait::{SOON, until_true},
};

use crate::stage::{Stage, in_both_modes, manifest};

in_both_modes!(
    a_plan_is_what_happens_then,
    status_says_what_is_wrong_and_what_to_do,
    what_may_not_be_read_is_said_and_hides_nothing_else,
    what_is_rendered_is_accepted,
);

/// What `wsgw` wrote and how it ended.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    text: String,
    errors: String,
}

impl Said {
    /// Panics unless it ended so and wrote all of these.
    fn expect(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}{}", self.text, self.errors);
        for part in parts {
            assert!(
                self.text.contains(part),
                "no {part:?} in:\n{}{}",
                self.text,
                self.errors
            );
        }
    }
}

/// Runs it in the stage's namespace.
fn wsgw(stage: &Stage, identity: &Identity, arguments: &[&str]) -> Said {
    let cluster = stage.namespace.cluster();
    let output: Output = Command::new(Program::Wsgw.expect())
        .args(arguments)
        .args(["--namespace", stage.namespace.name()])
        .env("KUBECONFIG", cluster.kubeconfig(identity))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = Said {
        code: output.status.code(),
        text: text(&output.stdout),
        errors: text(&output.stderr),
    };
    println!(
        "$ wsgw {}\n{}{}",
        arguments.join(" "),
        said.text,
        said.errors
    );
    said
}

/// A file with a `WsGateway`.
fn file(stage: &Stage, name: &str, spec: &str) -> PathBuf {
    let cluster = stage.namespace.cluster();
    let path = cluster
        .folder()
        .join(format!("{}-{name}.yaml", stage.namespace.name()));
    fs::write(&path, manifest(name, spec)).unwrap();
    path
}

fn plan(stage: &Stage, name: &str, spec: &str) -> Said {
    let file = file(stage, name, spec);
    wsgw(
        stage,
        &Identity::Admin,
        &["plan", "-f", file.to_str().unwrap()],
    )
}

async fn a_plan_is_what_happens_then(stage: Stage) {
    let new = plan(&stage, "planned", "{}");
    new.expect(
        2,
        &[
            "planned would be made",
            "+ Deployment planned",
            "+ Ingress planned",
            "+ Secret planned-tls",
        ],
    );
    assert!(stage.gateways().get_opt("planned").await.unwrap().is_none());

    stage.apply("planned", "{}");
    stage.until("planned", "Ready=True").await;
    stage.until("planned", "Reconciling=False").await;
    plan(&stage, "planned", "{}").expect(0, &["nothing would change"]);

    // What scales a WsGateway is not undone by a file that does not speak of it.
    stage
        .namespace
        .kubectl(&["scale", "wsgateway", "planned", "--replicas=2"]);
    stage.until("planned", "Ready=True").await;
    let deployments: Api<Deployment> = stage.namespace.api();
    wsgateway_e2e::cluster::wait_for(
        &deployments,
        "planned",
        "it is scaled",
        SOON,
        |deployment| {
            deployment.spec.as_ref().and_then(|spec| spec.replicas) == Some(2)
                && deployment
                    .status
                    .as_ref()
                    .and_then(|status| status.replicas)
                    == Some(2)
        },
    )
    .await;
    plan(&stage, "planned", "{}").expect(0, &["nothing would change"]);

    let deployment = deployments.get("planned").await.unwrap();
    let version = deployment.resource_version();
    let live = "{limits: {connectionsPerPod: 500}}";
    plan(&stage, "planned", live).expect(
        2,
        &[
            "limits.connectionsPerPod: 10000 → 500",
            "~ ConfigMap planned-live",
            "gateways  stay",
            "none would close",
        ],
    );
    let other =
        "{podTemplate: {metadata: {annotations: {team: chat}}}, monitoring: {dashboard: Enabled}}";
    plan(&stage, "planned", other).expect(
        2,
        &[
            "spec.template.metadata.annotations",
            "+ ConfigMap planned-dashboard",
            "2: each is replaced, one after the other",
            "proxy     nothing is written for it",
            "not known",
        ],
    );
    let same = deployments.get("planned").await.unwrap();
    assert_eq!(same.resource_version(), version, "a plan writes nothing");

    stage.apply("planned", other);
    stage.until("planned", "Ready=True").await;
    stage.until("planned", "Reconciling=False").await;
    plan(&stage, "planned", other).expect(0, &["nothing would change"]);
    plan(&stage, "planned", "{}").expect(
        2,
        &[
            "- ConfigMap planned-dashboard",
            "no longer set, was",
            "each is replaced",
        ],
    );
    let wrong = plan(&stage, "planned", "{replicas: -1}");
    wrong.expect(1, &[]);
    assert!(
        wrong.errors.contains(": spec.replicas: "),
        "{}",
        wrong.errors
    );
}

async fn status_says_what_is_wrong_and_what_to_do(stage: Stage) {
    let none = wsgw(&stage, &Identity::Admin, &["status"]);
    none.expect(1, &[]);
    assert!(none.errors.contains("has no WsGateways"), "{}", none.errors);

    stage.apply("feed", "{replicas: 2}");
    // It is ready as soon as enough of them are.
    stage.until("feed", "GatewayAvailable=True/AllReady").await;
    stage.until("feed", "Ready=True").await;
    wsgw(&stage, &Identity::Admin, &["status", "feed"]).expect(
        0,
        &[
            "/feed is Ready",
            "wss://feed.example.com/ws",
            "2 of 2 ready",
            "├─ Deployment feed  2/2 ready",
            "Pod feed-",
            "Ingress feed  of class f5  feed.example.com  no address yet",
            "Secret feed-tls  the certificate that clients see\n",
            "2 pods could not be asked what runs there",
        ],
    );
    stage.node.set(PodState::ImageMissing);
    stage.until("feed", "Ready=False/PodsFailing").await;
    wsgw(&stage, &Identity::Admin, &["status"]).expect(
        1,
        &[
            "is not Ready: PodsFailing",
            "! GatewayAvailable is False",
            "waits: ImagePullBackOff",
            "describe pods",
        ],
    );
    let top = wsgw(
        &stage,
        &Identity::Admin,
        &["top", "feed", "--interval", "10ms"],
    );
    top.expect(0, &["POD", "total"]);
}

async fn what_may_not_be_read_is_said_and_hides_nothing_else(stage: Stage) {
    stage.namespace.apply(
        "
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules:
  - {apiGroups: [wsgateway.io], resources: [wsgateways], verbs: [get, list]}
  - {apiGroups: [apps], resources: [deployments, replicasets], verbs: [get, list]}
  - {apiGroups: [''], resources: [pods, configmaps], verbs: [get, list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader}]
",
    );
    stage.apply("jobs", "{replicas: 1}");
    stage.until("jobs", "Ready=True").await;
    let reader = Identity::service_account(stage.namespace.name(), "reader");
    // The authorizer learns of a new role by a watch.
    until_true("the role counts", SOON, || {
        let cluster = stage.namespace.cluster();
        cluster
            .try_kubectl(&reader, &["get", "pods"], "")
            .status
            .success()
    });
    wsgw(&stage, &reader, &["status"]).expect(
        0,
        &[
            "Deployment jobs  1/1 ready",
            "Secret jobs-tls  the certificate that clients see, not looked at",
            "not shown, for want of permission: services is forbidden",
            "not shown, for want of permission: events.events.k8s.io is forbidden",
        ],
    );
    let file = file(&stage, "jobs", "{replicas: 1}");
    wsgw(&stage, &reader, &["plan", "-f", file.to_str().unwrap()]).expect(
        0,
        &[
            "? Service jobs: you may not read it",
            "nothing that you may read would change",
        ],
    );
}

async fn what_is_rendered_is_accepted(stage: Stage) {
    let file = file(
        &stage,
        "chat",
        "{monitoring: {metrics: Disabled, rules: Disabled}}",
    );
    let rendered = Command::new(Program::Wsgw.expect())
        .args(["render", "-f", file.to_str().unwrap()])
        .output()
        .unwrap();
    let yaml = String::from_utf8(rendered.stdout).unwrap();
    assert!(rendered.status.success() && !yaml.is_empty());
    // The file names no namespace, which render takes for the default one.
    let yaml = yaml.replace(
        "namespace: default",
        &format!("namespace: {}", stage.namespace.name()),
    );
    let output = stage
        .namespace
        .try_kubectl(&["apply", "--dry-run=server", "-f", "-"], &yaml);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
