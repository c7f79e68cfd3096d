//! Whose an object is: what is not the `WsGateway`'s is never touched, the user is told of it, and what is in the way
//! need only be removed.

use std::{collections::BTreeSet, time::Instant};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Pod, Service},
};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};
use wsgateway_crds::v1alpha1::WsGateway;
use wsgateway_e2e::{
    cluster::{wait_for, wait_gone},
    wait::SOON,
};

use crate::{
    objects::{Named, delete, meddle, objects},
    stage::{Stage, in_both_modes, says},
};

in_both_modes!(
    what_is_somebody_elses_is_not_touched,
    what_has_lost_its_owner_is_not_taken_back,
    a_gateway_that_is_made_anew_takes_nothing_from_the_old_one,
);

/// Each of a kind of its own, by a name that `WsGateway` `taken` would give to a child.
const FOREIGN: [Named<'_>; 5] = [
    ("configmaps", "taken-live"),
    ("secrets", "taken-tls"),
    ("services", "taken"),
    ("ingresses", "taken"),
    ("deployments", "taken"),
];

fn foreign() -> [Value; 5] {
    let labels = json!({"app": "theirs"});
    let pod = json!({"name": "theirs", "image": "test.local/theirs"});
    [
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "taken-live"},
               "data": {"live.yaml": "theirs"}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "taken-tls"},
               "stringData": {"password": "theirs"}}),
        // Labels are no proof: anyone may write them.
        json!({"apiVersion": "v1", "kind": "Service",
               "metadata": {"name": "taken", "labels": {
                   "app.kubernetes.io/managed-by": "wsgateway-operator", "app.kubernetes.io/instance": "taken"}},
               "spec": {"selector": labels, "ports": [{"port": 80}]}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "taken"},
               "spec": {"defaultBackend": {"service": {"name": "theirs", "port": {"number": 80}}}}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "taken"},
               "spec": {"replicas": 0, "selector": {"matchLabels": labels},
                        "template": {"metadata": {"labels": labels}, "spec": {"containers": [pod]}}}}),
    ]
}

/// The sentence of the condition.
fn conflict(gateway: &WsGateway) -> String {
    let conditions = gateway.status.iter().flat_map(|status| &status.conditions);
    let mut conditions = conditions.filter(|condition| condition.type_ == "OwnershipConflict");
    conditions.next().unwrap().message.clone()
}

/// Who has written an object.
async fn writers(stage: &Stage, (plural, name): Named<'_>) -> BTreeSet<String> {
    let api = objects(&stage.client, stage.namespace.name(), plural);
    let fields = api.get(name).await.unwrap().metadata.managed_fields;
    let writers = fields.into_iter().flatten();
    writers.filter_map(|entry| entry.manager).collect()
}

async fn what_is_somebody_elses_is_not_touched(stage: Stage) {
    for object in foreign() {
        stage.namespace.apply(&object.to_string());
    }
    stage.apply("taken", "{replicas: 1}");
    let gateway = stage.until("taken", "OwnershipConflict=True").await;
    for name in [
        "ConfigMap taken-live",
        "Secret taken-tls",
        "Service taken",
        "Ingress taken",
    ] {
        assert!(conflict(&gateway).contains(name), "{}", conflict(&gateway));
    }
    for condition in [
        "Ready=False/OwnershipConflict",
        "Stalled=True/OwnershipConflict",
        "Accepted=True",
    ] {
        assert!(
            says(&gateway, condition),
            "{condition}: {:?}",
            gateway.status
        );
    }
    let events = stage.namespace.kubectl(&[
        "get",
        "events",
        "--field-selector=reason=OwnershipConflict",
        "--output=name",
    ]);
    assert_eq!(events.lines().count(), 1, "{events}");

    // No pod is told of a configuration that is not ours: so the Deployment is tried only now.
    let maps = objects(&stage.client, stage.namespace.name(), "configmaps");
    delete(&maps, "taken-live").await;
    let begin = Instant::now();
    wait_for(
        &stage.gateways(),
        "taken",
        "the Deployment is named",
        SOON,
        |gateway| {
            says(gateway, "OwnershipConflict=True")
                && conflict(gateway).contains("Deployment taken")
        },
    )
    .await;
    println!(
        "that a foreign object went is seen after {:.1?}",
        begin.elapsed()
    );
    for child in &FOREIGN[1..] {
        let writers = writers(&stage, *child).await;
        assert!(
            !writers.contains("wsgateway-operator"),
            "{child:?}: {writers:?}"
        );
    }
    for (plural, name) in &FOREIGN[1..] {
        delete(
            &objects(&stage.client, stage.namespace.name(), plural),
            name,
        )
        .await;
    }
    stage
        .until("taken", "OwnershipConflict=False/NoConflict")
        .await;
    stage.until("taken", "Ready=True").await;
    for child in FOREIGN {
        assert!(writers(&stage, child).await.contains("wsgateway-operator"));
    }
}

/// A child without its owner might be anybody's by now. Removing it is enough.
async fn what_has_lost_its_owner_is_not_taken_back(stage: Stage) {
    stage.apply("lost", "{replicas: 1}");
    stage.until("lost", "Ready=True").await;
    let services = objects(&stage.client, stage.namespace.name(), "services");
    let nobodys =
        json!({"metadata": {"ownerReferences": null}, "spec": {"selector": {"app": "theirs"}}});
    let nobodys = meddle(&services, "lost", &nobodys).await;
    let gateway = stage.until("lost", "OwnershipConflict=True").await;
    let expected = "Service lost exists and is not of this WsGateway; it is nobody's";
    assert!(
        conflict(&gateway).contains(expected),
        "{}",
        conflict(&gateway)
    );
    let still = services.get("lost").await.unwrap();
    assert_eq!(still.resource_version(), nobodys.resource_version());
    delete(&services, "lost").await;
    let begin = Instant::now();
    stage.until("lost", "Ready=True").await;
    println!(
        "what had lost its owner is made anew {:.1?} after it went",
        begin.elapsed()
    );
    // What is given back is right again at once.
    let owner = stage.gateways().get("lost").await.unwrap();
    let reference = json!({
        "apiVersion": "wsgateway.io/v1alpha1", "kind": "WsGateway", "name": "lost",
        "uid": owner.uid(), "controller": true, "blockOwnerDeletion": true,
    });
    meddle(
        &services,
        "lost",
        &json!({"metadata": {"ownerReferences": null}}),
    )
    .await;
    stage.until("lost", "OwnershipConflict=True").await;
    meddle(
        &services,
        "lost",
        &json!({"metadata": {"ownerReferences": [reference]}}),
    )
    .await;
    stage.until("lost", "Ready=True").await;
}

async fn a_gateway_that_is_made_anew_takes_nothing_from_the_old_one(stage: Stage) {
    let pods: Api<Pod> = stage.namespace.api();
    let running = async || {
        let pods = pods.list(&ListParams::default()).await.unwrap();
        let pods = pods
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none());
        pods.filter_map(ResourceExt::uid).collect::<BTreeSet<_>>()
    };
    stage.apply("anew", "{replicas: 2}");
    stage.until("anew", "GatewayAvailable=True/AllReady").await;
    let before = running().await;
    // Its children stay, and go on serving, but they are nobody's.
    stage
        .namespace
        .kubectl(&["delete", "wsgw", "anew", "--cascade=orphan"]);
    stage.apply("anew", "{replicas: 2, image: 'test.local/wsgateway:2'}");
    let gateway = stage.until("anew", "OwnershipConflict=True").await;
    for name in [
        "ConfigMap anew-live",
        "Secret anew-tls",
        "Service anew",
        "Ingress anew",
    ] {
        assert!(conflict(&gateway).contains(name), "{}", conflict(&gateway));
    }
    assert_eq!(running().await, before);
    stage.namespace.kubectl(&[
        "delete",
        "deployments,services,configmaps,secrets,ingresses,serviceaccounts,poddisruptionbudgets",
        "--selector=app.kubernetes.io/instance=anew",
        "--wait=false",
    ]);
    stage.until("anew", "Ready=True").await;

    // Deleted and applied again in one go: the old children go by the garbage collector, and new ones take their names.
    let old: Api<Service> = stage.namespace.api();
    let old = old.get("anew").await.unwrap();
    stage
        .namespace
        .kubectl(&["delete", "wsgw", "anew", "--wait=false"]);
    wait_gone_or_other(&stage, "anew", old.owner_references()[0].uid.as_str()).await;
    stage.apply("anew", "{replicas: 2}");
    let begin = Instant::now();
    let gateway = stage.until("anew", "Ready=True").await;
    println!(
        "what was deleted and applied again is ready after {:.1?}",
        begin.elapsed()
    );
    let uid = gateway.uid().unwrap();
    let is_of = |owner: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference]| {
        owner.len() == 1 && owner[0].uid == uid
    };
    let services: Api<Service> = stage.namespace.api();
    let maps: Api<ConfigMap> = stage.namespace.api();
    let deployments: Api<Deployment> = stage.namespace.api();
    let what = "it is of the new one";
    wait_for(&services, "anew", what, SOON, |it| {
        is_of(it.owner_references())
    })
    .await;
    wait_for(&maps, "anew-live", what, SOON, |it| {
        is_of(it.owner_references())
    })
    .await;
    wait_for(&deployments, "anew", what, SOON, |it| {
        is_of(it.owner_references())
    })
    .await;
}

/// The `WsGateway` itself is gone before its name can be had again.
async fn wait_gone_or_other(stage: &Stage, name: &str, uid: &str) {
    let gateway = stage.gateways().get_opt(name).await.unwrap();
    if gateway.is_some_and(|gateway| gateway.uid().as_deref() == Some(uid)) {
        wait_gone(&stage.gateways(), name, SOON).await;
    }
}
