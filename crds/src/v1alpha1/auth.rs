//! `spec.auth`: whose tokens are believed and where they are looked for; `spec.routes[].authorization`: what a route
//! asks of them.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{
    nats::{CaRef, CaRefKind},
    schema::{self, Rule},
};
use crate::value::Role;

/// Whose tokens are believed, and where they are looked for.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// Where a request may carry its token: 1 to 4 places. A request that carries two is refused.
    /// Default `[{type: Header}, {type: Subprotocol}]`.
    /// Example: `tokenSources: [{type: Header}, {type: Cookie, cookie: {name: token}}]`
    #[serde(default = "token_sources")]
    #[schemars(length(min = 1, max = 4))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub token_sources: Vec<TokenSource>,
    /// Who issues tokens: 1 to 8 of distinct names and issuers. Which one a token is from, its claim `iss` says.
    /// Example: `providers: [{name: keycloak, type: OIDC, oidc: {issuer: "https://sso.example.com/realms/shop",
    /// audiences: [wsgateway]}}]`
    #[schemars(length(min = 1, max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub providers: Vec<Provider>,
    /// How a connection ends whose token expires: with code 4401. Example: `onExpiry: {jitter: 2m}`
    #[serde(default)]
    pub on_expiry: OnExpiry,
}

fn token_sources() -> Vec<TokenSource> {
    [TokenSourceType::Header, TokenSourceType::Subprotocol]
        .map(|type_| TokenSource {
            type_,
            cookie: None,
        })
        .into()
}

/// Where a request may carry its token.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = Rule::member(&["Header", "Subprotocol", "Cookie", "Query"], "Cookie", "cookie"))]
pub struct TokenSource {
    /// `Header`: `Authorization: Bearer TOKEN`. `Subprotocol`: an offered subprotocol `wsgateway.bearer.TOKEN` beside
    /// `wsgateway.plain`, for browsers, which can set no header. `Cookie`: a cookie; pages of other sites must then be
    /// kept out by websocket.allowedOrigins. `Query`: the parameter `access_token`; proxies and browsers write it to
    /// their logs and histories. Example: `type: Subprotocol`
    #[serde(rename = "type")]
    pub type_: TokenSourceType,
    /// The cookie, with type Cookie. Example: `cookie: {name: token}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<CookieSource>,
}

/// Where a request may carry its token.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenSourceType {
    /// The Authorization header.
    Header,
    /// An offered subprotocol.
    Subprotocol,
    /// A cookie.
    Cookie,
    /// The query string.
    Query,
}

/// A cookie that carries a token.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CookieSource {
    /// Its name. Example: `name: token`
    #[schemars(length(min = 1, max = 128), regex(pattern = schema::COOKIE))]
    pub name: String,
}

/// Who issues tokens.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = Rule::member(&["OIDC", "JWKS", "HMAC"], "OIDC", "oidc"))]
#[schemars(transform = Rule::member(&["OIDC", "JWKS", "HMAC"], "JWKS", "jwks"))]
#[schemars(transform = Rule::member(&["OIDC", "JWKS", "HMAC"], "HMAC", "hmac"))]
pub struct Provider {
    /// Its name, in metrics and logs: a-z, 0-9 and -. Example: `name: keycloak`
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = schema::NAME)
    )]
    pub name: String,
    /// `OIDC`: an issuer of OpenID Connect, such as a realm of Keycloak, which says itself where its keys are. `JWKS`:
    /// one whose keys are at an address or in an object. `HMAC`: one that shares a secret with the gateways.
    /// Example: `type: OIDC`
    #[serde(rename = "type")]
    pub type_: ProviderType,
    /// The issuer, with type OIDC.
    /// Example: `oidc: {issuer: "https://sso.example.com/realms/shop", audiences: [wsgateway]}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc: Option<Oidc>,
    /// The issuer, with type JWKS.
    /// Example: `jwks: {issuer: shop, audiences: [wsgateway], url: "https://auth.example.com/keys"}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<Jwks>,
    /// The issuer, with type HMAC.
    /// Example: `hmac: {issuer: shop, audiences: [wsgateway], secretRef: {name: token-secret, key: secret}}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hmac: Option<Hmac>,
}

/// The kinds of issuer.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProviderType {
    /// It says itself where its keys are.
    OIDC,
    /// Its keys are at an address or in an object.
    JWKS,
    /// It shares a secret.
    HMAC,
}

/// An issuer of OpenID Connect.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Oidc {
    /// Its address, which is also the claim `iss` of its tokens, to the letter. Its keys are found by
    /// `/.well-known/openid-configuration` below it. Example: `issuer: "https://sso.example.com/realms/shop"`
    #[schemars(schema_with = "address")]
    pub issuer: String,
    /// Whom its tokens must be for, 1 to 16: one of these must be in the claim `aud`. Keycloak puts one there by an
    /// audience mapper of a client scope. Example: `audiences: [wsgateway]`
    #[schemars(schema_with = "audiences")]
    pub audiences: Vec<String>,
    /// Which clients its tokens may have been issued to, by the claim `azp`. Default: any.
    /// Example: `authorizedParties: [web]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "parties")]
    pub authorized_parties: Vec<String>,
    /// By how much the clocks of issuer and gateways may differ, up to `5m`. Default `30s`. Example: `leeway: 10s`
    #[serde(default = "leeway")]
    #[schemars(schema_with = "schema::duration")]
    pub leeway: String,
    /// The certificates (PEM) of the authorities to trust in place of the system's, in a `ConfigMap` or Secret of the
    /// same namespace. Default: the system's. Example: `caRef: {kind: ConfigMap, name: sso-ca, key: ca.crt}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaRef>,
    /// `Enabled`: the issuer may end sessions by a logout token (OpenID Connect Back-Channel Logout 1.0) sent to
    /// `/.wsgateway/backchannel-logout/PROVIDER`, with the provider's name, on every host. Their connections are closed
    /// with 4401 on all gateways, and tokens of theirs that still hold are refused. The logout token must be for one of
    /// audiences or authorizedParties: the client that the issuer knows this address of. The gateways tell each other on
    /// the NATS subject `wsgateway.NAMESPACE.NAME.logout`. Default `Disabled`. Example: `backchannelLogout: Enabled`
    #[serde(default)]
    pub backchannel_logout: BackchannelLogout,
}

/// Whether an issuer may end sessions.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackchannelLogout {
    /// It may not.
    #[default]
    Disabled,
    /// It may.
    Enabled,
}

/// An issuer whose keys are at an address or in an object.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = Rule::new(
    "has(self.url) != has(self.keysRef)",
    "jwks must have either url or keysRef: the keys come from one place"
))]
#[schemars(transform = Rule::new(
    "!has(self.caRef) || has(self.url)",
    "caRef must not be set without url: it is for the connection to it"
).at("caRef"))]
pub struct Jwks {
    /// The claim `iss` of its tokens, to the letter. Example: `issuer: shop`
    #[schemars(schema_with = "issuer")]
    pub issuer: String,
    /// Whom its tokens must be for, 1 to 16: one of these must be in the claim `aud`. Example: `audiences: [wsgateway]`
    #[schemars(schema_with = "audiences")]
    pub audiences: Vec<String>,
    /// Which clients its tokens may have been issued to, by the claim `azp`. Default: any.
    /// Example: `authorizedParties: [web]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "parties")]
    pub authorized_parties: Vec<String>,
    /// By how much the clocks of issuer and gateways may differ, up to `5m`. Default `30s`. Example: `leeway: 10s`
    #[serde(default = "leeway")]
    #[schemars(schema_with = "schema::duration")]
    pub leeway: String,
    /// Where its keys are, as a JSON Web Key Set. Default: in keysRef. Example: `url: "https://auth.example.com/keys"`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "address")]
    pub url: Option<String>,
    /// A `ConfigMap` or Secret of the same namespace with its keys, as a JSON Web Key Set. A changed one is taken over
    /// as soon as the kubelet brings it. Default: they are at url. Example: `keysRef: {name: shop-keys}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_ref: Option<KeysRef>,
    /// The certificates (PEM) of the authorities to trust in place of the system's for the connection to url.
    /// Default: the system's. Example: `caRef: {kind: ConfigMap, name: auth-ca, key: ca.crt}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaRef>,
}

/// A key of a `ConfigMap` or Secret that holds a JSON Web Key Set.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeysRef {
    /// `ConfigMap` or `Secret`. Default `ConfigMap`. Example: `kind: Secret`
    #[serde(default)]
    pub kind: CaRefKind,
    /// Its name. Example: `name: shop-keys`
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
    /// The key that holds the set. Default `jwks.json`. Example: `key: keys`
    #[serde(default = "keys_key")]
    #[schemars(schema_with = "schema::object_key")]
    pub key: String,
}

fn keys_key() -> String {
    "jwks.json".to_owned()
}

/// An issuer that shares a secret with the gateways. Whoever can verify its tokens can issue them.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hmac {
    /// The claim `iss` of its tokens, to the letter. Example: `issuer: shop`
    #[schemars(schema_with = "issuer")]
    pub issuer: String,
    /// Whom its tokens must be for, 1 to 16: one of these must be in the claim `aud`. Example: `audiences: [wsgateway]`
    #[schemars(schema_with = "audiences")]
    pub audiences: Vec<String>,
    /// Which clients its tokens may have been issued to, by the claim `azp`. Default: any.
    /// Example: `authorizedParties: [web]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "parties")]
    pub authorized_parties: Vec<String>,
    /// By how much the clocks of issuer and gateways may differ, up to `5m`. Default `30s`. Example: `leeway: 10s`
    #[serde(default = "leeway")]
    #[schemars(schema_with = "schema::duration")]
    pub leeway: String,
    /// The one algorithm that is accepted. Default `HS256`. Example: `algorithm: HS512`
    #[serde(default)]
    pub algorithm: HmacAlgorithm,
    /// The secret: at least as many bytes as the algorithm's digest has (32, 48, 64). White space around it is dropped.
    /// Example: `secretRef: {name: token-secret, key: secret}`
    pub secret_ref: SecretKeyRef,
}

/// HMAC with SHA-2.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HmacAlgorithm {
    /// With SHA-256.
    #[default]
    HS256,
    /// With SHA-384.
    HS384,
    /// With SHA-512.
    HS512,
}

/// A key of a Secret of the same namespace.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret's name. Example: `name: token-secret`
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
    /// The key that holds the secret. Example: `key: secret`
    #[schemars(schema_with = "schema::object_key")]
    pub key: String,
}

/// How a connection ends whose token expires.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = Rule::new(
    "!has(self.warning) || has(self.warnBefore)",
    "warning must not be set without warnBefore: nobody would be told"
).at("warning"))]
pub struct OnExpiry {
    /// How long before its token expires a connection is closed at the earliest, up to `1h`, so that those whose tokens
    /// were issued together do not all come back together. At most a quarter of what the token has left when the client
    /// connects. Default `30s`. Example: `jitter: 2m`
    #[schemars(schema_with = "schema::duration")]
    pub jitter: String,
    /// How long before its connection is closed a client is told so, `1s` to `1h`, by the text message `warning`. A
    /// connection that is opened with less left than this is not told. A change holds for connections that are opened
    /// from then on. Default: nobody is told. Example: `warnBefore: 1m`
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub warn_before: Option<String>,
    /// The text message by which it is told, up to 1,024 characters. Default `{"type":"token-expiring"}`.
    /// Example: `warning: '{"event":"relogin"}'`
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub warning: Option<String>,
}

impl Default for OnExpiry {
    fn default() -> Self {
        Self {
            jitter: "30s".to_owned(),
            warn_before: None,
            warning: None,
        }
    }
}

/// What a route asks of a token, all of it.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = Rule::new(
    "self.access != 'Anonymous' || !(has(self.anyRole) || has(self.groups) || has(self.scopes))",
    "access must not be Anonymous where anyRole, groups or scopes are set: whoever needs no token has none of them"
).at("access"))]
pub struct Authorization {
    /// `Token`: a valid token is asked for, and what else is set here. `Anonymous`: none is, and none is looked at.
    /// Default `Token`. Example: `access: Anonymous`
    pub access: Access,
    /// One of these roles, up to 32: `realm:NAME` (Keycloak's `realm_access`) or `client:CLIENT:NAME`
    /// (`resource_access`).
    /// Default: none is asked for. Example: `anyRole: ["realm:viewer", "client:shop:reader"]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "roles")]
    pub any_role: Vec<String>,
    /// One of these groups, up to 32, as they stand in the claim `groups`, which Keycloak fills by a mapper.
    /// Default: none is asked for. Example: `groups: ["/shop/staff"]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "parties")]
    pub groups: Vec<String>,
    /// All of these scopes, up to 32, from the claim `scope`. Default: none is asked for.
    /// Example: `scopes: ["orders:read"]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "scopes")]
    pub scopes: Vec<String>,
}

/// What publishing asks of a token beside what the route does, all of it.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = Rule::new(
    "has(self.anyRole) || has(self.groups) || has(self.scopes)",
    "authorization must hold anyRole, groups or scopes: without them everybody may publish"
))]
pub struct PublishAuthorization {
    /// One of these roles, up to 32: `realm:NAME` or `client:CLIENT:NAME`. Default: none is asked for.
    /// Example: `anyRole: ["realm:editor"]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "roles")]
    pub any_role: Vec<String>,
    /// One of these groups, up to 32, as they stand in the claim `groups`. Default: none is asked for.
    /// Example: `groups: ["/shop/staff"]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "parties")]
    pub groups: Vec<String>,
    /// All of these scopes, up to 32, from the claim `scope`. Default: none is asked for.
    /// Example: `scopes: ["orders:write"]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "scopes")]
    pub scopes: Vec<String>,
}

/// Whether a token is asked for.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// It is.
    #[default]
    Token,
    /// It is not.
    Anonymous,
}

fn leeway() -> String {
    "30s".to_owned()
}

fn address(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({"type": "string", "minLength": 1, "maxLength": 512, "pattern": schema::ADDRESS})
}

fn issuer(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({"type": "string", "minLength": 1, "maxLength": 512})
}

fn audiences(_: &mut SchemaGenerator) -> Schema {
    let mut schema = schema::texts(16, 256, schema::WORD);
    schema.insert("minItems".to_owned(), 1.into());
    schema
}

/// Texts without white space, up to 32.
fn parties(_: &mut SchemaGenerator) -> Schema {
    schema::texts(32, 256, schema::WORD)
}

fn roles(_: &mut SchemaGenerator) -> Schema {
    schema::texts(32, 256, Role::PATTERN)
}

fn scopes(_: &mut SchemaGenerator) -> Schema {
    schema::texts(32, 128, schema::SCOPE)
}
