//! F5's dialect in front of real pods.
//!
//! F5's controller comes in no package that a test could take. In its place stands an nginx with what it makes of the
//! Ingress that the operator wrote: [`upstream`] and [`location`] say what each annotation becomes, as 5.5.4 wrote it for
//! the sample ([`SEEN`]).

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::{
    core::v1::{Pod, Secret},
    networking::v1::Ingress,
};
use kube::ResourceExt;
use serde_json::Value;
use wsgateway_e2e::{
    cluster::{Cluster, Namespace},
    directory::Directory,
    http,
    kubernetes::{Kubernetes, NATS, place::pod_address},
    needs,
    process::Process,
    program::Program,
    wait::{SOON, pause},
    websocat::send_file_by,
};

const ANNOTATIONS: &str = include_str!("../../../nginx-ingress/tests/golden/seed.annotations.yaml");

/// The directives about the proxy in the sample's location, as the controller 5.5.4 wrote them.
const SEEN: &str = "\
proxy_http_version 1.1
proxy_set_header Upgrade $http_upgrade
proxy_set_header Connection $connection_upgrade
proxy_connect_timeout 3s
proxy_read_timeout 90s
proxy_send_timeout 90s
client_max_body_size 0
client_body_buffer_size 128k
proxy_set_header Host $host
proxy_set_header X-Real-IP $remote_addr
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for
proxy_set_header X-Forwarded-Host $host
proxy_set_header X-Forwarded-Port $server_port
proxy_set_header X-Forwarded-Proto $scheme
proxy_buffering off
proxy_next_upstream error timeout http_503
proxy_pass http://pods";

/// nginx may be silent for less than it takes to see that it is not.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

const GATEWAY: &str = "
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: CLASS}
spec: {controller: nginx.org/ingress-controller}
---
apiVersion: wsgateway.io/v1alpha1
kind: WsGateway
metadata: {name: chat}
spec:
  replicas: 2
  websocket: {pingPeriod: 1s, pongWait: 3s, writeWait: 2s, maxMessageSize: 256Ki}
  rollout: {propagation: 1s, drain: {period: 1s}}
  routes:
    - name: chat
      path: /chat
      fromClient: {type: Echo}
      toClient: [{name: live, type: Core, core: {subjects: [CLASS.>]}}]
  exposure: {hosts: [HOST], proxyReadTimeout: 5s, proxySendTimeout: 5s, ingress: {className: CLASS}}
";

type Annotations = BTreeMap<String, String>;

#[test]
fn what_stands_in_says_what_the_controller_said_of_the_sample() {
    let golden: Value = serde_saphyr::from_str(ANNOTATIONS).unwrap();
    let annotations = serde_json::from_value(golden["nginx.org"]["annotations"].clone()).unwrap();
    assert_eq!(location(&annotations, "notifications").join("\n"), SEEN);
    let pods = ["10.244.1.10:8000".to_owned()];
    assert_eq!(
        upstream(&annotations, &pods).join("\n"),
        "zone pods 256k\nip_hash\nserver 10.244.1.10:8000 max_fails=0 fail_timeout=10s max_conns=0"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn f5s_directives_serve_the_same_pods() {
    needs!(Cluster, Nginx, Wscat, Websocat, Curl);
    let cluster = Kubernetes::shared();
    let namespace = cluster.namespace();
    let class = Class::of(&namespace);
    let host = namespace.host("chat");
    namespace.apply(&GATEWAY.replace("CLASS", &class.name).replace("HOST", &host));
    namespace.ready("chat").await;
    let pods = namespace.ready_pods("chat", 2).await;
    let annotations = annotations(&namespace).await;
    let nginx = Nginx::start(&cluster, &namespace, &annotations, &pods, 10_443).await;

    let options = ["--host", host.as_str()];
    let mut idle = cluster.wscat(&nginx.url, &options);
    let mut wscat = cluster.wscat(&nginx.url, &options);
    let subject = format!("{}.news", class.name);
    let mut wsgw = cluster.command_inside(Program::Wsgw.expect());
    wsgw.args(["pub", "--server", NATS, &subject, "a message"]);
    assert!(wsgw.status().unwrap().success());
    for wscat in [&mut idle, &mut wscat] {
        wscat.hears("a message", SOON);
    }
    wscat.say("an echo");
    wscat.hears("an echo", SOON);

    let text: String = ('a'..='z').cycle().take(102_400).collect();
    let directory = Directory::make();
    let file = directory.write("big_message.txt", &text);
    let uri = format!("--ws-c-uri=wss://{host}/chat");
    let address = format!("ws-c:ssl-connect:tcp:{}", nginx.address);
    let websocat = cluster.command_inside(Program::Websocat.expect());
    let (echoed, said) = send_file_by(websocat, &address, &[&uri, "-"], &file);
    assert_eq!(
        String::from_utf8(echoed).unwrap().trim_end(),
        text,
        "{said}"
    );

    // The gateway's pings and their pongs keep nginx from ending what is idle.
    pause(READ_TIMEOUT + Duration::from_secs(2));
    idle.say("still here");
    idle.hears("still here", SOON);

    // nginx passes on why a gateway ends, and takes the client to the other one.
    let pod = with_clients(&cluster, &pods);
    namespace.kubectl(&["delete", "pod", &pod, "--wait=false"]);
    for wscat in [&mut idle, &mut wscat] {
        assert_eq!(wscat.disconnected(SOON), 1012);
    }
    let mut again = cluster.wscat(&nginx.url, &options);
    again.say("once more");
    again.hears("once more", SOON);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_f5s_websocket_services_no_client_gets_in() {
    needs!(Cluster, Nginx, Wscat);
    let cluster = Kubernetes::shared();
    let namespace = cluster.namespace();
    let class = Class::of(&namespace);
    let host = namespace.host("chat");
    namespace.apply(&GATEWAY.replace("CLASS", &class.name).replace("HOST", &host));
    namespace.ready("chat").await;
    let pods = namespace.ready_pods("chat", 2).await;
    let mut annotations = annotations(&namespace).await;
    assert!(annotations.remove("nginx.org/websocket-services").is_some());
    let nginx = Nginx::start(&cluster, &namespace, &annotations, &pods, 10_444).await;
    let mut wscat = cluster.try_wscat(&nginx.url, &["--host", &host]);
    wscat.process.line("Unexpected server response: 426", SOON);
}

/// The directives of the upstream block.
fn upstream(annotations: &Annotations, pods: &[String]) -> Vec<String> {
    let value = |name: &str| annotations[&format!("nginx.org/{name}")].as_str();
    let fails = value("max-fails");
    let servers = pods
        .iter()
        .map(|pod| format!("server {pod} max_fails={fails} fail_timeout=10s max_conns=0"));
    ["zone pods 256k".to_owned(), value("lb-method").to_owned()]
        .into_iter()
        .chain(servers)
        .collect()
}

/// The directives of a location that leads to the Service. An annotation that is not known here fails the test.
fn location(annotations: &Annotations, service: &str) -> Vec<String> {
    let mut asked = BTreeMap::new();
    let mut upgrade = Vec::new();
    for (name, value) in annotations {
        let Some(name) = name.strip_prefix("nginx.org/") else {
            continue;
        };
        let directive = match name {
            "websocket-services" => {
                if value.split(',').any(|named| named == service) {
                    upgrade.push("proxy_set_header Upgrade $http_upgrade".to_owned());
                    upgrade.push("proxy_set_header Connection $connection_upgrade".to_owned());
                }
                continue;
            }
            "lb-method" | "max-fails" => continue,
            "proxy-buffering" => match value.as_str() {
                "true" => "proxy_buffering on".to_owned(),
                "false" => "proxy_buffering off".to_owned(),
                other => panic!("{name}: {other}"),
            },
            "proxy-connect-timeout"
            | "proxy-read-timeout"
            | "proxy-send-timeout"
            | "client-max-body-size"
            | "client-body-buffer-size"
            | "proxy-next-upstream" => {
                format!("{} {value}", name.replace('-', "_"))
            }
            other => panic!("what the controller makes of nginx.org/{other} is not known here"),
        };
        asked.insert(name, directive);
    }
    let mut take = |names: &[&'static str]| -> Vec<String> {
        names.iter().filter_map(|name| asked.remove(name)).collect()
    };
    let limits = take(&[
        "proxy-connect-timeout",
        "proxy-read-timeout",
        "proxy-send-timeout",
        "client-max-body-size",
        "client-body-buffer-size",
    ]);
    let rest = take(&["proxy-buffering", "proxy-next-upstream"]);
    let headers = [
        "Host $host",
        "X-Real-IP $remote_addr",
        "X-Forwarded-For $proxy_add_x_forwarded_for",
        "X-Forwarded-Host $host",
        "X-Forwarded-Port $server_port",
        "X-Forwarded-Proto $scheme",
    ];
    let headers = headers.map(|header| format!("proxy_set_header {header}"));
    let mut directives = vec!["proxy_http_version 1.1".to_owned()];
    directives.extend(upgrade);
    directives.extend(limits);
    directives.extend(headers);
    directives.extend(rest);
    directives.push("proxy_pass http://pods".to_owned());
    directives
}

/// What the operator wrote for the controller.
async fn annotations(namespace: &Namespace<'_, Kubernetes>) -> Annotations {
    let ingress: Ingress = namespace.api().get("chat").await.unwrap();
    ingress.metadata.annotations.unwrap()
}

/// The gateway to which `ip_hash` has taken the clients, all of which have one address.
fn with_clients(cluster: &Kubernetes, pods: &[Pod]) -> String {
    let has_clients = |pod: &&Pod| {
        let address = pod_address(pod, 9_000);
        let report = cluster.inside(async || http::get(address, "/status").text());
        let report: Value = serde_json::from_str(&report).unwrap();
        report["connections"].as_u64() == Some(2)
    };
    pods.iter().find(has_clients).unwrap().name_any()
}

/// A class of F5's controller, which nobody takes up.
struct Class<'a> {
    name: String,
    cluster: &'a Kubernetes,
}

impl<'a> Class<'a> {
    fn of(namespace: &Namespace<'a, Kubernetes>) -> Self {
        let name = format!("f5-{}", namespace.name());
        let cluster = namespace.cluster();
        Self { name, cluster }
    }
}

impl Drop for Class<'_> {
    fn drop(&mut self) {
        let arguments = ["delete", "ingressclass", &self.name, "--ignore-not-found"];
        self.cluster.admin().kubectl(&arguments);
    }
}

/// An nginx on the first node.
struct Nginx {
    url: String,
    address: String,
    _process: Process,
    _directory: Directory,
}

impl Nginx {
    async fn start(
        cluster: &Kubernetes,
        namespace: &Namespace<'_, Kubernetes>,
        annotations: &Annotations,
        pods: &[Pod],
        port: u16,
    ) -> Self {
        let directory = Directory::make();
        let secret: Secret = namespace.api().get("chat-tls").await.unwrap();
        let data = secret.data.unwrap();
        let certificate = directory.write("tls.crt", &data["tls.crt"].0);
        let key = directory.write("tls.key", &data["tls.key"].0);
        let addresses: Vec<_> = pods
            .iter()
            .map(|pod| pod_address(pod, 8_000).to_string())
            .collect();
        let folder = directory.path().display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {folder}/{kind}"));
        let configuration = format!(
            "daemon off; user root; pid {folder}/pid; error_log stderr notice;
             events {{ worker_connections 1024; }}
             http {{
               access_log off; {temporary};
               map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
               upstream pods {{ {upstream}; }}
               server {{
                 listen {port} ssl; server_name {host};
                 ssl_certificate {certificate}; ssl_certificate_key {key};
                 location /chat {{ {location}; }}
               }}
             }}",
            temporary = temporary.join("; "),
            upstream = upstream(annotations, &addresses).join("; "),
            host = namespace.host("chat"),
            certificate = certificate.display(),
            key = key.display(),
            location = location(annotations, "chat").join("; "),
        );
        let file = directory.write("nginx.conf", configuration);
        let mut command = cluster.command_inside(Program::Nginx.expect());
        command.args(["-e", "stderr", "-c"]).arg(file);
        let mut process = Process::start("nginx of F5", &mut command);
        process.line("start worker processes", SOON);
        let address = format!("{}:{port}", cluster.node(1).address());
        Self {
            url: format!("wss://{address}/chat"),
            address,
            _process: process,
            _directory: directory,
        }
    }
}
