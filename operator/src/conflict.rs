//! Two `WsGateways` with one host and path: the older keeps it. Pure.

use wsgateway_crds::{
    report::LOGOUT_PATH,
    v1alpha1::{BackchannelLogout, ExposureType, WsGateway},
};
use wsgateway_nginx_ingress::value::LocationPath;

/// A host and path that an older `WsGateway` has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The namespace and name of the older one.
    pub older: (String, String),
    /// The host; none where both answer for any.
    pub host: Option<String>,
    /// The path.
    pub path: String,
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (namespace, name) = &self.older;
        let host = self.host.as_deref().unwrap_or("any host");
        write!(
            f,
            "{host} with path {} belongs to WsGateway {namespace}/{name}, which is older",
            self.path
        )
    }
}

/// The first conflict with an older one of these.
pub fn conflict<'a>(
    gateway: &WsGateway,
    others: impl IntoIterator<Item = &'a WsGateway>,
) -> Option<Conflict> {
    if !is_behind_proxy(gateway) {
        return None;
    }
    others
        .into_iter()
        .filter(|other| is_behind_proxy(other) && is_older(other, gateway))
        .filter(|other| may_share_proxy(gateway, other))
        .find_map(|other| {
            let host = shared_host(gateway, other)?;
            let path = shared_path(gateway, other)?;
            let metadata = other.metadata.clone();
            Some(Conflict {
                older: (
                    metadata.namespace.unwrap_or_default(),
                    metadata.name.unwrap_or_default(),
                ),
                host: host.map(str::to_owned),
                path,
            })
        })
}

fn is_behind_proxy(gateway: &WsGateway) -> bool {
    matches!(
        gateway.spec.exposure.type_,
        ExposureType::Ingress | ExposureType::HttpRoute
    )
}

/// Of two that were made in the same second, the one whose name comes first.
fn is_older(one: &WsGateway, other: &WsGateway) -> bool {
    let age = |gateway: &WsGateway| {
        let metadata = &gateway.metadata;
        (
            metadata.creation_timestamp.as_ref().map(|time| time.0),
            metadata.namespace.clone(),
            metadata.name.clone(),
        )
    };
    age(one) < age(other)
}

/// Two classes that are named and differ are two proxies. A class that is not named may be any.
fn may_share_proxy(one: &WsGateway, other: &WsGateway) -> bool {
    let (one, other) = (&one.spec.exposure, &other.spec.exposure);
    if one.type_ != other.type_ {
        return false;
    }
    if one.type_ == ExposureType::HttpRoute {
        return one.http_route == other.http_route;
    }
    let class = |exposure: &wsgateway_crds::v1alpha1::Exposure| {
        exposure
            .ingress
            .as_ref()
            .and_then(|ingress| ingress.class_name.clone())
    };
    match (class(one), class(other)) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    }
}

/// Outside: whether there is one. Inside: its name, none where both answer for any.
#[allow(clippy::option_option)] // The two are told apart above, and nowhere else.
fn shared_host<'a>(one: &'a WsGateway, other: &WsGateway) -> Option<Option<&'a str>> {
    let (one, other) = (&one.spec.exposure.hosts, &other.spec.exposure.hosts);
    if one.is_empty() && other.is_empty() {
        return Some(None);
    }
    let shared = one.iter().find(|host| other.contains(host))?;
    Some(Some(shared))
}

fn shared_path(one: &WsGateway, other: &WsGateway) -> Option<String> {
    let paths = |gateway: &WsGateway| -> Vec<LocationPath> {
        let routes = gateway.spec.routes.iter();
        let paths = routes.map(|route| route.path.clone());
        paths
            .chain(logout_paths(gateway))
            .filter_map(|path| LocationPath::new(&path).ok())
            .collect()
    };
    let others = paths(other);
    paths(one)
        .into_iter()
        .find(|path| others.iter().any(|other| path.is_ambiguous_with(other)))
        .map(|path| path.to_string())
}

/// Where issuers send logout tokens. Two gateways cannot both get them.
fn logout_paths(gateway: &WsGateway) -> impl Iterator<Item = String> {
    let providers = gateway.spec.auth.iter().flat_map(|auth| &auth.providers);
    let enabled = providers.filter(|provider| {
        let oidc = provider.oidc.as_ref();
        oidc.is_some_and(|oidc| oidc.backchannel_logout == BackchannelLogout::Enabled)
    });
    enabled.map(|provider| format!("{LOGOUT_PATH}{}", provider.name))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn gateway(name: &str, second: u32, exposure: &Value, path: &str) -> WsGateway {
        serde_json::from_value(json!({
            "apiVersion": "wsgateway.io/v1alpha1", "kind": "WsGateway",
            "metadata": {"namespace": "shop", "name": name,
                "creationTimestamp": format!("2026-01-02T03:04:{second:02}Z")},
            "spec": {"routes": [{"name": "a", "path": path}], "exposure": exposure},
        }))
        .unwrap()
    }

    #[test]
    fn the_older_keeps_its_host_and_path() {
        let hosts = |hosts: &[&str]| json!({ "hosts": hosts });
        let a = hosts(&["a.example.com"]);
        for (exposure, path, conflicts) in [
            (a.clone(), "/ws", true),
            (hosts(&["b.example.com", "a.example.com"]), "/ws", true),
            (a.clone(), "/ws/", true),
            (a.clone(), "/other", false),
            (hosts(&["b.example.com"]), "/ws", false),
            (hosts(&[]), "/ws", false),
            (
                json!({"hosts": ["a.example.com"], "type": "None"}),
                "/ws",
                false,
            ),
            (
                json!({"hosts": ["a.example.com"], "ingress": {"className": "x"}}),
                "/ws",
                true,
            ),
        ] {
            let older = gateway("older", 1, &a, "/ws");
            let younger = gateway("younger", 2, &exposure, path);
            let found = conflict(&younger, [&older, &younger]);
            assert_eq!(found.is_some(), conflicts, "{exposure} {path}");
            assert_eq!(conflict(&older, [&older, &younger]), None);
        }
        let class = |name: &str, class: &str| {
            let exposure = json!({"hosts": ["a.example.com"], "ingress": {"className": class}});
            gateway(name, 1, &exposure, "/ws")
        };
        assert_eq!(conflict(&class("b", "x"), [&class("a", "y")]), None);
        let found = conflict(&class("b", "x"), [&class("a", "x")]).unwrap();
        assert_eq!(
            found.to_string(),
            "a.example.com with path /ws belongs to WsGateway shop/a, which is older"
        );
    }

    #[test]
    fn an_issuer_sends_its_logouts_to_one() {
        let logging_out = |name: &str, second: u32, provider: &str, logout: &str| {
            let exposure = json!({"hosts": ["a.example.com"]});
            let mut gateway = gateway(name, second, &exposure, &format!("/{name}"));
            let auth = json!({"providers": [{"name": provider, "type": "OIDC", "oidc": {
                "issuer": "https://sso", "audiences": ["a"], "backchannelLogout": logout}}]});
            gateway.spec.auth = Some(serde_json::from_value(auth).unwrap());
            gateway
        };
        let older = logging_out("older", 1, "keycloak", "Enabled");
        for (provider, logout, expected) in [
            (
                "keycloak",
                "Enabled",
                Some("/.wsgateway/backchannel-logout/keycloak"),
            ),
            ("another", "Enabled", None),
            ("keycloak", "Disabled", None),
        ] {
            let younger = logging_out("younger", 2, provider, logout);
            let found = conflict(&younger, [&older]).map(|conflict| conflict.path);
            assert_eq!(found.as_deref(), expected, "{provider} {logout}");
        }
    }
}
