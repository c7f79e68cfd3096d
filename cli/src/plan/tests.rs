//! Goldens: a `WsGateway` that an operator has carried out, and another file for it.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use wsgateway_model::validate;
use wsgateway_nginx_ingress::Dialect;
use wsgateway_operator::{
    build::{self, Front, Site},
    kinds::Kind,
    rollout::{self, Running, Wanted},
};

use super::{
    before::{Before, Child, PodAtWork},
    *,
};

const SPEC: &str = r"
replicas: 3
nats: {servers: ['nats://nats:4222']}
routes:
  - {name: news, path: /news, fromClient: {type: Discard}, toClient: [{name: live, type: Core, core: {subjects: [news.>]}}]}
  - {name: chat, path: /chat}
exposure: {hosts: [ws.example.com]}
";

fn object(spec: &str) -> Value {
    let spec = spec.trim().replace('\n', "\n  ");
    let text = format!(
        "apiVersion: wsgateway.io/v1alpha1\nkind: WsGateway\nmetadata: {{name: web, namespace: shop}}\nspec:\n  {spec}\n"
    );
    documents(&text).unwrap().gateways.swap_remove(0).value
}

fn defaults() -> Defaults {
    Defaults {
        nats_servers: vec!["nats://default:4222".to_owned()],
    }
}

fn front() -> Front {
    Front::Ingress {
        class: Some("nginx".to_owned()),
        dialect: Some(Dialect::F5),
    }
}

/// An object with the managed fields that applying it leaves.
fn managed(mut manifest: Value) -> Value {
    fn fields(value: &Value) -> Value {
        let fields_of = value.as_object().into_iter().flatten();
        fields_of
            .map(|(name, value)| (format!("f:{name}"), fields(value)))
            .collect()
    }
    let fields = fields(&manifest);
    manifest["metadata"]["managedFields"] =
        json!([{"manager": "wsgateway-operator", "operation": "Apply", "fieldsV1": fields}]);
    manifest
}

/// What an operator has made of a spec, with pods that hold so many connections of each route.
fn carried_out(spec: &str, pods: &[Result<[u64; 2], &str>]) -> Before {
    let mut live = object(spec);
    live["metadata"]["generation"] = json!(4);
    let known = json!({"field": "exposure.status", "why": "a controller shows stub_status for all its Ingresses, on a port of its own pod"});
    live["status"] =
        json!({"observedGeneration": 4, "connections": 120, "exposure": {"notExpressed": [known]}});
    let typed: WsGateway = serde_json::from_value(live.clone()).unwrap();
    let gateway = validate(&typed, &defaults().referenced()).unwrap();
    let site = Site {
        image: "wsgateway:0.0.9".to_owned(),
        operator_namespace: Some("system".to_owned()),
        owner: None,
        served: [Kind::PodMonitor].into(),
        front: front(),
        issued: None,
    };
    let mut desired = build::build(&gateway, &site);
    let wanted = Wanted {
        generation: 4,
        image: gateway.image.as_deref(),
        replicas: gateway.replicas.try_into().unwrap(),
        upgrade: gateway.upgrade,
    };
    let running = Running {
        deployment: None,
        terminating: 0,
        alive: 0,
        has_boot: false,
    };
    rollout::pace(&mut desired.deployment, &wanted, &running, || true);
    let mut deployment = json!(desired.deployment);
    deployment["status"] = json!({
        "replicas": gateway.replicas, "updatedReplicas": gateway.replicas, "availableReplicas": gateway.replicas,
    });
    let objects = desired.objects.into_iter();
    let objects = objects.map(|object| ((object.kind, object.name), object.manifest));
    let kept = desired
        .kept
        .into_iter()
        .map(|key| (key, json!({"metadata": {}})));
    let children = objects
        .chain(kept)
        .chain([((Kind::Deployment, "web".to_owned()), deployment)])
        .map(|(key, manifest)| (key, Child::Ours(Box::new(managed(manifest)))));
    let pods = pods.iter().map(|pod| PodAtWork {
        connections: match pod {
            Ok([news, chat]) => Ok(BTreeMap::from([
                ("news".to_owned(), *news),
                ("chat".to_owned(), *chat),
            ])),
            Err(why) => Err((*why).to_owned()),
        },
    });
    Before {
        gateway: Some(serde_json::from_value(live).unwrap()),
        children: children.collect(),
        pods: pods.collect(),
        terminating: 0,
        front: front(),
        front_note: None,
        served: vec![Kind::PodMonitor],
        conflict: None,
        defaults: defaults(),
    }
}

const PODS: [Result<[u64; 2], &str>; 3] = [Ok([10, 1]), Ok([20, 2]), Ok([30, 3])];

fn check_with(before: &Before, spec: &str, has_changes: bool, expected: &Expect) {
    let (after, gateway) = understood(&object(spec), &before.defaults).unwrap();
    let forecast = forecast(&after, &gateway, before);
    expected.assert_eq(&view::text(&forecast));
    assert_eq!(forecast.has_changes(), has_changes);
}

fn check(from: &str, to: &str, expected: &Expect) {
    let spec = SPEC.replace(from, to);
    assert!(from == to || spec != SPEC);
    check_with(&carried_out(SPEC, &PODS), &spec, from != to, expected);
}

#[test]
fn the_same_again_changes_nothing() {
    check(
        "",
        "",
        &expect![[r"
            WsGateway shop/web: nothing would change
        "]],
    );
}

#[test]
fn a_live_change_replaces_no_pod() {
    check(
        "replicas: 3",
        "replicas: 3\nwebsocket: {maxMessageSize: 1Mi}\nlimits: {connectionsPerPod: 50000}",
        &expect![[r#"
            WsGateway shop/web would change

              ~ WsGateway web
                  limits.connectionsPerPod: 10000 → 50000
                  websocket.maxMessageSize: "64Ki" → "1Mi"
              ~ ConfigMap web-live
                  live.yaml.limits.connections: 10000 → 50000
                  live.yaml.websocket.maxMessageSize: "64Ki" → "1Mi"

              gateways  stay
              reload    the gateways read the live configuration again, and close no socket for it
              proxy     nothing is written for it
              sockets   none would close
        "#]],
    );
}

#[test]
fn a_route_that_changes_closes_its_sockets_and_writes_the_ingress() {
    check(
        "path: /chat",
        "path: /talk",
        &expect![[r#"
            WsGateway shop/web would change

              ~ WsGateway web
                  routes[chat].path: "/chat" → "/talk"
              ~ ConfigMap web-live
                  live.yaml.routes[chat].path: "/chat" → "/talk"
              ~ Ingress web
                  spec.rules[0].http.paths[1].path: "/chat" → "/talk"

              gateways  stay
              reload    the gateways read the live configuration again, and close the sockets of
                          route chat, since its path changes
              proxy     Ingress is written: nginx reloads, and its old workers close the sockets that they hold, of all its sites, after worker_shutdown_timeout
              sockets   6 of 66 would close; by the proxy's reload, in time, all of them
        "#]],
    );
    check(
        "subjects: [news.>]",
        "subjects: [news.*]",
        &expect![[r#"
            WsGateway shop/web would change

              ~ WsGateway web
                  routes[news].toClient[live].core.subjects[0]: "news.>" → "news.*"
              ~ ConfigMap web-live
                  live.yaml.routes[news].toClient[live].subjects[0]: "news.>" → "news.*"

              gateways  stay
              reload    the gateways read the live configuration again, and close the sockets of
                          route news, since its subjects change
              proxy     nothing is written for it
              sockets   60 of 66 would close
        "#]],
    );
}

#[test]
fn nats_is_known_at_the_start_alone_so_pods_are_replaced() {
    check(
        "nats://nats:4222",
        "nats://other:4222",
        &expect![[r#"
            WsGateway shop/web would change

              ~ WsGateway web
                  nats.servers[0]: "nats://nats:4222" → "nats://other:4222"
              + ConfigMap web-boot-1116b903c9584c32, in place of web-boot-7e097e37273e1334
                  boot.yaml.boot.nats.servers[0]: "nats://nats:4222" → "nats://other:4222"
              ~ Deployment web
                  spec.template.spec.volumes[wsgateway-boot].configMap.name: "web-boot-7e097e37273e1334" → "web-boot-1116b903c9584c32"

              gateways  3: each is replaced, one after the other, which takes at least 2m45s (3 × 55s)
              reload    none: the live configuration is as it was
              proxy     nothing is written for it
              sockets   66 of 66 would close
        "#]],
    );
}

#[test]
fn fewer_gateways_close_the_sockets_of_the_emptiest() {
    check(
        "replicas: 3",
        "replicas: 1",
        &expect![[r"
            WsGateway shop/web would change

              ~ WsGateway web
                  replicas: 3 → 1
              ~ Deployment web
                  spec.replicas: 3 → 1
              - PodDisruptionBudget web

              gateways  3 → 1: one after the other leaves, that with the fewest connections first
              reload    none: the live configuration is as it was
              proxy     nothing is written for it
              sockets   33 of 66 would close
        "]],
    );
    check(
        "replicas: 3",
        "replicas: 5",
        &expect![[r"
            WsGateway shop/web would change

              ~ WsGateway web
                  replicas: 3 → 5
              ~ Deployment web
                  spec.replicas: 3 → 5

              gateways  3 → 5: those that run stay
              reload    none: the live configuration is as it was
              proxy     nothing is written for it
              sockets   none would close
        "]],
    );
}

#[test]
fn what_is_no_longer_asked_for_is_deleted() {
    check(
        "exposure: {hosts: [ws.example.com]}",
        "exposure: {hosts: [ws.example.com], tls: {type: None}}\nmonitoring: {metrics: Disabled}",
        &expect![[r#"
            WsGateway shop/web would change

              ~ WsGateway web
                  exposure.tls.type: "SelfSigned" → "None"
                  monitoring.metrics: "Auto" → "Disabled"
              ~ Ingress web
                  spec.tls: no longer set, was [{"hosts":["ws.example.com"],"secretName":"web-tls"}]
              - PodMonitor web
              - Secret web-ca
              - Secret web-tls
              - ConfigMap web-ca

              gateways  stay
              reload    none: the live configuration is as it was
              proxy     Ingress is written: nginx reloads, and its old workers close the sockets that they hold, of all its sites, after worker_shutdown_timeout
              sockets   none would close; by the proxy's reload, in time, all of them
        "#]],
    );
}

#[test]
fn a_new_one_is_made() {
    let mut before = carried_out(SPEC, &[]);
    before.gateway = None;
    before.children = BTreeMap::from([((Kind::Service, "web".to_owned()), Child::Theirs)]);
    check_with(
        &before,
        SPEC,
        true,
        &expect![[r"
        WsGateway shop/web would be made
          note: the operator's own image is not known from here: taken to be ghcr.io/wsgateway/wsgateway:0.1.0
          note: nginx.org cannot say exposure.status: a controller shows stub_status for all its Ingresses, on a port of its own pod

          + ServiceAccount web
          + ConfigMap web-boot-7e097e37273e1334
          + ConfigMap web-live
          ! Service web exists and is not of this WsGateway: the operator leaves it alone (OwnershipConflict)
          + PodDisruptionBudget web
          + Ingress web
          + PodMonitor web
          + Deployment web
          + Secret web-ca
          + Secret web-tls
          + ConfigMap web-ca
    "]],
    );
}

#[test]
fn what_cannot_be_asked_is_said() {
    let mut before = carried_out(
        SPEC,
        &[
            Ok([1, 2]),
            Err("cannot get /metrics of pod web-2: forbidden"),
        ],
    );
    before
        .children
        .insert((Kind::ServiceAccount, "web".to_owned()), Child::Hidden);
    check_with(
        &before,
        &SPEC.replace("name: chat", "name: talk"),
        true,
        &expect![[r#"
            WsGateway shop/web would change

              ~ WsGateway web
                  routes[talk]: set to {"fromClient":{"type":"Echo"},"name":"talk","path":"/chat","payload":"Te…
                  routes[chat]: no longer set, was {"fromClient":{"type":"Echo"},"name":"chat","path":"/chat","payload":"Te…
              ? ServiceAccount web: you may not read it, so what changes of it is not known
              ~ ConfigMap web-live
                  live.yaml.routes[talk]: set to {"fromClient":{"type":"Echo"},"name":"talk","path":"/chat","payload":"Te…
                  live.yaml.routes[chat]: no longer set, was {"fromClient":{"type":"Echo"},"name":"chat","path":"/chat","payload":"Te…

              gateways  2 → 3: those that run stay
              reload    the gateways read the live configuration again, and close the sockets of
                          route chat, since it is gone
              proxy     nothing is written for it
              sockets   at most 120 would close, as the operator counted last; cannot get /metrics of pod web-2: forbidden
        "#]],
    );
}

#[test]
fn nothing_is_made_of_what_is_paused_or_in_conflict() {
    check(
        "replicas: 3",
        "replicas: 4\npaused: true",
        &expect![[r"
        WsGateway shop/web would change
          note: spec.paused is true: the operator changes no object until it is false

          ~ WsGateway web
              paused: false → true
              replicas: 3 → 4
    "]],
    );
    let mut before = carried_out(SPEC, &PODS);
    before.conflict =
        Some("ws.example.com with path /chat belongs to WsGateway a/b, which is older".to_owned());
    check_with(
        &before,
        SPEC,
        false,
        &expect![[r"
        WsGateway shop/web: nothing would change
          note: ws.example.com with path /chat belongs to WsGateway a/b, which is older: the operator would refuse it (HostConflict), and make nothing of it
    "]],
    );
}

#[test]
fn another_operators_pods_are_told_from_what_the_file_changes() {
    let mut before = carried_out(SPEC, &PODS);
    let Some(Child::Ours(deployment)) = before
        .children
        .get_mut(&(Kind::Deployment, "web".to_owned()))
    else {
        panic!("there should be a Deployment");
    };
    let notes = &mut deployment["metadata"]["annotations"];
    let template = notes[rollout::POD_TEMPLATE]
        .as_str()
        .unwrap()
        .replace("/livez", "/alive");
    notes[rollout::POD_TEMPLATE] = json!(template);
    deployment["spec"]["template"] = serde_json::from_str(&template).unwrap();
    check_with(
        &before,
        &format!("{SPEC}upgrade: OnSpecChange\n"),
        true,
        &expect![[r#"
            WsGateway shop/web would change
              note: a newer operator's pods are held back by spec.upgrade: OnSpecChange
              note: wsgw 0.1.0 makes other pods of the spec that is there than those that run: the operator is of another version, or its newer pods wait. What is below holds for an operator of this version

              ~ WsGateway web
                  upgrade: "Automatic" → "OnSpecChange"
        "#]],
    );
}
