//! Who stands in front: the controller of the Ingress's class, or that of the Gateway's. Never told by the name of a
//! class: both nginx controllers call theirs `nginx`.

use std::{collections::BTreeSet, sync::Arc};

use kube::Client;
use wsgateway_model::{Gateway, gateway::Entrance};
use wsgateway_nginx_ingress::{Dialect, gateway_api::Implementation, value::ObjectName};

use super::{DereferenceError, Read, read};
use crate::{
    build::Front,
    kinds::Kind,
    status::Verdict,
    watch::{ClassView, Key, Lookup, Referent, Stores},
};

/// Who stands in front, and what is wrong with that.
#[derive(Debug)]
pub struct Fronted {
    /// Who.
    pub front: Front,
    /// Why clients cannot come in, or why that cannot be known, whatever the objects say.
    pub fault: Option<Verdict>,
    /// Whether the controller has no more releases.
    pub retired: Verdict,
    /// What was asked after: a change of it is a change for this `WsGateway`.
    pub referents: BTreeSet<Referent>,
}

impl Fronted {
    fn new(front: Front) -> Self {
        Self {
            front,
            fault: None,
            retired: Verdict::no("Maintained", "the controller in front has releases"),
            referents: BTreeSet::new(),
        }
    }

    fn unknown(fault: Verdict) -> Self {
        Self {
            fault: Some(fault),
            ..Self::new(Front::Unknown)
        }
    }
}

/// Finds out who stands in front of a gateway.
pub async fn front(
    client: &Client,
    stores: &Stores,
    gateway: &Gateway,
) -> Result<Fronted, DereferenceError> {
    match &gateway.entrance {
        Entrance::Ingress { class, .. } => {
            let class = class.as_ref().map(ObjectName::as_str);
            Ok(ingress(stores, class, gateway.controller.as_deref()))
        }
        Entrance::HttpRoute { parents } => {
            let named = gateway
                .controller
                .as_deref()
                .map(Implementation::from_controller);
            let Some(parent) = parents.first() else {
                return Ok(Fronted::new(Front::Unknown));
            };
            let key = Key::new(gateway.namespace.as_str(), parent.name.as_str());
            gateway_api(client, stores, &key, named).await
        }
        Entrance::LoadBalancer { .. } | Entrance::None => Ok(Fronted::new(Front::Service)),
    }
}

/// Of an Ingress. A class that is named need not be readable where the user names its controller.
fn ingress(stores: &Stores, class: Option<&str>, controller: Option<&str>) -> Fronted {
    let found = match class {
        Some(name) => stores.ingress_class(name),
        None => default_class(stores),
    };
    let class = class.map(str::to_owned);
    let (class, controller) = match (found, controller) {
        (Lookup::Found(found), controller) => {
            let controller = controller.unwrap_or(&found.controller).to_owned();
            // What is named explicitly stays right when the default changes.
            (Some(found.metadata.name.to_string()), controller)
        }
        (Lookup::Unknown, Some(controller)) => (class, controller.to_owned()),
        (Lookup::Unknown, None) => {
            return Fronted::unknown(Verdict::unknown(
                "IngressClassUnreadable",
                "the operator may not read IngressClasses: name the controller in \
                 spec.exposure.controller, such as nginx.org/ingress-controller",
            ));
        }
        (Lookup::Absent, _) => return Fronted::unknown(no_class(stores, class.as_deref())),
    };
    let dialect = Dialect::from_controller(&controller);
    let mut fronted = Fronted::new(Front::Ingress { class, dialect });
    if dialect.is_none() {
        fronted.fault = Some(Verdict::unknown(
            "UnknownController",
            format!(
                "the words of {controller} are not known here: the Ingress carries \
                 spec.exposure.ingress.annotations alone"
            ),
        ));
    }
    if dialect.is_some_and(Dialect::is_retired) {
        fronted.retired = Verdict::yes(
            "IngressNginxRetired",
            "the community's ingress-nginx has had no releases since March 2026: move to F5's \
             controller or to the Gateway API",
        );
    }
    fronted
}

fn default_class(stores: &Stores) -> Lookup<Arc<ClassView>> {
    if !stores.ingress_classes.is_synced("") {
        return Lookup::Unknown;
    }
    let classes = stores.ingress_classes.all();
    let default = classes.into_iter().find(|class| class.is_default());
    default.map_or(Lookup::Absent, Lookup::Found)
}

fn no_class(stores: &Stores, class: Option<&str>) -> Verdict {
    let classes = stores.ingress_classes.all();
    let names: Vec<_> = classes.iter().map(|class| &*class.metadata.name).collect();
    let there_are = match names.as_slice() {
        [] => "none is installed".to_owned(),
        names => format!("there are {}", names.join(", ")),
    };
    match class {
        Some(class) => Verdict::no(
            "IngressClassNotFound",
            format!("there is no IngressClass {class}; {there_are}"),
        ),
        None => Verdict::no(
            "NoDefaultIngressClass",
            format!(
                "the cluster has no default IngressClass: name one in \
                 spec.exposure.ingress.className; {there_are}"
            ),
        ),
    }
}

/// Of a Gateway: its class says who implements it. All parents of a route have one implementation here; of several,
/// the first decides.
async fn gateway_api(
    client: &Client,
    stores: &Stores,
    key: &Key,
    named: Option<Implementation>,
) -> Result<Fronted, DereferenceError> {
    let name = &key.name;
    let (implementation, fault) = match read(client, Kind::Gateway, key).await? {
        Read::Found(found) => {
            let class = found.data.pointer("/spec/gatewayClassName");
            let class = class
                .and_then(serde_json::Value::as_str)
                .unwrap_or_default();
            match (named, stores.gateway_class(class)) {
                (Some(named), _) => (Some(named), None),
                (None, Lookup::Found(class)) => (
                    Some(Implementation::from_controller(&class.controller)),
                    None,
                ),
                (None, Lookup::Absent) => {
                    let message =
                        format!("Gateway {name} is of GatewayClass {class}, which does not exist");
                    (None, Some(Verdict::no("GatewayClassNotFound", message)))
                }
                // Without its policies a route still works.
                (None, Lookup::Unknown) => (Some(Implementation::Other), None),
            }
        }
        Read::Absent => {
            let message = format!("there is no Gateway {name} in this namespace");
            (named, Some(Verdict::no("GatewayNotFound", message)))
        }
        Read::Forbidden(message) => (named, Some(Verdict::unknown("GatewayUnreadable", message))),
    };
    let front = implementation.map_or(Front::Unknown, Front::GatewayApi);
    let mut fronted = Fronted::new(front);
    fronted.fault = fault;
    fronted.referents.insert((Kind::Gateway, key.clone()));
    Ok(fronted)
}
