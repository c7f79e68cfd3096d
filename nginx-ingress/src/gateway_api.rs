//! Gateway API objects: an `HTTPRoute`, and the policies of NGINX Gateway Fabric, which takes its
//! timeouts and sizes from them. Last on the path.

mod fabric;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::dialect::NotExpressed;
use crate::exposure::{Affinity, Exposure, UpstreamMode};
use crate::value::{LocationPath, ObjectName};

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
    exposure: &Exposure,
    target: &RouteTarget,
    implementation: Implementation,
) -> Objects {
    let mut not_expressed = Vec::new();
    let http_route = http_route(exposure, target, implementation, &mut not_expressed);
    let policies = match implementation {
        Implementation::NginxGatewayFabric => {
            fabric::policies(exposure, target, &mut not_expressed)
        }
        Implementation::Other => {
            report_what_only_policies_say(exposure, &mut not_expressed);
            Vec::new()
        }
    };
    if exposure.status.is_some() {
        not_expressed.push(NotExpressed::new(
            "exposure.status",
            "a Gateway's connection counts are its implementation's to show",
        ));
    }
    Objects {
        http_route,
        policies,
        not_expressed,
    }
}

/// The standard's bound on `rules[].matches`; a route of 64 paths needs two rules.
const MATCHES_PER_RULE_MAX: usize = 64;

fn http_route(
    exposure: &Exposure,
    target: &RouteTarget,
    implementation: Implementation,
    not_expressed: &mut Vec<NotExpressed>,
) -> Value {
    let matches: Vec<Value> = exposure
        .paths
        .iter()
        .flat_map(|path| path_matches(path, not_expressed))
        .collect();
    let backend = json!({"name": target.service, "port": target.port});
    let rules: Vec<Value> = matches
        .chunks(MATCHES_PER_RULE_MAX)
        .map(|matches| match implementation {
            // It reports the field as unsupported, and has no limit on a request's whole time.
            Implementation::NginxGatewayFabric => {
                json!({"matches": matches, "backendRefs": [backend]})
            }
            // A WebSocket is one request: any limit on its whole time would end it.
            Implementation::Other => json!({
                "matches": matches,
                "backendRefs": [backend],
                "timeouts": {"request": "0s", "backendRequest": "0s"},
            }),
        })
        .collect();
    let mut spec = Map::new();
    spec.insert("parentRefs".to_owned(), json!(target.parent_refs));
    if !exposure.hosts.is_empty() {
        spec.insert("hostnames".to_owned(), json!(exposure.hosts));
    }
    spec.insert("rules".to_owned(), json!(rules));
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": target.name},
        "spec": spec,
    })
}

/// `Exact` with and without a trailing slash. A path with parameters becomes a prefix, since
/// regular expressions are each implementation's own.
fn path_matches(path: &LocationPath, not_expressed: &mut Vec<NotExpressed>) -> Vec<Value> {
    let of = |kind: &str, value: &str| json!({"path": {"type": kind, "value": value}});
    if !path.is_literal() {
        let prefix = path.literal_prefix();
        not_expressed.push(NotExpressed::new(
            "routes.path",
            format!(
                "an HTTPRoute has no parameters; everything below {prefix} reaches the gateway, \
                 which matches {path} itself"
            ),
        ));
        return vec![of("PathPrefix", &prefix)];
    }
    match path.spelling().as_str() {
        "/" => vec![of("Exact", "/")],
        spelling => vec![of("Exact", spelling), of("Exact", &format!("{spelling}/"))],
    }
}

fn report_what_only_policies_say(exposure: &Exposure, not_expressed: &mut Vec<NotExpressed>) {
    let mut report = |field, why: &str| not_expressed.push(NotExpressed::new(field, why));
    let idle = "an HTTPRoute limits a request's whole time, not its silences; how long an idle \
                socket lives is set at the Gateway, and must exceed pongWait";
    report("exposure.proxyReadTimeout", idle);
    report("exposure.proxySendTimeout", idle);
    report(
        "exposure.proxyBuffering",
        "an HTTPRoute cannot ask for it, and a 101 ends it anyway",
    );
    report(
        "exposure.bodySize",
        "an HTTPRoute cannot limit or free a body",
    );
    report(
        "exposure.clientBodyBufferSize",
        "an HTTPRoute cannot size buffers",
    );
    match exposure.affinity {
        Affinity::ClientIp => report("exposure.affinity", "an HTTPRoute cannot key on addresses"),
        Affinity::None => report(
            "exposure.affinity",
            "an HTTPRoute cannot ask for least_conn",
        ),
        Affinity::Cookie => report("exposure.affinity", COOKIE_IS_EXPERIMENTAL),
    }
    if exposure.upstream == UpstreamMode::ServiceIp {
        report(
            "exposure.upstream",
            "each implementation decides what it connects to",
        );
    }
}

const COOKIE_IS_EXPERIMENTAL: &str =
    "sessionPersistence is in the standard's experimental channel, and few implement it";
