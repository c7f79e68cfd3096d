//! Goldens of whole views.

use expect_test::{Expect, expect};
use kube::api::DynamicObject;
use serde_json::{Value, json};
use wsgateway_crds::report::Report;

use super::*;
use crate::status::observed::{Child, SecretSeen, SecretState};

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": type_, "status": status, "reason": reason, "message": message,
        "observedGeneration": 2, "lastTransitionTime": "2026-11-22T11:57:00Z",
    })
}

fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).unwrap()
}

fn observed(conditions: &[Value]) -> Observed {
    let status = json!({
        "observedGeneration": 2,
        "replicas": 2,
        "readyReplicas": 1,
        "connections": 1_204,
        "url": "wss://ws.example.com/news",
        "revision": {"desired": "6f1c9d00aabbccdd", "pods": 1, "image": "wsgateway:0.1.0"},
        "exposure": {
            "dialect": "nginx.org",
            "notExpressed": [{"field": "exposure.status", "why": "a controller shows it for all"}],
            "certificateNotAfter": "2027-02-20T12:00:00Z",
        },
        "conditions": conditions,
    });
    Observed {
        gateway: object(json!({
            "metadata": {"name": "news", "namespace": "shop", "generation": 2, "uid": "w"},
            "spec": {"replicas": 2},
        })),
        status: serde_json::from_value(status).unwrap(),
        children: Vec::new(),
        replica_sets: Vec::new(),
        pods: Vec::new(),
        secrets: Vec::new(),
        events: Vec::new(),
    }
}

fn child(kind: Kind, value: Value) -> Child {
    let object = object(value);
    Child { kind, object }
}

fn pod(name: &str, status: &Value, report: Option<Result<&str, &str>>) -> PodSeen {
    let pod = json!({
        "metadata": {
            "name": name, "annotations": {"wsgateway.io/live": "6f1c9d00aabbccdd"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "news-5f6", "uid": "r"}],
        },
        "status": status,
    });
    let report = report.map(|report| match report {
        Ok(live) => Ok(Report {
            version: "0.1.0".to_owned(),
            boot_hash: "b".to_owned(),
            live_hash: live.to_owned(),
            rejected: None,
            connections: 1_204,
            draining: false,
            nats: serde_json::from_value(json!({"connected": true})).unwrap(),
            tls: None,
            auth: Vec::new(),
        }),
        Err(problem) => Err(problem.to_owned()),
    });
    PodSeen {
        pod: serde_json::from_value(pod).unwrap(),
        report,
    }
}

fn ready() -> Value {
    json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})
}

fn every_kind() -> Vec<Child> {
    vec![
        child(Kind::ServiceAccount, json!({"metadata": {"name": "news"}})),
        child(Kind::ConfigMap, json!({"metadata": {"name": "news-live"}})),
        child(
            Kind::Ingress,
            json!({"metadata": {"name": "news"}, "spec": {"ingressClassName": "nginx", "rules": [{"host": "ws.example.com"}]}}),
        ),
        child(
            Kind::Service,
            json!({"metadata": {"name": "news"}, "spec": {"type": "ClusterIP", "clusterIP": "10.0.0.7", "ports": [{"port": 8000}]}}),
        ),
        child(
            Kind::Deployment,
            json!({
                "metadata": {"name": "news", "uid": "d"}, "spec": {"replicas": 2},
                "status": {"readyReplicas": 1, "updatedReplicas": 2},
            }),
        ),
        child(
            Kind::HorizontalPodAutoscaler,
            json!({
                "metadata": {"name": "news"}, "spec": {"minReplicas": 2, "maxReplicas": 9},
                "status": {"desiredReplicas": 2, "conditions": [
                    {"type": "ScalingActive", "status": "False", "reason": "FailedGetPodsMetric", "message": "no metrics API"},
                ]},
            }),
        ),
        child(
            Kind::PodDisruptionBudget,
            json!({"metadata": {"name": "news"}, "status": {"disruptionsAllowed": 0}}),
        ),
    ]
}

fn generations() -> Vec<DynamicObject> {
    let owned = |uid: &str| json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "news", "uid": uid}]);
    vec![
        object(json!({
            "metadata": {"name": "news-5f6", "uid": "r", "ownerReferences": owned("d")},
            "spec": {"replicas": 2}, "status": {"readyReplicas": 1},
        })),
        object(json!({
            "metadata": {"name": "news-old", "uid": "o", "ownerReferences": owned("d")}, "spec": {"replicas": 0},
        })),
    ]
}

fn pods() -> Vec<PodSeen> {
    let waiting = json!({"phase": "Pending", "containerStatuses": [{
        "name": "gateway", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}},
    }]});
    vec![
        pod("news-5f6-a", &ready(), Some(Ok("6f1c9d00aabbccdd"))),
        pod("news-5f6-b", &waiting, None),
    ]
}

fn secrets() -> Vec<SecretSeen> {
    vec![
        SecretSeen {
            name: "news-tls".to_owned(),
            purpose: "the certificate that clients see",
            state: SecretState::There,
        },
        SecretSeen {
            name: "news-ca".to_owned(),
            purpose: "the authority and its key",
            state: SecretState::NotPermitted,
        },
    ]
}

fn check(observed: &Observed, expected: &Expect) {
    expected.assert_eq(&text(observed, now()));
}

#[test]
fn what_is_amiss_comes_first_with_what_to_do_about_it() {
    let failing = "1 of 2 gateways are ready; pod news-5f6-b waits: ImagePullBackOff: not found";
    let mut observed = observed(&[
        condition("Ready", "False", "PodsFailing", failing),
        condition("Accepted", "True", "Valid", "the spec is right"),
        condition("GatewayAvailable", "False", "PodsFailing", failing),
        condition(
            "TLSReady",
            "True",
            "Issued",
            "a certificate of its own authority",
        ),
        condition(
            "ExposureReady",
            "Unknown",
            "NoAddress",
            "the Ingress has no address in its status yet",
        ),
        condition(
            "ConfigPropagated",
            "False",
            "Propagating",
            "1 of 2 pods run live configuration 6f1c9d00aabbccdd",
        ),
        condition(
            "NatsConnected",
            "True",
            "Connected",
            "1 gateways are connected",
        ),
        condition(
            "OwnershipConflict",
            "False",
            "NoConflict",
            "all names are free",
        ),
        condition(
            "Reconciling",
            "True",
            "RollingOut",
            "gateways are started or replaced",
        ),
        condition("Newfangled", "False", "Whatever", "of a newer operator"),
    ]);
    observed.children = every_kind();
    observed.replica_sets = generations();
    observed.pods = pods();
    observed.secrets = secrets();
    observed.events = vec![
        serde_json::from_value(json!({
            "metadata": {"name": "e"}, "eventTime": "2026-11-22T11:57:00.000000Z",
            "type": "Warning", "reason": "PodsFailing", "note": failing,
        }))
        .unwrap(),
    ];
    check(
        &observed,
        &expect![[r"
            WsGateway shop/news is not Ready: PodsFailing
              url          wss://ws.example.com/news
              replicas     1 of 2 ready
              connections  1204
              image        wsgateway:0.1.0
              upgrade      Automatic
              live         6f1c9d00aabbccdd, runs in 1 of 2 pods
              dialect      nginx.org
                           cannot say exposure.status: a controller shows it for all
              certificate  until 2027-02-20T12:00:00Z

              ! ExposureReady is Unknown for 3m: NoAddress
                the Ingress has no address in its status yet
                → wait for the ingress controller or load balancer; if none takes it up, check exposure.ingress.className and that its controller runs

              ! GatewayAvailable is False for 3m: PodsFailing
                1 of 2 gateways are ready; pod news-5f6-b waits: ImagePullBackOff: not found
                → kubectl -n shop describe pods -l app.kubernetes.io/instance=news: a wrong image or pull secret, a missing Secret to mount, or a crash; for that: kubectl -n shop logs -l app.kubernetes.io/instance=news -c gateway --previous

              ! ConfigPropagated is False for 3m: Propagating
                1 of 2 pods run live configuration 6f1c9d00aabbccdd
                → wait: it passes by itself

              ! Reconciling is True for 3m: RollingOut
                gateways are started or replaced
                → wait: it passes by itself

              ├─ Deployment news  1/2 ready
              │  └─ ReplicaSet news-5f6  1/2 ready
              │     ├─ Pod news-5f6-a  ready  1204 connections  live 6f1c9d00aabbccdd
              │     └─ Pod news-5f6-b  waits: ImagePullBackOff: not found  told of live 6f1c9d00aabbccdd
              ├─ Service news  ClusterIP 10.0.0.7:8000
              ├─ Ingress news  of class nginx  ws.example.com  no address yet
              ├─ Secret news-ca  the authority and its key, not looked at: you may not get secrets
              ├─ Secret news-tls  the certificate that clients see
              ├─ ConfigMap news-live
              ├─ HorizontalPodAutoscaler news  2–9  wants 2 now  does not scale: FailedGetPodsMetric: no metrics API
              ├─ PodDisruptionBudget news  0 may be evicted now
              └─ ServiceAccount news

                3m ago  Warning  PodsFailing: 1 of 2 gateways are ready; pod news-5f6-b waits: ImagePullBackOff: not found
        "]],
    );
    assert!(!observed.is_ready());
}

#[test]
fn one_that_is_ready_has_nothing_amiss() {
    let mut observed = observed(&[
        condition("Ready", "True", "Ready", "clients can connect"),
        condition(
            "ExposureReady",
            "Unknown",
            "Probing",
            "a handshake at 192.0.2.1:443 is being tried",
        ),
        condition(
            "Reconciling",
            "False",
            "UpgradeHeld",
            "spec.upgrade is OnSpecChange",
        ),
    ]);
    observed.pods = vec![
        pod(
            "news-5f6-a",
            &ready(),
            Some(Err("cannot get /status of pod news-5f6-a: forbidden")),
        ),
        pod("news-5f6-b", &ready(), Some(Ok("0123456789abcdef"))),
    ];
    observed.children = vec![child(
        Kind::Deployment,
        json!({
            "metadata": {"name": "news", "uid": "d"}, "spec": {"replicas": 2},
            "status": {"readyReplicas": 2, "updatedReplicas": 2},
        }),
    )];
    observed.replica_sets = vec![object(json!({
        "metadata": {"name": "news-5f6", "uid": "r", "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "Deployment", "name": "news", "uid": "d"},
        ]},
        "spec": {"replicas": 2}, "status": {"readyReplicas": 2},
    }))];
    check(
        &observed,
        &expect![[r"
        WsGateway shop/news is Ready
          url          wss://ws.example.com/news
          replicas     1 of 2 ready
          connections  1204, as the operator last counted
          image        wsgateway:0.1.0
          upgrade      Automatic; a newer operator's gateways come with the next change of the spec
          live         6f1c9d00aabbccdd, runs in 1 of 2 pods
          dialect      nginx.org
                       cannot say exposure.status: a controller shows it for all
          certificate  until 2027-02-20T12:00:00Z

          └─ Deployment news  2/2 ready
             └─ ReplicaSet news-5f6  2/2 ready
                ├─ Pod news-5f6-a  ready  told of live 6f1c9d00aabbccdd
                └─ Pod news-5f6-b  ready  1204 connections  live 0123456789abcdef, not yet 6f1c9d00aabbccdd
          1 pod could not be asked what runs there: cannot get /status of pod news-5f6-a: forbidden
    "]],
    );
    assert!(observed.is_ready());
}

#[test]
fn a_spec_that_is_refused_is_said_once_and_one_that_nobody_saw_is_not_ready() {
    let refusal = "spec.routes[0].path: two\u{1b}[31m routes";
    let mut observed = observed(&[
        condition("Ready", "False", "OverlappingPaths", refusal),
        condition("Accepted", "False", "OverlappingPaths", refusal),
        condition(
            "TLSReady",
            "Unknown",
            "NotAccepted",
            "the spec is not accepted; see Accepted",
        ),
        condition("Stalled", "True", "OverlappingPaths", refusal),
    ]);
    check(
        &observed,
        &expect![[r"
        WsGateway shop/news is not Ready: OverlappingPaths
          url          wss://ws.example.com/news
          replicas     1 of 2 ready
          connections  1204, as the operator last counted
          image        wsgateway:0.1.0
          upgrade      Automatic
          live         6f1c9d00aabbccdd, runs in 1 of 0 pods
          dialect      nginx.org
                       cannot say exposure.status: a controller shows it for all
          certificate  until 2027-02-20T12:00:00Z

          ! Accepted is False for 3m: OverlappingPaths
            spec.routes[0].path: two�[31m routes
            → give one of the two routes a path that no request can mean both by
    "]],
    );
    observed.gateway.metadata.generation = Some(3);
    observed.status.conditions =
        vec![serde_json::from_value(condition("Ready", "True", "Ready", "")).unwrap()];
    assert!(!observed.is_ready());
    observed.status = wsgateway_crds::v1alpha1::WsGatewayStatus::default();
    check(
        &observed,
        &expect![[r"
        WsGateway shop/news is not Ready: no operator has seen its newest spec
          replicas     0 of 2 ready
          upgrade      Automatic

          ! No operator has looked at it yet
            → see that an operator runs and watches this namespace: kubectl get pods -A -l app.kubernetes.io/name=wsgateway-operator
    "]],
    );
}
