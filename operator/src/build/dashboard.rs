//! A dashboard of the gateways' own series.

use wsgateway_model::Gateway;

use super::{Object, Site, names};

pub(super) fn dashboard(gateway: &Gateway, site: &Site) -> Object {
    let name = names::dashboard(gateway.name.as_str());
    let metadata = names::monitoring_metadata(gateway, site, name);
    let object = k8s_openapi::api::core::v1::ConfigMap {
        metadata,
        ..Default::default()
    };
    names::typed(crate::kinds::Kind::ConfigMap, &object.metadata, &object)
}
