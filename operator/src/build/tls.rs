//! What the certificate that clients see is kept in, or asked for with.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use serde_json::json;
use wsgateway_crds::v1alpha1::IssuerKind;
use wsgateway_model::Gateway;
use wsgateway_nginx_ingress::value::ObjectName;

use super::{Issued, Object, Site, names};
use crate::kinds::Kind;

/// The kind of Secret that proxies read certificates from.
const SECRET_TYPE: &str = "kubernetes.io/tls";

/// The authority's key is in a Secret of its own that no pod mounts; what clients must trust is in a `ConfigMap` that
/// anyone may read.
pub(super) fn self_signed(gateway: &Gateway, site: &Site, issued: &Issued) -> Vec<Object> {
    let name = gateway.name.as_str();
    let trust = ConfigMap {
        metadata: names::metadata(gateway, site, names::authority(name)),
        data: Some(BTreeMap::from([(
            "ca.crt".to_owned(),
            issued.trust.clone(),
        )])),
        ..ConfigMap::default()
    };
    vec![
        secret(gateway, site, names::authority(name), &issued.authority),
        secret(gateway, site, names::tls(name), &issued.leaf),
        names::typed(Kind::ConfigMap, &trust.metadata, &trust),
    ]
}

/// The objects of [`self_signed`], which are left as they are while their contents are not known.
pub(super) fn self_signed_names(name: &str) -> [(Kind, String); 3] {
    [
        (Kind::Secret, names::authority(name)),
        (Kind::Secret, names::tls(name)),
        (Kind::ConfigMap, names::authority(name)),
    ]
}

fn secret(
    gateway: &Gateway,
    site: &Site,
    name: String,
    data: &BTreeMap<String, ByteString>,
) -> Object {
    let object = Secret {
        metadata: names::metadata(gateway, site, name),
        type_: Some(SECRET_TYPE.to_owned()),
        data: Some(data.clone()),
        ..Secret::default()
    };
    names::typed(Kind::Secret, &object.metadata, &object)
}

/// cert-manager writes the Secret; a renewal changes nothing else.
pub(super) fn certificate(
    gateway: &Gateway,
    site: &Site,
    issuer_kind: IssuerKind,
    issuer: &ObjectName,
) -> Object {
    let name = gateway.name.as_str();
    let kind = match issuer_kind {
        IssuerKind::Issuer => "Issuer",
        IssuerKind::ClusterIssuer => "ClusterIssuer",
    };
    let mut hosts: Vec<String> = gateway
        .exposure
        .hosts
        .iter()
        .map(ToString::to_string)
        .collect();
    if hosts.is_empty() {
        // A certificate must be for somebody. Where any host is answered, the Service's name is the one that is known.
        hosts.push(format!("{name}.{}.svc", gateway.namespace));
    }
    let spec = json!({
        "secretName": names::tls(name),
        "dnsNames": hosts,
        "usages": ["digital signature", "key encipherment", "server auth"],
        "issuerRef": {"group": "cert-manager.io", "kind": kind, "name": issuer},
    });
    let metadata = names::metadata(gateway, site, name);
    names::untyped(Kind::Certificate, &metadata, &spec)
}
