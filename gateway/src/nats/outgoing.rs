//! What clients publish, on its way to NATS.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_nats::{Client, subject::Subject};
use bytes::Bytes;
use tokio::sync::Notify;
use tracing::debug;

use super::{
    PublishError,
    connect::Link,
    metrics::{DropReason, NatsMetrics, RefusalLabels},
};
use crate::exchange::{ShardInbox, ToShard};

/// Messages that may wait to be published.
const MESSAGES_MAX: usize = 8_192;

/// Bytes of payload that may wait, and be on their way to the socket, at most.
const BYTES_MAX: usize = 8 << 20;

/// Messages that are handed to the connection before they are flushed. They alone may still be sent
/// after a connection was lost.
const BATCH_MESSAGES_MAX: usize = 512;

/// The queue between the shards, which never wait, and the publisher.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<(Arc<str>, Bytes)>,
    /// Of those waiting and of those on their way to the socket.
    bytes: usize,
    /// A shard was refused, and waits to be told.
    room_is_wanted: bool,
}

impl Waiting {
    fn has_room(&self, bytes: usize) -> bool {
        // A message larger than the limit passes while nothing else waits.
        self.messages.len() < MESSAGES_MAX && (self.bytes == 0 || self.bytes + bytes <= BYTES_MAX)
    }
}

impl Outgoing {
    /// Takes a message if it can be sent now, or gives it back.
    pub(super) fn try_publish(
        &self,
        link: &Link,
        metrics: &NatsMetrics,
        subject: Arc<str>,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        let refuse = |error: PublishError| {
            let labels = RefusalLabels {
                reason: error.reason(),
            };
            metrics.refused.get_or_create(&labels).inc();
            Err(error)
        };
        if !link.is_connected() {
            return refuse(PublishError::Disconnected);
        }
        if payload.len() > link.max_payload() {
            return refuse(PublishError::TooLarge);
        }
        let mut waiting = self.lock();
        if !waiting.has_room(payload.len()) {
            waiting.room_is_wanted = true;
            return refuse(PublishError::Full(subject, payload));
        }
        waiting.bytes += payload.len();
        waiting.messages.push_back((subject, payload));
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }

    /// Sends what comes, for as long as the process runs.
    pub(super) async fn run(&self, client: Client, shards: &[ShardInbox], metrics: &NatsMetrics) {
        loop {
            let batch = self.take_batch();
            if batch.is_empty() {
                self.arrived.notified().await;
                continue;
            }
            let mut bytes = 0;
            for (subject, payload) in batch {
                bytes += payload.len();
                match client.publish(Subject::from(&*subject), payload).await {
                    Ok(()) => drop(metrics.publishes.inc()),
                    // Subjects are checked where they are made.
                    Err(error) => debug!(%error, %subject, "cannot publish"),
                }
            }
            // Until the socket has them they count, so that they wait here, where there is a limit.
            if let Err(error) = client.flush().await {
                debug!(%error, "cannot flush");
            }
            self.release(bytes, shards);
        }
    }

    /// Drops what waits, since NATS is away and nothing may be sent late.
    pub(super) fn drop_waiting(&self, shards: &[ShardInbox], metrics: &NatsMetrics) {
        let mut waiting = self.lock();
        let bytes: usize = waiting
            .messages
            .iter()
            .map(|(_, payload)| payload.len())
            .sum();
        metrics.drop_messages(DropReason::Disconnected, waiting.messages.len());
        waiting.messages.clear();
        drop(waiting);
        self.release(bytes, shards);
    }

    /// Whether nothing is waiting or on its way.
    pub(super) fn is_empty(&self) -> bool {
        let waiting = self.lock();
        waiting.messages.is_empty() && waiting.bytes == 0
    }

    fn take_batch(&self) -> Vec<(Arc<str>, Bytes)> {
        let mut waiting = self.lock();
        let count = waiting.messages.len().min(BATCH_MESSAGES_MAX);
        waiting.messages.drain(..count).collect()
    }

    fn release(&self, bytes: usize, shards: &[ShardInbox]) {
        let mut waiting = self.lock();
        waiting.bytes = waiting.bytes.saturating_sub(bytes);
        // At half, so that each refusal is followed by many messages that are taken.
        let is_half_empty =
            waiting.bytes <= BYTES_MAX / 2 && waiting.messages.len() <= MESSAGES_MAX / 2;
        if is_half_empty && std::mem::take(&mut waiting.room_is_wanted) {
            drop(waiting);
            for shard in shards {
                shard.send(ToShard::PublishRoom);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
