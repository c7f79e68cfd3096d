//! `spec.nats`: how the gateways reach NATS.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::schema::{self, Rule};

/// How the gateways reach NATS.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Nats {
    /// The servers, 1 to 16 of them, each `nats://host:port` or `tls://host:port`. They are tried in random
    /// order. Default: none, and `wsgw local` starts a server of its own; in a cluster they must be named.
    /// Example: `servers: ["nats://nats-0.nats.shop.svc:4222", "nats://nats-1.nats.shop.svc:4222"]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "servers")]
    pub servers: Vec<String>,
    /// TLS to NATS, where the server's certificate is not from a public authority or it asks for one of the
    /// client. Default: none. Example: `tls: {caRef: {kind: ConfigMap, name: nats-ca, key: ca.crt}}`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<NatsTls>,
    /// Who the gateways say they are. Default: nobody, for a server that takes everyone.
    /// Example: `credentials: {type: Creds, secretRef: {name: nats-creds, key: user.creds}}`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// Where JetStream's API is found, for accounts that do not have it at `$JS.API`.
    /// Example: `jetStream: {domain: hub}`
    pub jet_stream: JetStreamApi,
}

fn servers(_: &mut SchemaGenerator) -> Schema {
    let mut schema = schema::texts(16, 256, schema::SERVER);
    schema.insert("minItems".to_owned(), 1.into());
    schema
}

/// TLS to NATS.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = Rule::new(
    "has(self.caRef) || has(self.clientCertificateRef)",
    "tls must have caRef, clientCertificateRef or both; for a public authority leave tls out \
     and write tls:// in servers"
))]
pub struct NatsTls {
    /// The certificates (PEM) of the authorities to trust beside the system's, in a `ConfigMap` or Secret of the
    /// same namespace. Default: none. Example: `caRef: {kind: ConfigMap, name: nats-ca, key: ca.crt}`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaRef>,
    /// A Secret of type `kubernetes.io/tls` (keys `tls.crt` and `tls.key`) in the same namespace, for servers
    /// that verify their clients. Default: none. Example: `clientCertificateRef: {name: nats-client}`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate_ref: Option<SecretRef>,
}

/// A key of a `ConfigMap` or Secret that holds certificates.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaRef {
    /// `ConfigMap` or `Secret`. Default `ConfigMap`. Example: `kind: Secret`
    #[serde(default)]
    pub kind: CaRefKind,
    /// Its name. Example: `name: nats-ca`
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
    /// The key that holds the certificates. Default `ca.crt`. Example: `key: root.pem`
    #[serde(default = "ca_key")]
    #[schemars(schema_with = "schema::object_key")]
    pub key: String,
}

fn ca_key() -> String {
    "ca.crt".to_owned()
}

/// What holds certificates of authorities.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CaRefKind {
    /// A `ConfigMap`.
    #[default]
    ConfigMap,
    /// A Secret.
    Secret,
}

/// A Secret of the same namespace whose keys are known by its type.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Its name. Example: `name: nats-client`
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
}

/// Who the gateways say they are to NATS.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = Rule::new(
    "!(self.type in ['Creds', 'NKey', 'Token']) || has(self.secretRef.key)",
    "secretRef.key must be set when type is Creds, NKey or Token: it names the key that holds \
     the secret"
).at("secretRef"))]
#[schemars(transform = Rule::new(
    "self.type != 'UserPassword' || !has(self.secretRef.key)",
    "secretRef.key must not be set when type is UserPassword: the keys username and password \
     are read"
).at("secretRef"))]
pub struct Credentials {
    /// `Creds`: a `.creds` file, with user JWT and seed. `NKey`: an nkey seed. `UserPassword`: the Secret's keys
    /// `username` and `password`, as in a Secret of type `kubernetes.io/basic-auth`. `Token`: a token.
    /// Example: `type: Creds`
    #[serde(rename = "type")]
    pub type_: CredentialsType,
    /// The Secret of the same namespace. Example: `secretRef: {name: nats-creds, key: user.creds}`
    pub secret_ref: KeyRef,
}

/// The kinds of credentials.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CredentialsType {
    /// A `.creds` file.
    Creds,
    /// An nkey seed.
    NKey,
    /// A user and a password.
    UserPassword,
    /// A token.
    Token,
}

/// A key of a Secret of the same namespace.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// The Secret's name. Example: `name: nats-creds`
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
    /// The key that holds the secret; not with type `UserPassword`. Default: none. Example: `key: user.creds`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_key")]
    pub key: Option<String>,
}

/// Where JetStream's API is found.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = Rule::new(
    "self.domain == '' || self.apiPrefix == ''",
    "domain and apiPrefix must not both be set: a domain is the prefix $JS.<domain>.API"
))]
pub struct JetStreamApi {
    /// A JetStream domain. Default: empty, none. Example: `domain: hub`
    #[schemars(length(max = 128), regex(pattern = r"^[^\s.*>]*$"))]
    pub domain: String,
    /// The prefix of the API where an account import maps it elsewhere. Default: empty, which is `$JS.API`.
    /// Example: `apiPrefix: shop.js.api`
    #[schemars(length(max = 128), regex(pattern = r"^([^\s.*>]+(\.[^\s.*>]+)*)?$"))]
    pub api_prefix: String,
}
