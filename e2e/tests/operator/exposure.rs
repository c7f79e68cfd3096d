//! Whether clients can come in, proven by a handshake: a real nginx with TLS stands in front of a real gateway, neither of
//! them in a pod, and the operator reaches it by `--probe-via`. The test is the ingress controller, and makes each mistake
//! that one can make.

use std::time::Duration;

use k8s_openapi::api::{core::v1::Secret, networking::v1::Ingress};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use wsgateway_crds::v1alpha1::WsGateway;
use wsgateway_e2e::{
    certificate::{Authority, Leaf},
    cluster::{ControlPlane, FakeNode, Identity, Namespace, wait_for},
    directory::Directory,
    gateway::Gateway,
    nats::NatsServer,
    needs,
    operator::{Launch, Operator},
    port::Port,
    process::{Process, command},
    program::Program,
    row::row,
    wait::{SOON, until_true},
};

use crate::stage::{ACCOUNT, IMAGE, Stage, in_both_modes, manifest, permit, prepare, says};

in_both_modes!(what_the_controller_says_in_events_is_quoted);

const NAME: &str = "proven";
const HOST: &str = "proven.example.com";

/// A fault must last for a while to be told, and longer where the way in is new.
const TOLD: Duration = Duration::from_secs(60);

/// A proxy that does everything right.
const RIGHT: &str =
    "proxy_pass http://GATEWAY; proxy_http_version 1.1; proxy_set_header Host $host;
    proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;";

/// A `WsGateway` whose only way in is an nginx of the test.
struct Front {
    namespace: Namespace<'static>,
    gateway: Gateway,
    port: Port,
    directory: Directory,
    /// What nginx shows for every host but that of the `WsGateway`.
    other: Leaf,
    nginx: Option<Process>,
    _nats: NatsServer,
    _node: FakeNode,
    _operator: Operator,
}

impl Front {
    /// All but nginx.
    fn start() -> Self {
        let cluster = ControlPlane::shared();
        prepare(cluster);
        let namespace = cluster.namespace();
        permit(cluster, namespace.name(), Some(namespace.name()));
        let port = Port::lease();
        let account = Identity::service_account(namespace.name(), ACCOUNT);
        let via = format!("--probe-via={}", port.address());
        let launch = Launch::on(cluster, &account)
            .watching(&[namespace.name()])
            .args(&["--image", IMAGE, "--probe-period=1s", &via]);
        let nats = NatsServer::start();
        let gateway = Gateway::start(
            &nats.url(),
            "routes: [{name: live, path: /ws, fromClient: {type: Echo}}]",
        );
        let front = Self {
            _node: FakeNode::start(&cluster.client(), namespace.name()),
            _operator: Operator::start(&launch),
            _nats: nats,
            gateway,
            port,
            directory: Directory::make(),
            other: Authority::make().sign(&["other.example.com"]),
            nginx: None,
            namespace,
        };
        front.namespace.apply(&manifest(NAME, "{replicas: 1}"));
        front
    }

    /// The certificate that the operator has made.
    async fn certificate(&self) -> Leaf {
        let secrets: Api<Secret> = self.namespace.api();
        let name = format!("{NAME}-tls");
        let secret = wait_for(&secrets, &name, "it is there", SOON, |_| true).await;
        let text = |key: &str| String::from_utf8(secret.data.as_ref().unwrap()[key].0.clone());
        Leaf {
            certificate: text("tls.crt").unwrap(),
            key: text("tls.key").unwrap(),
        }
    }

    /// Begins anew as a proxy that shows this certificate to who asks for the host, and does this with requests.
    fn serve(&mut self, leaf: &Leaf, location: &str) {
        self.nginx = None;
        for (name, leaf) in [("host", leaf), ("other", &self.other)] {
            self.directory
                .write(&format!("{name}.crt"), &leaf.certificate);
            self.directory.write(&format!("{name}.key"), &leaf.key);
        }
        let directory = self.directory.path().display().to_string();
        let spools = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|module| format!("{module}_temp_path {directory}/{module};"))
            .join("\n");
        let conf = format!(
            "daemon off; master_process off; pid {directory}/nginx.pid; error_log stderr;
            events {{}}
            http {{
                access_log off;
                {spools}
                server {{
                    listen {address} ssl default_server;
                    ssl_certificate {directory}/other.crt;
                    ssl_certificate_key {directory}/other.key;
                    return 404;
                }}
                server {{
                    listen {address} ssl;
                    server_name {HOST};
                    ssl_certificate {directory}/host.crt;
                    ssl_certificate_key {directory}/host.key;
                    location / {{ {location} }}
                }}
            }}",
            address = self.port.address(),
        );
        let conf = conf.replace("GATEWAY", &self.gateway.address().to_string());
        let file = self.directory.write("nginx.conf", conf);
        let mut nginx = command(Program::Nginx.expect());
        nginx.args(["-e", "stderr", "-c"]).arg(file);
        self.nginx = Some(Process::start("nginx", &mut nginx));
    }

    async fn until(&self, condition: &str) -> WsGateway {
        wait_for(&self.namespace.api(), NAME, condition, TOLD, |gateway| {
            says(gateway, condition)
        })
        .await
    }

    fn probes(&self) -> f64 {
        self.gateway.metrics().sum("wsgateway_probes_total", &[])
    }
}

fn message(gateway: &WsGateway) -> &str {
    let conditions = &gateway.status.as_ref().unwrap().conditions;
    let is_exposure = |condition: &&k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        condition.type_ == "ExposureReady"
    };
    &conditions.iter().find(is_exposure).unwrap().message
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_proves_the_way_in_and_each_fault_has_a_name() {
    needs!(Kubernetes, Helm, NatsServer, Nginx);
    let mut front = Front::start();
    let gateway = front.until("ExposureReady=Unknown/ConnectionRefused").await;
    let address = front.port.address().to_string();
    assert!(
        message(&gateway).contains(&address),
        "{}",
        message(&gateway)
    );
    front.until("Ready=True").await;

    let leaf = front.certificate().await;
    front.serve(&leaf, RIGHT);
    let gateway = front.until("ExposureReady=True/HandshakeAnswered").await;
    let said = message(&gateway);
    assert!(said.contains(HOST) && said.contains("/ws"), "{said}");

    // It is tried again and again, and nothing is written.
    let before_it = front.until("Reconciling=False/Settled").await;
    let before = front.probes();
    until_true("it is tried three times more", SOON, || {
        front.probes() >= before + 3.0
    });
    let after = front.until("ExposureReady=True").await;
    assert_eq!(after.resource_version(), before_it.resource_version());
    let metrics = front.gateway.metrics();
    for name in [
        "wsgateway_connections",
        "wsgateway_connections_opened_total",
    ] {
        assert!(metrics.sum(name, &[]).abs() < 0.5, "{name}");
    }

    let another = Authority::make().sign(&[HOST]);
    let bare = "proxy_pass http://GATEWAY; proxy_set_header Host $host;";
    let nowhere = Port::lease();
    let nobody = RIGHT.replace("GATEWAY", &nowhere.address().to_string());
    let without_protocol = format!("{RIGHT} proxy_set_header Sec-WebSocket-Protocol '';");
    let rewritten = RIGHT.replace("http://GATEWAY", "http://GATEWAY/else");
    #[rustfmt::skip] // A row a line.
    let table: [(&str, &Leaf, &str, &str); 10] = [
        ("another certificate", &another, RIGHT, "False/WrongCertificate"),
        ("no rule", &leaf, "return 404;", "False/NotRouted"),
        ("no upgrade headers", &leaf, bare, "False/UpgradeLost"),
        ("no endpoints", &leaf, "return 503;", "False/NoEndpoints"),
        ("no way to the gateways", &leaf, &nobody, "False/BadGateway"),
        ("a deny list", &leaf, "deny all;", "False/RefusedInFront"),
        ("a redirect", &leaf, "return 308 https://elsewhere.example.com$request_uri;", "False/Redirected"),
        ("a rewritten path", &leaf, &rewritten, "False/PathChanged"),
        ("another server", &leaf, &without_protocol, "False/AnotherServer"),
        ("a cut connection", &leaf, "return 444;", "Unknown/ConnectionCut"),
    ];
    for (what, leaf, location, expected) in table {
        front.serve(leaf, location);
        let gateway = front.until(&format!("ExposureReady={expected}")).await;
        row(what, || {
            let said = message(&gateway);
            println!("{said}");
            assert!(said.contains(&address), "{said}");
        });
        if let Some(reason) = expected.strip_prefix("False/") {
            front.until(&format!("Ready=False/{reason}")).await;
        } else {
            front.until("Ready=True").await;
        }
    }
    let gateway = {
        front.serve(
            &leaf,
            "return 308 https://elsewhere.example.com$request_uri;",
        );
        front.until("ExposureReady=False/Redirected").await
    };
    assert!(message(&gateway).contains("https://elsewhere.example.com/ws"));

    front.serve(&leaf, RIGHT);
    front.until("ExposureReady=True/HandshakeAnswered").await;
    front.until("Ready=True").await;
    front.nginx = None;
    front.until("ExposureReady=Unknown/ConnectionRefused").await;
    front.until("Ready=True").await;
}

async fn what_the_controller_says_in_events_is_quoted(stage: Stage) {
    stage.apply("rejected", "{replicas: 1}");
    stage
        .until("rejected", "ExposureReady=Unknown/NoAddress")
        .await;
    let ingresses: Api<Ingress> = stage.namespace.api();
    let ingress = wait_for(&ingresses, "rejected", "it is there", SOON, |_| true).await;
    // As F5's controller writes them.
    let say = |type_: &str, reason: &str, note: &str, at: &str| {
        let event = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": format!("rejected.{}", reason.to_lowercase())},
            "involvedObject": {
                "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "rejected",
                "namespace": stage.namespace.name(), "uid": ingress.uid(),
            },
            "type": type_, "reason": reason, "message": note, "count": 1,
            "firstTimestamp": at, "lastTimestamp": at,
            "source": {"component": "nginx-ingress-controller"},
        });
        stage.namespace.apply(&event.to_string());
    };
    let note = "all hosts are taken by other resources";
    say("Warning", "Rejected", note, "2026-01-01T00:00:00Z");
    let rejected = "ExposureReady=False/IngressRejected";
    let gateway = stage.until_within("rejected", rejected, TOLD).await;
    let said = message(&gateway);
    assert!(
        said.contains("nginx-ingress-controller says of the Ingress: Rejected: all hosts"),
        "{said}"
    );
    stage.until("rejected", "Ready=False/IngressRejected").await;

    say(
        "Normal",
        "AddedOrUpdated",
        "Configuration was added",
        "2026-01-01T00:01:00Z",
    );
    stage
        .until_within("rejected", "ExposureReady=Unknown/NoAddress", TOLD)
        .await;
    // An address that means whoever connects is not connected to.
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}}});
    let (params, status) = (PatchParams::default(), Patch::Merge(status));
    let patched = ingresses.patch_status("rejected", &params, &status);
    patched.await.unwrap();
    let local = "ExposureReady=Unknown/AddressNotDialable";
    let gateway = stage.until_within("rejected", local, TOLD).await;
    assert!(
        message(&gateway).contains("--probe-via"),
        "{}",
        message(&gateway)
    );
    stage.until("rejected", "Ready=True").await;
}
