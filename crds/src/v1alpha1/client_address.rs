//! `spec.exposure.clientAddress`: whose address is believed.
//!
//! It stands beside the way in, and not beside the limits that count by address: whether a proxy adds a header, and
//! which, follows from the way in alone, and with the PROXY protocol no connection is understood without it.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::schema::{self, Rule};

/// Where the gateways find a client's address.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = Rule::new(
    "!(self.type in ['Connection', 'XForwardedFor', 'ProxyProtocol']) || \
     (self.type == 'Connection') == (!has(self.trustedProxies) || size(self.trustedProxies) == 0)",
    "trustedProxies must be set when type is XForwardedFor or ProxyProtocol, and not otherwise"
).at("trustedProxies"))]
pub struct ClientAddress {
    /// `Connection`: it is the other end of the connection, which behind an Ingress is the ingress controller for
    /// everyone. `XForwardedFor`: the header of this name is read from its right end, past trusted proxies, to the first
    /// address that is none; a request of somebody else keeps the address of its connection, whatever it says.
    /// `ProxyProtocol`: trusted proxies begin each connection with a header of the PROXY protocol, version 1 or 2; without
    /// it, or with one from somebody else, a connection is refused. Default `Connection`.
    /// Example: `type: XForwardedFor`
    #[serde(rename = "type")]
    pub type_: ClientAddressType,
    /// The networks of the proxies that are believed, up to 32: such as that of the ingress controller's pods. Not
    /// `0.0.0.0/0`: then clients could say whatever address they like. Default: none.
    /// Example: `trustedProxies: ["10.244.0.0/16"]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "networks")]
    pub trusted_proxies: Vec<String>,
}

/// Where a client's address may be found.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientAddressType {
    /// It is the other end of the connection.
    #[default]
    Connection,
    /// In a header of the request.
    XForwardedFor,
    /// In front of the request.
    ProxyProtocol,
}

fn networks(_: &mut SchemaGenerator) -> Schema {
    schema::texts(32, 64, schema::NETWORK)
}
