//! `spec.websocket`: what holds for every connection.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::schema::{self, Rule, SizeText};

/// What holds for every connection.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = Rule::shorter(
    "pingPeriod",
    "pongWait",
    "pingPeriod must be shorter than pongWait, or connections end before their first ping is \
     answered"
))]
#[schemars(transform = Rule::shorter(
    "writeWait",
    "pongWait",
    "writeWait must be shorter than pongWait, or a client that stops reading is never told from \
     a quiet one"
))]
pub struct WebSocket {
    /// How often the gateway pings a client. Shorter than pongWait. Default `30s`. Example: `pingPeriod: 20s`
    #[schemars(schema_with = "schema::duration")]
    pub ping_period: String,
    /// How long a connection lives after its last pong. Shorter than exposure.proxyReadTimeout. Default `60s`.
    /// Example: `pongWait: 45s`
    #[schemars(schema_with = "schema::duration")]
    pub pong_wait: String,
    /// How old a message may grow that cannot be written since its client does not read; then the connection is
    /// closed. Shorter than pongWait. Default `15s`. Example: `writeWait: 10s`
    #[schemars(schema_with = "schema::duration")]
    pub write_wait: String,
    /// How long a client may take to send its request. Default `10s`. Example: `handshakeTimeout: 5s`
    #[schemars(schema_with = "schema::duration")]
    pub handshake_timeout: String,
    /// The largest message that a client may send; a larger one closes its connection with 1009. At most `64Mi`.
    /// Advice: text up to 1Mi to 5Mi, binary up to 10Mi to 50Mi. Default `64Ki`. Example: `maxMessageSize: 1Mi`
    pub max_message_size: SizeText,
    /// Whether messages are compressed for clients that offer permessage-deflate, as browsers do. A route may say
    /// otherwise. Default `{mode: Disabled}`. Example: `compression: {mode: Shared}`
    pub compression: Compression,
    /// Which pages may connect, by the Origin header that browsers send: `*` for all, `SameHost` for those of
    /// the same host, or origins such as `https://app.example.com` and `https://*.example.com`. Programs that are
    /// no browsers send none and may connect. Default `["*"]`. Example: `allowedOrigins: ["https://*.example.com"]`
    #[schemars(schema_with = "allowed_origins")]
    pub allowed_origins: Vec<String>,
}

/// Whether messages are compressed for clients that offer permessage-deflate.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Compression {
    /// `Disabled`: not at all. `Shared`: each message by itself, without context takeover, so that a message is
    /// compressed once for all clients and no connection holds memory for it. Default `Disabled`.
    /// Example: `mode: Shared`
    pub mode: CompressionMode,
    /// Smaller messages are sent as they are, and so is what would not shrink. Default `256`. Example: `minSize: 1Ki`
    pub min_size: SizeText,
}

/// How messages are compressed.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompressionMode {
    /// Not at all.
    #[default]
    Disabled,
    /// Each by itself, once for all clients.
    Shared,
}

impl Default for Compression {
    fn default() -> Self {
        Self {
            mode: CompressionMode::Disabled,
            min_size: "256".into(),
        }
    }
}

fn allowed_origins(_: &mut SchemaGenerator) -> Schema {
    let mut schema = schema::texts(32, 256, schema::ORIGIN);
    schema.insert("minItems".to_owned(), 1.into());
    schema
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            ping_period: "30s".to_owned(),
            pong_wait: "60s".to_owned(),
            write_wait: "15s".to_owned(),
            handshake_timeout: "10s".to_owned(),
            max_message_size: "64Ki".into(),
            compression: Compression::default(),
            allowed_origins: vec!["*".to_owned()],
        }
    }
}
