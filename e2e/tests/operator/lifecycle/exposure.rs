//! The ways in, one after the other.

use k8s_openapi::api::core::v1::Service;
use kube::Api;
use serde_json::json;
use wsgateway_crds::v1alpha1::WsGateway;
use wsgateway_e2e::{
    cluster::{Optional, wait_for},
    wait::SOON,
};

use super::{await_presence, change, is_there};
use crate::stage::{Mode, Stage, in_both_modes};

in_both_modes!(
    one_way_in_follows_another,
    a_class_that_is_missing_is_named_and_awaited,
);

/// What status says of the way in: the dialect and the URL.
fn told(gateway: &WsGateway) -> (Option<&str>, Option<&str>) {
    let status = gateway.status.as_ref().unwrap();
    let exposure = status.exposure.as_ref();
    let dialect = exposure.and_then(|exposure| exposure.dialect.as_deref());
    (dialect, status.url.as_deref())
}

async fn one_way_in_follows_another(stage: Stage) {
    stage
        .namespace
        .cluster()
        .install_optional(&[Optional::GatewayApi]);
    let services: Api<Service> = stage.namespace.api();
    let is = |type_: &'static str| {
        move |service: &Service| service.spec.as_ref().unwrap().type_.as_deref() == Some(type_)
    };
    stage.apply("ways", "{replicas: 1}");
    let gateway = stage.until("ways", "ExposureReady=Unknown/NoAddress").await;
    assert_eq!(
        told(&gateway),
        (Some("nginx.org"), Some("wss://ways.example.com/ws"))
    );
    assert!(is_there(&stage, "ingresses", "ways").await);

    let route = "{replicas: 1, exposure: {type: HTTPRoute, controller: example.com/gateway,
        tls: {type: None}, httpRoute: {parentRefs: [{name: public}]}}}";
    stage.apply("ways", route);
    let gateway = stage
        .until("ways", "ExposureReady=False/GatewayNotFound")
        .await;
    let dialect = Some("gateway.networking.k8s.io");
    assert_eq!(told(&gateway), (dialect, Some("ws://ways.example.com/ws")));
    await_presence(&stage, "httproutes", "ways", true).await;
    await_presence(&stage, "ingresses", "ways", false).await;
    let public = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "public"},
        "spec": {"gatewayClassName": "any", "listeners": [{"name": "ws", "port": 80, "protocol": "HTTP"}]},
    });
    stage.namespace.apply(&public.to_string());
    stage.until("ways", "ExposureReady=Unknown/NoParent").await;

    let balancer = "{replicas: 1, exposure: {type: LoadBalancer, tls: {type: None},
        loadBalancer: {loadBalancerClass: example.com/balancer, annotations: {example.com/a: b}}}}";
    stage.apply("ways", balancer);
    let gateway = stage.until("ways", "ExposureReady=Unknown/NoAddress").await;
    assert_eq!(
        told(&gateway),
        (None, Some("ws://ways.example.com:8000/ws"))
    );
    wait_for(
        &services,
        "ways",
        "it is a balancer",
        SOON,
        is("LoadBalancer"),
    )
    .await;
    await_presence(&stage, "httproutes", "ways", false).await;

    stage.apply(
        "ways",
        "{replicas: 1, exposure: {type: None, tls: {type: None}}}",
    );
    let gateway = stage
        .until("ways", "ExposureReady=True/InsideTheCluster")
        .await;
    let url = format!("ws://ways.{}.svc:8000/ws", stage.namespace.name());
    assert_eq!(told(&gateway), (None, Some(&*url)));
    let service = wait_for(&services, "ways", "it is inside", SOON, is("ClusterIP")).await;
    let annotations = service.metadata.annotations.unwrap();
    assert!(
        !annotations.contains_key("example.com/a"),
        "{annotations:?}"
    );

    stage.apply("ways", "{replicas: 1}");
    let gateway = stage.until("ways", "Ready=True").await;
    assert_eq!(
        told(&gateway),
        (Some("nginx.org"), Some("wss://ways.example.com/ws"))
    );
    await_presence(&stage, "ingresses", "ways", true).await;
}

async fn a_class_that_is_missing_is_named_and_awaited(stage: Stage) {
    let class = format!("class-of-{}", stage.namespace.name());
    let exposure = format!("{{ingress: {{className: {class}}}}}");
    stage.apply("classy", &format!("{{replicas: 1, exposure: {exposure}}}"));
    if stage.mode == Mode::Namespaced {
        // No class can be read there, whether there is one or not.
        stage
            .until("classy", "ExposureReady=Unknown/IngressClassUnreadable")
            .await;
        stage.until("classy", "Ready=True").await;
        assert!(!is_there(&stage, "ingresses", "classy").await);
        let controller = json!({"exposure": {"controller": "k8s.io/ingress-nginx"}});
        change(&stage, "classy", controller).await;
        let gateway = stage
            .until("classy", "ExposureReady=Unknown/NoAddress")
            .await;
        assert_eq!(told(&gateway).0, Some("nginx.ingress.kubernetes.io"));
        stage
            .until("classy", "ControllerRetired=True/IngressNginxRetired")
            .await;
        await_presence(&stage, "ingresses", "classy", true).await;
        return;
    }
    let gateway = stage
        .until("classy", "ExposureReady=False/IngressClassNotFound")
        .await;
    let said = format!("{:?}", gateway.status);
    assert!(said.contains(&class), "{said}");
    stage
        .until("classy", "Ready=False/IngressClassNotFound")
        .await;
    // All else is made meanwhile.
    stage.until("classy", "GatewayAvailable=True").await;
    assert!(!is_there(&stage, "ingresses", "classy").await);
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
        "metadata": {"name": class}, "spec": {"controller": "k8s.io/ingress-nginx"},
    });
    stage.namespace.cluster().apply(&object.to_string());
    let gateway = stage.until("classy", "Ready=True").await;
    assert_eq!(told(&gateway).0, Some("nginx.ingress.kubernetes.io"));
    stage
        .until("classy", "ControllerRetired=True/IngressNginxRetired")
        .await;
    await_presence(&stage, "ingresses", "classy", true).await;
    stage
        .namespace
        .cluster()
        .kubectl(&["delete", "ingressclass", &class]);
}
