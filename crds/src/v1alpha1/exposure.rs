//! `spec.exposure`: how clients reach the gateways.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::schema::{self, Rule, SizeText};

/// How clients reach the gateways.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Exposure {
    /// The host names that clients ask for, up to 16; the first label may be `*`. Default: none, any host is
    /// answered. Example: `hosts: [ws.example.com]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "hosts")]
    pub hosts: Vec<String>,
    /// Where the certificate comes from. Default `{type: SelfSigned}`.
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
    /// The proxy's page of connection counts. Example: `status: {allow: ["10.0.0.0/8"]}`
    pub status: StatusPage,
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
#[schemars(transform = Rule::member(&["SelfSigned", "Secret", "None"], "Secret", "secret"))]
#[schemars(transform = Rule::new(
    "!(self.type in ['Secret', 'None']) || !has(self.selfSigned)",
    "selfSigned must not be set when type is Secret or None"
).at("selfSigned"))]
pub struct Tls {
    /// `SelfSigned`: an authority is made once and a certificate from it, renewed by itself; clients must trust that
    /// authority. `Secret`: a certificate that you give. `None`: clients connect without TLS.
    /// Default `SelfSigned`. Example: `type: Secret`
    #[serde(rename = "type")]
    pub type_: TlsType,
    /// How long a certificate lasts, with type `SelfSigned`. Default: that of its fields.
    /// Example: `selfSigned: {duration: 720h, renewBefore: 240h}`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_signed: Option<SelfSignedTls>,
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
            hosts: Vec::new(),
            tls: Tls::default(),
            proxy_read_timeout: "90s".to_owned(),
            proxy_send_timeout: "90s".to_owned(),
            proxy_buffering: Buffering::default(),
            body_size: "0".into(),
            client_body_buffer_size: "128k".into(),
            affinity: Affinity::default(),
            status: StatusPage::default(),
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
