//! The Ingress, in the words of its controller.
//!
//! Nothing in it depends on how many gateways run, on their configuration or on the certificate itself: a controller
//! that sees it change may reload nginx, which costs clients their sockets.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule,
    IngressServiceBackend, IngressSpec, IngressTLS, ServiceBackendPort,
};
use wsgateway_model::Gateway;
use wsgateway_nginx_ingress::{Dialect, NotExpressed, dialect};

use super::{Object, Site, names};
use crate::kinds::Kind;

pub(super) fn ingress(
    gateway: &Gateway,
    site: &Site,
    class: Option<&str>,
    dialect: Option<Dialect>,
    of_user: &BTreeMap<String, String>,
) -> (Object, Vec<NotExpressed>) {
    let exposure = &gateway.exposure;
    let rendered = match dialect {
        Some(dialect) => dialect.annotations(exposure, &gateway.name),
        None => dialect::without_words(exposure),
    };
    let mut annotations = rendered.annotations;
    annotations.extend(of_user.clone());
    let mut metadata = names::metadata(gateway, site, gateway.name.as_str());
    if !annotations.is_empty() {
        metadata.annotations = Some(annotations);
    }
    let hosts: Vec<String> = exposure.hosts.iter().map(ToString::to_string).collect();
    let tls = exposure.tls_secret.as_ref().map(|secret| {
        vec![IngressTLS {
            hosts: Some(hosts.clone()).filter(|hosts| !hosts.is_empty()),
            secret_name: Some(secret.to_string()),
        }]
    });
    let rule = |host: Option<String>| IngressRule {
        host,
        http: Some(HTTPIngressRuleValue {
            paths: paths(gateway),
        }),
    };
    let rules = if hosts.is_empty() {
        vec![rule(None)]
    } else {
        hosts.into_iter().map(Some).map(rule).collect()
    };
    let object = Ingress {
        metadata,
        spec: Some(IngressSpec {
            ingress_class_name: class.map(str::to_owned),
            rules: Some(rules),
            tls,
            ..IngressSpec::default()
        }),
        ..Ingress::default()
    };
    let object = names::typed(Kind::Ingress, &object.metadata, &object);
    (object, rendered.not_expressed)
}

/// What stands before the first parameter of each route, once: two routes may share it.
fn paths(gateway: &Gateway) -> Vec<HTTPIngressPath> {
    let mut paths: Vec<HTTPIngressPath> = Vec::new();
    for route in &gateway.exposure.paths {
        let prefix = route.literal_prefix();
        if paths.iter().any(|path| path.path.as_ref() == Some(&prefix)) {
            continue;
        }
        paths.push(HTTPIngressPath {
            path_type: path_type(&prefix).to_owned(),
            path: Some(prefix),
            backend: IngressBackend {
                service: Some(IngressServiceBackend {
                    name: gateway.name.to_string(),
                    port: Some(ServiceBackendPort {
                        name: Some(names::CLIENTS_PORT_NAME.to_owned()),
                        ..ServiceBackendPort::default()
                    }),
                }),
                ..IngressBackend::default()
            },
        });
    }
    paths
}

/// `Prefix` matches whole segments. The community's controller refuses it for characters beyond these (its
/// `strict-validate-path-type`), and takes them in a path whose meaning is its own: a prefix there as everywhere.
fn path_type(path: &str) -> &'static str {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte);
    if path.bytes().all(is_plain) {
        "Prefix"
    } else {
        "ImplementationSpecific"
    }
}
