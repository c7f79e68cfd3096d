//! Pods run in namespaces that enforce the `restricted` Pod Security level. What they can do is read from the kernel.

use std::{collections::BTreeMap, fs};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use wsgateway_e2e::{
    cluster::Cluster,
    kubernetes::{Kubernetes, READY},
    needs,
};

const GATEWAY: &str = "
apiVersion: wsgateway.io/v1alpha1
kind: WsGateway
metadata: {name: NAME}
spec:
  replicas: 1
  routes: [{name: echo, path: /echo, fromClient: {type: Echo}}]
  exposure: {type: None, tls: {type: None}}
  podTemplate: TEMPLATE
";

/// Labels, a volume, a container beside: with what the level asks for.
const PERMITTED: &str = "
    metadata: {labels: {team: web}}
    spec:
      volumes: [{name: scratch, emptyDir: {}}]
      containers:
        - name: gateway
          volumeMounts: [{name: scratch, mountPath: /scratch}]
        - name: beside
          image: wsgateway.local/pause:1
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
";

const FORBIDDEN: &str = "{spec: {hostNetwork: true}}";

#[tokio::test(flavor = "multi_thread")]
async fn neither_gateways_nor_operators_can_do_more_than_serve() {
    needs!(Cluster);
    let cluster = Kubernetes::shared();
    let namespace = cluster.namespace();
    namespace.apply(
        &GATEWAY
            .replace("NAME", "templated")
            .replace("TEMPLATE", PERMITTED),
    );
    let gateway = namespace.ready_pods("templated", 1).await.remove(0);
    let operators: Api<Pod> = Api::namespaced(cluster.client(), "wsgateway-system");
    let of_operator = ListParams::default().labels("app.kubernetes.io/name=wsgateway-operator");
    let operator = operators.list(&of_operator).await.unwrap().items.remove(0);

    for (pod, token) in [(&gateway, false), (&operator, true)] {
        let in_namespace = pod.namespace().unwrap();
        let level = "--output=jsonpath={.metadata.labels.pod-security\\.kubernetes\\.io/enforce}";
        assert_eq!(
            cluster
                .admin()
                .kubectl(&["get", "namespace", &in_namespace, level]),
            "restricted"
        );
        let processes = cluster.process_of(&in_namespace, &pod.name_any(), "wsgateway");
        let [process] = processes[..] else {
            panic!("{}: {processes:?}", pod.name_any())
        };
        let status = Status::of(process);
        for (field, expected) in [
            ("Uid", "65532 65532 65532 65532"),
            ("Gid", "65532 65532 65532 65532"),
            ("CapInh", "0000000000000000"),
            ("CapPrm", "0000000000000000"),
            ("CapEff", "0000000000000000"),
            ("CapBnd", "0000000000000000"),
            ("CapAmb", "0000000000000000"),
            ("NoNewPrivs", "1"),
            // Filtered by a list of system calls.
            ("Seccomp", "2"),
        ] {
            assert_eq!(status.0[field], expected, "{field} of {}", pod.name_any());
        }
        let mounts = fs::read_to_string(format!("/proc/{process}/mounts")).unwrap();
        let mounts = || {
            mounts
                .lines()
                .map(|line| line.split(' ').collect::<Vec<_>>())
        };
        let root = mounts().find(|mount| mount[1] == "/").unwrap();
        assert!(root[3].split(',').any(|option| option == "ro"), "{root:?}");
        let has_token = mounts().any(|mount| mount[1].ends_with("/serviceaccount"));
        assert_eq!(has_token, token, "{}", pod.name_any());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_the_level_forbids_is_told_in_the_status() {
    needs!(Cluster);
    let cluster = Kubernetes::shared();
    let namespace = cluster.namespace();
    namespace.apply(
        &GATEWAY
            .replace("NAME", "host")
            .replace("TEMPLATE", FORBIDDEN),
    );
    let gateway = namespace
        .until("host", "GatewayAvailable=False/PodsRefused", READY)
        .await;
    let conditions = gateway.status.unwrap().conditions;
    let available = conditions
        .iter()
        .find(|condition| condition.type_ == "GatewayAvailable")
        .unwrap();
    let message = &available.message;
    assert!(
        message.contains("violates PodSecurity") && message.contains("hostNetwork"),
        "{message}"
    );

    namespace.apply(&GATEWAY.replace("NAME", "host").replace("TEMPLATE", "{}"));
    namespace.ready("host").await;
}

/// What the kernel says of a process.
struct Status(BTreeMap<String, String>);

impl Status {
    fn of(process: u32) -> Self {
        let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let field = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((
                name.to_owned(),
                value.split_whitespace().collect::<Vec<_>>().join(" "),
            ))
        };
        Self(text.lines().filter_map(field).collect())
    }
}
