//! What the ingress controller makes of a `WsGateway`: its configuration of nginx, read where nginx reads it.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::{core::v1::Pod, networking::v1::Ingress};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::Value;
use wsgateway_e2e::{
    cluster::{Cluster, Namespace},
    kubernetes::{Kubernetes, READY},
    needs,
    process::command,
    wait::{pause, until, until_true},
};

/// The controller's own port for what it does not write into the file.
const BACKENDS: &str = "http://127.0.0.1:10246/configuration/backends";

const GATEWAY: &str = "
apiVersion: wsgateway.io/v1alpha1
kind: WsGateway
metadata: {name: NAME}
spec:
  replicas: 1
  routes: [{name: echo, path: /ws, fromClient: {type: Echo}}]
  rollout: {propagation: 1s, drain: {period: 1s}}
  exposure:
    hosts: [HOST]
";

#[tokio::test(flavor = "multi_thread")]
async fn nginx_is_configured_as_the_spec_says_and_follows_it() {
    needs!(Cluster, Curl);
    let cluster = Kubernetes::shared();
    let namespace = cluster.namespace();
    let nginx = Nginx::of(&cluster).await;
    let (host, other_host) = (namespace.host("chat"), namespace.host("other"));
    apply(
        &namespace,
        "chat",
        "{proxyReadTimeout: 120s, proxySendTimeout: 75s, bodySize: 5Mi, clientBodyBufferSize: 64Ki, \
         proxyBuffering: Disabled, affinity: ClientIP}",
    );
    apply(&namespace, "other", "{}");
    namespace.ready("chat").await;
    namespace.ready("other").await;

    // As nginx names them: what is exactly /ws, and what is below it.
    let always = [
        ("proxy_http_version", "1.1"),
        ("proxy_set_header Upgrade", "$http_upgrade"),
        ("proxy_set_header Connection", "$connection_upgrade"),
        ("proxy_connect_timeout", "3s"),
        ("proxy_next_upstream", "error timeout http_503"),
    ];
    let asked = [
        ("proxy_read_timeout", "120s"),
        ("proxy_send_timeout", "75s"),
        ("client_max_body_size", "5m"),
        ("client_body_buffer_size", "64k"),
        ("proxy_buffering", "off"),
    ];
    nginx.until_location_says(&host, &[&always[..], &asked].concat());
    assert_eq!(nginx.hashed_by(namespace.name(), "chat"), "$remote_addr");
    // Who asks for nothing has the defaults.
    let defaults = [
        ("proxy_read_timeout", "90s"),
        ("proxy_send_timeout", "90s"),
        ("client_max_body_size", "0"),
        ("client_body_buffer_size", "128k"),
        ("proxy_buffering", "off"),
    ];
    nginx.until_location_says(&other_host, &[&always[..], &defaults].concat());
    let other = nginx.server(&other_host);

    let changed = [
        ("proxy_read_timeout", "3600s"),
        ("proxy_send_timeout", "61s"),
        ("client_max_body_size", "0"),
        ("client_body_buffer_size", "16k"),
        ("proxy_buffering", "on"),
    ];
    apply(
        &namespace,
        "chat",
        "{proxyReadTimeout: 1h, proxySendTimeout: 61s, bodySize: '0', clientBodyBufferSize: 16Ki, \
         proxyBuffering: Enabled, affinity: None}",
    );
    nginx.until_location_says(&host, &[&always[..], &changed].concat());
    until_true("nothing is hashed any more", READY, || {
        nginx.hashed_by(namespace.name(), "chat").is_empty()
    });
    assert_eq!(nginx.server(&other_host), other);
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_come_and_go_without_a_write_to_the_ingress_or_a_reload() {
    needs!(Cluster, Curl);
    // What others do to their Ingresses would reload nginx too.
    let cluster = Kubernetes::alone();
    let namespace = cluster.namespace();
    let nginx = Nginx::of(&cluster).await;
    apply(&namespace, "chat", "{}");
    namespace.ready("chat").await;
    let entrance = namespace.entrance("chat").await;
    // What those did who had the cluster before is in nginx by then: the controller brings changes each 3.3 s at most.
    assert!(!nginx.server(&entrance.host).is_empty());
    pause(Duration::from_secs(4));

    let ingresses: Api<Ingress> = namespace.api();
    let ingress = ingresses.get("chat").await.unwrap();
    let (workers, configuration) = (nginx.workers(), nginx.configuration());
    assert!(!workers.is_empty());

    namespace.kubectl(&["scale", "wsgateway", "chat", "--replicas=3"]);
    namespace.ready_pods("chat", 3).await;
    nginx.until_endpoints(namespace.name(), "chat", 3);
    namespace.kubectl(&["scale", "wsgateway", "chat", "--replicas=1"]);
    let before = namespace.ready_pods("chat", 1).await[0].name_any();
    nginx.until_endpoints(namespace.name(), "chat", 1);
    let template =
        r#"{"spec": {"podTemplate": {"metadata": {"annotations": {"example.com/build": "2"}}}}}"#;
    namespace.kubectl(&[
        "patch",
        "wsgateway",
        "chat",
        "--type=merge",
        "--patch",
        template,
    ]);
    let replaced = namespace.until_replaced("chat", &before).await;
    nginx.until_endpoints(namespace.name(), "chat", 1);
    println!("{before} was replaced by {replaced}");

    assert_eq!(
        ingresses
            .get("chat")
            .await
            .unwrap()
            .metadata
            .resource_version,
        ingress.metadata.resource_version
    );
    assert_eq!(nginx.configuration(), configuration);
    assert_eq!(nginx.workers(), workers, "nginx was reloaded");
}

fn apply(namespace: &Namespace<'_, Kubernetes>, name: &str, exposure: &str) {
    let manifest = GATEWAY.replace("NAME", name);
    let mut manifest: Value = serde_saphyr::from_str(&manifest).unwrap();
    manifest["spec"]["exposure"] = serde_saphyr::from_str(exposure).unwrap();
    manifest["spec"]["exposure"]["hosts"] = Value::from(vec![namespace.host(name)]);
    namespace.apply(&manifest.to_string());
}

/// The ingress controller's nginx.
struct Nginx<'a> {
    cluster: &'a Kubernetes,
    pod: String,
}

impl<'a> Nginx<'a> {
    async fn of(cluster: &'a Kubernetes) -> Self {
        let pods: Api<Pod> = Api::namespaced(cluster.client(), "ingress-nginx");
        let controllers = ListParams::default().labels("app.kubernetes.io/component=controller");
        let pods = pods.list(&controllers).await.unwrap().items;
        let pod = pods
            .iter()
            .find(|pod| pod.metadata.deletion_timestamp.is_none());
        Self {
            cluster,
            pod: pod.expect("a controller should run").name_any(),
        }
    }

    /// The file that nginx has read. The image has a shell, and no cat.
    fn configuration(&self) -> String {
        let script =
            r#"while IFS= read -r line; do printf "%s\n" "$line"; done </etc/nginx/nginx.conf"#;
        self.cluster.admin().kubectl(&[
            "exec",
            "--namespace=ingress-nginx",
            &self.pod,
            "--",
            "sh",
            "-c",
            script,
        ])
    }

    /// The server block of a host, or nothing.
    fn server(&self, host: &str) -> String {
        blocks(&self.configuration(), "server {")
            .into_iter()
            .find(|server| server.contains(&format!("server_name {host} ;")))
            .unwrap_or_default()
    }

    fn until_location_says(&self, host: &str, expected: &[(&str, &str)]) {
        let mut missing = Vec::new();
        let said = || {
            let server = self.server(host);
            let locations = ["location = /ws {", "location /ws/ {"].map(|head| {
                let block = blocks(&server, head).pop();
                block.map(|block| directives(&block)).unwrap_or_default()
            });
            missing = expected
                .iter()
                .filter(|(name, value)| {
                    !locations
                        .iter()
                        .all(|location| location.get(*name).is_some_and(|said| said == value))
                })
                .map(|(name, value)| format!("{name} {value}"))
                .collect();
            missing.is_empty().then_some(())
        };
        until("nginx has what the spec says", READY, said);
    }

    /// What the controller told nginx's Lua of a Service's port.
    fn backend(&self, namespace: &str, service: &str) -> Value {
        let pid = self
            .cluster
            .process_of("ingress-nginx", &self.pod, "nginx: master")[0];
        let mut inside = command("nsenter");
        inside
            .arg(format!("--net=/proc/{pid}/ns/net"))
            .args(["--", "curl", "--silent", BACKENDS]);
        let output = inside.output().unwrap();
        let backends: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let name = format!("{namespace}-{service}-ws");
        let backend = backends.into_iter().find(|backend| backend["name"] == name);
        backend.unwrap_or_default()
    }

    /// By what clients are kept on a pod.
    fn hashed_by(&self, namespace: &str, service: &str) -> String {
        let backend = self.backend(namespace, service);
        let hash = &backend["upstreamHashByConfig"]["upstream-hash-by"];
        hash.as_str().unwrap_or_default().to_owned()
    }

    fn until_endpoints(&self, namespace: &str, service: &str, count: usize) {
        until_true("nginx knows the pods", READY, || {
            let backend = self.backend(namespace, service);
            backend["endpoints"].as_array().map_or(0, Vec::len) == count
        });
    }

    fn workers(&self) -> Vec<u32> {
        let mut workers = self
            .cluster
            .process_of("ingress-nginx", &self.pod, "nginx: worker");
        workers.sort_unstable();
        workers
    }
}

/// The blocks of a configuration that begin with this line.
fn blocks(configuration: &str, head: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = configuration.lines();
    while let Some(line) = lines.next() {
        if line.trim() != head {
            continue;
        }
        let mut depth = 1;
        let mut block = String::new();
        for line in lines.by_ref() {
            depth += line.matches('{').count();
            depth -= line.matches('}').count();
            if depth == 0 {
                break;
            }
            block.push_str(line);
            block.push('\n');
        }
        found.push(block);
    }
    found
}

/// What a block says, by the directive's name, or by its first value too where it may come more than once.
fn directives(block: &str) -> BTreeMap<String, String> {
    let lines = block
        .lines()
        .filter_map(|line| line.trim().strip_suffix(';'));
    lines
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let name = if words.first() == Some(&"proxy_set_header") {
                2
            } else {
                1
            };
            let (name, value) = words.split_at_checked(name)?;
            Some((name.join(" "), value.join(" ")))
        })
        .collect()
}
