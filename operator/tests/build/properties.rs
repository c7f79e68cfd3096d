//! What holds for every gateway.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    apps::v1::Deployment,
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{ConfigMap, Secret, Service, ServiceAccount},
    networking::v1::{Ingress, NetworkPolicy},
    policy::v1::PodDisruptionBudget,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use wsgateway_operator::build::{names, possible};

use super::*;

/// Every golden, built with all optional kinds served.
fn every(check: impl Fn(&Gateway, &Desired)) {
    for entry in fs::read_dir(goldens()).unwrap() {
        let file = entry.unwrap().path();
        if file.to_string_lossy().ends_with(".objects.yaml") {
            continue;
        }
        let gateway = gateway(&fs::read_to_string(file).unwrap());
        for front in [
            ingress("nginx", Some(Dialect::F5)),
            ingress("nginx", Some(Dialect::Community)),
            ingress("traefik", None),
            Front::GatewayApi(Implementation::NginxGatewayFabric),
            Front::GatewayApi(Implementation::Other),
            Front::Service,
            Front::Unknown,
        ] {
            let optional = Kind::ALL.into_iter().filter(|kind| kind.is_optional());
            check(
                &gateway,
                &build(&gateway, &serving(optional, behind(front))),
            );
        }
    }
}

#[test]
fn each_object_is_named_labelled_and_owned() {
    every(|gateway, desired| {
        let name = gateway.name.as_str();
        let boot = (Kind::ConfigMap, names::boot(name, &desired.boot_hash));
        let may_be: BTreeSet<_> = possible(name).into_iter().chain([boot]).collect();
        let mut seen = BTreeSet::new();
        for Object {
            kind,
            name,
            manifest,
        } in all(desired)
        {
            let key = (kind, name.clone());
            assert!(kind.is_child() && may_be.contains(&key), "{key:?}");
            assert!(seen.insert(key), "{kind:?} {name} stands there twice");
            assert_eq!(manifest["apiVersion"], kind.resource().api_version.as_str());
            assert_eq!(manifest["kind"], kind.name());
            let metadata = &manifest["metadata"];
            assert_eq!(metadata["name"], name.as_str());
            assert_eq!(metadata["namespace"], "shop");
            assert_eq!(metadata["ownerReferences"][0]["controller"], true);
            assert_eq!(
                metadata["labels"]["app.kubernetes.io/instance"],
                "notifications"
            );
            assert_eq!(
                metadata["labels"]["app.kubernetes.io/managed-by"],
                "wsgateway-operator"
            );
        }
        let kept: BTreeSet<_> = desired.kept.iter().cloned().collect();
        assert!(
            kept.is_subset(&may_be) && kept.is_disjoint(&seen),
            "{kept:?}"
        );
    });
}

/// Server-side apply would take the ownership of each.
#[test]
fn nothing_empty_is_written() {
    fn walk(path: &str, value: &Value) {
        // Here nothing means everything: the pods of the policy's own namespace.
        let selects_all = path.ends_with("/podSelector") && path.contains("/from/");
        match value {
            Value::Null => panic!("{path} is null"),
            Value::Object(map) => {
                assert!(!map.is_empty() || selects_all, "{path} is empty");
                for (key, value) in map {
                    walk(&format!("{path}/{key}"), value);
                }
            }
            Value::Array(list) => {
                assert!(!list.is_empty(), "{path} is empty");
                for value in list {
                    walk(&format!("{path}/-"), value);
                }
            }
            Value::String(_) | Value::Number(_) | Value::Bool(_) => {}
        }
    }
    every(|_, desired| {
        for object in all(desired) {
            walk(object.kind.name(), &object.manifest);
        }
    });
}

#[test]
fn built_in_kinds_have_no_field_that_kubernetes_does_not_know() {
    fn known<T: DeserializeOwned + Serialize>(value: &Value) -> Option<Value> {
        let typed: T = serde_json::from_value(value.clone()).unwrap();
        serde_json::to_value(typed).ok()
    }
    every(|_, desired| {
        for Object { kind, manifest, .. } in all(desired) {
            let again = match kind {
                Kind::ServiceAccount => known::<ServiceAccount>(&manifest),
                Kind::ConfigMap => known::<ConfigMap>(&manifest),
                Kind::Secret => known::<Secret>(&manifest),
                Kind::Service => known::<Service>(&manifest),
                Kind::Deployment => known::<Deployment>(&manifest),
                Kind::Ingress => known::<Ingress>(&manifest),
                Kind::PodDisruptionBudget => known::<PodDisruptionBudget>(&manifest),
                Kind::HorizontalPodAutoscaler => known::<HorizontalPodAutoscaler>(&manifest),
                Kind::NetworkPolicy => known::<NetworkPolicy>(&manifest),
                optional => {
                    assert!(optional.is_optional(), "{optional:?}");
                    continue;
                }
            };
            assert_eq!(again, Some(manifest), "{kind:?}");
        }
    });
}

#[test]
fn the_pods_carry_what_selects_them_and_each_is_gone_before_the_next_is_to_go() {
    every(|_, desired| {
        let spec = desired.deployment.spec.as_ref().unwrap();
        let pod = &spec.template;
        let labels = pod.metadata.as_ref().unwrap().labels.as_ref().unwrap();
        for (key, value) in spec.selector.match_labels.as_ref().unwrap() {
            assert_eq!(labels.get(key), Some(value));
        }
        assert_eq!(labels.get(names::BOOT_LABEL), Some(&desired.boot_hash));
        let pod = pod.spec.as_ref().unwrap();
        let min_ready = i64::from(spec.min_ready_seconds.unwrap());
        let grace = pod.termination_grace_period_seconds.unwrap();
        assert!(min_ready >= grace, "two gateways may end at a time");
        assert!(i64::from(spec.progress_deadline_seconds.unwrap()) > min_ready + grace);
        let container = &pod.containers[0];
        for port in container.ports.as_ref().unwrap() {
            assert!([8000, 9000].contains(&port.container_port));
        }
        let volumes = pod.volumes.as_ref().unwrap();
        for mount in container.volume_mounts.as_ref().unwrap() {
            assert!(
                volumes.iter().any(|volume| volume.name == mount.name),
                "{}",
                mount.name
            );
        }
    });
}

/// Without which nothing is accepted in a cluster.
const NATS: &str = "nats: {servers: ['nats://nats.shop.svc:4222']}";

/// The two desired states of a spec and of another one, and which objects differ.
fn changed(from: &str, to: &str) -> BTreeSet<String> {
    let of = |spec: &str| {
        let spec = spec.replacen('{', &format!("{{{NATS}, "), 1);
        build(
            &gateway(&format!(
                "{{apiVersion: wsgateway.io/v1alpha1, kind: WsGateway, \
                 metadata: {{name: notifications, namespace: shop}}, spec: {spec}}}"
            )),
            &serving(Kind::ALL, site()),
        )
    };
    differing(&of(from), &of(to))
}

fn differing(before: &Desired, after: &Desired) -> BTreeSet<String> {
    let of = |desired: &Desired| {
        let objects = all(desired).into_iter();
        let pairs = objects.map(|object| ((object.kind, object.name), object.manifest));
        pairs.collect::<BTreeMap<_, _>>()
    };
    let (before, after) = (of(before), of(after));
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let differing = keys
        .into_iter()
        .filter(|key| before.get(key) != after.get(key));
    differing
        .map(|(kind, name)| format!("{} {name}", kind.name()))
        .collect()
}

#[test]
fn a_change_touches_only_the_objects_that_say_it() {
    let check = |from: &str, to: &str, expected: &[&str]| {
        let expected = expected.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(changed(from, to), expected, "{from} -> {to}");
    };
    let routes = "routes: [{name: a, path: /a}]";
    let base = &format!("{{{routes}}}");
    check(base, base, &[]);
    let live = "ConfigMap notifications-live";
    for field in [
        "websocket: {maxMessageSize: 1Mi, pingPeriod: 20s, allowedOrigins: [SameHost]}",
        "limits: {outbox: {bytesPerConnection: 4Mi}}",
        "rollout: {drain: {maxPerSecond: 10, retryAfter: {max: 1m}}}",
    ] {
        check(base, &format!("{{{routes}, {field}}}"), &[live]);
    }
    let publishes = "{routes: [{name: a, path: /a, fromClient: {type: Discard}}]}";
    check(base, publishes, &[live]);
    let renamed = "{routes: [{name: a, path: /b}]}";
    check(base, renamed, &[live, "Ingress notifications"]);
    let counted = |count: u32| format!("{{{routes}, replicas: {count}}}");
    check(&counted(2), &counted(9), &["Deployment notifications"]);
    let budget = "PodDisruptionBudget notifications";
    check(
        &counted(1),
        &counted(2),
        &["Deployment notifications", budget],
    );
    check(
        base,
        &format!("{{{routes}, exposure: {{proxyReadTimeout: 2m}}}}"),
        &["Ingress notifications"],
    );
    check(
        base,
        &format!("{{{routes}, rollout: {{drain: {{period: 1m}}}}}}"),
        &[live, "Deployment notifications"],
    );
}

#[test]
fn a_renewed_certificate_touches_only_secrets() {
    let gateway = gateway(&fs::read_to_string(goldens().join("seed.yaml")).unwrap());
    let renewed = Site {
        issued: Some(issued("2")),
        ..site()
    };
    let changed = differing(&build(&gateway, &site()), &build(&gateway, &renewed));
    let expected = ["Secret notifications-ca", "Secret notifications-tls"];
    assert_eq!(changed, expected.map(str::to_owned).into());
}

#[test]
fn replicas_are_all_that_a_scaled_deployment_differs_by() {
    let text = fs::read_to_string(goldens().join("seed.yaml")).unwrap();
    let mut gateway = gateway(&text);
    let mut before = build(&gateway, &site()).deployment;
    gateway.replicas = 7;
    let after = build(&gateway, &site()).deployment;
    before.spec.as_mut().unwrap().replicas = Some(7);
    assert_eq!(before, after);
}

/// What the model refuses is not undone by a template that got past it.
#[test]
fn a_template_cannot_take_what_is_derived() {
    use k8s_openapi::api::core::v1::{Volume, VolumeMount};
    let text = fs::read_to_string(goldens().join("pod-template.yaml")).unwrap();
    let mut gateway = gateway(&text);
    let expected = build(&gateway, &site()).deployment;
    let metadata = gateway.pod_template.metadata.as_mut().unwrap();
    let labels = metadata.labels.as_mut().unwrap();
    labels.insert("app.kubernetes.io/instance".to_owned(), "other".to_owned());
    labels.insert(names::BOOT_LABEL.to_owned(), "other".to_owned());
    let pod = gateway.pod_template.spec.as_mut().unwrap();
    pod.volumes.as_mut().unwrap().push(Volume {
        name: "wsgateway-live".to_owned(),
        empty_dir: Some(k8s_openapi::api::core::v1::EmptyDirVolumeSource::default()),
        ..Volume::default()
    });
    pod.containers[0]
        .volume_mounts
        .as_mut()
        .unwrap()
        .push(VolumeMount {
            name: "scratch".to_owned(),
            mount_path: "/etc/wsgateway/boot/".to_owned(),
            ..VolumeMount::default()
        });
    assert_eq!(build(&gateway, &site()).deployment, expected);
}

#[test]
fn the_url_is_what_a_client_would_write() {
    let check = |spec: &str, expected: Option<&str>| {
        let head = "{apiVersion: wsgateway.io/v1alpha1, kind: WsGateway, metadata: {name: notifications, namespace: shop}, spec: ";
        let got = url(&gateway(&format!("{head}{{{NATS}, {spec}}}}}")));
        assert_eq!(got.as_deref(), expected, "{spec}");
    };
    let routes = "routes: [{name: b, path: '/b/{x}'}, {name: a, path: /a}]";
    let check_exposure =
        |exposure: &str, expected| check(&format!("{routes}, exposure: {{{exposure}}}"), expected);
    check_exposure("", None);
    check_exposure("hosts: ['*.example.com']", None);
    check_exposure(
        "hosts: ['*.example.com', ws.example.com]",
        Some("wss://ws.example.com/a"),
    );
    check_exposure(
        "hosts: [ws.example.com], tls: {type: None}",
        Some("ws://ws.example.com/a"),
    );
    check_exposure(
        "type: None, tls: {type: None}",
        Some("ws://notifications.shop.svc:8000/a"),
    );
    check_exposure("type: None", Some("wss://notifications.shop.svc:8000/a"));
    check_exposure("type: LoadBalancer, tls: {type: None}", None);
    check_exposure(
        "type: LoadBalancer, hosts: [ws.example.com]",
        Some("wss://ws.example.com:8000/a"),
    );
    check_exposure(
        "type: LoadBalancer, hosts: [ws.example.com], tls: {type: None}",
        Some("ws://ws.example.com:8000/a"),
    );
    check(
        "routes: [{name: b, path: '/b/{x}'}], exposure: {hosts: [ws.example.com]}",
        None,
    );
    check(
        "routes: [{name: r, path: /}], exposure: {hosts: [ws.example.com]}",
        Some("wss://ws.example.com/"),
    );
}
