//! What of a spec holds otherwise than it reads, behind the way in that it asks for.

use wsgateway_crds::config::{ClientAddress, PerAddress};
use wsgateway_model::{Gateway, gateway::Entrance};
use wsgateway_nginx_ingress::NotExpressed;

/// Where clients are counted by their addresses, and all that gateways see are those of what is in front.
pub(super) fn hidden_addresses(gateway: &Gateway) -> Option<NotExpressed> {
    let live = &gateway.live;
    if live.limits.per_address == PerAddress::default()
        || live.client_address != ClientAddress::Connection
    {
        return None;
    }
    let why = match gateway.entrance {
        Entrance::Ingress { .. } | Entrance::HttpRoute { .. } => {
            "all clients have the address of the proxy in front, and share the limit; exposure.clientAddress of type \
             XForwardedFor with the networks of the proxy's pods as trustedProxies tells them apart"
        }
        Entrance::LoadBalancer { .. } => {
            "nodes pass connections on to each other under their own addresses, so that clients of one node may share the \
             limit; exposure.clientAddress of type ProxyProtocol, where the load balancer speaks it, tells them apart"
        }
        // Pods of the cluster have addresses of their own.
        Entrance::None => return None,
    };
    Some(NotExpressed {
        field: "limits.perAddress",
        why: why.to_owned(),
    })
}
