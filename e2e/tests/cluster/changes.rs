//! Changes of the spec under a thousand clients: what running gateways can take up closes nobody, and what replaces them
//! does so one by one.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Secret},
    networking::v1::Ingress,
};
use kube::ResourceExt;
use serde_json::json;
use wsgateway_crds::v1alpha1::WsGateway;
use wsgateway_e2e::{
    cluster::wait_for,
    kubernetes::{
        Kubernetes, READY,
        clients::{Group, first_certificate, presented},
    },
    needs,
    wait::{SOON, pause, until_true},
};

use crate::fleet::{
    Fleet, LISTENERS, NAME, WORKERS, assert_clients_were_served, assert_ended_in_order,
};

/// Pages of two origins, and programs that have none.
const ALLOWED: &str = "https://shop.example.com";
const FORBIDDEN_LATER: &str = "https://partner.example.org";
const ON_ALLOWED: usize = 500;
const ON_FORBIDDEN: usize = 400;
const PROGRAMS: usize = 100;

/// Long enough for a close that a change has caused to arrive.
const SILENCE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn what_gateways_take_up_closes_no_client_that_is_still_permitted() {
    needs!(Cluster);
    let cluster = Kubernetes::shared();
    let fleet = Fleet::start(cluster.cluster(), 3).await;
    let clients = fleet.connect(&[
        Group::new(ON_ALLOWED, "/news").on_page(ALLOWED),
        Group::new(ON_FORBIDDEN, "/news").on_page(FORBIDDEN_LATER),
        Group::new(PROGRAMS, "/news"),
    ]);
    let pods = names(&fleet.pods(3).await);
    let ingress = ingress_version(&fleet).await;
    let changed = Instant::now();

    for (what, change) in [
        (
            "limits",
            json!({"limits": {"connectionsPerPod": 5_000}, "websocket": {"maxMessageSize": "128Ki"}}),
        ),
        (
            "origins, all of which were there",
            json!({"websocket": {"allowedOrigins": [ALLOWED, FORBIDDEN_LATER]}}),
        ),
    ] {
        let begin = Instant::now();
        fleet.patch(&change);
        let gateway = taken_up(&fleet).await;
        let revision = gateway.status.unwrap().revision.unwrap();
        assert_eq!(revision.pods, Some(3), "{what}");
        println!("{what}: taken up by 3 gateways after {:?}", begin.elapsed());
    }

    let begin = Instant::now();
    let before = presented(&fleet.destination);
    fleet.patch(&json!({"exposure": {"tls": {"selfSigned": {"duration": "1440h"}}}}));
    taken_up(&fleet).await;
    let renewed = wait_for::<Secret>(
        &fleet.namespace.api(),
        &format!("{NAME}-tls"),
        "it has another certificate",
        SOON,
        |secret| certificate(secret) != before,
    )
    .await;
    until_true("nginx presents it", READY, || {
        presented(&fleet.destination) == certificate(&renewed)
    });
    println!("certificate: presented after {:?}", begin.elapsed());

    pause(SILENCE);
    let history = clients.since(changed);
    println!("{history}");
    assert_eq!(history.closes(), BTreeMap::new(), "{history}");
    assert_eq!(clients.open(), ON_ALLOWED + ON_FORBIDDEN + PROGRAMS);

    let begin = Instant::now();
    fleet.patch(&json!({"websocket": {"allowedOrigins": [ALLOWED]}}));
    taken_up(&fleet).await;
    clients.until_open(ON_ALLOWED + PROGRAMS, READY);
    println!("origins: closed after {:?}", begin.elapsed());
    let history = clients.since(begin);
    println!("{history}");
    // One that was closed may come in once more by a gateway that takes it up a moment later.
    let cause = (1008, "ConfigChanged".to_owned());
    let closes: Vec<_> = history.closes().into_iter().collect();
    assert!(
        matches!(&closes[..], [(found, ON_FORBIDDEN..)] if *found == cause),
        "{history}"
    );
    let forbidden = ON_ALLOWED..ON_ALLOWED + ON_FORBIDDEN;
    let of_others = history.of(|client| !forbidden.contains(&client));
    assert_eq!(of_others.closes(), BTreeMap::new(), "{of_others}");
    let refused: Vec<_> = history.refusals().into_keys().collect();
    assert!(refused.iter().all(|why| why == "403 Origin"), "{refused:?}");

    assert_eq!(ingress_version(&fleet).await, ingress, "it was written");
    assert_eq!(names(&fleet.pods(3).await), pods, "they are the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_are_replaced_one_by_one_and_clients_go_to_the_others() {
    needs!(Cluster);
    let cluster = Kubernetes::shared();
    let fleet = Fleet::start(cluster.cluster(), 3).await;
    let clients = fleet.connect_thousand();
    let ingress = ingress_version(&fleet).await;

    // What the operator has by its content, by its version too.
    let image = concat!("ghcr.io/wsgateway/wsgateway:", env!("CARGO_PKG_VERSION"));
    let annotation = json!({"metadata": {"annotations": {"example.com/team": "chat"}}});
    for (what, change) in [
        ("image", json!({"image": image})),
        ("podTemplate", json!({"podTemplate": annotation})),
    ] {
        let endings = fleet.endings().await;
        let jobs = fleet.publish_jobs();
        let before = deployment(&fleet).await.metadata.generation;
        let begin = Instant::now();
        fleet.patch(&change);
        wait_for::<Deployment>(
            &fleet.namespace.api(),
            NAME,
            "it has changed",
            SOON,
            |deployment| deployment.metadata.generation > before,
        )
        .await;
        let of_deployment = format!("deployment/{NAME}");
        fleet
            .namespace
            .kubectl(&["rollout", "status", &of_deployment, "--timeout=180s"]);
        println!("{what}: replaced after {:?}", begin.elapsed());
        assert_ended_in_order(&endings, 3);
        assert_eq!(endings.at_once(), 1, "{endings}");
        assert!(endings.ready_min() >= 3, "{endings}");
        clients.until_open(LISTENERS + WORKERS, SOON);
        let history = clients.since(begin);
        assert_clients_were_served(&history);
        let closed: usize = history.closes().values().sum();
        assert!(closed >= LISTENERS + WORKERS, "each was on one of them");
        jobs.end(&clients);
        fleet.tell_all(&clients, what);
    }
    assert_eq!(ingress_version(&fleet).await, ingress, "it was written");
}

/// Awaits that all gateways run the newest live configuration.
async fn taken_up(fleet: &Fleet) -> WsGateway {
    let condition = "ConfigPropagated=True/AllPods";
    fleet.namespace.until(NAME, condition, READY).await
}

/// The Ingress' version, once its controller has written its address there.
async fn ingress_version(fleet: &Fleet) -> Option<String> {
    let what = "it has an address";
    let ingress: Ingress = wait_for(
        &fleet.namespace.api(),
        NAME,
        what,
        READY,
        |ingress: &Ingress| {
            let status = ingress.status.as_ref();
            let balancer = status.and_then(|status| status.load_balancer.as_ref());
            balancer.is_some_and(|balancer| balancer.ingress.is_some())
        },
    )
    .await;
    ingress.resource_version()
}

async fn deployment(fleet: &Fleet) -> Deployment {
    fleet.namespace.api().get(NAME).await.unwrap()
}

/// The certificate that a Secret holds.
fn certificate(secret: &Secret) -> Vec<u8> {
    let data = secret.data.as_ref().unwrap();
    first_certificate(&data["tls.crt"].0)
}

fn names(pods: &[Pod]) -> Vec<String> {
    pods.iter().map(ResourceExt::name_any).collect()
}
