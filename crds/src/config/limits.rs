//! What clients are held to: by their address, by their user, and each by itself. Of every number 0 is none.

use serde::{Deserialize, Serialize};

use crate::value::{Duration, Network, Size};

/// What the clients of one address may do: an IPv4 address, or the /64 that an IPv6 address is in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PerAddress {
    /// Open connections; above it 429. Default 0: any number.
    pub connections: u32,
    /// Handshakes a second; above it 429. Default 0: any number.
    pub handshakes_per_second: u32,
}

/// What the clients of one user may do: those whose tokens have one issuer and one `sub`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PerUser {
    /// Open connections; above it 429. Default 0: any number.
    pub connections: u32,
}

/// What one client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PerConnection {
    /// Frames a second; above it 1008. Default 0: any number.
    pub messages_per_second: u32,
    /// Bytes a second, as they come off the wire; above it 1008. Default 0: any number.
    pub bytes_per_second: Size,
    /// How long it may take until its first message, on a route that echoes or publishes; 1008 then. Absent: for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_message: Option<Duration>,
}

impl Default for PerConnection {
    fn default() -> Self {
        Self {
            messages_per_second: 0,
            bytes_per_second: Size::from_bytes(0),
            first_message: None,
        }
    }
}

/// Where the address of a client is found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub enum ClientAddress {
    /// It is the other end of the connection.
    #[default]
    Connection,
    /// In the header `X-Forwarded-For` of requests that come from these proxies.
    XForwardedFor {
        /// Whom to believe.
        trusted_proxies: Vec<Network>,
    },
    /// In the PROXY protocol's header, which these proxies send first on each connection.
    ProxyProtocol {
        /// Whom to believe.
        trusted_proxies: Vec<Network>,
    },
}

impl ClientAddress {
    /// The proxies that are believed.
    pub fn trusted_proxies(&self) -> &[Network] {
        match self {
            Self::Connection => &[],
            Self::XForwardedFor { trusted_proxies } | Self::ProxyProtocol { trusted_proxies } => {
                trusted_proxies
            }
        }
    }
}

/// What is not limited is not written.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
