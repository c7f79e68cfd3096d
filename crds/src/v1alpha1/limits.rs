//! `spec.limits`: what one gateway holds at most.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::{Rule, SizeText};

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

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_per_pod: 10_000,
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
