//! What a new user does: apply a manifest, connect, publish.

use std::time::Instant;

use wsgateway_e2e::{
    kubernetes::{Kubernetes, NATS},
    needs,
    program::Program,
    wait::SOON,
};

const ECHO: &str = "
apiVersion: wsgateway.io/v1alpha1
kind: WsGateway
metadata: {name: echo}
spec:
  replicas: 1
  routes: [{name: echo, path: /echo, fromClient: {type: Echo}}]
  exposure: {hosts: [HOST]}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_its_echo_through_the_ingress() {
    needs!(Cluster, Wscat);
    let cluster = Kubernetes::shared();
    let namespace = cluster.namespace();
    let begin = Instant::now();
    namespace.apply(&ECHO.replace("HOST", &namespace.host("echo")));
    namespace.ready("echo").await;
    println!("ready {:?} after apply", begin.elapsed());
    let entrance = namespace.entrance("echo").await;
    let mut wscat = cluster.wscat(&entrance.url("/echo"), &["--host", &entrance.host]);
    wscat.say("hello");
    wscat.hears("hello", SOON);
    let published = cluster
        .command_inside(Program::Wsgw.expect())
        .args(["pub", "--server", NATS, "a.b", "c"])
        .status()
        .unwrap();
    assert!(published.success());
}
