//! The part `live`, resolved: what connections are held to and what is served.

use std::{fs, sync::Arc, time::Duration};

use bytes::Bytes;
use wsgateway_crds::{
    config::{
        self as file, Access, Authorization, CompressionMode, FromClient, Payload, SlowConsumer,
        SourceKind,
    },
    value::{self, OriginPattern, PathTemplate, Pattern, Size, Template},
};

use super::{ConfigError, rules};
use crate::{
    admission::{AdmissionLimits, ClientAddress},
    auth::{Auth, keyring::Keyring},
    exchange::{QueueId, QueueStatus},
    frame::decode::CLIENT_HEADER_BYTES_MAX,
    frame::{encode, header::Opcode},
    outbox::OutboxLimits,
    rate::Rates,
    session::SessionLimits,
};

/// What a connection costs beside its messages, in bytes: some 1.2 KB here and 5 KB in the kernel,
/// whose socket memory is charged to the same limit.
const CONNECTION_BYTES: u64 = 6_500;

/// The budget for messages where nothing says how much memory there is.
const TOTAL_BYTES_DEFAULT: u64 = 1 << 30;

/// The least budget for messages, so that a small pod still serves.
const TOTAL_BYTES_MIN: u64 = 16 << 20;

/// What connections are held to, checked and resolved. A reload replaces it whole.
#[derive(Debug)]
pub struct LiveConfig {
    /// How long a request head may take.
    pub handshake_timeout: Duration,
    /// Which pages may connect.
    pub allowed_origins: Vec<OriginPattern>,
    /// Open connections at most.
    pub connections_max: u32,
    /// What handshakes, addresses and users are held to.
    pub admission: AdmissionLimits,
    /// Where the address of a client is found.
    pub client_address: ClientAddress,
    /// What one outbox may hold.
    pub outbox: OutboxLimits,
    /// What all outboxes and unfinished messages together may hold, in bytes.
    pub total_bytes_max: usize,
    /// How the process ends.
    pub drain: file::Drain,
    /// Whose tokens are believed. None: everyone may connect.
    pub auth: Option<Auth>,
    /// What is served.
    pub routes: Vec<Arc<Route>>,
}

/// One path and what happens on it.
#[derive(Debug)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// Its path.
    pub path: PathTemplate,
    /// How messages from NATS are framed.
    pub payload: Payload,
    /// What it asks of a token, where one is asked for.
    pub authorization: Authorization,
    /// What publishing asks of a token beside that.
    pub publish_authorization: Authorization,
    /// Whose tokens it believes: without what ends no connection: names, leeways, and whether they may end sessions.
    /// Empty where everyone may connect.
    pub issuers: Vec<file::Provider>,
    /// The frame that tells a client that its token expires, where clients are told.
    pub expiry_warning: Option<Bytes>,
    /// What its sessions are held to.
    pub session: SessionLimits,
    /// What each of its clients may send.
    pub rates: Rates,
    /// The smallest payload that is compressed for clients that can inflate it, in bytes. `None`: compression is
    /// not agreed on with new clients, and others are sent all as it is.
    pub compress_bytes_min: Option<usize>,
    /// What becomes of a client's message.
    pub from_client: FromClient,
    /// What all its clients publish to, where no part comes from the request.
    pub publish_fixed: Option<Arc<str>>,
    /// The subjects that its clients get.
    pub subjects: Vec<RouteSubject>,
    /// The queues whose messages its clients share.
    pub queues: Vec<RouteQueue>,
}

/// A subject of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSubject {
    /// What is subscribed to.
    pub template: Template,
    /// What it is subscribed to for every client, where no part comes from the request.
    pub fixed: Option<Arc<str>>,
    /// What happens to a client that does not keep up.
    pub slow_consumer: SlowConsumer,
}

/// A queue of a route.
#[derive(Debug, Clone)]
pub struct RouteQueue {
    /// Which queue.
    pub id: QueueId,
    /// Whether it can be served.
    pub status: Arc<QueueStatus>,
}

impl Route {
    /// Whether a connection is of no use while NATS is away.
    pub fn needs_nats(&self) -> bool {
        !self.subjects.is_empty()
            || !self.queues.is_empty()
            || matches!(self.from_client, FromClient::Publish { .. })
    }

    /// Whether connections opened under `old` go on under this route as they are.
    pub fn continues(&self, old: &Self) -> bool {
        let ids = |route: &Self| {
            route
                .queues
                .iter()
                .map(|queue| queue.id)
                .collect::<Vec<_>>()
        };
        self.path == old.path
            && self.admits_all_of(old)
            && self.subjects == old.subjects
            && ids(self) == ids(old)
            && publish_template(&self.from_client) == publish_template(&old.from_client)
    }
}

impl Route {
    /// Whether all whom `old` let in would be let in here too, by their tokens.
    fn admits_all_of(&self, old: &Self) -> bool {
        self.issuers.is_empty()
            || (!old.issuers.is_empty()
                && self.authorization == old.authorization
                && self.publish_authorization == old.publish_authorization
                && old
                    .issuers
                    .iter()
                    .all(|issuer| self.issuers.contains(issuer)))
    }
}

/// The template of a publishing route whose values were taken from the request.
fn publish_template(from_client: &FromClient) -> Option<&Template> {
    match from_client {
        FromClient::Publish { subject, .. } if subject.as_pattern().is_none() => Some(subject),
        _ => None,
    }
}

impl LiveConfig {
    /// Checks the values against each other. `queue` gives each queue its id, and `keyring` each issuer its keys.
    ///
    /// # Errors
    /// With a sentence that names the fields.
    pub fn new(
        live: &file::Live,
        queue: &mut dyn FnMut(&file::Queue) -> RouteQueue,
        keyring: &mut dyn FnMut(&file::Provider) -> Arc<Keyring>,
    ) -> Result<Self, ConfigError> {
        let file::Live {
            websocket,
            limits,
            client_address,
            drain,
            auth,
            routes,
        } = live;
        rules::check_websocket(websocket)?;
        rules::check_limits(limits, client_address, auth.as_ref())?;
        rules::check_auth(auth.as_ref(), websocket, routes)?;
        rules::check_routes(routes)?;
        let session = SessionLimits {
            ping_period: websocket.ping_period.get(),
            pong_wait: websocket.pong_wait.get(),
            write_wait: websocket.write_wait.get(),
            message_bytes_max: websocket.max_message_size.bytes(),
        };
        Ok(Self {
            handshake_timeout: websocket.handshake_timeout.get(),
            allowed_origins: websocket.allowed_origins.clone(),
            connections_max: limits.connections,
            admission: AdmissionLimits {
                handshakes_per_second: limits.handshakes_per_second,
                per_address: limits.per_address,
                per_user: limits.per_user,
            },
            client_address: client_address.into(),
            outbox: OutboxLimits {
                bytes_max: usize::try_from(limits.outbox_bytes.bytes()).unwrap_or(usize::MAX),
                frames_max: limits.outbox_messages as usize,
            },
            total_bytes_max: total_bytes(limits),
            drain: drain.clone(),
            auth: auth.as_ref().map(|auth| Auth::new(auth, keyring)),
            routes: routes
                .iter()
                .map(|r| {
                    let compression = websocket.compression;
                    let mut route = route(r, session, compression, auth.as_ref(), queue);
                    route.rates = rates(&limits.per_connection, &route);
                    Arc::new(route)
                })
                .collect(),
        })
    }
}

impl LiveConfig {
    /// The longest `pongWait`: a peer that has acknowledged nothing for so long is gone.
    pub fn pong_wait(&self) -> Duration {
        self.routes
            .iter()
            .map(|route| route.session.pong_wait)
            .max()
            .unwrap_or_default()
    }

    /// The longest `writeWait`.
    pub fn write_wait(&self) -> Duration {
        self.routes
            .iter()
            .map(|route| route.session.write_wait)
            .max()
            .unwrap_or_default()
    }
}

fn route(
    route: &file::Route,
    session: SessionLimits,
    compression: file::Compression,
    auth: Option<&file::Auth>,
    queue: &mut dyn FnMut(&file::Queue) -> RouteQueue,
) -> Route {
    let file::Route {
        name,
        path,
        payload,
        authorization,
        max_message_size,
        compression: own_compression,
        from_client,
        to_client,
    } = route;
    let mut subjects = Vec::new();
    let mut queues = Vec::new();
    for source in to_client {
        match &source.kind {
            SourceKind::Core {
                subjects: templates,
                slow_consumer,
            } => {
                subjects.extend(templates.iter().map(|template| RouteSubject {
                    template: template.clone(),
                    fixed: template.as_pattern().map(|pattern| pattern.shared()),
                    slow_consumer: *slow_consumer,
                }));
            }
            SourceKind::Queue(source) => queues.push(queue(source)),
        }
    }
    let message_bytes_max = max_message_size.map_or(session.message_bytes_max, Size::bytes);
    Route {
        name: name.clone(),
        path: path.clone(),
        payload: *payload,
        authorization: authorization.clone(),
        issuers: match authorization.access {
            Access::Token => issuers(auth),
            Access::Anonymous => Vec::new(),
        },
        publish_authorization: match from_client {
            FromClient::Publish { authorization, .. } => authorization.clone(),
            _ => Authorization::default(),
        },
        expiry_warning: auth
            .and_then(|auth| auth.expiry_warning.as_ref())
            .map(|warning| encode(Opcode::Text, warning.message.as_bytes())),
        session: SessionLimits {
            message_bytes_max,
            ..session
        },
        rates: Rates::default(),
        compress_bytes_min: compress_bytes_min(own_compression.unwrap_or(compression)),
        publish_fixed: match from_client {
            FromClient::Publish { subject, .. } => {
                subject.as_pattern().as_ref().map(Pattern::shared)
            }
            _ => None,
        },
        from_client: from_client.clone(),
        subjects,
        queues,
    }
}

/// A message of the largest size passes in a burst, since it comes as one.
fn rates(limits: &file::PerConnection, route: &Route) -> Rates {
    let file::PerConnection {
        messages_per_second,
        bytes_per_second,
        first_message,
    } = limits;
    let has_messages = matches!(
        route.from_client,
        FromClient::Echo | FromClient::Publish { .. }
    );
    let message_bytes = route.session.message_bytes_max + CLIENT_HEADER_BYTES_MAX as u64;
    Rates {
        frames_per_second: *messages_per_second,
        bytes_per_second: bytes_per_second.bytes(),
        bytes_burst: bytes_per_second.bytes().max(message_bytes),
        first_message: first_message
            .filter(|_| has_messages)
            .map(value::Duration::get),
    }
}

fn compress_bytes_min(compression: file::Compression) -> Option<usize> {
    match compression.mode {
        CompressionMode::Disabled => None,
        CompressionMode::Shared => {
            Some(usize::try_from(compression.min_size.bytes()).unwrap_or(usize::MAX))
        }
    }
}

fn issuers(auth: Option<&file::Auth>) -> Vec<file::Provider> {
    let providers = auth.iter().flat_map(|auth| &auth.providers);
    let issuers = providers.map(|provider| file::Provider {
        name: String::new(),
        leeway: value::Duration::from_secs(0),
        backchannel_logout: file::BackchannelLogout::Disabled,
        ..provider.clone()
    });
    issuers.collect()
}

/// The budget for messages: what is configured, else half of the memory limit less what the allowed
/// connections cost.
fn total_bytes(limits: &file::Limits) -> usize {
    let budget = limits.total_bytes.map_or_else(
        || match memory_limit() {
            Some(limit) => {
                let connections = u64::from(limits.connections) * CONNECTION_BYTES;
                (limit / 2).saturating_sub(connections).max(TOTAL_BYTES_MIN)
            }
            None => TOTAL_BYTES_DEFAULT,
        },
        Size::bytes,
    );
    usize::try_from(budget).unwrap_or(usize::MAX)
}

/// The control group's memory limit, version 2 or 1, where there is one.
fn memory_limit() -> Option<u64> {
    [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ]
    .iter()
    .find_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok())
    // Version 1 says "no limit" with a number near 2^63.
    .filter(|limit| *limit < 1 << 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: &str = "
websocket: {pingPeriod: 30s, pongWait: 60s}
limits: {}
drain: {}
routes:
  - {name: a, path: '/a/{room}', fromClient: {type: Publish, subject: 'in.{path.room}'}, maxMessageSize: 1Mi}
  - {name: b, path: /b, fromClient: {type: Echo}, toClient: [{name: live, type: Core, subjects: ['x.>']}]}
";

    fn load(text: &str) -> Result<LiveConfig, ConfigError> {
        let (live, unknown) = file::Live::read(text).unwrap();
        assert_eq!(unknown, Vec::<String>::new());
        let mut queue = |_: &file::Queue| RouteQueue {
            id: QueueId(0),
            status: Arc::default(),
        };
        LiveConfig::new(&live, &mut queue, &mut |_| Arc::new(Keyring::unopened()))
    }

    #[test]
    fn a_configuration_is_resolved() {
        let live = load(LIVE).unwrap();
        assert_eq!(live.routes[0].session.message_bytes_max, 1 << 20);
        assert_eq!(live.routes[1].session.message_bytes_max, 64 << 10);
        assert!(live.routes[1].needs_nats());
        assert!(live.routes[1].continues(&load(LIVE).unwrap().routes[1]));
        assert!(!load(&LIVE.replace("x.>", "y.>")).unwrap().routes[1].continues(&live.routes[1]));
        assert!(live.total_bytes_max >= 16 << 20);
    }

    #[test]
    fn a_contradiction_is_refused_with_a_sentence_that_names_the_fields() {
        for (from, to, words) in [
            (
                "pingPeriod: 30s",
                "pingPeriod: 60s",
                "websocket.pingPeriod (60s) must be shorter than websocket.pongWait (60s)",
            ),
            (
                "pingPeriod: 30s",
                "writeWait: 2m",
                "websocket.writeWait (120s)",
            ),
            ("pingPeriod: 30s", "pingPeriod: 0s", "longer than 0s"),
            ("name: b", "name: a", "two routes are named `a`"),
            ("path: /b", "path: /a/b", "cannot be told apart"),
            (
                "in.{path.room}",
                "in.{path.hall}",
                "{path.hall}, which path /a/{room} lacks",
            ),
            ("in.{path.room}", "in.>", "may not hold a wildcard"),
            ("x.>", "x.{claims.sub}", "uses a claim"),
        ] {
            let error = load(&LIVE.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
