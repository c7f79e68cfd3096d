//! Gateways that go while a thousand clients are connected: one by one on scale-in, from a node that is drained, and by a
//! kill.

use std::{collections::BTreeMap, time::Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use wsgateway_e2e::{
    cluster::Cluster,
    kubernetes::{Kubernetes, READY, clients::Group},
    needs,
    wait::{SOON, until_true},
};

use crate::fleet::{
    Fleet, LISTENERS, NAME, WORKERS, assert_clients_were_served, assert_ended_in_order,
};

/// So many that some are on each of the two nodes.
const REPLICAS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn scale_in_ends_the_gateway_with_the_fewest_clients_and_then_the_next() {
    needs!(Cluster);
    let cluster = Kubernetes::shared();
    let fleet = Fleet::start(cluster.cluster(), 1).await;
    // Clients stay where they are, so the first gateway has the most.
    let mut groups = Vec::new();
    for (replicas, count) in [(1, 500), (2, 300), (3, 200)] {
        scale(&fleet, replicas);
        fleet.pods(replicas).await;
        groups.push(fleet.connect(&[Group::new(count, "/news")]));
    }
    let pods = fleet.pods(3).await;
    let connections = fleet.connections(&pods);
    println!("connections: {connections:?}");

    let endings = fleet.endings().await;
    let begin = Instant::now();
    scale(&fleet, 1);
    fleet.pods(1).await;
    println!("3 → 1 after {:?}", begin.elapsed());
    assert_ended_in_order(&endings, 2);
    assert_eq!(endings.at_once(), 1, "{endings}");
    let ended = endings.so_far();
    let fewest = connections.values().min();
    assert_eq!(connections.get(&ended[0].pod), fewest, "it goes first");
    let most = connections.values().max();
    let left = connections
        .iter()
        .find(|(pod, _)| ended.iter().all(|ending| ending.pod != **pod));
    assert_eq!(left.map(|(_, connections)| connections), most, "it stays");
    let begin_up = Instant::now();
    scale(&fleet, 4);
    fleet.pods(4).await;
    println!("1 → 4 after {:?}", begin_up.elapsed());
    for (clients, count) in groups.iter().zip([500, 300, 200]) {
        clients.until_open(count, SOON);
        assert_clients_were_served(&clients.since(begin));
        let since = clients.since(begin_up);
        assert_eq!(since.closes(), BTreeMap::new(), "{since}");
    }
    assert_eq!(endings.so_far().len(), 2, "{endings}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_drained_within_the_budget_and_clients_go_to_the_other() {
    needs!(Cluster);
    let cluster = Kubernetes::alone();
    let fleet = Fleet::start(cluster.cluster(), REPLICAS).await;
    let clients = fleet.connect_thousand();
    let pods = fleet.pods(REPLICAS).await;
    let there = pods.iter().filter(|pod| node_of(pod) == Some("n2")).count();
    assert!(there >= 2, "the pods should be spread over both nodes");
    let node = Uncordoned::later(&cluster);

    let endings = fleet.endings().await;
    let jobs = fleet.publish_jobs();
    let begin = Instant::now();
    // What else is on the node is none of this test's business.
    let ours = format!("--pod-selector=app.kubernetes.io/instance={NAME}");
    let drain = [
        "drain",
        "n2",
        "--ignore-daemonsets",
        "--timeout=120s",
        &ours,
    ];
    cluster.admin().kubectl(&drain);
    println!("{there} gateways left the node after {:?}", begin.elapsed());
    let pods = fleet.pods(REPLICAS).await;
    assert!(pods.iter().all(|pod| node_of(pod) == Some("n1")));
    assert_ended_in_order(&endings, there);
    // The budget counts who is ready, so the next may be told to end as soon as there is a new one: the endings may
    // overlap. But it is never two of them that are missing.
    assert!(endings.ready_min() >= REPLICAS - 1, "{endings}");
    drop(node);
    clients.until_open(LISTENERS + WORKERS, SOON);
    assert_clients_were_served(&clients.since(begin));
    jobs.end(&clients);
    fleet.tell_all(&clients, "after the drain");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_killed_costs_its_own_clients_a_moment_and_nobody_else_anything() {
    needs!(Cluster);
    let cluster = Kubernetes::shared();
    let fleet = Fleet::start(cluster.cluster(), 3).await;
    let clients = fleet.connect_thousand();
    let pods = fleet.pods(3).await;
    let jobs = fleet.publish_jobs();
    let connections = fleet.connections(&pods);
    let killed = pods[0].name_any();
    let processes = cluster.process_of(fleet.namespace.name(), &killed, "wsgateway");
    assert_eq!(processes.len(), 1, "{processes:?}");

    let begin = Instant::now();
    kill(Pid::from_raw(processes[0].cast_signed()), Signal::SIGKILL).unwrap();
    let has_closed = || clients.since(begin).closes().values().sum::<usize>() > 0;
    until_true("its clients are cut off", SOON, has_closed);
    until_true("it runs again", READY, || restarts(&fleet, &killed) == "1");
    println!("it runs again after {:?}", begin.elapsed());
    fleet.pods(3).await;
    clients.until_open(LISTENERS + WORKERS, SOON);
    let history = clients.since(begin);
    println!("{history}");
    // No close frame comes from who is killed, and a browser says 1006 then.
    let expected = [((1006, String::new()), connections[&killed])];
    assert_eq!(history.closes(), BTreeMap::from(expected), "{history}");
    jobs.end(&clients);
    fleet.tell_all(&clients, "after the kill");
}

/// As `kubectl scale` does.
fn scale(fleet: &Fleet, replicas: usize) {
    let replicas = format!("--replicas={replicas}");
    let gateway = format!("wsgateway/{NAME}");
    fleet.namespace.kubectl(&["scale", &gateway, &replicas]);
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// How often a pod's container has been started again and is ready.
fn restarts(fleet: &Fleet, pod: &str) -> String {
    let restarts = "--output=jsonpath={.status.containerStatuses[?(@.ready==true)].restartCount}";
    fleet.namespace.kubectl(&["get", "pod", pod, restarts])
}

/// Lets pods come to the second node again, also where the test fails.
struct Uncordoned<'a>(&'a Kubernetes);

impl<'a> Uncordoned<'a> {
    fn later(cluster: &'a Kubernetes) -> Self {
        Self(cluster)
    }
}

impl Drop for Uncordoned<'_> {
    fn drop(&mut self) {
        self.0.admin().kubectl(&["uncordon", "n2"]);
    }
}
