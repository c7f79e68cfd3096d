//! A spec that is not accepted: what ran goes on, and mending the spec is enough.

use k8s_openapi::api::{apps::v1::Deployment, networking::v1::Ingress};
use kube::{Api, ResourceExt};
use serde_json::json;
use wsgateway_e2e::cluster::wait_for;

use super::{change, is_there};
use crate::stage::{Stage, in_both_modes, says};

in_both_modes!(
    a_spec_that_is_refused_leaves_what_runs_alone,
    the_older_keeps_its_host_and_path,
);

async fn a_spec_that_is_refused_leaves_what_runs_alone(stage: Stage) {
    stage.apply("refused", "{replicas: 1}");
    stage.until("refused", "Ready=True").await;
    stage.until("refused", "Reconciling=False/Settled").await;
    let deployments: Api<Deployment> = stage.namespace.api();
    let shape = async || {
        let deployment = deployments.get("refused").await.unwrap();
        (deployment.spec, deployment.metadata.generation)
    };
    for (patch, mended, condition, sentence) in [
        (
            json!({"nats": {"servers": null}}),
            json!({"nats": {"servers": ["nats://nats.test:4222"]}}),
            "NoNatsServers",
            "spec.nats.servers: must be set in a cluster",
        ),
        (
            json!({"podTemplate": {"spec": {"containers": [{"name": "gateway", "imagee": "x"}]}}}),
            json!({"podTemplate": null}),
            "",
            "imagee",
        ),
    ] {
        let before = shape().await;
        change(&stage, "refused", patch).await;
        let gateway = stage.until("refused", "Accepted=False").await;
        let conditions = gateway.status.as_ref().unwrap().conditions.clone();
        let accepted = conditions
            .iter()
            .find(|one| one.type_ == "Accepted")
            .unwrap();
        assert!(accepted.message.contains(sentence), "{}", accepted.message);
        assert!(accepted.reason.contains(condition), "{}", accepted.reason);
        for condition in [
            "Ready=False",
            "Stalled=True",
            "Reconciling=False",
            "GatewayAvailable=True",
        ] {
            let condition = match condition.split_once('=').unwrap().0 {
                "Ready" | "Stalled" => format!("{condition}/{}", accepted.reason),
                _ => condition.to_owned(),
            };
            assert!(says(&gateway, &condition), "{condition}: {conditions:?}");
        }
        assert_eq!(shape().await, before);
        change(&stage, "refused", mended).await;
        stage.until("refused", "Ready=True").await;
        stage.until("refused", "Accepted=True/Valid").await;
    }
}

async fn the_older_keeps_its_host_and_path(stage: Stage) {
    // Of two that were made in the same second, the one whose name comes first.
    let host = format!("both-{}.example.com", stage.namespace.name());
    let spec = format!(
        "{{replicas: 1, exposure: {{hosts: [{host}], ingress: {{className: f5}}, controller: nginx.org/ingress-controller}}}}"
    );
    stage.apply("both-a", &spec);
    stage.until("both-a", "Ready=True").await;
    let ingresses: Api<Ingress> = stage.namespace.api();
    let before = ingresses.get("both-a").await.unwrap().resource_version();
    stage.apply("both-b", &spec);
    let gateway = stage.until("both-b", "Accepted=False/HostConflict").await;
    let said = format!("{:?}", gateway.status);
    let older = format!("{}/both-a", stage.namespace.name());
    assert!(said.contains(&host) && said.contains(&older), "{said}");
    for plural in ["deployments", "ingresses", "services", "configmaps"] {
        assert!(!is_there(&stage, plural, "both-b").await, "{plural}");
    }
    assert!(says(
        &stage.until("both-a", "Ready=True").await,
        "Accepted=True"
    ));
    let after = ingresses.get("both-a").await.unwrap().resource_version();
    assert_eq!(before, after);
    stage
        .namespace
        .kubectl(&["delete", "wsgw", "both-a", "--wait=false"]);
    let begin = std::time::Instant::now();
    let within = std::time::Duration::from_secs(10);
    wait_for(
        &stage.gateways(),
        "both-b",
        "it is accepted",
        within,
        |gateway| says(gateway, "Accepted=True"),
    )
    .await;
    println!(
        "the younger is accepted {:?} after the older went",
        begin.elapsed()
    );
    stage.until("both-b", "Ready=True").await;
}
