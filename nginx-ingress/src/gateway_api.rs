//! Gateway API objects: an `HTTPRoute`, and the policies of NGINX Gateway Fabric, which takes its timeouts and sizes
//! from them. Last on the path.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dialect::NotExpressed;
use crate::exposure::Exposure;
use crate::value::ObjectName;

/// Who implements the Gateway, by `GatewayClass.spec.controllerName`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Implementation {
    /// F5's NGINX Gateway Fabric, which has policies of its own for what `HTTPRoute` cannot say.
    NginxGatewayFabric,
    /// Any other, of which only the standard's fields are known.
    Other,
}

impl Implementation {
    /// The implementation behind a `GatewayClass.spec.controllerName`.
    pub fn from_controller(controller: &str) -> Self {
        match controller {
            "gateway.nginx.org/nginx-gateway-controller" => Self::NginxGatewayFabric,
            _ => Self::Other,
        }
    }
}

/// What the objects are named after and point at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteTarget {
    /// The name of the `HTTPRoute` and its policies.
    pub name: ObjectName,
    /// The Gateways that the route attaches to.
    pub parent_refs: Vec<ParentRef>,
    /// The Service of the gateway's pods.
    pub service: ObjectName,
    /// The Service's port for clients.
    pub port: u16,
}

/// A Gateway, or one of its listeners.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ParentRef {
    /// The Gateway's name.
    pub name: ObjectName,
    /// The listener's name; absent means each listener that fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<ObjectName>,
}

/// The objects, without namespace, labels and owner, which the operator sets.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Objects {
    /// The `HTTPRoute` of `gateway.networking.k8s.io/v1`.
    pub http_route: Value,
    /// The implementation's own policies.
    pub policies: Vec<Value>,
    /// What they cannot say, or say only roughly.
    pub not_expressed: Vec<NotExpressed>,
}

/// The objects that expose the Service through a Gateway.
pub fn objects(
    _exposure: &Exposure,
    _target: &RouteTarget,
    _implementation: Implementation,
) -> Objects {
    Objects { http_route: Value::Null, policies: Vec::new(), not_expressed: Vec::new() }
}
