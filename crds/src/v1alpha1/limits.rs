//! `spec.limits`: what one gateway holds at most.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::{self, Rule, SizeText};

/// What one gateway holds at most.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = Rule::new(
    "!has(self.bytesPerPod) || \
     !string(self.bytesPerPod).matches('^[0-9]{1,15}(k|M|G|Ki|Mi|Gi)?$') || \
     !string(self.outbox.bytesPerConnection).matches('^[0-9]{1,15}(k|M|G|Ki|Mi|Gi)?$') || \
     quantity(string(self.outbox.bytesPerConnection)).compareTo(quantity(string(self.bytesPerPod))) \
     <= 0",
    "outbox.bytesPerConnection must not be more than bytesPerPod, which all connections of a \
     gateway share"
).at("outbox.bytesPerConnection"))]
pub struct Limits {
    /// Open connections of one gateway; the next client gets 503 with Retry-After. A pod has memory for some 40,000:
    /// who admits more gives it more in podTemplate. Default 10000. Example: `connectionsPerPod: 20000`
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections_per_pod: u32,
    /// Handshakes that one gateway takes up in a second, and in a burst; the next client gets 429 with Retry-After, before
    /// its token is looked at. When a gateway ends, all its clients come to the others within
    /// `rollout.drain.retryAfter`, or at once where it was killed: a limit below connectionsPerPod divided by the seconds
    /// that they may take keeps them waiting. Default 0: any number. Example: `handshakesPerSecond: 1000`
    #[schemars(range(max = 1_000_000))]
    pub handshakes_per_second: u32,
    /// What clients of one address may do: an IPv4 address, or the /64 that an IPv6 address is in. Each gateway counts by
    /// itself. Where clients come through a proxy, `exposure.clientAddress` must say which, or all are one address.
    /// Example: `perAddress: {connections: 100, handshakesPerSecond: 20}`
    pub per_address: PerAddress,
    /// What clients of one user may do, by the claims `iss` and `sub` of their tokens; tokens of an issuer without `sub`
    /// are one user. Each gateway counts by itself. It needs auth. Example: `perUser: {connections: 10}`
    pub per_user: PerUser,
    /// What one client may send. Example: `perConnection: {messagesPerSecond: 50, bytesPerSecond: 256Ki}`
    pub per_connection: PerConnection,
    /// What may wait for one slow client. Example: `outbox: {bytesPerConnection: 4Mi}`
    pub outbox: Outbox,
    /// Bytes that all unwritten and unfinished messages of one gateway may hold; beyond it the slowest clients
    /// meet their policy first. Default: half of the memory limit less 6.5 KB for each of connectionsPerPod.
    /// Example: `bytesPerPod: 512Mi`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_pod: Option<SizeText>,
}

/// What may wait for one slow client.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Outbox {
    /// Bytes that may wait; beyond it the client meets the slowConsumer policy of what it reads. Default `1Mi`.
    /// Example: `bytesPerConnection: 4Mi`
    pub bytes_per_connection: SizeText,
    /// Messages that may wait, likewise. Default 1024. Example: `messagesPerConnection: 256`
    #[schemars(range(min = 1, max = 1_000_000))]
    pub messages_per_connection: u32,
}

/// What clients of one address may do.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PerAddress {
    /// Open connections; the next gets 429 with Retry-After. Connections that were open before the limit was set are not
    /// counted. Many people may share an address, as behind an office's or a phone network's NAT. Default 0: any number.
    /// Example: `connections: 100`
    #[schemars(range(max = 1_000_000))]
    pub connections: u32,
    /// Handshakes a second, and in a burst; the next gets 429 with Retry-After. Those that are refused for another reason
    /// count too. Default 0: any number. Example: `handshakesPerSecond: 20`
    #[schemars(range(max = 1_000_000))]
    pub handshakes_per_second: u32,
}

/// What clients of one user may do.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PerUser {
    /// Open connections; the next gets 429 with Retry-After. Connections that were open before the limit was set are not
    /// counted. Default 0: any number. Example: `connections: 10`
    #[schemars(range(max = 1_000_000))]
    pub connections: u32,
}

/// What one client may send.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PerConnection {
    /// Messages a second, and in a burst; beyond it the connection is closed with 1008. Pings count as messages, and so
    /// does each fragment of one; a pong counts where no ping asked for it. Default 0: any number.
    /// Example: `messagesPerSecond: 50`
    #[schemars(range(max = 1_000_000))]
    pub messages_per_second: u32,
    /// Bytes a second as they come, compressed and with all that frames add; beyond it the connection is closed with 1008.
    /// In a burst as many, or one message of the largest size where that is more. Default `"0"`: any number.
    /// Example: `bytesPerSecond: 256Ki`
    pub bytes_per_second: SizeText,
    /// How long a client may take until its first message, on a route that echoes or publishes; then it is closed with
    /// 1008. 100 ms to a day. Default: for ever. Example: `firstMessage: 30s`
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub first_message: Option<String>,
}

impl Default for PerConnection {
    fn default() -> Self {
        Self {
            messages_per_second: 0,
            bytes_per_second: "0".into(),
            first_message: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_per_pod: 10_000,
            handshakes_per_second: 0,
            per_address: PerAddress::default(),
            per_user: PerUser::default(),
            per_connection: PerConnection::default(),
            outbox: Outbox::default(),
            bytes_per_pod: None,
        }
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            bytes_per_connection: "1Mi".into(),
            messages_per_connection: 1_024,
        }
    }
}
