//! The `WsGateway` resource, as the API server keeps it and as users write it.
//!
//! Texts stay texts here: an object that got past an older schema must still be readable, so that its fault
//! can be reported with its field. The model crate parses them, once, into the types of [`crate::value`].
//!
//! Every field has its default in the schema; the defaults are the seed's. Rules between fields are CEL, so
//! that the API server and `wsgw lint` refuse with the same sentence.

mod auth;
mod client_address;
mod exposure;
mod limits;
mod monitoring;
mod nats;
mod pods;
mod reference;
mod rollout;
mod route;
mod scaling;
mod schema;
mod status;
mod websocket;

pub use auth::{
    Access, Auth, Authorization, BackchannelLogout, CookieSource, Hmac, HmacAlgorithm, Jwks,
    KeysRef, Oidc, OnExpiry, Provider, ProviderType, PublishAuthorization, SecretKeyRef,
    TokenSource, TokenSourceType,
};
pub use client_address::{ClientAddress, ClientAddressType};
pub use exposure::{
    Affinity, Buffering, CertManagerTls, Exposure, ExposureType, HttpRoute, Ingress, IssuerKind,
    IssuerRef, LoadBalancer, ParentRef, SecretTls, SelfSignedTls, StatusPage, Tls, TlsType,
    Upstream,
};
pub use limits::{Limits, Outbox, PerAddress, PerConnection, PerUser};
pub use monitoring::{DashboardMode, MetricsMode, Monitoring, RulesMode};
pub use nats::{
    CaRef, CaRefKind, Credentials, CredentialsType, JetStreamApi, KeyRef, Nats, NatsTls, SecretRef,
};
pub use pods::{
    NetworkPolicy, NetworkPolicyMode, PodDisruptionBudget, PodMetadata, PodTemplate, Upgrade,
};
pub use reference::reference;
pub use rollout::{Drain, RetryAfter, Rollout};
pub use route::{
    Acknowledge, Core, DeadLetter, FromClient, FromClientType, Payload, Publish, Queue, Route,
    SlowConsumer, SlowConsumerPolicy, Source, SourceType,
};
pub use scaling::{KedaScaling, Metric, MetricType, Scaling, ScalingType};
pub use schema::{SizeText, pattern_meaning};
pub use status::{ExposureStatus, NotExpressedStatus, RevisionStatus, WsGatewayStatus};
pub use websocket::{Compression, CompressionMode, WebSocket};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResource, CustomResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use schema::Rule;

/// The longest name of a `WsGateway`: what is derived from it, such as `<name>-boot-<hash>`, stays a label.
pub const NAME_BYTES_MAX: usize = 40;

/// What a WebSocket gateway in front of NATS should be.
#[derive(CustomResource, JsonSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "wsgateway.io",
    version = "v1alpha1",
    kind = "WsGateway",
    namespaced,
    shortname = "wsgw",
    category = "wsgateway",
    derive = "PartialEq",
    status = "WsGatewayStatus",
    doc = "A WebSocket endpoint in front of NATS: `kubectl apply` one, and clients connect.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether clients can connect."
    ),
    printcolumn(
        name = "Replicas",
        type_ = "integer",
        json_path = ".spec.replicas",
        description = "How many gateways are wanted."
    ),
    printcolumn(
        name = "Ready replicas",
        type_ = "integer",
        json_path = ".status.readyReplicas",
        description = "How many gateways take connections."
    ),
    printcolumn(
        name = "URL",
        type_ = "string",
        json_path = ".status.url",
        description = "Where clients connect."
    ),
    printcolumn(
        name = "Connections",
        type_ = "integer",
        json_path = ".status.connections",
        description = "Open connections, sampled once a minute.",
        priority = 1
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why it is ready, or why not.",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Since when it exists."
    ),
    validation = Rule::new("size(self.metadata.name) <= 40")
        .message("metadata.name must have at most 40 characters: the names of what is made for it begin with it"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must begin with a letter and hold only a-z, 0-9 and -: a Service is named for it"),
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = Rule::shorter(
    "websocket.pongWait",
    "exposure.proxyReadTimeout",
    "websocket.pongWait must be shorter than exposure.proxyReadTimeout, or the proxy ends quiet connections \
     before the gateway knows that their client is gone"
))]
#[schemars(transform = Rule::new(
    "!has(self.auth) || !self.auth.tokenSources.exists(s, s.type == 'Cookie') || \
     !('*' in self.websocket.allowedOrigins)",
    "auth.tokenSources must not hold Cookie while websocket.allowedOrigins holds *: any page could connect in its \
     visitor's name"
))]
#[schemars(transform = Rule::new(
    "has(self.auth) || self.limits.perUser.connections == 0",
    "limits.perUser must not be set without auth: nobody would be known"
))]
#[schemars(transform = Rule::new(
    "has(self.auth) || !self.routes.exists(r, has(r.authorization))",
    "routes must not have authorization without auth: nobody would be asked for a token"
))]
#[schemars(transform = Rule::new(
    "has(self.auth) || !self.routes.exists(r, has(r.fromClient.publish) && has(r.fromClient.publish.authorization))",
    "routes must not have fromClient.publish.authorization without auth: nobody would be asked for a token"
))]
pub struct WsGatewaySpec {
    /// How many gateways serve, each with the same routes. A client is on one of them; a message from NATS
    /// reaches clients on all. With 0 nobody is served. Default 3. Example: `replicas: 5`
    #[serde(default = "three")]
    #[schemars(range(min = 0, max = 1_000))]
    pub replicas: u32,
    /// With `true` the operator changes nothing, and goes on reporting; what runs keeps running.
    /// Default `false`. Example: `paused: true`
    #[serde(default)]
    pub paused: bool,
    /// The gateways' image. Default: the one that belongs to the operator's version.
    /// Example: `image: registry.example.com/wsgateway:1.2.3`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::image")]
    pub image: Option<String>,
    /// Whether a newer operator may replace gateways whose spec has not changed. `Automatic`: it may, one `WsGateway`
    /// at a time, and it stops at the first that does not become ready. `OnSpecChange`: it waits until the spec
    /// changes in something that replaces them anyway. Default `Automatic`. Example: `upgrade: OnSpecChange`
    #[serde(default)]
    pub upgrade: Upgrade,
    /// How the gateways reach NATS. Example: `nats: {servers: ["nats://nats.shop.svc:4222"]}`
    #[serde(default)]
    pub nats: Nats,
    /// What holds for every connection: pings, deadlines, the largest message, who may connect.
    /// Example: `websocket: {maxMessageSize: 256Ki}`
    #[serde(default)]
    pub websocket: WebSocket,
    /// What one gateway holds at most. Example: `limits: {connectionsPerPod: 50000}`
    #[serde(default)]
    pub limits: Limits,
    /// Whose tokens are believed. With it every route asks for a valid token, unless its authorization says otherwise.
    /// Default: none, and everyone may connect.
    /// Example: `auth: {providers: [{name: keycloak, type: OIDC, oidc: {issuer: "https://sso.example.com/realms/shop",
    /// audiences: [wsgateway]}}]}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// What is served: 1 to 64 routes of distinct names and paths.
    /// Example: `routes: [{name: chat, path: /chat}]`, which echoes.
    #[schemars(length(min = 1, max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    #[schemars(transform = Rule::new(
        "self.all(a, self.exists_one(b, b.path == a.path))",
        "each route must have a path of its own, but two have the same"
    ))]
    pub routes: Vec<Route>,
    /// How clients reach the gateways: host names, TLS, and the proxy's settings.
    /// Example: `exposure: {hosts: [ws.example.com]}`
    #[serde(default)]
    pub exposure: Exposure,
    /// How gateways are replaced and removed without losing clients at once.
    /// Example: `rollout: {drain: {period: 2m}}`
    #[serde(default)]
    pub rollout: Rollout,
    /// What changes replicas by load. It writes the replicas of this object through its scale subresource.
    /// Default: nothing does.
    /// Example: `scaling: {type: HPA, maxReplicas: 12, metrics: [{type: CPU, averageUtilization: 70}]}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
    /// What is made for Prometheus and Grafana. Example: `monitoring: {labels: {release: kube-prometheus}}`
    #[serde(default)]
    pub monitoring: Monitoring,
    /// Who may reach the gateways' pods. Default: everyone.
    /// Example: `networkPolicy: {mode: Enabled, clientNamespaces: [ingress-nginx]}`
    #[serde(default)]
    pub network_policy: NetworkPolicy,
    /// How many gateways may be taken away at once, as when a node is drained.
    /// Example: `podDisruptionBudget: {maxUnavailable: 2}`
    #[serde(default)]
    pub pod_disruption_budget: PodDisruptionBudget,
    /// What the gateways' pods have beside what the operator gives them, merged last: labels, annotations, and any
    /// field of a pod's spec. Containers are merged by name; the gateway's is `gateway`. Default: nothing.
    /// Example: `podTemplate: {spec: {nodeSelector: {disktype: ssd}}}`
    #[serde(default)]
    pub pod_template: PodTemplate,
}

fn three() -> u32 {
    3
}

/// The CRD, in the form that the API server keeps.
///
/// # Panics
/// Never: the schema is fixed at compile time, and a test reads it.
pub fn crd() -> CustomResourceDefinition {
    let mut crd = WsGateway::crd();
    for version in &mut crd.spec.versions {
        let Some(validation) = &mut version.schema else {
            continue;
        };
        let mut schema = json!(validation.open_api_v3_schema);
        schema.as_object_mut().into_iter().for_each(schema::settle);
        validation.open_api_v3_schema =
            serde_json::from_value(schema).expect("a settled schema should still be one");
    }
    crd
}

/// The CRD as YAML, as it stands in `manifests/crd/wsgateways.yaml`.
///
/// # Panics
/// Never: every value in it has a YAML form.
#[must_use]
pub fn crd_yaml() -> String {
    let yaml = serde_saphyr::to_string(&crd()).expect("a CRD should have a YAML form");
    format!("# Made by `cargo run -p wsgateway-crds --bin crdgen`; do not edit.\n{yaml}")
}
