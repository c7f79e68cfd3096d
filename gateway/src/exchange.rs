//! What the shards and the NATS side say to each other.
//!
//! A shard owns its connections and never waits; the NATS side owns the only client and never waits
//! for a shard. Both directions are queues whose content is bounded: by the connections that there may
//! be, by the credit of queue clients, or by bytes.

use std::sync::{
    Arc,
    atomic::{AtomicU8, AtomicUsize, Ordering},
};

use tokio::sync::mpsc;

use crate::{
    config::LiveConfig, frame::PreparedFrame, logout::Ended, publication::Publication,
    revision::Handover,
};

/// How many bytes of publications may wait for one shard. A shard that is so far behind is stalled;
/// what comes then is dropped and counted, so that the NATS side's memory stays bounded.
pub const SHARD_BACKLOG_BYTES_MAX: usize = 64 << 20;

/// Which shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// A connection within its shard. The generation tells it from an earlier one in the same slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionKey {
    /// The slot.
    pub slot: u32,
    /// Which use of the slot.
    pub generation: u32,
}

/// A connection among all shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientId {
    /// Its shard.
    pub shard: ShardId,
    /// Where in it.
    pub key: ConnectionKey,
}

/// A queue that the NATS side pulls from. Equal queues of a configuration have one id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub u16);

/// What a shard is told.
#[derive(Debug)]
pub enum ToShard {
    /// Messages that arrived together: one round of fan-out.
    Publications(Arc<[Publication]>),
    /// Messages of a queue, each for one client, in order. After those of one client the shard sends
    /// a ping with the last one's counter.
    Deliveries(Vec<Delivery>),
    /// There is room again for what clients publish.
    PublishRoom,
    /// The configuration has changed. The shard says when it has gone over to it.
    Reload(Arc<LiveConfig>, Arc<Handover>),
    /// A session was ended: close what belongs to it.
    LogOut(Ended),
    /// Stop accepting and close what is open.
    Drain,
}

/// One message of a queue for one client.
#[derive(Debug)]
pub struct Delivery {
    /// Who gets it.
    pub client: ClientId,
    /// From which queue.
    pub queue: QueueId,
    /// How many messages of this queue the client has been sent, this one included. A receipt for a
    /// counter acknowledges all up to it.
    pub counter: u32,
    /// The message.
    pub frame: PreparedFrame,
}

/// What the NATS side is told by shards.
#[derive(Debug)]
pub enum ToNats {
    /// A shard has its first subscriber of a pattern.
    Subscribe {
        /// Which shard.
        shard: ShardId,
        /// The pattern.
        pattern: Arc<str>,
    },
    /// A shard has lost its last subscriber of a pattern.
    Unsubscribe {
        /// Which shard.
        shard: ShardId,
        /// The pattern.
        pattern: Arc<str>,
    },
    /// A client takes messages of a queue from now on.
    QueueJoin {
        /// Which queue.
        queue: QueueId,
        /// Who.
        client: ClientId,
    },
    /// A client has received all messages of a queue up to a counter.
    QueueReceipt {
        /// Which queue.
        queue: QueueId,
        /// Who.
        client: ClientId,
        /// The counter of the last one received.
        counter: u32,
    },
    /// A client could not be given a message, since its payload may not be sent on its route.
    QueueUndeliverable {
        /// Which queue.
        queue: QueueId,
        /// Who.
        client: ClientId,
        /// The message's counter.
        counter: u32,
    },
    /// A client is gone: what it has not acknowledged goes to others.
    QueueLeave {
        /// Which queue.
        queue: QueueId,
        /// Who.
        client: ClientId,
    },
}

/// Whether a queue can be served, shared between the NATS side and the shards.
#[derive(Debug, Default)]
pub struct QueueStatus(AtomicU8);

/// The states of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum QueueState {
    /// The consumer has not been looked at yet.
    Opening = 0,
    /// Messages can be pulled.
    Ready = 1,
    /// The stream does not exist, or JetStream does not answer.
    Unavailable = 2,
    /// The durable exists with other settings.
    Conflict = 3,
}

impl QueueStatus {
    /// The state now.
    pub fn get(&self) -> QueueState {
        match self.0.load(Ordering::Relaxed) {
            1 => QueueState::Ready,
            2 => QueueState::Unavailable,
            3 => QueueState::Conflict,
            _ => QueueState::Opening,
        }
    }

    /// Sets it.
    pub fn set(&self, state: QueueState) {
        self.0.store(state as u8, Ordering::Relaxed);
    }
}

/// The way into one shard.
#[derive(Debug, Clone)]
pub struct ShardInbox {
    sender: mpsc::UnboundedSender<ToShard>,
    backlog_bytes: Arc<AtomicUsize>,
}

/// The shard's end of it.
#[derive(Debug)]
pub struct ShardOutlet {
    /// What was sent.
    pub receiver: mpsc::UnboundedReceiver<ToShard>,
    backlog_bytes: Arc<AtomicUsize>,
}

/// A new way into a shard.
#[expect(
    clippy::disallowed_methods,
    reason = "publications are bounded by bytes in `publish`"
)]
pub fn shard_channel() -> (ShardInbox, ShardOutlet) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let backlog_bytes = Arc::new(AtomicUsize::new(0));
    let inbox = ShardInbox {
        sender,
        backlog_bytes: backlog_bytes.clone(),
    };
    (
        inbox,
        ShardOutlet {
            receiver,
            backlog_bytes,
        },
    )
}

impl ShardInbox {
    /// Hands over a round of publications. `false` where the shard is too far behind: they are dropped.
    #[must_use]
    pub fn publish(&self, round: Arc<[Publication]>) -> bool {
        let bytes = round_bytes(&round);
        let waiting = self.backlog_bytes.fetch_add(bytes, Ordering::Relaxed);
        // A round that is large by itself still passes while nothing else waits.
        if waiting > 0 && waiting + bytes > SHARD_BACKLOG_BYTES_MAX {
            self.backlog_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.send(ToShard::Publications(round));
        true
    }

    /// Hands over anything else. A shard that has ended hears nothing.
    pub fn send(&self, message: ToShard) {
        // The shard has ended only when the process is about to.
        let _ = self.sender.send(message);
    }
}

impl ShardOutlet {
    /// To be called when a round has been delivered.
    pub fn finished(&self, round: &[Publication]) {
        self.backlog_bytes
            .fetch_sub(round_bytes(round), Ordering::Relaxed);
    }
}

fn round_bytes(round: &[Publication]) -> usize {
    round
        .iter()
        .map(|publication| publication.frame.payload().len() + 64)
        .sum()
}
