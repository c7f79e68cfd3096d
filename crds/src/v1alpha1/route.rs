//! `spec.routes`: the paths, and what happens on each.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    auth::{Authorization, PublishAuthorization},
    schema::{self, Rule, SizeText},
    websocket::Compression,
};

/// One path and what happens on it.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = Rule::new(
    "!self.path.startsWith('/.wsgateway/')",
    "path must not begin with /.wsgateway/: what is there is the gateways' own"
).at("path"))]
#[schemars(transform = Rule::new(
    "!has(self.authorization) || self.authorization.access != 'Anonymous' || !has(self.fromClient.publish) || \
     !has(self.fromClient.publish.authorization)",
    "fromClient.publish.authorization must not be set where authorization.access is Anonymous: nobody has a token"
).at("fromClient"))]
pub struct Route {
    /// Its name, in metrics and logs: a-z, 0-9 and -. Example: `name: notifications`
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = schema::NAME)
    )]
    pub name: String,
    /// Its path: literal segments and `{param}`, matched whole; a trailing slash makes no difference. A parameter
    /// takes one segment, and subjects may use it as `{path.param}`. Example: `path: /rooms/{room}`
    #[schemars(schema_with = "schema::path")]
    pub path: String,
    /// How messages from NATS are sent: `Text` (a payload that is not UTF-8 is dropped and counted), `Binary`, or
    /// `Auto` (text where it is UTF-8, else binary). Default `Text`. Example: `payload: Binary`
    #[serde(default)]
    pub payload: Payload,
    /// What it asks of a client's token, where `auth` is set. Default: any valid token.
    /// Example: `authorization: {anyRole: ["realm:viewer"]}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
    /// The largest message that a client may send here. Default: websocket.maxMessageSize.
    /// Example: `maxMessageSize: 10Mi`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_message_size: Option<SizeText>,
    /// Whether messages are compressed here. Default: websocket.compression.
    /// Example: `compression: {mode: Shared, minSize: 1Ki}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// What becomes of a client's message. Default `{type: Echo}`.
    /// Example: `fromClient: {type: Publish, publish: {subject: "rooms.{path.room}"}}`
    #[serde(default)]
    pub from_client: FromClient,
    /// Where messages for the client come from, up to 8 sources of distinct names. Default: nowhere.
    /// Example: `toClient: [{name: live, type: Core, core: {subjects: ["notifications.>"]}}]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub to_client: Vec<Source>,
}

/// How messages from NATS are sent.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// As text.
    #[default]
    Text,
    /// As binary.
    Binary,
    /// As text where it is UTF-8, else as binary.
    Auto,
}

/// What becomes of a client's message.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = Rule::member(&["Echo", "Publish", "Discard", "Reject"], "Publish", "publish"))]
pub struct FromClient {
    /// `Echo`: it goes back as it came. `Publish`: it is published to NATS. `Discard`: it is dropped. `Reject`: the
    /// connection is closed with 1008. Default `Echo`. Example: `type: Discard`
    #[serde(rename = "type")]
    pub type_: FromClientType,
    /// Where a message is published, with type Publish. Example: `publish: {subject: "rooms.{path.room}"}`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish: Option<Publish>,
}

/// What may become of a client's message.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromClientType {
    /// It goes back as it came.
    #[default]
    Echo,
    /// It is published to NATS.
    Publish,
    /// It is dropped.
    Discard,
    /// The connection is closed with 1008.
    Reject,
}

/// Where a client's message is published.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = Rule::new(
    "!self.subject.contains('*') && !self.subject.contains('>')",
    "subject must hold neither * nor >: a message is published to one subject"
).at("subject"))]
#[schemars(transform = Rule::new(
    "!self.subject.contains('|each')",
    "subject must not hold |each: a message is published to one subject"
).at("subject"))]
pub struct Publish {
    /// The subject. A token may be `{path.x}` or `{query.x}`, a value of the request, or `{claims.x}`, a claim of its
    /// token; the first token is a literal. A value that is not 1 to 128 bytes without space, `.`, `*` and `>` is
    /// answered with 400, and a claim with 403; `{path.x|percent}` encodes it instead. Example: `subject: "rooms.{path.room}"`
    #[schemars(schema_with = "schema::template")]
    pub subject: String,
    /// What publishing asks of a client's token beside what the route does, where `auth` is set. Who lacks it connects
    /// and gets messages; the first message that it sends closes it with 4403. Default: whoever may connect may
    /// publish. Example: `authorization: {anyRole: ["realm:editor"]}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<PublishAuthorization>,
}

/// Where messages for a client come from.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = Rule::member(&["Core", "Queue"], "Core", "core"))]
#[schemars(transform = Rule::member(&["Core", "Queue"], "Queue", "queue"))]
#[schemars(transform = Rule::new(
    "self.type != 'Queue' || !has(self.slowConsumer)",
    "slowConsumer must not be set when type is Queue: queue.maxInFlightPerClient holds a slow \
     client back"
).at("slowConsumer"))]
pub struct Source {
    /// Its name within the route, in metrics and logs: a-z, 0-9 and -. Example: `name: live`
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = schema::NAME)
    )]
    pub name: String,
    /// `Core`: plain subscriptions; what is published while a client is connected goes to every client. `Queue`: a
    /// JetStream work queue; each message goes to one client and comes again until one acknowledges it.
    /// Example: `type: Core`
    #[serde(rename = "type")]
    pub type_: SourceType,
    /// The subscriptions, with type Core. Example: `core: {subjects: ["notifications.>"]}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core: Option<Core>,
    /// The work queue, with type Queue. Example: `queue: {stream: JOBS, durable: shop-jobs}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// What happens to a client that does not keep up, with type Core. Default `{policy: Disconnect}`.
    /// Example: `slowConsumer: {policy: DropOldest}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_consumer: Option<SlowConsumer>,
}

/// The kinds of source.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourceType {
    /// Plain subscriptions.
    Core,
    /// A JetStream work queue.
    Queue,
}

/// Plain subscriptions.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Core {
    /// The subjects, 1 to 16; `*` stands for one token, a last `>` for one or more, and `{path.x}` or `{query.x}` for
    /// a value of the client's request, `{claims.x}` for a claim of its token. Of a claim that is a list, such as `groups` or a list of rooms,
    /// `{claims.x|each}` makes a subject of each, up to 64 in all. The first token is a literal. A client whose subjects overlap gets a
    /// message once. Example: `subjects: ["notifications.>", "users.{query.user}.*"]`
    #[schemars(schema_with = "schema::templates")]
    pub subjects: Vec<String>,
}

/// What happens to a client that does not keep up.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SlowConsumer {
    /// `Disconnect`: it is closed with 1008 and may come back. `DropOldest`: its oldest unwritten messages are dropped
    /// and counted. Default `Disconnect`. Example: `policy: DropOldest`
    pub policy: SlowConsumerPolicy,
}

/// What happens to a client that does not keep up.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlowConsumerPolicy {
    /// It is closed with 1008.
    #[default]
    Disconnect,
    /// Its oldest unwritten messages are dropped.
    DropOldest,
}

/// A JetStream work queue: one durable pull consumer, shared by all gateways.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// The stream. It must exist. Example: `stream: JOBS`
    #[schemars(length(min = 1, max = 128), regex(pattern = schema::STREAM))]
    pub stream: String,
    /// The durable consumer. It is made where it does not exist, and one that exists with other settings is never
    /// changed. Routes do not share one. Example: `durable: shop-jobs`
    #[schemars(length(min = 1, max = 128), regex(pattern = schema::STREAM))]
    pub durable: String,
    /// Which of the stream's subjects, 1 to 16 that do not overlap. Default: all.
    /// Example: `filterSubjects: ["jobs.mail.>"]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::subject_patterns")]
    pub filter_subjects: Vec<String>,
    /// What acknowledges a message. `Receipt`: after a batch the gateway pings, and the client's pong acknowledges all
    /// before it, so any WebSocket client will do. Default `Receipt`. Example: `acknowledge: Receipt`
    #[serde(default)]
    pub acknowledge: Acknowledge,
    /// How long a client may take to acknowledge; then another gets the message. 1 s to 24 h. Default `30s`.
    /// Example: `ackWait: 2m`
    #[serde(default = "ack_wait")]
    #[schemars(schema_with = "schema::duration")]
    pub ack_wait: String,
    /// How often a message is delivered at most. Default 5. Example: `maxDeliver: 10`
    #[serde(default = "max_deliver")]
    #[schemars(range(min = 1, max = 1_000))]
    pub max_deliver: u32,
    /// How many unacknowledged messages a client holds at most. Default 16. Example: `maxInFlightPerClient: 1`
    #[serde(default = "max_in_flight_per_client")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_in_flight_per_client: u32,
    /// Where a message goes that no client acknowledged in maxDeliver deliveries. Default: nowhere, it is ended and
    /// counted. Example: `deadLetter: {subject: dead.jobs}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetter>,
}

/// What acknowledges a message.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Acknowledge {
    /// The pong that follows it.
    #[default]
    Receipt,
}

/// Where a message goes that no client acknowledges.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// The subject, without wildcards, and not one that the queue itself reads. Example: `subject: dead.jobs`
    #[schemars(schema_with = "schema::subject")]
    pub subject: String,
}

fn ack_wait() -> String {
    "30s".to_owned()
}

fn max_deliver() -> u32 {
    5
}

fn max_in_flight_per_client() -> u32 {
    16
}
