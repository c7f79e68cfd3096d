//! Who stands in front of a gateway, without a cluster to ask: what the spec, the manifest's classes and the command
//! line say, in this order.

use std::collections::BTreeMap;

use serde_json::Value;
use wsgateway_model::{Gateway, gateway::Entrance};
use wsgateway_nginx_ingress::{Dialect, gateway_api::Implementation, value::ObjectName};
use wsgateway_operator::build::Front;

/// Whom nobody names is taken for F5's: the community's controller has no more releases.
const INGRESS_CONTROLLER: &str = "nginx.org/ingress-controller";
const GATEWAY_CONTROLLER: &str = "gateway.nginx.org/nginx-gateway-controller";

/// By which the cluster's default `IngressClass` is known.
const IS_DEFAULT: &str = "/metadata/annotations/ingressclass.kubernetes.io~1is-default-class";

/// The classes of a manifest.
#[derive(Debug, Default)]
pub(super) struct Fronts {
    /// The controllers of `IngressClasses`, by name.
    ingress_classes: BTreeMap<String, String>,
    /// The name of the default one.
    default: Option<String>,
    /// The classes of Gateways, by namespace and name.
    gateways: BTreeMap<(String, String), String>,
    /// The controllers of `GatewayClasses`, by name.
    gateway_classes: BTreeMap<String, String>,
}

impl Fronts {
    /// Of a text that has been read as a manifest before.
    pub(super) fn read(text: &str) -> Self {
        let mut fronts = Self::default();
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_default();
        for document in &documents {
            fronts.take(document);
        }
        fronts
    }

    fn take(&mut self, document: &Value) {
        let text = |pointer: &str| {
            document
                .pointer(pointer)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let name = text("/metadata/name").unwrap_or_default();
        let kind = text("/kind").unwrap_or_default();
        match kind.as_str() {
            "List" => {
                let items = document.get("items").and_then(Value::as_array);
                for item in items.into_iter().flatten() {
                    self.take(item);
                }
            }
            "IngressClass" => {
                if text(IS_DEFAULT).as_deref() == Some("true") {
                    self.default = Some(name.clone());
                }
                let controller = text("/spec/controller").unwrap_or_default();
                self.ingress_classes.insert(name, controller);
            }
            "Gateway" => {
                let namespace = text("/metadata/namespace").unwrap_or_else(|| "default".to_owned());
                let class = text("/spec/gatewayClassName").unwrap_or_default();
                self.gateways.insert((namespace, name), class);
            }
            "GatewayClass" => {
                let controller = text("/spec/controllerName").unwrap_or_default();
                self.gateway_classes.insert(name, controller);
            }
            _ => {}
        }
    }

    /// Who stands in front, and what was assumed for want of a word.
    pub(super) fn front(
        &self,
        gateway: &Gateway,
        otherwise: Option<&str>,
    ) -> (Front, Option<String>) {
        let of_spec = gateway.controller.as_deref();
        match &gateway.entrance {
            Entrance::Ingress { class, .. } => {
                let class = class
                    .as_ref()
                    .map(ObjectName::to_string)
                    .or_else(|| self.default.clone());
                let of_class = class
                    .as_ref()
                    .and_then(|class| self.ingress_classes.get(class));
                let named = of_spec.or(of_class.map(String::as_str)).or(otherwise);
                let dialect = Dialect::from_controller(named.unwrap_or(INGRESS_CONTROLLER));
                let assumed = named
                    .is_none()
                    .then(|| assumed("Ingress", INGRESS_CONTROLLER));
                (Front::Ingress { class, dialect }, assumed)
            }
            Entrance::HttpRoute { parents } => {
                let parent = parents.first().map(|parent| parent.name.to_string());
                let key = (gateway.namespace.to_string(), parent.unwrap_or_default());
                let class = self.gateways.get(&key);
                let of_class = class.and_then(|class| self.gateway_classes.get(class));
                let named = of_spec.or(of_class.map(String::as_str)).or(otherwise);
                let assumed = named
                    .is_none()
                    .then(|| assumed("HTTPRoute", GATEWAY_CONTROLLER));
                let implementation =
                    Implementation::from_controller(named.unwrap_or(GATEWAY_CONTROLLER));
                (Front::GatewayApi(implementation), assumed)
            }
            Entrance::LoadBalancer { .. } | Entrance::None => (Front::Service, None),
        }
    }
}

fn assumed(kind: &str, controller: &str) -> String {
    format!(
        "nothing names the controller of the {kind}; {controller} is assumed, --controller names another"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::gateway;

    #[test]
    fn the_spec_goes_before_the_class_and_the_class_before_the_command_line() {
        let classes = r"
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: nginx, annotations: {ingressclass.kubernetes.io/is-default-class: 'true'}}
spec: {controller: k8s.io/ingress-nginx}
---
apiVersion: v1
kind: List
items:
  - {apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: other}, spec: {controller: example.com/x}}
";
        let check = |text: &str,
                     exposure: &str,
                     otherwise: Option<&str>,
                     class: Option<&str>,
                     dialect,
                     assumes| {
            let gateway = gateway(&format!(
                "{{routes: [{{name: a, path: /a}}], exposure: {{{exposure}}}}}"
            ));
            let (front, assumed) = Fronts::read(text).front(&gateway, otherwise);
            let class = class.map(str::to_owned);
            assert_eq!(front, Front::Ingress { class, dialect }, "{exposure}");
            assert_eq!(assumed.is_some(), assumes, "{exposure}");
        };
        let (f5, community) = (Some(Dialect::F5), Some(Dialect::Community));
        let named = Some("nginx.org/ingress-controller");
        check("", "", None, None, f5, true);
        check("", "", Some("k8s.io/ingress-nginx"), None, community, false);
        check(classes, "", named, Some("nginx"), community, false);
        check(
            classes,
            "ingress: {className: other}",
            named,
            Some("other"),
            None,
            false,
        );
        check(
            classes,
            "ingress: {className: absent}",
            named,
            Some("absent"),
            f5,
            false,
        );
        check(
            classes,
            "controller: nginx.org/ingress-controller",
            None,
            Some("nginx"),
            f5,
            false,
        );
    }

    #[test]
    fn a_gateway_of_the_manifest_names_its_class() {
        let classes = r"
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: public}, spec: {gatewayClassName: envoy}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: envoy}, spec: {controllerName: gateway.envoyproxy.io/x}}
";
        let check = |text: &str, controller: &str, implementation, assumes| {
            let gateway = gateway(&format!(
                "{{routes: [{{name: a, path: /a}}], exposure: {{type: HTTPRoute, tls: {{type: None}}, {controller}
                  httpRoute: {{parentRefs: [{{name: public}}]}}}}}}"
            ));
            let (front, assumed) = Fronts::read(text).front(&gateway, None);
            assert_eq!(
                (front, assumed.is_some()),
                (Front::GatewayApi(implementation), assumes)
            );
        };
        let fabric = Implementation::NginxGatewayFabric;
        check("", "", fabric, true);
        check(classes, "", Implementation::Other, false);
        check(
            classes,
            "controller: gateway.nginx.org/nginx-gateway-controller,",
            fabric,
            false,
        );
    }
}
