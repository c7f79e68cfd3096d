//! From a `WsGateway` and what it refers to, to a [`Gateway`]: third on the path.
//!
//! Parse, don't validate: each text becomes a value of its type here, once. Every fault is found in one pass, so
//! that a user mends them all at once. Each part takes its piece of the spec apart without `..`, so a field that
//! is added to the CRD and read by nobody does not compile.

mod admission;
mod auth;
mod exposure;
mod findings;
mod live;
mod nats;
mod pods;
mod route;
mod scaling;

use std::{collections::BTreeMap, fmt};

use serde_json::Value;
use wsgateway_crds::{
    config::Live,
    v1alpha1::{WsGateway, WsGatewaySpec},
};
use wsgateway_nginx_ingress::value::ObjectName;

use crate::{
    gateway::{Gateway, SecretBytes},
    lint,
};
use findings::Findings;

pub use nats::check_server;

/// What a `WsGateway` may refer to: the Secrets and `ConfigMaps` of its namespace, by name and key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Referenced {
    /// The Secrets.
    pub secrets: BTreeMap<String, BTreeMap<String, SecretBytes>>,
    /// The `ConfigMaps`.
    pub config_maps: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Whether what is not above is a fault, or mounted by the kubelet and none of the reader's business.
    pub contents: Contents,
    /// The NATS servers of a `WsGateway` that names none.
    pub nats_servers: Vec<String>,
}

/// Who has the contents of Secrets and `ConfigMaps`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Contents {
    /// The reader: what is not given does not exist.
    #[default]
    Given,
    /// The kubelet, which mounts them. They are not looked at. Nobody starts a NATS server there, so the
    /// `WsGateway` must name one where [`Referenced::nats_servers`] has none.
    Mounted,
}

impl Referenced {
    /// For a reader in a cluster, who looks at none of it.
    pub fn mounted() -> Self {
        Self {
            contents: Contents::Mounted,
            ..Self::default()
        }
    }
}

/// One reason why a `WsGateway` is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    /// The field, such as `spec.routes[0].path`; empty for the object itself.
    pub path: String,
    /// A stable word in CamelCase, for status, events and metric labels.
    pub reason: &'static str,
    /// What is wrong, in a sentence without the path.
    pub message: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// All of them, in the order of their paths. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reasons(Vec<Reason>);

impl Reasons {
    /// The reasons.
    pub fn iter(&self) -> impl Iterator<Item = &Reason> {
        self.0.iter()
    }
}

impl fmt::Display for Reasons {
    /// A line for each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, reason) in self.0.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{reason}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Reasons {}

/// Gives a `WsGateway` its meaning. The CRD's own rules are asked first, in case it got past an older CRD.
///
/// # Errors
/// When anything is wrong with it, or something that it names is missing.
pub fn validate(gateway: &WsGateway, referenced: &Referenced) -> Result<Gateway, Reasons> {
    let value = serde_json::to_value(gateway).map_err(|error| unreadable(&error))?;
    check(&value, referenced)
}

/// The same of a `WsGateway` as it was written, in which unknown fields are faults too.
///
/// # Errors
/// As [`validate`].
pub fn check(gateway: &Value, referenced: &Referenced) -> Result<Gateway, Reasons> {
    let gateway = lint::settled(gateway).map_err(|violations| {
        let reason = |violation: lint::Violation| Reason {
            path: violation.path,
            reason: "SchemaViolation",
            message: violation.message,
        };
        Reasons(violations.into_iter().map(reason).collect())
    })?;
    let gateway = serde_json::from_value(gateway).map_err(|error| unreadable(&error))?;
    let mut findings = Findings::new(referenced);
    let model = model(gateway, &mut findings);
    match (model, findings.into_reasons()) {
        (Some(model), reasons) if reasons.is_empty() => Ok(model),
        (_, mut reasons) => {
            reasons.sort();
            Err(Reasons(reasons))
        }
    }
}

/// No object that the CRD lets pass is known to end here.
fn unreadable(error: &serde_json::Error) -> Reasons {
    let message = error.to_string();
    Reasons(vec![Reason {
        path: String::new(),
        reason: "Unreadable",
        message,
    }])
}

fn model(gateway: WsGateway, findings: &mut Findings<'_>) -> Option<Gateway> {
    let name = gateway.metadata.name.unwrap_or_default();
    let namespace = gateway
        .metadata
        .namespace
        .unwrap_or_else(|| "default".to_owned());
    let WsGatewaySpec {
        replicas,
        paused,
        image,
        upgrade,
        nats,
        websocket,
        limits,
        auth,
        routes,
        exposure,
        rollout,
        scaling,
        monitoring,
        network_policy,
        pod_disruption_budget,
        pod_template,
    } = gateway.spec;
    let has_auth = auth.is_some();
    let auth = auth
        .map(|auth| {
            let logout_subject = format!("wsgateway.{namespace}.{name}.logout");
            auth::auth(auth, &logout_subject, findings).ok_or(())
        })
        .transpose();
    let (paths, routes) = route::routes(routes, has_auth, findings);
    let nats = nats::nats(nats, findings);
    let (auth, auth_files) = auth.ok().flatten().unzip();
    let live = live::live(websocket, limits, rollout, (auth, routes), findings);
    let logout_paths = live.iter().flat_map(exposure::logout_paths);
    let paths = paths.map(|paths| paths.into_iter().chain(logout_paths).collect());
    let exposed = exposure::exposure(&name, exposure, paths, findings);
    let scaling = scaling
        .map(|scaling| scaling::scaling(scaling, findings).ok_or(()))
        .transpose();
    let monitoring = pods::monitoring(monitoring, findings);
    let network_policy = pods::network_policy(network_policy, findings);
    let max_unavailable = pods::max_unavailable(&pod_disruption_budget);
    let pod_template = pods::pod_template(pod_template, findings);
    let name = findings.parse::<ObjectName>("metadata.name", &name, "InvalidName");
    let namespace = findings.parse::<ObjectName>("metadata.namespace", &namespace, "InvalidName");
    let exposure::Exposed {
        exposure,
        tls,
        entrance,
        controller,
        client_address,
    } = exposed?;
    Some(Gateway {
        name: name?,
        namespace: namespace?,
        replicas,
        nats: nats?,
        live: Live {
            client_address,
            ..live?
        },
        auth_files: auth_files.unwrap_or_default(),
        exposure,
        tls,
        entrance,
        controller,
        paused,
        image,
        upgrade,
        scaling: scaling.ok()?,
        monitoring: monitoring?,
        network_policy: network_policy.ok()?,
        max_unavailable,
        pod_template: pod_template?,
    })
}
