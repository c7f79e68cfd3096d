//! From `kubectl apply` to ready, and what becomes of a `WsGateway` after that.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Secret, Service},
    networking::v1::Ingress,
};
use kube::Api;
use wsgateway_e2e::{cluster::wait_for, wait::SOON};

use crate::stage::{IMAGE, Stage, in_both_modes};

in_both_modes!(an_applied_gateway_becomes_ready);

async fn an_applied_gateway_becomes_ready(stage: Stage) {
    stage.apply("chat", "{replicas: 2}");
    let gateway = stage.until("chat", "Ready=True").await;
    let status = gateway.status.unwrap();
    assert_eq!(status.url.as_deref(), Some("wss://chat.example.com/ws"));
    assert_eq!((status.replicas, status.ready_replicas), (Some(2), Some(2)));
    let deployments: Api<Deployment> = stage.namespace.api();
    let deployment = deployments.get("chat").await.unwrap();
    let pod = deployment.spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.containers[0].image.as_deref(), Some(IMAGE));
    let ingresses: Api<Ingress> = stage.namespace.api();
    let ingress = ingresses.get("chat").await.unwrap();
    let annotations = ingress.metadata.annotations.unwrap();
    assert_eq!(annotations["nginx.org/websocket-services"], "chat");
    let secrets: Api<Secret> = stage.namespace.api();
    assert!(secrets.get("chat-tls").await.unwrap().data.is_some());
    let services: Api<Service> = stage.namespace.api();
    services.get("chat").await.unwrap();
    let maps: Api<ConfigMap> = stage.namespace.api();
    wait_for(&maps, "chat-live", "it is there", SOON, |_| true).await;
}
