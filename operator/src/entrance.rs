//! Whether clients can come in, by what the object in front of the gateways says of itself.

use k8s_openapi::api::{core::v1::Service, networking::v1::Ingress};
use kube::{Api, Client, api::DynamicObject};
use serde_json::Value;
use wsgateway_model::{Gateway, gateway::Entrance};

use crate::{kinds::Kind, status::Verdict};

/// Reads the object in front, and judges.
pub async fn verdict(client: &Client, gateway: &Gateway) -> Result<Verdict, kube::Error> {
    match read(client, gateway).await {
        // The kind is not served, or the operator may not read it.
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {
            Ok(Verdict::unknown("NotReadable", status.message))
        }
        other => other,
    }
}

async fn read(client: &Client, gateway: &Gateway) -> Result<Verdict, kube::Error> {
    let (namespace, name) = (gateway.namespace.as_str(), gateway.name.as_str());
    match &gateway.entrance {
        Entrance::Ingress { .. } => {
            let api: Api<Ingress> = Api::namespaced(client.clone(), namespace);
            let ingress = api.get_opt(name).await?;
            Ok(of_ingress(ingress.as_ref()))
        }
        Entrance::HttpRoute { .. } => {
            let resource = Kind::HttpRoute.resource();
            let api: Api<DynamicObject> =
                Api::namespaced_with(client.clone(), namespace, &resource);
            let route = api.get_opt(name).await?;
            Ok(of_route(route.as_ref().map(|route| &route.data)))
        }
        Entrance::LoadBalancer { .. } => {
            let api: Api<Service> = Api::namespaced(client.clone(), namespace);
            let service = api.get_opt(name).await?;
            Ok(of_service(service.as_ref()))
        }
        Entrance::None => Ok(Verdict::yes(
            "InsideTheCluster",
            "clients inside the cluster connect to the Service",
        )),
    }
}

/// Nobody has tried the way: only a handshake proves it.
fn not_tried(address: &str) -> Verdict {
    Verdict::unknown(
        "NotTried",
        format!("the address is {address}; no handshake has been tried there"),
    )
}

fn no_address(kind: &str) -> Verdict {
    Verdict::unknown(
        "NoAddress",
        format!("the {kind} has no address in its status yet: its controller has not taken it up"),
    )
}

fn of_ingress(ingress: Option<&Ingress>) -> Verdict {
    let status = ingress.and_then(|ingress| ingress.status.as_ref());
    let points = status
        .and_then(|status| status.load_balancer.as_ref())
        .and_then(|balancer| balancer.ingress.as_ref());
    let mut addresses = points
        .into_iter()
        .flatten()
        .filter_map(|point| point.ip.as_deref().or(point.hostname.as_deref()));
    addresses
        .next()
        .map_or_else(|| no_address("Ingress"), not_tried)
}

fn of_service(service: Option<&Service>) -> Verdict {
    let status = service.and_then(|service| service.status.as_ref());
    let points = status
        .and_then(|status| status.load_balancer.as_ref())
        .and_then(|balancer| balancer.ingress.as_ref());
    let mut addresses = points
        .into_iter()
        .flatten()
        .filter_map(|point| point.ip.as_deref().or(point.hostname.as_deref()));
    addresses
        .next()
        .map_or_else(|| no_address("Service"), not_tried)
}

/// A route is taken up by each of its Gateways, or refused with a reason.
fn of_route(route: Option<&Value>) -> Verdict {
    let parents = route
        .and_then(|route| route.pointer("/status/parents"))
        .and_then(Value::as_array);
    let Some(parents) = parents.filter(|parents| !parents.is_empty()) else {
        return Verdict::unknown("NoParent", "no Gateway has taken the HTTPRoute up yet");
    };
    for parent in parents {
        let name = text(parent.pointer("/parentRef/name"));
        for type_ in ["Accepted", "ResolvedRefs"] {
            let conditions = parent.get("conditions").and_then(Value::as_array);
            let condition = conditions
                .into_iter()
                .flatten()
                .find(|condition| text(condition.get("type")) == type_);
            if let Some(condition) = condition
                && text(condition.get("status")) == "False"
            {
                let (reason, message) = (
                    text(condition.get("reason")),
                    text(condition.get("message")),
                );
                let message = format!("Gateway {name} says of the HTTPRoute: {reason}: {message}");
                return Verdict::no("RouteRefused", message);
            }
        }
    }
    Verdict::unknown(
        "NotTried",
        "the HTTPRoute is accepted; no handshake has been tried",
    )
}

fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_route_is_judged_by_what_its_gateways_say() {
        let check = |status: Value, reason: &str| {
            let route = json!({ "status": status });
            assert_eq!(of_route(Some(&route)).reason, reason);
        };
        let parent = |accepted: &str, resolved: &str| {
            json!({"parents": [{"parentRef": {"name": "public"}, "conditions": [
                {"type": "Accepted", "status": accepted, "reason": "NoMatchingListenerHostname"},
                {"type": "ResolvedRefs", "status": resolved, "reason": "BackendNotFound"},
            ]}]})
        };
        check(json!(null), "NoParent");
        check(json!({"parents": []}), "NoParent");
        check(parent("False", "True"), "RouteRefused");
        check(parent("True", "False"), "RouteRefused");
        check(parent("True", "True"), "NotTried");
    }

    #[test]
    fn an_address_is_an_ip_or_a_name() {
        let ingress = |points: Value| -> Ingress {
            serde_json::from_value(json!({"status": {"loadBalancer": {"ingress": points}}}))
                .unwrap()
        };
        assert_eq!(of_ingress(None).reason, "NoAddress");
        assert_eq!(of_ingress(Some(&ingress(json!([])))).reason, "NoAddress");
        for points in [
            json!([{"ip": "192.0.2.1"}]),
            json!([{"hostname": "a.example.com"}]),
        ] {
            assert_eq!(of_ingress(Some(&ingress(points))).reason, "NotTried");
        }
    }
}
