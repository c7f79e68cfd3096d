//! Who stands in front, as far as the classes in the cluster say: what the operator's `dereference` finds by watching.

use kube::{
    Api,
    api::{DynamicObject, ListParams},
};
use serde_json::Value;
use wsgateway_model::{Gateway, gateway::Entrance};
use wsgateway_nginx_ingress::{Dialect, gateway_api::Implementation, value::ObjectName};
use wsgateway_operator::{build::Front, kinds::Kind};

use crate::cluster::{Answer, Cluster, ClusterError};

/// By which the cluster's default `IngressClass` is known.
const IS_DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";

/// Who stands in front, and what a user should know of that.
pub(super) async fn front(
    cluster: &Cluster,
    gateway: &Gateway,
    live: Option<&DynamicObject>,
) -> Result<(Front, Option<String>), ClusterError> {
    match &gateway.entrance {
        Entrance::Ingress { class, .. } => {
            let found = ingress_class(cluster, class.as_ref().map(ObjectName::as_str)).await?;
            let of_status = live.and_then(dialect_of_status);
            Ok(ingress(gateway, class.as_ref(), found, of_status))
        }
        Entrance::HttpRoute { parents } => {
            let named = gateway
                .controller
                .as_deref()
                .map(Implementation::from_controller);
            let Some(parent) = parents.first() else {
                return Ok((Front::Unknown, None));
            };
            let found = implementation(cluster, parent.name.as_str()).await?;
            Ok(match (named, found) {
                (Some(named), _) => (Front::GatewayApi(named), None),
                (None, Ok(found)) => (Front::GatewayApi(found), None),
                (None, Err(why)) => {
                    let note = format!("{why}: the HTTPRoute is left as it is");
                    (Front::Unknown, Some(note))
                }
            })
        }
        Entrance::LoadBalancer { .. } | Entrance::None => Ok((Front::Service, None)),
    }
}

fn ingress(
    gateway: &Gateway,
    class: Option<&ObjectName>,
    found: Answer<(String, String)>,
    of_status: Option<Dialect>,
) -> (Front, Option<String>) {
    let controller = gateway.controller.as_deref();
    let named = class.map(ToString::to_string);
    match (found, controller) {
        (Answer::Is((name, found)), controller) => {
            let controller = controller.unwrap_or(&found);
            let dialect = Dialect::from_controller(controller);
            let note = dialect.is_none().then(|| {
                format!("the words of {controller} are not known here: the Ingress carries your annotations alone")
            });
            let class = Some(name);
            (Front::Ingress { class, dialect }, note)
        }
        (Answer::Forbidden(_), Some(controller)) => {
            let dialect = Dialect::from_controller(controller);
            let class = named;
            (Front::Ingress { class, dialect }, None)
        }
        (Answer::Forbidden(message), None) => match of_status {
            Some(dialect) => {
                let note = format!(
                    "the Ingress is foreseen in the words of {dialect}, as the status says: {message}"
                );
                let front = Front::Ingress {
                    class: named,
                    dialect: Some(dialect),
                };
                (front, Some(note))
            }
            None => (
                Front::Unknown,
                Some(format!("the Ingress cannot be foreseen: {message}")),
            ),
        },
        (Answer::Absent, _) => {
            let which = named.map_or_else(
                || "no IngressClass is the cluster's default".to_owned(),
                |name| format!("there is no IngressClass {name}"),
            );
            (
                Front::Unknown,
                Some(format!(
                    "{which}: the Ingress is left as it is, or not made"
                )),
            )
        }
    }
}

/// The name and controller of the named class, or of the default one.
async fn ingress_class(
    cluster: &Cluster,
    name: Option<&str>,
) -> Result<Answer<(String, String)>, ClusterError> {
    let api: Api<DynamicObject> =
        Api::all_with(cluster.client.clone(), &Kind::IngressClass.resource());
    let found = if let Some(name) = name {
        cluster.ask("get an ingressclass", api.get(name)).await?
    } else {
        let list = ListParams::default();
        match cluster.ask("list ingressclasses", api.list(&list)).await? {
            Answer::Is(classes) => {
                let default = classes.items.into_iter().find(|class| {
                    let annotations = class.metadata.annotations.as_ref();
                    annotations
                        .and_then(|notes| notes.get(IS_DEFAULT))
                        .is_some_and(|is| is == "true")
                });
                default.map_or(Answer::Absent, Answer::Is)
            }
            Answer::Absent => Answer::Absent,
            Answer::Forbidden(message) => Answer::Forbidden(message),
        }
    };
    Ok(match found {
        Answer::Is(class) => {
            let controller = text(&class.data, "/spec/controller").to_owned();
            Answer::Is((class.metadata.name.unwrap_or_default(), controller))
        }
        Answer::Absent => Answer::Absent,
        Answer::Forbidden(message) => Answer::Forbidden(message),
    })
}

fn dialect_of_status(live: &DynamicObject) -> Option<Dialect> {
    let name = live.data.pointer("/status/exposure/dialect")?.as_str()?;
    [Dialect::F5, Dialect::Community]
        .into_iter()
        .find(|dialect| dialect.prefix() == name)
}

/// Who implements a Gateway of the namespace, or why that is not known.
async fn implementation(
    cluster: &Cluster,
    gateway: &str,
) -> Result<Result<Implementation, String>, ClusterError> {
    let api: Api<DynamicObject> = Api::namespaced_with(
        cluster.client.clone(),
        &cluster.namespace,
        &Kind::Gateway.resource(),
    );
    let class = match cluster.ask("get a gateway", api.get(gateway)).await? {
        Answer::Is(found) => text(&found.data, "/spec/gatewayClassName").to_owned(),
        Answer::Absent => {
            return Ok(Err(format!(
                "there is no Gateway {gateway} in this namespace"
            )));
        }
        Answer::Forbidden(message) => return Ok(Err(message)),
    };
    let api: Api<DynamicObject> =
        Api::all_with(cluster.client.clone(), &Kind::GatewayClass.resource());
    Ok(
        match cluster.ask("get a gatewayclass", api.get(&class)).await? {
            Answer::Is(class) => Ok(Implementation::from_controller(text(
                &class.data,
                "/spec/controllerName",
            ))),
            Answer::Absent => Err(format!("there is no GatewayClass {class}")),
            // As the operator does: without its policies a route still works.
            Answer::Forbidden(_) => Ok(Implementation::Other),
        },
    )
}

fn text<'a>(data: &'a Value, pointer: &str) -> &'a str {
    data.pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}
