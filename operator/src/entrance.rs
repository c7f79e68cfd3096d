//! Whether clients can come in.
//!
//! The object in front says where its controller is reached, or who refused it ([`ask`]); a handshake proves the rest.
//! [`Probes`] tries it ([`dial`]) at an address from a status alone, or at `--probe-via`, never at what the host's DNS
//! says; [`judge`] says what the answer means, with what the controller said in [`events`].

mod address;
mod certificate;
mod dial;
mod events;
mod judge;
mod pace;
mod probes;
mod target;

use std::sync::Arc;

use kube::{Api, Client, api::DynamicObject};
use serde_json::Value;
use wsgateway_model::{
    Gateway,
    gateway::{Entrance, Tls},
};
use wsgateway_nginx_ingress::gateway_api::ParentRef;

use self::{
    address::Address,
    events::Regarding,
    target::{Expected, Target, host, path},
};
pub use self::{
    address::{Via, ViaError},
    probes::Probes,
};
use crate::{
    build::{Front, names},
    kinds::Kind,
    status::Verdict,
};

/// How many addresses of one way are tried. A load balancer has one or two.
const ADDRESSES_MAX: usize = 4;

/// What is to be found out of a way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What is told until more is known.
    so_far: Verdict,
    /// What to try; none where that is not possible.
    target: Option<Target>,
    /// Whose Events say more.
    regarding: Option<Regarding>,
    /// Another with each change that may be felt, such as one of the Ingress: then it is tried at once.
    version: String,
}

impl Question {
    /// Nothing is to be found out.
    fn answered(verdict: Verdict) -> Self {
        Self {
            so_far: verdict,
            target: None,
            regarding: None,
            version: String::new(),
        }
    }

    fn is_answered(&self) -> bool {
        self.target.is_none() && self.regarding.is_none()
    }

    /// Whether what was found of the one is no answer to the other.
    fn is_another(&self, other: &Self) -> bool {
        let Self {
            so_far,
            target,
            regarding,
            version: _,
        } = self;
        *so_far != other.so_far || *target != other.target || *regarding != other.regarding
    }
}

/// What is known beside the `WsGateway` itself.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Who stands in front.
    pub front: &'a Front,
    /// The certificate that clients should see, DER, where the operator may read it.
    pub leaf: Option<&'a Arc<[u8]>>,
    /// How many gateways are ready.
    pub ready_replicas: i32,
    /// Where a proxy is reached that the operator does not reach at the addresses of a status.
    pub via: Option<&'a Via>,
}

/// Reads the object in front: what it says by itself, and what is to be tried.
pub async fn ask(
    client: &Client,
    gateway: &Gateway,
    known: Known<'_>,
) -> Result<Question, kube::Error> {
    let question = match &gateway.entrance {
        Entrance::Ingress { .. } => of_balancer(client, gateway, known, Kind::Ingress).await,
        Entrance::LoadBalancer { .. } => of_balancer(client, gateway, known, Kind::Service).await,
        Entrance::HttpRoute { parents } => of_route(client, gateway, known, parents).await,
        Entrance::None => Ok(Question::answered(Verdict::yes(
            "InsideTheCluster",
            "clients inside the cluster connect to the Service",
        ))),
    };
    match question {
        // The kind is not served, or the operator may not read it.
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Ok(
            Question::answered(Verdict::unknown("NotReadable", status.message)),
        ),
        other => other,
    }
}

async fn read(
    client: &Client,
    gateway: &Gateway,
    kind: Kind,
    name: &str,
) -> Result<Option<DynamicObject>, kube::Error> {
    let namespace = gateway.namespace.as_str();
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind.resource());
    api.get_opt(name).await
}

/// An Ingress and a Service of type `LoadBalancer` say in the same place where they are reached.
async fn of_balancer(
    client: &Client,
    gateway: &Gateway,
    known: Known<'_>,
    kind: Kind,
) -> Result<Question, kube::Error> {
    let object = read(client, gateway, kind, gateway.name.as_str()).await?;
    let is_ingress = kind == Kind::Ingress;
    let front = balancer(known.front, is_ingress);
    let (port, certificate) = match (is_ingress, &gateway.tls) {
        (false, Tls::None) => (names::CLIENTS_PORT, None),
        // Whose leaf it is, is not compared: for a minute after a renewal kubelets bring it to one pod after the other.
        (false, _) => {
            let leaf = None;
            let expected = expected(gateway, known);
            (names::CLIENTS_PORT, Some(Expected { leaf, ..expected }))
        }
        (true, Tls::None) => (80, None),
        (true, _) => (443, Some(expected(gateway, known))),
    };
    let addresses = match known.via.filter(|_| is_ingress) {
        Some(via) => vec![via.address(port)],
        None => object
            .as_ref()
            .map(|object| balancer_addresses(&object.data, port))
            .unwrap_or_default(),
    };
    let no_address = || {
        format!(
            "the {} has no address in its status yet: {front} has not taken it up; check that its controller runs",
            kind.name()
        )
    };
    let mut question = dialable(
        gateway,
        known,
        addresses,
        no_address,
        front.clone(),
        certificate,
    );
    if let Some(object) = &object {
        let uid = object.metadata.uid.clone().unwrap_or_default();
        question.regarding = is_ingress.then(|| Regarding {
            namespace: gateway.namespace.to_string(),
            name: gateway.name.to_string(),
            uid,
        });
        let version = object.metadata.resource_version.as_deref();
        question.version = format!("{} {}", version.unwrap_or_default(), known.ready_replicas);
    }
    Ok(question)
}

/// Who should take an Ingress or a Service up.
fn balancer(front: &Front, is_ingress: bool) -> String {
    match front {
        Front::Ingress {
            class: Some(class), ..
        } => format!("IngressClass {class}"),
        _ if is_ingress => "the ingress controller".to_owned(),
        _ => "the load balancer".to_owned(),
    }
}

fn balancer_addresses(object: &Value, port: u16) -> Vec<Address> {
    let points = object
        .pointer("/status/loadBalancer/ingress")
        .and_then(Value::as_array);
    let points = points.into_iter().flatten();
    let texts = points.filter_map(|point| {
        let filled = |field: &str| text(point.get(field));
        [filled("ip"), filled("hostname")]
            .into_iter()
            .find(|text| !text.is_empty())
    });
    texts.map(|text| Address::of_status(text, port)).collect()
}

/// A route is taken up by each of its Gateways, or refused with a reason.
async fn of_route(
    client: &Client,
    gateway: &Gateway,
    known: Known<'_>,
    parents: &[ParentRef],
) -> Result<Question, kube::Error> {
    let route = read(client, gateway, Kind::HttpRoute, gateway.name.as_str()).await?;
    if let Some(verdict) = refused_route(route.as_ref().map(|route| &route.data)) {
        return Ok(Question::answered(verdict));
    }
    let mut addresses = Vec::new();
    let mut is_tls = false;
    let mut version = String::new();
    let host = host(gateway);
    for parent in parents {
        let Some(found) = read(client, gateway, Kind::Gateway, parent.name.as_str()).await? else {
            continue;
        };
        let Some(listener) = listener(&found.data, parent, host.as_deref()) else {
            continue;
        };
        // All that is tried is tried in one way: that of the first.
        if addresses.is_empty() {
            is_tls = listener.is_tls;
        } else if is_tls != listener.is_tls {
            continue;
        }
        version.push_str(
            found
                .metadata
                .resource_version
                .as_deref()
                .unwrap_or_default(),
        );
        version.push(' ');
        match known.via {
            Some(via) => addresses = vec![via.address(listener.port)],
            None => addresses.extend(gateway_addresses(&found.data, listener.port)),
        }
    }
    let names: Vec<&str> = parents.iter().map(|parent| parent.name.as_str()).collect();
    let front = format!("Gateway {}", names.join(", "));
    let certificate = is_tls.then_some(Expected {
        // It is the listener's.
        leaf: None,
        secret: None,
    });
    let no_address =
        || format!("{front} has no address in its status, or no listener for this host");
    let mut question = dialable(
        gateway,
        known,
        addresses,
        no_address,
        front.clone(),
        certificate,
    );
    let of_route = route.and_then(|route| route.metadata.resource_version);
    question.version = format!(
        "{version}{} {}",
        of_route.unwrap_or_default(),
        known.ready_replicas
    );
    Ok(question)
}

/// What the Gateways say of a route, where it is not served.
fn refused_route(route: Option<&Value>) -> Option<Verdict> {
    let parents = route
        .and_then(|route| route.pointer("/status/parents"))
        .and_then(Value::as_array);
    let Some(parents) = parents.filter(|parents| !parents.is_empty()) else {
        let message = "no Gateway has taken the HTTPRoute up yet";
        return Some(Verdict::unknown("NoParent", message));
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
                return Some(Verdict::no("RouteRefused", message));
            }
        }
    }
    None
}

/// What a Gateway listens with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Listener {
    port: u16,
    is_tls: bool,
}

/// The listener that a route hangs on: the one that it names, else one with TLS before one without, of those for its
/// host.
fn listener(gateway: &Value, parent: &ParentRef, host: Option<&str>) -> Option<Listener> {
    let all = gateway
        .pointer("/spec/listeners")
        .and_then(Value::as_array)?;
    let fits = |listener: &&Value| match &parent.section_name {
        Some(name) => text(listener.get("name")) == name.as_str(),
        None => is_for(text(listener.get("hostname")), host),
    };
    let listeners = all.iter().filter(fits).filter_map(|listener| {
        let port = u16::try_from(listener.get("port")?.as_u64()?).ok()?;
        let is_tls = match text(listener.get("protocol")) {
            "HTTPS" => true,
            "HTTP" => false,
            _ => return None,
        };
        Some(Listener { port, is_tls })
    });
    listeners.max_by_key(|listener| listener.is_tls)
}

/// Whether a listener's hostname, which may begin with `*.` or be empty, is for a host.
fn is_for(hostname: &str, host: Option<&str>) -> bool {
    let Some(host) = host.filter(|_| !hostname.is_empty()) else {
        return true;
    };
    match hostname.strip_prefix('*') {
        Some(suffix) => host.ends_with(suffix),
        None => host == hostname,
    }
}

fn gateway_addresses(gateway: &Value, port: u16) -> Vec<Address> {
    let all = gateway
        .pointer("/status/addresses")
        .and_then(Value::as_array);
    let values = all.into_iter().flatten();
    let values = values.map(|address| text(address.get("value")));
    let values = values.filter(|value| !value.is_empty());
    values
        .map(|value| Address::of_status(value, port))
        .collect()
}

fn expected(gateway: &Gateway, known: Known<'_>) -> Expected {
    let secret = gateway.exposure.tls_secret.as_ref();
    Expected {
        leaf: known.leaf.cloned(),
        secret: secret.map(ToString::to_string),
    }
}

/// What can be tried, or why nothing can.
fn dialable(
    gateway: &Gateway,
    known: Known<'_>,
    mut addresses: Vec<Address>,
    no_address: impl FnOnce() -> String,
    front: String,
    certificate: Option<Expected>,
) -> Question {
    addresses.truncate(ADDRESSES_MAX);
    if addresses.is_empty() {
        return Question::answered(Verdict::unknown("NoAddress", no_address()));
    }
    if known.ready_replicas == 0 {
        return Question::answered(Verdict::unknown(
            "GatewaysNotReady",
            "no gateway is ready to answer; see GatewayAvailable",
        ));
    }
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let so_far = Verdict::unknown(
        "Probing",
        format!("a handshake at {} is being tried", texts.join(", ")),
    );
    let target = Target {
        addresses,
        host: host(gateway),
        path: path(gateway),
        certificate,
        front,
    };
    Question {
        target: Some(target),
        ..Question::answered(so_far)
    }
}

fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests;
