//! What a new user does: apply a manifest, connect, publish.

use std::{process::Command, time::Instant};

use wsgateway_e2e::{
    directory::Directory,
    kubernetes::{Kubernetes, NATS},
    needs,
    program::Program,
    wait::SOON,
    websocat::send_file_by,
    wscat::Wscat,
};

const SAMPLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../manifests/samples/notifications.yaml"
);

/// Echoes what is larger than its default allows, and pings often.
const ECHO: &str = "
apiVersion: wsgateway.io/v1alpha1
kind: WsGateway
metadata: {name: echo}
spec:
  replicas: 1
  websocket: {pingPeriod: 1s, maxMessageSize: 256Ki}
  routes: [{name: echo, path: /echo, fromClient: {type: Echo}}]
  exposure: {hosts: [HOST]}
";

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_gives_wscat_what_is_published_and_echoes() {
    needs!(Cluster, Wscat);
    let cluster = Kubernetes::shared();
    let namespace = cluster.namespace();
    let begin = Instant::now();
    namespace.kubectl(&["apply", "--filename", SAMPLE]);
    let ready = ["wait", "--for=condition=Ready", "wsgateway/notifications"];
    namespace.kubectl(&[&ready[..], &["--timeout=120s"]].concat());
    println!("ready {:.1?} after kubectl apply", begin.elapsed());
    let entrance = namespace.entrance("notifications").await;

    // As a browser does: by name, on the node, with the authority that users are given.
    let authority = entrance.authority.to_str().unwrap();
    let mut by_name = Wscat::of(
        cluster.command_inside(Program::Wscat.expect()),
        "wss://localhost/ws-notifications",
        &["--ca", authority],
    );
    by_name.connected();
    // As who has no DNS does.
    let options = ["--host", &entrance.host];
    let mut by_address = cluster.wscat(&entrance.url("/ws-notifications"), &options);
    publish(&cluster, "notifications.first", "the first message");
    for wscat in [&mut by_name, &mut by_address] {
        wscat.hears("the first message", SOON);
    }
    println!("first message {:.1?} after kubectl apply", begin.elapsed());

    let mut publication = Instant::now();
    for number in 0..3 {
        let text = format!("message {number}");
        publish(&cluster, "notifications.more", &text);
        let heard = by_name.hears(&text, SOON);
        by_address.hears(&text, SOON);
        let after = heard.duration_since(publication);
        println!("wscat shows it {after:.1?} after wsgw pub was started");
        publication = Instant::now();
    }
    by_name.say("an echo");
    by_name.hears("an echo", SOON);
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_show_and_a_large_file_comes_back_through_the_ingress() {
    needs!(Cluster, Wscat, Websocat);
    let cluster = Kubernetes::shared();
    let namespace = cluster.namespace();
    namespace.apply(&ECHO.replace("HOST", &namespace.host("echo")));
    namespace.ready("echo").await;
    let entrance = namespace.entrance("echo").await;
    let mut wscat = cluster.wscat(
        &entrance.url("/echo"),
        &["--host", &entrance.host, "--show-ping-pong"],
    );
    wscat.process.line("Received ping", SOON);
    wscat.say("hello");
    wscat.hears("hello", SOON);

    let text: String = ('a'..='z').cycle().take(102_400).collect();
    let directory = Directory::make();
    let file = directory.write("big_message.txt", &text);
    let (options, address) = entrance.websocat("/echo");
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let websocat = cluster.command_inside(Program::Websocat.expect());
    let (echoed, said) = send_file_by(websocat, &address, &options, &file);
    assert_eq!(
        String::from_utf8(echoed).unwrap().trim_end(),
        text,
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_shows_what_a_user_asks_first() {
    needs!(Cluster);
    let cluster = Kubernetes::shared();
    let namespace = cluster.namespace();
    let host = namespace.host("echo");
    namespace.apply(&ECHO.replace("HOST", &host));
    namespace.ready("echo").await;
    // By its short name.
    let table = namespace.kubectl(&["get", "wsgw"]);
    let rows: Vec<Vec<&str>> = table.lines().map(columns).collect();
    let url = format!("wss://{host}/echo");
    assert_eq!(
        rows[0],
        ["NAME", "READY", "REPLICAS", "READY REPLICAS", "URL", "AGE"],
        "{table}"
    );
    assert_eq!(rows[1][..5], ["echo", "True", "1", "1", &url], "{table}");
    // The object that a user would look at next says the same.
    let described = namespace.kubectl(&["describe", "wsgateway", "echo"]);
    assert!(described.contains(&url), "{described}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_sent_to_https() {
    needs!(Cluster, Curl);
    let cluster = Kubernetes::shared();
    let namespace = cluster.namespace();
    namespace.apply(&ECHO.replace("HOST", &namespace.host("echo")));
    namespace.ready("echo").await;
    let entrance = namespace.entrance("echo").await;
    let options = [
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code} %{redirect_url}",
    ];
    let output = entrance.curl("http", "/echo", &options);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!("308 https://{}/echo", entrance.host)
    );
}

/// As the documentation has it.
fn publish(cluster: &Kubernetes, subject: &str, message: &str) {
    let mut wsgw: Command = cluster.command_inside(Program::Wsgw.expect());
    let output = wsgw
        .args(["pub", "--server", NATS, subject, message])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Names of columns have single spaces within, and at least two between.
fn columns(line: &str) -> Vec<&str> {
    line.split("  ")
        .map(str::trim)
        .filter(|column| !column.is_empty())
        .collect()
}
