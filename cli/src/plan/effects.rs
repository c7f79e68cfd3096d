//! What clients feel of a change: which gateways are replaced or taken away, what is read again, what the proxy does,
//! and how many sockets that closes.

use std::time::Duration;

use serde_json::Value;
use wsgateway_crds::config::Live;
use wsgateway_model::Gateway;
use wsgateway_operator::{
    build::{self, Desired, names},
    kinds::Kind,
    rollout::Template,
};

use super::{
    before::Before,
    forecast::has_proxy,
    objects::{ObjectChange, What},
    reload::{ClosedRoute, closed_routes},
};

/// The kinds that a proxy reads.
const PROXY_KINDS: [Kind; 5] = [
    Kind::Ingress,
    Kind::HttpRoute,
    Kind::ClientSettingsPolicy,
    Kind::ProxySettingsPolicy,
    Kind::UpstreamSettingsPolicy,
];

/// What clients feel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Effects {
    /// What becomes of the gateways that run.
    pub(super) pods: Pods,
    /// What becomes of their configuration.
    pub(super) live: Reload,
    /// Whether the proxy is written for; none where there is none.
    pub(super) proxy: Option<Proxy>,
    /// The sockets that close, apart from what the proxy does.
    pub(super) sockets: Sockets,
}

/// What becomes of the gateways that run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pods {
    /// They stay, and others may come.
    Stay {
        /// How many there are.
        now: u32,
        /// How many there will be.
        then: u32,
    },
    /// Some are taken away, one after the other, the emptiest first.
    ScaledIn {
        /// How many there are.
        now: u32,
        /// How many there will be.
        then: u32,
    },
    /// Each is replaced, one after the other.
    Replaced {
        /// How many there are.
        now: u32,
        /// How many there will be.
        then: u32,
        /// How long each must last before the next is replaced.
        each: Duration,
    },
}

/// What becomes of the live configuration.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reload {
    /// It is as it was.
    Same,
    /// Gateways read it again, and close the connections of these routes.
    Closing(Vec<ClosedRoute>),
    /// Gateways read it again; what it closes cannot be told, since the old one cannot be read.
    Unknown,
}

/// What a proxy does.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Proxy {
    /// Nothing is written for it.
    Untouched,
    /// These kinds are.
    Written(Vec<&'static str>),
}

/// How many sockets close.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sockets {
    /// So many of so many.
    Counted {
        /// That close.
        closed: u64,
        /// That are open.
        open: u64,
    },
    /// Not all pods said how many they have.
    AtMost {
        /// As the operator counted last.
        open: Option<i64>,
        /// Why a pod did not say.
        why: String,
    },
    /// None.
    None,
}

/// What clients feel; none where nothing runs, or nothing is written.
pub(super) fn effects(
    objects: &[ObjectChange],
    gateway: &Gateway,
    desired: &Desired,
    template: Template,
    before: &Before,
) -> Option<Effects> {
    let name = gateway.name.as_str();
    before.deployment(name)?;
    if objects.is_empty() {
        return None;
    }
    let pods = pods(gateway, desired, template, before);
    let live = reload(objects, gateway, before);
    let proxy = has_proxy(gateway, &before.front).then(|| proxy(objects));
    let sockets = sockets(&pods, &live, before);
    Some(Effects {
        pods,
        live,
        proxy,
        sockets,
    })
}

fn pods(gateway: &Gateway, desired: &Desired, template: Template, before: &Before) -> Pods {
    let now = u32::try_from(before.pods.len()).unwrap_or(u32::MAX);
    let then = gateway.replicas;
    let is_replaced = template != Template::Current && !template.is_old();
    if is_replaced && now > 0 && then > 0 {
        let spec = desired.deployment.spec.as_ref();
        let each = spec
            .and_then(|spec| spec.min_ready_seconds)
            .unwrap_or_default();
        let each = Duration::from_secs(u64::try_from(each).unwrap_or_default());
        return Pods::Replaced { now, then, each };
    }
    if then < now {
        Pods::ScaledIn { now, then }
    } else {
        Pods::Stay { now, then }
    }
}

fn reload(objects: &[ObjectChange], gateway: &Gateway, before: &Before) -> Reload {
    let name = names::live(gateway.name.as_str());
    let is_written = objects
        .iter()
        .any(|object| object.kind == Kind::ConfigMap && object.name == name);
    if !is_written {
        return Reload::Same;
    }
    let old = before.ours(Kind::ConfigMap, &name);
    let text = old
        .and_then(|old| old.pointer("/data/live.yaml"))
        .and_then(Value::as_str);
    match text.and_then(|text| Live::read(text).ok()) {
        Some((old, _)) => Reload::Closing(closed_routes(&old, &build::live(gateway))),
        None => Reload::Unknown,
    }
}

fn proxy(objects: &[ObjectChange]) -> Proxy {
    let written: Vec<_> = objects
        .iter()
        .filter(|object| !matches!(object.what, What::Hidden | What::Conflict))
        .filter(|object| PROXY_KINDS.contains(&object.kind))
        .map(|object| object.kind.name())
        .collect();
    if written.is_empty() {
        Proxy::Untouched
    } else {
        Proxy::Written(written)
    }
}

fn sockets(pods: &Pods, live: &Reload, before: &Before) -> Sockets {
    let closes_routes = match live {
        Reload::Same => false,
        Reload::Closing(routes) => !routes.is_empty(),
        Reload::Unknown => true,
    };
    if matches!(pods, Pods::Stay { .. }) && !closes_routes {
        return Sockets::None;
    }
    let mut counts = Vec::new();
    for pod in &before.pods {
        match &pod.connections {
            Ok(connections) => counts.push(connections),
            Err(why) => {
                let status = before
                    .gateway
                    .as_ref()
                    .and_then(|gateway| gateway.data.get("status"));
                let open = status.and_then(|status| status.get("connections")?.as_i64());
                let why = why.clone();
                return Sockets::AtMost { open, why };
            }
        }
    }
    counts.sort_by_key(|connections| connections.values().sum::<u64>());
    let open = counts
        .iter()
        .flat_map(|connections| connections.values())
        .sum();
    // What the fewest connections have goes first.
    let taken = match pods {
        Pods::Stay { .. } => 0,
        Pods::ScaledIn { now, then } => usize::try_from(now - then).unwrap_or_default(),
        Pods::Replaced { .. } => counts.len(),
    };
    let is_closed = |route: &str| match live {
        Reload::Same => false,
        Reload::Closing(routes) => routes.iter().any(|closed| closed.name == route),
        Reload::Unknown => true,
    };
    let closed = counts.iter().enumerate().map(|(index, connections)| {
        let closed = connections
            .iter()
            .filter(|(route, _)| index < taken || is_closed(route));
        closed.map(|(_, count)| count).sum::<u64>()
    });
    Sockets::Counted {
        closed: closed.sum(),
        open,
    }
}
