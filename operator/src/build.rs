//! From a validated [`Gateway`] to the objects that it asks for: pure, and nothing here can fail.
//!
//! Each object has a module of its own below. `wsgw render` prints what this gives; the reconciler applies it.

mod advice;
mod autoscaler;
mod config_map;
mod dashboard;
mod deployment;
mod disruption;
mod http_route;
mod ingress;
mod monitor;
pub mod names;
mod network_policy;
mod pod;
mod resources;
mod rules;
mod service;
mod service_account;
mod tls;
mod url;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use k8s_openapi::{
    ByteString, api::apps::v1::Deployment, apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use serde_json::Value;
use wsgateway_crds::{
    config::Live,
    v1alpha1::{DashboardMode, MetricsMode, RulesMode},
};
use wsgateway_model::{
    Gateway,
    gateway::{Entrance, Tls},
};
use wsgateway_nginx_ingress::{Dialect, NotExpressed, gateway_api::Implementation};

pub use self::url::url;
use crate::kinds::Kind;

/// What the objects are made from beside the gateway: what the operator was told, and what it found in the cluster.
#[derive(Debug, Clone)]
pub struct Site {
    /// The image of gateways that name none.
    pub image: String,
    /// The operator's namespace, which a `NetworkPolicy` lets in. None in `wsgw render`.
    pub operator_namespace: Option<String>,
    /// The `WsGateway` as the owner of its children. None in `wsgw render`.
    pub owner: Option<OwnerReference>,
    /// The optional kinds that the API server serves.
    pub served: BTreeSet<Kind>,
    /// Who stands in front.
    pub front: Front,
    /// The contents of `<name>-ca` and `<name>-tls`, with a self-signed certificate. None in `wsgw render`.
    pub issued: Option<Issued>,
}

/// Who stands in front of the gateways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Front {
    /// An Ingress controller.
    Ingress {
        /// The class to name in the Ingress: the user's or the cluster's default.
        class: Option<String>,
        /// Whose annotations it reads; none where this project does not know the controller.
        dialect: Option<Dialect>,
    },
    /// An implementation of the Gateway API.
    GatewayApi(Implementation),
    /// Nobody of ours: a Service of type `LoadBalancer`, or one inside the cluster.
    Service,
    /// It could not be found out yet. What is there is left as it is.
    Unknown,
}

/// The contents of the Secrets with a self-signed certificate and its authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The data of Secret `<name>-ca`: `tls.crt`, `tls.key`.
    pub authority: BTreeMap<String, ByteString>,
    /// The data of Secret `<name>-tls`: `tls.crt`, `tls.key`, `ca.crt`.
    pub leaf: BTreeMap<String, ByteString>,
    /// What clients must trust, PEM: during a change of authorities the old and the new one. It stands in
    /// `ConfigMap` `<name>-ca`, key `ca.crt`.
    pub trust: String,
}

/// An object to apply, whole: `apiVersion`, `kind`, `metadata` with name, namespace, labels and owner, and the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// All of it.
    pub manifest: Value,
}

/// What a gateway asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    /// All but the Deployment, in the order in which they are applied.
    pub objects: Vec<Object>,
    /// The Deployment, applied last; [`crate::rollout`] decides on its replicas and on when its pods may change.
    pub deployment: Deployment,
    /// Optional kinds that the spec asks for and the API server does not serve.
    pub missing: Vec<Kind>,
    /// Children that are left as they are, neither applied nor deleted, since what they depend on is not known yet.
    pub kept: Vec<(Kind, String)>,
    /// The hash of the live configuration.
    pub live_hash: String,
    /// The hash of the boot configuration.
    pub boot_hash: String,
    /// The dialect's name for status; none without a proxy, or with one that is not known.
    pub dialect: Option<&'static str>,
    /// What the dialect cannot say, and what holds otherwise than it reads behind it.
    pub not_expressed: Vec<NotExpressed>,
}

/// All objects that the gateway asks for.
pub fn build(gateway: &Gateway, site: &Site) -> Desired {
    let (boot, [nats_files, tls_files]) = config_map::boot_file(gateway);
    let (live, auth_files) = config_map::live_file(gateway);
    let files = pod::Files {
        nats: &nats_files,
        tls: &tls_files,
        auth: &auth_files,
    };
    let mut draft = Draft::new(gateway, site);
    draft.add(service_account::service_account(gateway, site));
    draft.add(config_map::boot(gateway, site, &boot));
    draft.add(config_map::live(gateway, site, &live));
    draft.certificate();
    draft.add(service::clients(gateway, site));
    if let Some(policy) = &gateway.network_policy {
        draft.add(network_policy::network_policy(gateway, site, policy));
    }
    draft.objects.extend(disruption::budget(gateway, site));
    draft.autoscaler();
    let (dialect, mut not_expressed) = draft.entrance();
    not_expressed.extend(advice::hidden_addresses(gateway));
    draft.monitoring();
    Desired {
        objects: draft.objects,
        deployment: deployment::deployment(gateway, site, &boot, files),
        missing: draft.missing,
        kept: draft.kept,
        live_hash: live.hash,
        boot_hash: boot.hash,
        dialect,
        not_expressed,
    }
}

/// What running gateways read again, as they read it.
pub fn live(gateway: &Gateway) -> Live {
    gateway.live_in(Path::new(config_map::AUTH_DIRECTORY)).0
}

/// A [`Desired`] on its way.
struct Draft<'a> {
    gateway: &'a Gateway,
    site: &'a Site,
    objects: Vec<Object>,
    missing: Vec<Kind>,
    kept: Vec<(Kind, String)>,
}

impl<'a> Draft<'a> {
    fn new(gateway: &'a Gateway, site: &'a Site) -> Self {
        Self {
            gateway,
            site,
            objects: Vec::new(),
            missing: Vec::new(),
            kept: Vec::new(),
        }
    }

    fn add(&mut self, object: Object) {
        self.objects.push(object);
    }

    /// Adds what the spec asks for by name, where the API server knows its kind.
    fn add_if_served(&mut self, object: Object) {
        if !object.kind.is_optional() || self.site.served.contains(&object.kind) {
            self.objects.push(object);
        } else {
            self.missing.push(object.kind);
        }
    }

    fn is_served(&self, kind: Kind) -> bool {
        self.site.served.contains(&kind)
    }

    fn certificate(&mut self) {
        let (gateway, site) = (self.gateway, self.site);
        match (&gateway.tls, &site.issued) {
            (Tls::SelfSigned { .. }, Some(issued)) => {
                self.objects.extend(tls::self_signed(gateway, site, issued));
            }
            (Tls::SelfSigned { .. }, None) => {
                self.kept
                    .extend(tls::self_signed_names(gateway.name.as_str()));
            }
            (Tls::CertManager { kind, issuer }, _) => {
                self.add_if_served(tls::certificate(gateway, site, *kind, issuer));
            }
            (Tls::Secret { .. } | Tls::None, _) => {}
        }
    }

    fn autoscaler(&mut self) {
        if let Some(scaling) = &self.gateway.scaling {
            self.add_if_served(autoscaler::autoscaler(self.gateway, self.site, scaling));
        }
    }

    /// The way in. Gives the dialect's name, and what it cannot say.
    fn entrance(&mut self) -> (Option<&'static str>, Vec<NotExpressed>) {
        let (gateway, site) = (self.gateway, self.site);
        match (&gateway.entrance, &site.front) {
            (Entrance::Ingress { annotations, .. }, Front::Ingress { class, dialect }) => {
                let (object, not_expressed) =
                    ingress::ingress(gateway, site, class.as_deref(), *dialect, annotations);
                self.add(object);
                (dialect.map(Dialect::prefix), not_expressed)
            }
            (Entrance::HttpRoute { parents }, Front::GatewayApi(implementation)) => {
                let (objects, not_expressed) =
                    http_route::http_route(gateway, site, *implementation, parents);
                for object in objects {
                    self.add_if_served(object);
                }
                let dialect = match implementation {
                    Implementation::NginxGatewayFabric => Kind::ProxySettingsPolicy.group(),
                    Implementation::Other => Kind::HttpRoute.group(),
                };
                (Some(dialect), not_expressed)
            }
            (Entrance::LoadBalancer { .. } | Entrance::None, _) => (None, Vec::new()),
            (Entrance::Ingress { .. } | Entrance::HttpRoute { .. }, _) => {
                let is_route = matches!(gateway.entrance, Entrance::HttpRoute { .. });
                if is_route && !self.is_served(Kind::HttpRoute) {
                    self.missing.push(Kind::HttpRoute);
                }
                let name = gateway.name.as_str();
                self.kept
                    .extend(ways_in().map(|kind| (kind, name.to_owned())));
                (None, Vec::new())
            }
        }
    }

    fn monitoring(&mut self) {
        let (gateway, site) = (self.gateway, self.site);
        let monitoring = &gateway.monitoring;
        match monitoring.metrics {
            MetricsMode::Auto if !self.is_served(Kind::PodMonitor) => {}
            MetricsMode::Auto | MetricsMode::PodMonitor => {
                self.add_if_served(monitor::pod_monitor(gateway, site));
            }
            MetricsMode::ServiceMonitor => {
                self.add(service::metrics(gateway, site));
                self.add_if_served(monitor::service_monitor(gateway, site));
            }
            MetricsMode::Disabled => {}
        }
        match monitoring.rules {
            RulesMode::Auto if !self.is_served(Kind::PrometheusRule) => {}
            RulesMode::Auto | RulesMode::Enabled => {
                self.add_if_served(rules::rules(gateway, site));
            }
            RulesMode::Disabled => {}
        }
        if monitoring.dashboard == DashboardMode::Enabled {
            self.add(dashboard::dashboard(gateway, site));
        }
    }
}

/// The kinds that clients come in by, all of the gateway's name.
fn ways_in() -> impl Iterator<Item = Kind> {
    [Kind::Ingress, Kind::HttpRoute]
        .into_iter()
        .chain(http_route::POLICIES)
}

/// Every child that a `WsGateway` of this name may have, boot `ConfigMaps` aside, whose names follow from what they
/// hold. What is among these and not asked for is deleted.
pub fn possible(name: &str) -> Vec<(Kind, String)> {
    let of_its_name = [
        Kind::ServiceAccount,
        Kind::Service,
        Kind::Deployment,
        Kind::NetworkPolicy,
        Kind::PodDisruptionBudget,
        Kind::HorizontalPodAutoscaler,
        Kind::ScaledObject,
        Kind::Certificate,
        Kind::PodMonitor,
        Kind::ServiceMonitor,
        Kind::PrometheusRule,
    ];
    let of_its_name = of_its_name.into_iter().chain(ways_in());
    let mut possible: Vec<_> = of_its_name.map(|kind| (kind, name.to_owned())).collect();
    possible.extend(tls::self_signed_names(name));
    possible.extend([
        (Kind::ConfigMap, names::live(name)),
        (Kind::ConfigMap, names::dashboard(name)),
        (Kind::Service, names::metrics(name)),
    ]);
    possible
}
