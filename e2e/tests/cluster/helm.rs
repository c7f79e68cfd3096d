//! The life of a release: installed at the chart's first version, upgraded, uninstalled, installed anew, while gateways
//! serve. It is all about one cluster, so the test has one of its own, and goes through it in order.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use wsgateway_crds::v1alpha1::WsGateway;
use wsgateway_e2e::{
    cluster::{Cluster, Namespace, wait_for},
    directory::Directory,
    frame::Frame,
    kubernetes::{Kubernetes, Options, READY, place::pod_address},
    needs,
    process::command,
    socket::RawSocket,
    wait::{SOON, pause, until},
};

/// Where the release is.
const NAMESPACE: &str = "wsgateway-system";

/// The one that the operator gives to gateways by default, and another name for it, as a newer version would have.
const IMAGE: &str = "ghcr.io/wsgateway/wsgateway:0.1.0";
const NEXT_IMAGE: &str = "ghcr.io/wsgateway/wsgateway:next";

/// One that a newer operator may replace, and one that it may not.
const GATEWAY: &str = "
apiVersion: wsgateway.io/v1alpha1
kind: WsGateway
metadata: {name: NAME}
spec:
  replicas: 1
  upgrade: UPGRADE
  nats: {servers: ['nats://nats.nats.svc:4222']}
  rollout: {propagation: 1s, drain: {period: 2s}}
  routes: [{name: echo, path: /echo, fromClient: {type: Echo}}]
  exposure: {type: None, tls: {type: None}}
";

#[tokio::test(flavor = "multi_thread")]
async fn gateways_serve_through_the_life_of_a_release_and_nothing_else_is_left_of_it() {
    needs!(Cluster, Helm);
    let cluster = Kubernetes::start(&Options {
        nodes: 1,
        without: "monitoring sample ingress operator",
    });
    let admin = cluster.admin();
    admin.kubectl(&["create", "namespace", NAMESPACE]);
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    admin.kubectl(&["label", "namespace", NAMESPACE, restricted]);
    let namespace = cluster.namespace();
    let before = objects_outside(&namespace);
    let release = Release { cluster: &cluster };

    release.run("install", &first_chart(), &[]);
    for (name, upgrade) in [("follows", "Automatic"), ("stays", "OnSpecChange")] {
        namespace.apply(&GATEWAY.replace("NAME", name).replace("UPGRADE", upgrade));
    }
    let mut follower = Client::of(&namespace, "follows").await;
    let mut other = Client::of(&namespace, "stays").await;

    let image = format!("gatewayImage={NEXT_IMAGE}");
    tag(&cluster, IMAGE, NEXT_IMAGE);
    release.run("upgrade", &chart(), &["--set", &image]);
    assert_eq!(follower.socket.closed(READY), Some(1012));
    let what = "its gateways are of the newer operator";
    wait_for(
        &namespace.api(),
        "follows",
        what,
        READY,
        |gateway: &WsGateway| {
            let revision = gateway
                .status
                .as_ref()
                .and_then(|status| status.revision.as_ref());
            revision.is_some_and(|revision| revision.image.as_deref() == Some(NEXT_IMAGE))
        },
    )
    .await;
    namespace.ready("follows").await;
    namespace
        .until("stays", "Reconciling=False/UpgradeHeld", READY)
        .await;
    other.is_served();

    // What a newer chart adds to the resource can be used at once.
    let with_field = GATEWAY
        .replace("NAME", "new")
        .replace("UPGRADE", "Automatic\n  addedLater: it");
    let dry_run = [
        "apply",
        "--server-side",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        "-",
    ];
    let early = namespace.try_kubectl(&dry_run, &with_field);
    assert!(
        String::from_utf8_lossy(&early.stderr).contains("addedLater"),
        "{early:?}"
    );
    let (_directory, newer) = newer_chart();
    release.run("upgrade", &newer, &["--set", &image]);
    let output = namespace.try_kubectl(&dry_run, &with_field);
    assert!(output.status.success(), "{output:?}");
    other.is_served();

    admin.helm(&["uninstall", "wsgateway", "--wait", "--namespace", NAMESPACE]);
    let kept = [
        "CustomResourceDefinition wsgateways.wsgateway.io",
        "APIService v1alpha1.wsgateway.io",
    ];
    let kept: BTreeSet<_> = kept.map(str::to_owned).into();
    // Pods take their time to end, and the garbage collector comes after them.
    until(&format!("only {kept:?} is left"), READY, || {
        let left: BTreeSet<_> = objects_outside(&namespace)
            .difference(&before)
            .cloned()
            .collect();
        if left != kept {
            println!("still there: {left:?}");
            pause(Duration::from_secs(1));
        }
        (left == kept).then_some(())
    });
    other.is_served();

    release.run("install", &chart(), &["--set", &image]);
    // It takes on what it finds: a change of the spec reaches the gateway that has run all the while.
    let patch = r#"{"spec": {"limits": {"connectionsPerPod": 77}}}"#;
    namespace.kubectl(&[
        "patch",
        "wsgateway",
        "stays",
        "--type=merge",
        "--patch",
        patch,
    ]);
    namespace
        .until("stays", "ConfigPropagated=True/AllPods", READY)
        .await;
    other.is_served();
    let pods = namespace.ready_pods("stays", 1).await;
    assert_eq!(pods[0].uid(), other.pod.uid());
}

/// The chart of this project, in a namespace of the cluster.
struct Release<'a> {
    cluster: &'a Kubernetes,
}

impl Release<'_> {
    /// Installs or upgrades, and awaits that the operators are ready.
    fn run(&self, verb: &str, chart: &Path, options: &[&str]) {
        let chart = chart.to_str().unwrap();
        let arguments = [
            verb,
            "wsgateway",
            chart,
            "--namespace",
            NAMESPACE,
            "--wait",
            "--timeout=2m",
        ];
        self.cluster.admin().helm(&[&arguments, options].concat());
    }
}

/// Who is connected to the one pod of a `WsGateway`.
struct Client {
    pod: Pod,
    socket: RawSocket,
}

impl Client {
    async fn of(namespace: &Namespace<'_, Kubernetes>, name: &str) -> Self {
        let pod = namespace.ready_pods(name, 1).await.remove(0);
        let address = pod_address(&pod, 8000);
        let socket = namespace
            .cluster()
            .inside(async || RawSocket::open(address, "/echo"));
        let mut client = Self { pod, socket };
        client.is_served();
        client
    }

    fn is_served(&mut self) {
        self.socket.send_frame(&Frame::text("hello"));
        assert_eq!(self.socket.message(SOON), "hello");
    }
}

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn chart() -> PathBuf {
    path("../charts/wsgateway")
}

/// As it was when it was first committed. The programs are today's.
fn first_chart() -> PathBuf {
    path("tests/fixtures/chart-0.1.0")
}

/// Today's, with one more field of the resource.
fn newer_chart() -> (Directory, PathBuf) {
    let directory = Directory::make();
    let newer = directory.path().join("wsgateway");
    let copied = command("cp")
        .arg("-r")
        .arg(chart())
        .arg(&newer)
        .status()
        .unwrap();
    assert!(copied.success());
    let file = newer.join("files/wsgateways.yaml");
    let crd = fs::read_to_string(&file).unwrap();
    let of_spec = "\n              replicas:\n";
    let added = format!("\n              addedLater:\n                type: string{of_spec}");
    let crd_with = crd.replacen(of_spec, &added, 1);
    assert_ne!(crd, crd_with);
    fs::write(file, crd_with).unwrap();
    (directory, newer)
}

/// Gives an image of the node another name.
fn tag(cluster: &Kubernetes, image: &str, name: &str) {
    let pid = cluster.pid().to_string();
    let tagged = command("nsenter")
        .args([
            "--target",
            &pid,
            "--mount",
            "--pid",
            "--net",
            "--",
            "/opt/cluster/containerd/ctr",
        ])
        .args([
            "--address",
            "/run/containerd/containerd.sock",
            "--namespace",
            "k8s.io",
        ])
        .args(["images", "tag", image, name])
        .output()
        .unwrap();
    assert!(tagged.status.success(), "{tagged:?}");
}

/// Every object of every kind that is not in this namespace, as `Kind name` or `Kind namespace/name`. Without Events, and
/// without the addresses of Services, which are objects outside of their namespaces.
fn objects_outside(namespace: &Namespace<'_, Kubernetes>) -> BTreeSet<String> {
    let admin = namespace.cluster().admin();
    let kinds = admin.kubectl(&["api-resources", "--verbs=list", "--output=name"]);
    let is_counted = |kind: &&str| !kind.starts_with("events") && !kind.starts_with("ipaddresses.");
    let kinds: Vec<_> = kinds.lines().filter(is_counted).collect();
    let columns = "--output=custom-columns=:.kind,:.metadata.namespace,:.metadata.name";
    let listed = admin.kubectl(&[
        "get",
        &kinds.join(","),
        "--all-namespaces",
        "--no-headers",
        columns,
    ]);
    let words = listed
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    words
        .filter(|words| words[1] != namespace.name())
        .map(|words| match words[..] {
            [kind, "<none>", name] => format!("{kind} {name}"),
            [kind, namespace, name] => format!("{kind} {namespace}/{name}"),
            _ => panic!("{words:?}"),
        })
        .collect()
}
