//! The identity of the gateways' pods. It may do nothing: a gateway knows nothing of Kubernetes.

use k8s_openapi::api::core::v1::ServiceAccount;
use wsgateway_model::Gateway;

use super::{Object, Site, names};
use crate::kinds::Kind;

pub(super) fn service_account(gateway: &Gateway, site: &Site) -> Object {
    let metadata = names::metadata(gateway, site, gateway.name.as_str());
    let object = ServiceAccount {
        metadata: metadata.clone(),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    };
    names::typed(Kind::ServiceAccount, &metadata, &object)
}
