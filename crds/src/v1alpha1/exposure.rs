//! `spec.exposure`: how clients reach the gateways.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{
    ClientAddress,
    schema::{self, Rule, SizeText},
};

/// How clients reach the gateways.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = Rule::new(
    "!(self.type in ['HTTPRoute', 'LoadBalancer', 'None']) || !has(self.ingress)",
    "ingress must not be set when type is HTTPRoute, LoadBalancer or None"
).at("ingress"))]
#[schemars(transform = Rule::member(
    &["Ingress", "HTTPRoute", "LoadBalancer", "None"], "HTTPRoute", "httpRoute"
))]
#[schemars(transform = Rule::new(
    "!(self.type in ['Ingress', 'HTTPRoute', 'None']) || !has(self.loadBalancer)",
    "loadBalancer must not be set when type is Ingress, HTTPRoute or None"
).at("loadBalancer"))]
#[schemars(transform = Rule::new(
    "!(self.type in ['Ingress', 'HTTPRoute']) || self.clientAddress.type != 'ProxyProtocol'",
    "clientAddress.type must not be ProxyProtocol when type is Ingress or HTTPRoute: their proxies speak HTTP to the \
     gateways, and tell the address in X-Forwarded-For"
).at("clientAddress"))]
pub struct Exposure {
    /// What is made for clients to come in by. `Ingress`: an Ingress in the words of its controller. `HTTPRoute`: a
    /// route of the Gateway API. `LoadBalancer`: a Service of that type. `None`: a Service inside the cluster alone.
    /// `wsgw local` always starts an nginx. Default `Ingress`. Example: `type: HTTPRoute`
    #[serde(rename = "type")]
    pub type_: ExposureType,
    /// The host names that clients ask for, up to 16; the first label may be `*`. Default: none, any host is
    /// answered. Example: `hosts: [ws.example.com]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "hosts")]
    pub hosts: Vec<String>,
    /// Where the certificate comes from. With type `LoadBalancer` or `None` the gateways themselves end TLS: they mount the
    /// certificate, and a renewed one is shown to new clients within a minute or two, without a restart. Default
    /// `{type: SelfSigned}`.
    /// Example: `tls: {type: Secret, secret: {name: ws-tls}}`
    pub tls: Tls,
    /// The proxy ends a connection over which nothing came from the gateway for so long. Longer than
    /// websocket.pongWait. Default `90s`. Example: `proxyReadTimeout: 5m`
    #[schemars(schema_with = "schema::duration")]
    pub proxy_read_timeout: String,
    /// The proxy ends a connection whose gateway took nothing for so long. Default `90s`.
    /// Example: `proxySendTimeout: 5m`
    #[schemars(schema_with = "schema::duration")]
    pub proxy_send_timeout: String,
    /// `Enabled` or `Disabled`: whether the proxy collects a response before it passes it on. It has no effect on an
    /// open WebSocket. Default `Disabled`. Example: `proxyBuffering: Disabled`
    pub proxy_buffering: Buffering,
    /// The largest request body that the proxy takes, 0 for any; k, m and g are powers of 1,024 as in nginx. It does
    /// not limit WebSocket messages: websocket.maxMessageSize does. Default `"0"`. Example: `bodySize: 10m`
    #[schemars(schema_with = "schema::proxy_size")]
    pub body_size: SizeText,
    /// A request body up to this size stays in the proxy's memory; k, m and g are powers of 1,024 as in nginx.
    /// Default `128k`. Example: `clientBodyBufferSize: 256k`
    #[schemars(schema_with = "schema::proxy_size")]
    pub client_body_buffer_size: SizeText,
    /// What brings a client back to the gateway that it had. `ClientIP`: its address, of which nginx keys the first
    /// three numbers. `None`: nothing, the gateway with the fewest connections gets it; right where many clients
    /// share an address. Default `ClientIP`. Example: `affinity: None`
    pub affinity: Affinity,
    /// What the proxy connects to. `Endpoints`: the pods, so that affinity works; some controllers reload nginx
    /// whenever a pod comes or goes. `ServiceIP`: the Service's address, without such reloads, and without affinity.
    /// Default `Endpoints`. Example: `upstream: ServiceIP`
    pub upstream: Upstream,
    /// Where the gateways find a client's address, which `limits.perAddress` counts by. `wsgw local` always reads the
    /// X-Forwarded-For of its own nginx.
    /// Example: `clientAddress: {type: XForwardedFor, trustedProxies: ["10.244.0.0/16"]}`
    pub client_address: ClientAddress,
    /// The proxy's page of connection counts. Example: `status: {allow: ["10.0.0.0/8"]}`
    pub status: StatusPage,
    /// The controller behind the Ingress or Gateway, as in `spec.controller` of an `IngressClass` or
    /// `spec.controllerName` of a `GatewayClass`: it decides which annotations or policies are written. Needed where
    /// the operator may not read those. Default: what the class says.
    /// Example: `controller: nginx.org/ingress-controller`
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::controller")]
    pub controller: Option<String>,
    /// The Ingress, with type `Ingress`. Default: the cluster's default class.
    /// Example: `ingress: {className: nginx}`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Ingress>,
    /// The route, with type `HTTPRoute`. Example: `httpRoute: {parentRefs: [{name: public, sectionName: wss}]}`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_route: Option<HttpRoute>,
    /// The Service, with type `LoadBalancer`. Default: as the cloud makes it.
    /// Example: `loadBalancer: {loadBalancerClass: example.com/internal}`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
}

/// What is made for clients to come in by.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExposureType {
    /// An Ingress.
    #[default]
    Ingress,
    /// A route of the Gateway API.
    #[serde(rename = "HTTPRoute")]
    HttpRoute,
    /// A Service of type `LoadBalancer`.
    LoadBalancer,
    /// A Service inside the cluster alone.
    None,
}

/// What the proxy connects to.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Upstream {
    /// The pods.
    #[default]
    Endpoints,
    /// The Service's address.
    #[serde(rename = "ServiceIP")]
    ServiceIp,
}

/// The Ingress.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ingress {
    /// The name of its `IngressClass`. Default: the cluster's default class. Example: `className: nginx`
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub class_name: Option<String>,
    /// Annotations to add. One that the operator writes as well is written as it stands here. Default: none.
    /// Example: `annotations: {nginx.org/server-tokens: "False"}`
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotations")]
    pub annotations: BTreeMap<String, String>,
}

/// The route.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRoute {
    /// The Gateways of the same namespace that it attaches to, 1 to 8 of them.
    /// Example: `parentRefs: [{name: public}]`
    #[schemars(length(min = 1, max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub parent_refs: Vec<ParentRef>,
}

/// A Gateway, or one of its listeners.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// The Gateway's name. Example: `name: public`
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
    /// The listener's name. Default: each listener that fits. Example: `sectionName: wss`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub section_name: Option<String>,
}

/// The Service of type `LoadBalancer`.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancer {
    /// Who makes the load balancer, as in `spec.loadBalancerClass` of a Service. It cannot be changed once the
    /// Service exists. Default: the cloud's own.
    /// Example: `loadBalancerClass: example.com/internal`
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::controller")]
    pub load_balancer_class: Option<String>,
    /// Annotations of the Service. Default: none.
    /// Example: `annotations: {service.beta.kubernetes.io/aws-load-balancer-type: nlb}`
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotations")]
    pub annotations: BTreeMap<String, String>,
}

fn hosts(_: &mut SchemaGenerator) -> Schema {
    schema::texts(16, 253, schema::HOST)
}

/// Whether the proxy collects a response before it passes it on.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Buffering {
    /// It does.
    Enabled,
    /// Each piece is passed on as it comes.
    #[default]
    Disabled,
}

/// What brings a client back to the gateway that it had.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Affinity {
    /// Its address.
    #[default]
    #[serde(rename = "ClientIP")]
    ClientIp,
    /// Nothing.
    None,
}

/// Where the certificate comes from.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = Rule::member(
    &["SelfSigned", "CertManager", "Secret", "None"], "CertManager", "certManager"
))]
#[schemars(transform = Rule::member(
    &["SelfSigned", "CertManager", "Secret", "None"], "Secret", "secret"
))]
#[schemars(transform = Rule::new(
    "!(self.type in ['CertManager', 'Secret', 'None']) || !has(self.selfSigned)",
    "selfSigned must not be set when type is CertManager, Secret or None"
).at("selfSigned"))]
pub struct Tls {
    /// `SelfSigned`: an authority is made once and a certificate from it, renewed by itself; clients must trust that
    /// authority. `CertManager`: cert-manager gets one; `wsgw local` makes one as with `SelfSigned`. `Secret`: a
    /// certificate that you give. `None`: clients connect without TLS. Default `SelfSigned`. Example: `type: Secret`
    #[serde(rename = "type")]
    pub type_: TlsType,
    /// How long a certificate lasts, with type `SelfSigned`. Default: that of its fields.
    /// Example: `selfSigned: {duration: 720h, renewBefore: 240h}`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_signed: Option<SelfSignedTls>,
    /// What cert-manager is asked for, with type `CertManager`.
    /// Example: `certManager: {issuerRef: {kind: ClusterIssuer, name: letsencrypt}}`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_manager: Option<CertManagerTls>,
    /// The Secret with the certificate, with type Secret. Example: `secret: {name: ws-tls}`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretTls>,
}

/// Where a certificate may come from.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsType {
    /// From an authority that is made for it.
    #[default]
    SelfSigned,
    /// From cert-manager.
    CertManager,
    /// From the user.
    Secret,
    /// There is none: plain text.
    None,
}

/// How long a certificate lasts.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = Rule::shorter(
    "renewBefore",
    "duration",
    "renewBefore must be shorter than duration, or a certificate is due for renewal once it is \
     made"
))]
pub struct SelfSignedTls {
    /// How long a certificate is valid. 1 h to 825 days. Default `2160h`, 90 days. Example: `duration: 720h`
    #[schemars(schema_with = "schema::duration")]
    pub duration: String,
    /// How long before its end it is renewed. Shorter than duration. Default `720h`, 30 days.
    /// Example: `renewBefore: 240h`
    #[schemars(schema_with = "schema::duration")]
    pub renew_before: String,
}

/// What cert-manager is asked for.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertManagerTls {
    /// Who signs. Example: `issuerRef: {kind: ClusterIssuer, name: letsencrypt}`
    pub issuer_ref: IssuerRef,
}

/// An issuer of cert-manager.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuerRef {
    /// `Issuer`, of the same namespace, or `ClusterIssuer`. Default `Issuer`. Example: `kind: ClusterIssuer`
    #[serde(default)]
    pub kind: IssuerKind,
    /// Its name. Example: `name: letsencrypt`
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
}

/// The kinds of issuer.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IssuerKind {
    /// Of the same namespace.
    #[default]
    Issuer,
    /// Of the cluster.
    ClusterIssuer,
}

/// The Secret with the certificate.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretTls {
    /// The name of a Secret of type `kubernetes.io/tls` (keys `tls.crt` and `tls.key`) in the same namespace.
    /// Example: `name: ws-tls`
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
}

/// The proxy's page of connection counts.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatusPage {
    /// Its path, without parameters, and not a route's. Default `/status`. Example: `path: /nginx/status`
    #[schemars(schema_with = "schema::path")]
    pub path: String,
    /// The networks that may read it, up to 32; everyone else gets 403. Default `["127.0.0.0/8", "::1/128"]`, the
    /// machine itself. Example: `allow: ["10.0.0.0/8"]`
    #[schemars(schema_with = "allow")]
    pub allow: Vec<String>,
}

fn allow(_: &mut SchemaGenerator) -> Schema {
    schema::texts(32, 64, schema::NETWORK)
}

impl Default for Exposure {
    fn default() -> Self {
        Self {
            type_: ExposureType::default(),
            hosts: Vec::new(),
            tls: Tls::default(),
            proxy_read_timeout: "90s".to_owned(),
            proxy_send_timeout: "90s".to_owned(),
            proxy_buffering: Buffering::default(),
            body_size: "0".into(),
            client_body_buffer_size: "128k".into(),
            affinity: Affinity::default(),
            upstream: Upstream::default(),
            client_address: ClientAddress::default(),
            status: StatusPage::default(),
            controller: None,
            ingress: None,
            http_route: None,
            load_balancer: None,
        }
    }
}

impl Default for SelfSignedTls {
    fn default() -> Self {
        Self {
            duration: "2160h".to_owned(),
            renew_before: "720h".to_owned(),
        }
    }
}

impl Default for StatusPage {
    fn default() -> Self {
        Self {
            path: "/status".to_owned(),
            allow: vec!["127.0.0.0/8".to_owned(), "::1/128".to_owned()],
        }
    }
}
