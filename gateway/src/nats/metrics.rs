//! What is counted on the NATS side.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::exchange::QueueState;

/// The metrics of the NATS side. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct NatsMetrics {
    /// 1 while connected.
    pub connected: Gauge,
    /// Connections made, the first included.
    pub connects: Counter,
    /// Connections lost.
    pub disconnects: Counter,
    /// How often a server said that it will shut down.
    pub lame_ducks: Counter,
    /// Messages that came by subscriptions.
    pub messages: Counter,
    /// Their payloads' bytes.
    pub bytes: Counter,
    /// Patterns subscribed to.
    pub subscriptions: Gauge,
    /// Messages that did not reach the shards.
    pub dropped: Family<DropLabels, Counter>,
    /// Messages of clients that were published.
    pub publishes: Counter,
    /// Messages of clients that were not taken.
    pub refused: Family<RefusalLabels, Counter>,
    /// The queues' metrics.
    pub queues: QueueMetrics,
}

/// The metrics of queues, each by stream and consumer.
#[derive(Debug, Clone, Default)]
pub struct QueueMetrics {
    /// Messages given to clients.
    pub deliveries: Family<QueueLabels, Counter>,
    /// Those among them that had been delivered before.
    pub redeliveries: Family<QueueLabels, Counter>,
    /// Messages acknowledged by clients.
    pub acks: Family<QueueLabels, Counter>,
    /// Messages given back to the stream.
    pub naks: Family<QueueLabels, Counter>,
    /// Messages that no client could be given or would acknowledge, by what was done with them.
    pub dead: Family<DeadLabels, Counter>,
    /// Messages that clients hold unacknowledged.
    pub in_flight: Family<QueueLabels, Gauge>,
    /// Clients that take messages.
    pub clients: Family<QueueLabels, Gauge>,
    /// 1 for the state that a queue is in.
    pub state: Family<StateLabels, Gauge>,
}

/// Why a message did not reach the shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DropLabels {
    /// The reason.
    pub reason: DropReason,
}

/// Why a message did not reach the shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum DropReason {
    /// A shard is too far behind.
    ShardBehind,
    /// A subscription's buffer was full.
    SubscriptionFull,
    /// Accepted from a client, but NATS went away before it was sent.
    Disconnected,
}

/// Why a client's message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefusalLabels {
    /// The reason, as `PublishError::reason` gives it.
    pub reason: &'static str,
}

/// Which queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct QueueLabels {
    /// The stream.
    pub stream: String,
    /// The durable consumer.
    pub consumer: String,
}

/// Which queue, and what became of a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DeadLabels {
    /// The stream.
    pub stream: String,
    /// The durable consumer.
    pub consumer: String,
    /// Why no client got it, as `DeadReason::reason` gives it.
    pub reason: &'static str,
    /// `published` to the dead-letter subject, `terminated` where there is none, or `failed`.
    pub outcome: &'static str,
}

/// Which queue in which state.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StateLabels {
    /// The stream.
    pub stream: String,
    /// The durable consumer.
    pub consumer: String,
    /// The state.
    pub state: &'static str,
}

impl NatsMetrics {
    /// Makes the metrics known.
    pub fn register(registry: &mut Registry) -> Self {
        let it = Self::default();
        let nats = registry.sub_registry_with_prefix("wsgateway_nats");
        nats.register(
            "connected",
            "1 while connected to NATS",
            it.connected.clone(),
        );
        nats.register("connects", "Connections made to NATS", it.connects.clone());
        nats.register(
            "disconnects",
            "Connections to NATS lost",
            it.disconnects.clone(),
        );
        let help = "Times a server said that it will shut down";
        nats.register("lame_duck_events", help, it.lame_ducks.clone());
        let help = "Messages that came by subscriptions";
        nats.register("messages_received", help, it.messages.clone());
        let help = "Bytes of their payloads";
        nats.register("received_bytes", help, it.bytes.clone());
        nats.register(
            "subscriptions",
            "Patterns subscribed to",
            it.subscriptions.clone(),
        );
        let help = "Messages lost between NATS and the gateway's threads, by reason";
        nats.register("dropped", help, it.dropped.clone());
        let help = "Messages of clients handed to NATS";
        nats.register("publishes", help, it.publishes.clone());
        let help = "Messages of clients not taken for publishing, by reason";
        nats.register("publishes_refused", help, it.refused.clone());
        it.queues
            .register(registry.sub_registry_with_prefix("wsgateway_queue"));
        it
    }

    pub(super) fn drop_messages(&self, reason: DropReason, count: usize) {
        if count > 0 {
            self.dropped
                .get_or_create(&DropLabels { reason })
                .inc_by(count as u64);
        }
    }
}

impl QueueMetrics {
    fn register(&self, registry: &mut Registry) {
        let help = "Messages given to clients";
        registry.register("deliveries", help, self.deliveries.clone());
        let help = "Messages given to clients that had been delivered before";
        registry.register("redeliveries", help, self.redeliveries.clone());
        registry.register(
            "acks",
            "Messages acknowledged by clients",
            self.acks.clone(),
        );
        let help = "Messages given back to the stream for redelivery";
        registry.register("naks", help, self.naks.clone());
        let help = "Messages given up, by reason and by what was done with them";
        registry.register("dead_letters", help, self.dead.clone());
        let help = "Messages that clients hold unacknowledged";
        registry.register("in_flight", help, self.in_flight.clone());
        registry.register(
            "clients",
            "Clients that take messages",
            self.clients.clone(),
        );
        registry.register(
            "state",
            "1 for the state that a queue is in",
            self.state.clone(),
        );
    }

    pub(super) fn set_state(&self, labels: &QueueLabels, now: Option<QueueState>) {
        for (state, name) in [
            (QueueState::Opening, "Opening"),
            (QueueState::Ready, "Ready"),
            (QueueState::Unavailable, "Unavailable"),
            (QueueState::Conflict, "Conflict"),
        ] {
            let QueueLabels { stream, consumer } = labels.clone();
            let labels = StateLabels {
                stream,
                consumer,
                state: name,
            };
            let is_so = i64::from(now == Some(state));
            self.state.get_or_create(&labels).set(is_so);
        }
    }
}
