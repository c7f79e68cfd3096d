//! The gateway's configuration file: what `wsgateway --config FILE` reads.
//!
//! It has two parts. [`Boot`] is read once, at the start; [`Live`] is read again whenever the file
//! changes, without closing a socket that the new one still permits. A file may hold both, as
//! `bench/gateway.yaml` does, and `--live FILE` may name another file for the second.
//!
//! Every value is resolved: no default is taken from elsewhere, and secrets are paths of files. Fields
//! that this version does not know are reported by [`Config::read`] and otherwise let be, so that a
//! newer operator can write for an older gateway.

mod auth;
mod limits;

use std::{net::SocketAddr, path::PathBuf};

pub use self::{
    auth::{
        Access, Auth, Authorization, BackchannelLogout, ExpiryWarning, HmacAlgorithm, KeySource,
        Provider, TokenSource,
    },
    limits::{ClientAddress, PerAddress, PerConnection, PerUser},
};

use serde::{Deserialize, Serialize};

use crate::value::{Duration, OriginPattern, PathTemplate, Pattern, Size, Subject, Template};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// What only a restart changes.
    pub boot: Boot,
    /// What a changed file changes at once. Absent where `--live` names a file of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<Live>,
}

/// What only a restart changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Boot {
    /// Where it listens.
    pub listen: Listen,
    /// How it reaches NATS.
    pub nats: Nats,
}

/// Where the gateway listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listen {
    /// Address and port for WebSocket clients, such as `0.0.0.0:8000`.
    pub clients: SocketAddr,
    /// Address and port for `/livez`, `/readyz`, `/metrics` and `/status`.
    pub admin: SocketAddr,
    /// Threads that serve clients. Default: the CPU limit, else the cores, at most 8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shards: Option<u16>,
    /// What clients are shown, where the gateway itself ends TLS; without it they speak plain HTTP. Changed files are read
    /// again by themselves, and no socket is closed for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<CertificateFiles>,
}

/// How the gateway reaches NATS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Nats {
    /// `nats://host:port` or `tls://host:port`, 1 to 16 of them.
    pub servers: Vec<String>,
    /// TLS, where a server asks for more than the system's roots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<NatsTls>,
    /// Who the gateway says it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<NatsCredentials>,
    /// Where JetStream's API is found.
    #[serde(default)]
    pub jet_stream: JetStreamApi,
}

/// TLS to NATS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NatsTls {
    /// PEM file with the roots to trust in place of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// PEM files of the client's certificate and key, for mutual TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<CertificateFiles>,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateFiles {
    /// PEM file of the certificate chain, leaf first.
    pub certificate_file: PathBuf,
    /// PEM file of the private key.
    pub key_file: PathBuf,
}

/// Who the gateway says it is to NATS. Each file holds the secret alone; white space around it is
/// dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub enum NatsCredentials {
    /// A `.creds` file: user JWT and seed.
    Creds {
        /// The file.
        file: PathBuf,
    },
    /// An nkey seed.
    NKey {
        /// The file.
        file: PathBuf,
    },
    /// A user and a password.
    UserPassword {
        /// The user's file.
        user_file: PathBuf,
        /// The password's file.
        password_file: PathBuf,
    },
    /// A token.
    Token {
        /// The file.
        file: PathBuf,
    },
}

/// Where JetStream's API is found. Both empty: at `$JS.API`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JetStreamApi {
    /// A JetStream domain, which makes the prefix `$JS.<domain>.API`.
    pub domain: String,
    /// A prefix other than `$JS.API`, as an account import maps it.
    pub api_prefix: String,
}

/// What a changed file changes at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Live {
    /// What holds for every connection.
    pub websocket: WebSocket,
    /// What the process holds at most.
    pub limits: Limits,
    /// Where the address of a client is found. Default: that of its connection.
    #[serde(default, skip_serializing_if = "limits::is_default")]
    pub client_address: ClientAddress,
    /// How it ends.
    pub drain: Drain,
    /// Who may connect. Absent: everyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// What it serves, 1 to 64 routes of distinct names and paths.
    pub routes: Vec<Route>,
}

/// What holds for every connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WebSocket {
    /// How often a ping is sent. Shorter than `pongWait`. Default 30 s.
    pub ping_period: Duration,
    /// How long a connection lives after its last pong. Default 60 s.
    pub pong_wait: Duration,
    /// How old the oldest unwritten frame may be. Shorter than `pongWait`. Default 15 s.
    pub write_wait: Duration,
    /// How long the request head may take. Default 10 s.
    pub handshake_timeout: Duration,
    /// The largest message from a client; above it 1009. Default 64 KiB.
    pub max_message_size: Size,
    /// Whether messages are compressed. Default: they are not.
    pub compression: Compression,
    /// Which pages may connect. Default `*`.
    pub allowed_origins: Vec<OriginPattern>,
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            ping_period: Duration::from_secs(30),
            pong_wait: Duration::from_secs(60),
            write_wait: Duration::from_secs(15),
            handshake_timeout: Duration::from_secs(10),
            max_message_size: Size::from_bytes(64 << 10),
            compression: Compression::default(),
            allowed_origins: vec![OriginPattern::Any],
        }
    }
}

/// Whether messages are compressed for clients that offer permessage-deflate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Compression {
    /// How. Default `Disabled`.
    pub mode: CompressionMode,
    /// Smaller messages are sent as they are. Default 256 bytes.
    pub min_size: Size,
}

impl Default for Compression {
    fn default() -> Self {
        Self {
            mode: CompressionMode::Disabled,
            min_size: Size::from_bytes(256),
        }
    }
}

/// How messages are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompressionMode {
    /// Not at all.
    #[default]
    Disabled,
    /// Each by itself, without context takeover, so that clients share the compressed form.
    Shared,
}

/// What the process holds at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Open connections; above it 503. Default 10,000.
    pub connections: u32,
    /// Handshakes a second; above it 429. Default 0: any number.
    #[serde(skip_serializing_if = "limits::is_default")]
    pub handshakes_per_second: u32,
    /// What the clients of one address may do.
    #[serde(skip_serializing_if = "limits::is_default")]
    pub per_address: PerAddress,
    /// What the clients of one user may do.
    #[serde(skip_serializing_if = "limits::is_default")]
    pub per_user: PerUser,
    /// What one client may send.
    #[serde(skip_serializing_if = "limits::is_default")]
    pub per_connection: PerConnection,
    /// Unwritten bytes of one connection, beyond which it meets its policy. Default 1 MiB.
    pub outbox_bytes: Size,
    /// Unwritten messages of one connection, likewise. Default 1,024.
    pub outbox_messages: u32,
    /// Bytes that unwritten and unfinished messages of all connections may hold. Default: half of the
    /// memory limit less 6.5 KB per allowed connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<Size>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            handshakes_per_second: 0,
            per_address: PerAddress::default(),
            per_user: PerUser::default(),
            per_connection: PerConnection::default(),
            outbox_bytes: Size::from_bytes(1 << 20),
            outbox_messages: 1_024,
            total_bytes: None,
        }
    }
}

/// How the process ends after SIGTERM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Drain {
    /// How long it still accepts, until every proxy has heard that it leaves. Default 5 s.
    pub propagation: Duration,
    /// Over how long it closes its clients. Default 30 s.
    pub period: Duration,
    /// How many it closes in a second at most. Default 200. Where the period is too short for that,
    /// the period wins.
    pub max_per_second: u32,
    /// The least and the longest time after which a client is told to come back. Default 1 s to 15 s.
    pub retry_after_min: Duration,
    /// See `retryAfterMin`.
    pub retry_after_max: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            propagation: Duration::from_secs(5),
            period: Duration::from_secs(30),
            max_per_second: 200,
            retry_after_min: Duration::from_secs(1),
            retry_after_max: Duration::from_secs(15),
        }
    }
}

/// One path and what happens on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Its name, in metrics and logs.
    pub name: String,
    /// Its path.
    pub path: PathTemplate,
    /// How messages from NATS are framed.
    #[serde(default)]
    pub payload: Payload,
    /// Who may connect to it, where `auth` asks for tokens.
    #[serde(default, skip_serializing_if = "Authorization::is_default")]
    pub authorization: Authorization,
    /// The largest message from a client, where it is not `websocket.maxMessageSize`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_message_size: Option<Size>,
    /// Whether messages are compressed, where it is not as `websocket.compression` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// What becomes of a client's message.
    pub from_client: FromClient,
    /// Where messages for the client come from.
    #[serde(default)]
    pub to_client: Vec<Source>,
}

/// How messages from NATS are framed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Payload {
    /// As text. A payload that is not UTF-8 is dropped and counted.
    #[default]
    Text,
    /// As binary.
    Binary,
    /// As text where it is UTF-8, else as binary.
    Auto,
}

/// What becomes of a client's message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum FromClient {
    /// It goes back as it came.
    Echo,
    /// It is published to NATS.
    Publish {
        /// The subject, without wildcards.
        subject: Template,
        /// What it asks of a token beside what the route does. Who lacks it gets messages, but is closed with 4403
        /// when it sends one. Its `access` is always `Token`.
        #[serde(default, skip_serializing_if = "Authorization::is_default")]
        authorization: Authorization,
    },
    /// It is dropped.
    Discard,
    /// The connection is closed with 1008.
    Reject,
}

/// Where messages for a client come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// Its name within the route, in metrics and logs.
    pub name: String,
    /// The source itself.
    #[serde(flatten)]
    pub kind: SourceKind,
}

/// The kinds of source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub enum SourceKind {
    /// Plain subscriptions: what is published while the client is connected, to every client.
    Core {
        /// The subjects.
        subjects: Vec<Template>,
        /// What happens to a client that does not keep up.
        #[serde(default)]
        slow_consumer: SlowConsumer,
    },
    /// A durable JetStream pull consumer, shared by all gateways: each message to one client.
    Queue(Queue),
}

/// What happens to a client whose outbox is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlowConsumer {
    /// It is closed with 1008.
    #[default]
    Disconnect,
    /// Its oldest unwritten messages are dropped and counted.
    DropOldest,
}

/// A work queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// The stream. It must exist.
    pub stream: String,
    /// The durable consumer. Made where it does not exist, never changed where it does.
    pub durable: String,
    /// Which of the stream's subjects. Empty: all.
    #[serde(default)]
    pub filter_subjects: Vec<Pattern>,
    /// How long a client may take to acknowledge.
    pub ack_wait: Duration,
    /// How often a message is delivered before it goes to the dead-letter subject.
    pub max_deliver: u32,
    /// How many unacknowledged messages a client holds at most.
    pub max_in_flight_per_client: u32,
    /// Where a message goes that no client acknowledges. Absent: it is terminated and counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<Subject>,
}

/// Why a file is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is no YAML, or not of this shape. The message names line and field.
    #[error("{0}")]
    Form(String),
}

impl Config {
    /// Reads a file's text. Beside the configuration come the paths of fields that are not known.
    ///
    /// # Errors
    /// When the text is no YAML or a field is missing or malformed.
    pub fn read(text: &str) -> Result<(Self, Vec<String>), ConfigError> {
        read(text)
    }

    /// The file's text.
    ///
    /// # Errors
    /// When a value cannot be written, which no value of these types is known to be.
    pub fn write(&self) -> Result<String, ConfigError> {
        serde_saphyr::to_string(self).map_err(|error| ConfigError::Form(error.to_string()))
    }
}

impl Live {
    /// Reads the text of a file that holds the live part alone.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn read(text: &str) -> Result<(Self, Vec<String>), ConfigError> {
        read(text)
    }
}

fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<(T, Vec<String>), ConfigError> {
    let form = |error: &dyn std::fmt::Display| ConfigError::Form(error.to_string());
    let mut unknown = Vec::new();
    let value = serde_saphyr::with_deserializer_from_str(text, |deserializer| {
        // `?` stands for a step through an `Option`, which the file does not show.
        serde_ignored::deserialize(deserializer, |path| {
            unknown.push(path.to_string().replace("?.", ""));
        })
    })
    .map_err(|error| form(&error))?;
    Ok((value, unknown))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r"
boot:
  listen: {clients: 127.0.0.1:8001, admin: 127.0.0.1:9001}
  nats: {servers: ['nats://127.0.0.1:4222'], credentials: {type: UserPassword, userFile: /u, passwordFile: /p}}
live:
  websocket: {maxMessageSize: 64Mi, pongWait: 1m30s}
  limits: {connections: 5, color: red}
  drain: {}
  routes:
    - name: a
      path: /a/{room}
      fromClient: {type: Publish, subject: 'in.{path.room}'}
      toClient:
        - {name: live, type: Core, subjects: ['out.{path.room}.>']}
        - {name: jobs, type: Queue, stream: JOBS, durable: d, ackWait: 30s, maxDeliver: 5, maxInFlightPerClient: 16, deadLetter: dead.jobs}
";

    #[test]
    fn a_file_is_read_and_what_is_not_known_is_named() {
        let (config, unknown) = Config::read(TEXT).unwrap();
        assert_eq!(unknown, ["live.limits.color"]);
        let live = config.live.clone().unwrap();
        assert_eq!(live.websocket.pong_wait, Duration::from_secs(90));
        assert_eq!(live.websocket.ping_period, Duration::from_secs(30));
        assert_eq!(live.routes[0].to_client.len(), 2);
        let (again, unknown) = Config::read(&config.write().unwrap()).unwrap();
        assert_eq!((again, unknown), (config, vec![]));
    }

    #[test]
    fn a_malformed_value_is_named_with_its_place() {
        let error = Config::read(&TEXT.replace("1m30s", "90"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("is not a duration"), "{error}");
        assert!(error.contains("line 6") || error.contains("6:"), "{error}");
    }
}
