//! The only NATS IO: the connection, what comes by subscriptions, what clients publish, and queues.
//!
//! ```text
//! connect.rs   the connection and what is known of it      identity.rs  secrets and signatures
//! subscribe.rs which patterns the server knows             pump.rs      subscriptions → rounds → shards
//! outgoing.rs  what clients publish                        reply.rs     what a pull is answered
//! registry.rs  which queues there are                      pull.rs      one queue: pull, ack, nak
//! consumer.rs  a queue's durable consumer                  dead.rs      the dead-letter subject
//! metrics.rs   what is counted                             follow.rs    one subject apart from all routes
//! ```
//!
//! Shards hold a [`NatsHandle`] and never wait for it. Everything here runs on the control runtime, and
//! never waits for a shard.

mod connect;
mod consumer;
mod dead;
mod follow;
mod identity;
mod metrics;
mod outgoing;
mod pull;
mod pump;
mod registry;
mod reply;
mod subscribe;

use std::{collections::HashSet, io, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot,
    },
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use wsgateway_crds::{config, report::NatsReport};

pub use self::metrics::{
    DeadLabels, DropLabels, DropReason, NatsMetrics, QueueLabels, QueueMetrics, RefusalLabels,
    StateLabels,
};
use self::{
    connect::Link,
    outgoing::Outgoing,
    pump::{Command, Pump},
    registry::Registry,
    subscribe::Subscribing,
};
use crate::exchange::{QueueId, QueueStatus, ShardInbox, ToNats};

/// How long the end may take: giving back what is in flight, and sending what was accepted.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(2_500);

/// Why NATS cannot be connected to as configured. That it does not answer is no such reason.
#[derive(Debug, thiserror::Error)]
pub enum NatsConfigError {
    /// An address is malformed.
    #[error("`{server}` is not the address of a NATS server")]
    Server {
        /// What was configured, without user and password.
        server: String,
        /// What is wrong with it.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} holds no {expected}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
    },
    /// The client does not take the options.
    #[error("cannot set up the connection to NATS")]
    Connect(#[source] async_nats::ConnectError),
}

impl NatsConfigError {
    /// The stable name of the error.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Server { .. } => "NatsServerInvalid",
            Self::File { .. } => "NatsFileUnreadable",
            Self::Content { .. } => "NatsFileInvalid",
            Self::Connect(_) => "NatsOptionsInvalid",
        }
    }
}

/// Why a message is not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// NATS is away, and nothing is kept for later.
    #[error("NATS is not connected")]
    Disconnected,
    /// Too much is waiting already. The message comes back; when there is room each shard is told.
    #[error("too many messages wait to be published")]
    Full(Arc<str>, Bytes),
    /// The server does not take messages of this size.
    #[error("the message is larger than the NATS server takes")]
    TooLarge,
}

impl PublishError {
    /// The stable name of the error.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Disconnected => "Disconnected",
            Self::Full(..) => "Full",
            Self::TooLarge => "TooLarge",
        }
    }
}

/// The way to NATS for everyone else. Clones are the same.
#[derive(Debug, Clone)]
pub struct NatsHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    link: Arc<Link>,
    interest: UnboundedSender<Command>,
    outgoing: Outgoing,
    registry: Registry,
    metrics: NatsMetrics,
}

/// The NATS side before it runs.
#[derive(Debug)]
pub struct Nats {
    config: config::Nats,
    shared: Arc<Shared>,
    commands: UnboundedReceiver<Command>,
    opened: UnboundedReceiver<registry::Opened>,
}

/// Whether the configuration could be connected with: addresses are well formed, and files hold what
/// they should. Nothing is connected.
pub fn check(config: &config::Nats) -> Result<(), NatsConfigError> {
    connect::check(config)
}

/// The NATS side and the way to it. Files are read to find mistakes early; nothing is connected yet,
/// and no runtime is needed.
#[expect(
    clippy::disallowed_methods,
    reason = "bounded by the patterns and clients there may be"
)]
pub fn new(
    config: config::Nats,
    metrics: NatsMetrics,
) -> Result<(NatsHandle, Nats), NatsConfigError> {
    check(&config)?;
    let (interest, commands) = unbounded_channel();
    let (opened_sender, opened) = unbounded_channel();
    let shared = Arc::new(Shared {
        link: Arc::new(Link::new(metrics.clone())),
        interest,
        outgoing: Outgoing::default(),
        registry: Registry::new(opened_sender),
        metrics,
    });
    Ok((
        NatsHandle {
            shared: shared.clone(),
        },
        Nats {
            config,
            shared,
            commands,
            opened,
        },
    ))
}

impl NatsHandle {
    /// Whether NATS is connected at this moment. Cheap.
    pub fn is_connected(&self) -> bool {
        self.shared.link.is_connected()
    }

    /// Whether it ever was: readiness waits for that, and does not fall when NATS goes away.
    pub fn has_connected(&self) -> bool {
        self.shared.link.has_connected()
    }

    /// What there is to say of the connection.
    pub fn report(&self) -> NatsReport {
        self.shared.link.report()
    }

    /// Tells the NATS side something. Never waits; what may be told is bounded by the connections that
    /// there may be and by their credit.
    pub fn send(&self, message: ToNats) {
        let command = match message {
            ToNats::Subscribe { shard, pattern } => Command::Subscribe(shard, pattern),
            ToNats::Unsubscribe { shard, pattern } => Command::Unsubscribe(shard, pattern),
            ToNats::QueueJoin { .. }
            | ToNats::QueueReceipt { .. }
            | ToNats::QueueUndeliverable { .. }
            | ToNats::QueueLeave { .. } => return self.shared.registry.send(&message),
        };
        // The receiver ends with the process.
        let _ = self.shared.interest.send(command);
    }

    /// Waits until the server knows a pattern that was subscribed to with [`NatsHandle::send`] before:
    /// what is published from then on arrives. A round trip for a new pattern; while NATS is away as
    /// long as that. At once for a pattern that nobody has subscribed to.
    pub fn subscribed(&self, pattern: Arc<str>) -> impl Future<Output = ()> + Send + use<> {
        let (answer, known) = oneshot::channel();
        let _ = self.shared.interest.send(Command::Confirm(pattern, answer));
        async move {
            // It is dropped only when the process ends.
            let _ = known.await;
        }
    }

    /// Publishes a client's message, or says at once why not.
    pub fn try_publish(&self, subject: Arc<str>, payload: Bytes) -> Result<(), PublishError> {
        let Shared {
            link,
            outgoing,
            metrics,
            ..
        } = &*self.shared;
        outgoing.try_publish(link, metrics, subject, payload)
    }

    /// The queue of such a configuration, which is opened unless it is open. Equal configurations are
    /// one queue.
    pub fn queue(&self, config: &config::Queue) -> (QueueId, Arc<QueueStatus>) {
        self.shared.registry.queue(config)
    }

    /// Whether some queue has not been looked at yet, so that its route cannot be connected to.
    pub fn is_opening_queues(&self) -> bool {
        self.shared.registry.is_opening()
    }

    /// Closes all other queues, each when its last client has left.
    pub fn retain_queues(&self, kept: &HashSet<QueueId>) {
        self.shared.registry.retain(kept);
    }
}

impl Nats {
    /// Connects, and serves the shards until the token is cancelled. Then what clients hold is given
    /// back, and what was accepted is sent, within [`SHUTDOWN_TIMEOUT`].
    pub async fn run(self, shards: Vec<ShardInbox>, shutdown: CancellationToken) {
        let Self {
            config,
            shared,
            commands,
            opened,
        } = self;
        // `new` has checked what can be wrong; the client itself tries for ever.
        if let Err(error) = connect::connect(&config, &shared.link).await {
            warn!(
                error = &error as &dyn std::error::Error,
                "cannot connect to NATS"
            );
            return shutdown.cancelled().await;
        }
        let Some(client) = shared.link.client() else {
            return;
        };
        let mut tasks = JoinSet::new();
        spawn_pump(&mut tasks, &shared, &shards, &client, commands);
        tasks.spawn(publish(shared.clone(), shards.clone(), client.clone()));
        tasks.spawn(watch_link(shared.clone(), shards.clone()));
        let api = consumer::Api::new(client.clone(), &config.jet_stream);
        let queues = registry::run_queues(shared.clone(), api, shards, opened, shutdown.clone());
        tokio::select! {
            () = queues => {}
            // None of them ends by itself, but for a panic.
            Some(Err(error)) = tasks.join_next() => warn!(%error, "a task of the NATS side failed"),
        }
        let sent = tokio::time::timeout(SHUTDOWN_TIMEOUT / 2, async {
            while shared.link.is_connected() && !shared.outgoing.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if shared.link.is_connected() {
                let _ = client.flush().await;
            }
        });
        if sent.await.is_ok() {
            debug!("all is handed to NATS");
        } else {
            warn!("not all could be handed to NATS in time");
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "bounded by the patterns that there are"
)]
fn spawn_pump(
    tasks: &mut JoinSet<()>,
    shared: &Arc<Shared>,
    shards: &[ShardInbox],
    client: &async_nats::Client,
    commands: UnboundedReceiver<Command>,
) {
    let (changes_sender, changes) = unbounded_channel();
    let (subscribed_sender, subscribed) = unbounded_channel();
    let link = shared.link.watch();
    tasks.spawn(Subscribing::new(client.clone(), link, subscribed_sender).run(changes));
    let pump = Pump::new(shards.to_vec(), changes_sender, shared.metrics.clone());
    tasks.spawn(pump.run(commands, subscribed));
}

async fn publish(shared: Arc<Shared>, shards: Vec<ShardInbox>, client: async_nats::Client) {
    shared.outgoing.run(client, &shards, &shared.metrics).await;
}

/// Sees the connection come and go, and does what must follow.
async fn watch_link(shared: Arc<Shared>, shards: Vec<ShardInbox>) {
    let Shared {
        link,
        outgoing,
        metrics,
        ..
    } = &*shared;
    let mut states = link.watch();
    let mut look = tokio::time::interval(connect::OBSERVE_INTERVAL);
    tokio::join!(link.leave_lame_ducks(), async {
        loop {
            tokio::select! {
                _ = look.tick() => link.observe(),
                Ok(()) = states.changed() => {
                    if !states.borrow_and_update().connected {
                        outgoing.drop_waiting(&shards, metrics);
                    }
                }
            }
        }
    });
}
