//! Where clients connect.

use wsgateway_model::{
    Gateway,
    gateway::{Entrance, Tls},
};

use super::names;

/// The first host and the first route without parameters; the Service's name where clients come from the cluster alone.
/// None where no host is named, or none that is a single one: then nobody knows it from here.
pub fn url(gateway: &Gateway) -> Option<String> {
    let exposure = &gateway.exposure;
    let mut routes = gateway.live.routes.iter();
    let path = routes.find(|route| route.path.params().next().is_none());
    let path = &path?.path;
    let scheme = if gateway.tls == Tls::None {
        "ws"
    } else {
        "wss"
    };
    let port = names::CLIENTS_PORT;
    let mut hosts = exposure.hosts.iter();
    let host = hosts.find(|host| !host.as_str().starts_with("*."));
    let authority = match &gateway.entrance {
        Entrance::Ingress { .. } | Entrance::HttpRoute { .. } => host?.to_string(),
        // No proxy takes clients from the usual port to the Service's own.
        Entrance::LoadBalancer { .. } => format!("{}:{port}", host?),
        Entrance::None => format!("{}.{}.svc:{port}", gateway.name, gateway.namespace),
    };
    Some(format!("{scheme}://{authority}{path}"))
}
