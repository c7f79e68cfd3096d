//! The `HTTPRoute`, and the policies of an implementation that has them.

use serde_json::Value;
use wsgateway_model::Gateway;
use wsgateway_nginx_ingress::{
    NotExpressed,
    gateway_api::{self, Implementation, ParentRef, RouteTarget},
};

use super::{Object, Site, names};
use crate::kinds::Kind;

/// What an `HTTPRoute` may be joined by.
pub(super) const POLICIES: [Kind; 3] = [
    Kind::ClientSettingsPolicy,
    Kind::ProxySettingsPolicy,
    Kind::UpstreamSettingsPolicy,
];

pub(super) fn http_route(
    gateway: &Gateway,
    site: &Site,
    implementation: Implementation,
    parents: &[ParentRef],
) -> (Vec<Object>, Vec<NotExpressed>) {
    let target = RouteTarget {
        name: gateway.name.clone(),
        parent_refs: parents.to_vec(),
        service: gateway.name.clone(),
        port: names::CLIENTS_PORT,
    };
    let rendered = gateway_api::objects(&gateway.exposure, &target, implementation);
    let route = (Kind::HttpRoute, rendered.http_route);
    let policies = rendered.policies.into_iter();
    let policies = policies.filter_map(|policy| Some((policy_kind(&policy)?, policy)));
    let metadata = names::metadata(gateway, site, gateway.name.as_str());
    let objects = std::iter::once(route).chain(policies);
    let objects = objects.map(|(kind, object)| {
        let spec = object.get("spec").cloned().unwrap_or_default();
        names::untyped(kind, &metadata, &spec)
    });
    (objects.collect(), rendered.not_expressed)
}

fn policy_kind(policy: &Value) -> Option<Kind> {
    let name = policy.get("kind")?.as_str()?;
    POLICIES.into_iter().find(|kind| kind.name() == name)
}
