//! What a probe asks for, and of whom.

use std::sync::Arc;

use wsgateway_model::Gateway;
use wsgateway_nginx_ingress::value::Segment;

use super::address::Address;

/// What stands in a path or a host where any value may stand.
const ANY: &str = "wsgateway-probe";

/// What a probe asks for, and of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Where; each must answer.
    pub addresses: Vec<Address>,
    /// The host that clients name; none where the `WsGateway` has none, and the address stands for it.
    pub host: Option<String>,
    /// The path of its first route.
    pub path: String,
    /// What the certificate must be; none without TLS.
    pub certificate: Option<Expected>,
    /// Who should answer, for people: `IngressClass nginx`, `Gateway public`.
    pub front: String,
}

/// What the certificate must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    /// The certificate itself, DER; none where the operator may not read it.
    pub leaf: Option<Arc<[u8]>>,
    /// The Secret that holds it, where it is one of the gateway's namespace.
    pub secret: Option<String>,
}

/// The first host. Of a wildcard, one that it covers.
pub(super) fn host(gateway: &Gateway) -> Option<String> {
    let host = gateway.exposure.hosts.first()?.as_str();
    Some(
        host.strip_prefix("*.")
            .map_or_else(|| host.to_owned(), |parent| format!("{ANY}.{parent}")),
    )
}

/// A path of the first route. What an Ingress says is a prefix of it.
pub(super) fn path(gateway: &Gateway) -> String {
    let Some(path) = gateway.exposure.paths.first() else {
        return "/".to_owned();
    };
    let segments = path.segments().iter().map(|segment| match segment {
        Segment::Literal(text) => text.as_str(),
        Segment::Param(_) => ANY,
    });
    let path: String = segments.flat_map(|segment| ["/", segment]).collect();
    if path.is_empty() {
        "/".to_owned()
    } else {
        path
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wsgateway_model::{Referenced, check};

    use super::*;

    #[test]
    fn a_probe_asks_for_what_a_client_would() {
        for (hosts, path, expected) in [
            (
                &["a.example.com", "b.example.com"][..],
                "/ws",
                (Some("a.example.com"), "/ws"),
            ),
            (
                &["*.example.com"],
                "/ws/",
                (Some("wsgateway-probe.example.com"), "/ws"),
            ),
            (&[], "/rooms/{room}", (None, "/rooms/wsgateway-probe")),
            (
                &[],
                "/{a}/x/{b}",
                (None, "/wsgateway-probe/x/wsgateway-probe"),
            ),
            (&[], "/", (None, "/")),
        ] {
            let manifest = json!({
                "apiVersion": "wsgateway.io/v1alpha1", "kind": "WsGateway",
                "metadata": {"name": "ws", "namespace": "shop"},
                "spec": {
                    "nats": {"servers": ["nats://nats:4222"]}, "exposure": {"hosts": hosts},
                    "routes": [{"name": "a", "path": path}],
                },
            });
            let gateway = check(&manifest, &Referenced::mounted()).unwrap();
            let host = host(&gateway);
            assert_eq!((host.as_deref(), &*super::path(&gateway)), expected);
        }
    }
}
