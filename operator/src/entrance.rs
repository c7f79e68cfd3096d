//! Whether clients can come in, by what the object in front of the gateways says of itself.

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
    let (kind, judge): (_, fn(Kind, Option<&Value>) -> Verdict) = match &gateway.entrance {
        Entrance::Ingress { .. } => (Kind::Ingress, of_balancer),
        Entrance::HttpRoute { .. } => (Kind::HttpRoute, |_, route| of_route(route)),
        Entrance::LoadBalancer { .. } => (Kind::Service, of_balancer),
        Entrance::None => {
            return Ok(Verdict::yes(
                "InsideTheCluster",
                "clients inside the cluster connect to the Service",
            ));
        }
    };
    let namespace = gateway.namespace.as_str();
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind.resource());
    let object = api.get_opt(gateway.name.as_str()).await?;
    Ok(judge(kind, object.as_ref().map(|object| &object.data)))
}

/// Nobody has tried the way: only a handshake proves it.
fn not_tried(address: &str) -> Verdict {
    Verdict::unknown(
        "NotTried",
        format!("the address is {address}; no handshake has been tried there"),
    )
}

/// An Ingress and a Service of type `LoadBalancer` say in the same place where they are reached.
fn of_balancer(kind: Kind, object: Option<&Value>) -> Verdict {
    let points = object
        .and_then(|object| object.pointer("/status/loadBalancer/ingress"))
        .and_then(Value::as_array);
    let mut addresses = points
        .into_iter()
        .flatten()
        .filter_map(|point| point.get("ip").or(point.get("hostname"))?.as_str());
    let no_address = || {
        let kind = kind.name();
        Verdict::unknown(
            "NoAddress",
            format!(
                "the {kind} has no address in its status yet: its controller has not taken it up"
            ),
        )
    };
    addresses.next().map_or_else(no_address, not_tried)
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
        for kind in [Kind::Ingress, Kind::Service] {
            let reason = |points: Value| {
                let object = json!({"status": {"loadBalancer": {"ingress": points}}});
                of_balancer(kind, Some(&object)).reason
            };
            assert_eq!(of_balancer(kind, None).reason, "NoAddress");
            assert_eq!(reason(json!([])), "NoAddress");
            assert_eq!(reason(json!([{"ip": "192.0.2.1"}])), "NotTried");
            assert_eq!(reason(json!([{"hostname": "a.example.com"}])), "NotTried");
        }
    }
}
