//! The Services: one for clients, and one without an address for a `ServiceMonitor`.

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use wsgateway_model::{Gateway, gateway::Entrance};

use super::{Object, Site, names};
use crate::kinds::Kind;

/// Proxies that ask the Service what it speaks let upgrades through.
const APP_PROTOCOL: &str = "kubernetes.io/ws";

/// The same, where the gateways end TLS themselves.
const APP_PROTOCOL_TLS: &str = "kubernetes.io/wss";

pub(super) fn clients(gateway: &Gateway, site: &Site) -> Object {
    let name = gateway.name.as_str();
    let mut metadata = names::metadata(gateway, site, name);
    let app_protocol = if gateway.ends_tls() {
        APP_PROTOCOL_TLS
    } else {
        APP_PROTOCOL
    };
    // The admin port is not among them: what it says is for the operator, the kubelet and Prometheus, who ask each pod.
    let mut spec = ServiceSpec {
        selector: Some(names::selector(name)),
        ports: Some(vec![ServicePort {
            app_protocol: Some(app_protocol.to_owned()),
            ..port(names::CLIENTS_PORT_NAME, names::CLIENTS_PORT)
        }]),
        ..ServiceSpec::default()
    };
    if let Entrance::LoadBalancer { class, annotations } = &gateway.entrance {
        spec.type_ = Some("LoadBalancer".to_owned());
        spec.load_balancer_class.clone_from(class);
        if !annotations.is_empty() {
            metadata.annotations = Some(annotations.clone());
        }
    } else {
        // Said although it is the default: what was a LoadBalancer must become one of these again.
        spec.type_ = Some("ClusterIP".to_owned());
    }
    let object = Service {
        metadata,
        spec: Some(spec),
        ..Service::default()
    };
    names::typed(Kind::Service, &object.metadata, &object)
}

/// Pods that drain are not ready and still count, so they are published all the same.
pub(super) fn metrics(gateway: &Gateway, site: &Site) -> Object {
    let name = gateway.name.as_str();
    let mut metadata = names::metadata(gateway, site, names::metrics(name));
    metadata.labels = Some(names::metrics_labels(name));
    let object = Service {
        metadata,
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(names::selector(name)),
            ports: Some(vec![port(names::ADMIN_PORT_NAME, names::ADMIN_PORT)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    };
    names::typed(Kind::Service, &object.metadata, &object)
}

fn port(name: &str, number: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(number),
        target_port: Some(IntOrString::String(name.to_owned())),
        ..ServicePort::default()
    }
}
