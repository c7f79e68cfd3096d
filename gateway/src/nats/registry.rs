//! Which queues there are, and the way to each.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use wsgateway_crds::config;

use super::{
    SHUTDOWN_TIMEOUT, Shared,
    consumer::Api,
    pull::{Worker, WorkerParts},
};
use crate::exchange::{ClientId, QueueId, QueueState, QueueStatus, ShardInbox, ToNats};

/// What a queue's worker is told.
#[derive(Debug, Clone, Copy)]
pub(super) enum QueueOp {
    Join(ClientId),
    Receipt(ClientId, u32),
    Undeliverable(ClientId, u32),
    Leave(ClientId),
    /// End when the last client has left.
    Close,
}

/// A queue that is to be served.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) id: QueueId,
    pub(super) config: config::Queue,
    pub(super) status: Arc<QueueStatus>,
    pub(super) ops: UnboundedReceiver<QueueOp>,
}

/// All queues.
#[derive(Debug)]
pub(super) struct Registry {
    queues: Mutex<Queues>,
    opened: UnboundedSender<Opened>,
}

#[derive(Debug, Default)]
struct Queues {
    /// Those that are to stay open.
    by_config: HashMap<config::Queue, QueueId>,
    /// Those, and those that still have clients.
    by_id: HashMap<QueueId, Queue>,
    next_id: u16,
}

#[derive(Debug)]
struct Queue {
    status: Arc<QueueStatus>,
    ops: UnboundedSender<QueueOp>,
}

impl Registry {
    pub(super) fn new(opened: UnboundedSender<Opened>) -> Self {
        Self {
            queues: Mutex::default(),
            opened,
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "bounded by the clients and their credit"
    )]
    pub(super) fn queue(&self, config: &config::Queue) -> (QueueId, Arc<QueueStatus>) {
        let mut queues = self.lock();
        if let Some(&id) = queues.by_config.get(config)
            && let Some(queue) = queues.by_id.get(&id)
        {
            return (id, queue.status.clone());
        }
        let id = queues.unused_id();
        let (sender, ops) = unbounded_channel();
        let status = Arc::new(QueueStatus::default());
        queues.by_config.insert(config.clone(), id);
        queues.by_id.insert(
            id,
            Queue {
                status: status.clone(),
                ops: sender,
            },
        );
        // The receiver ends with the process.
        let _ = self.opened.send(Opened {
            id,
            config: config.clone(),
            status: status.clone(),
            ops,
        });
        (id, status)
    }

    /// Whether some queue has not been looked at yet.
    pub(super) fn is_opening(&self) -> bool {
        let queues = self.lock();
        queues
            .by_id
            .values()
            .any(|queue| queue.status.get() == QueueState::Opening)
    }

    pub(super) fn retain(&self, kept: &HashSet<QueueId>) {
        let Queues {
            by_config, by_id, ..
        } = &mut *self.lock();
        by_config.retain(|_, id| {
            let is_kept = kept.contains(id);
            if !is_kept && let Some(queue) = by_id.get(id) {
                let _ = queue.ops.send(QueueOp::Close);
            }
            is_kept
        });
    }

    pub(super) fn send(&self, message: &ToNats) {
        let (id, op) = match *message {
            ToNats::QueueJoin { queue, client } => (queue, QueueOp::Join(client)),
            ToNats::QueueReceipt {
                queue,
                client,
                counter,
            } => (queue, QueueOp::Receipt(client, counter)),
            ToNats::QueueUndeliverable {
                queue,
                client,
                counter,
            } => (queue, QueueOp::Undeliverable(client, counter)),
            ToNats::QueueLeave { queue, client } => (queue, QueueOp::Leave(client)),
            ToNats::Subscribe { .. } | ToNats::Unsubscribe { .. } => return,
        };
        if let Some(queue) = self.lock().by_id.get(&id) {
            // A worker ends only when nobody is left to hear from.
            let _ = queue.ops.send(op);
        }
    }

    fn remove(&self, id: QueueId) {
        self.lock().by_id.remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queues {
    /// An id that no open queue has. A configuration holds far fewer queues than there are ids.
    fn unused_id(&mut self) -> QueueId {
        loop {
            let id = QueueId(self.next_id);
            self.next_id = self.next_id.wrapping_add(1);
            if !self.by_id.contains_key(&id) {
                return id;
            }
        }
    }
}

/// Serves each queue by a task of its own, until the end.
pub(super) async fn run_queues(
    shared: Arc<Shared>,
    api: Api,
    shards: Vec<ShardInbox>,
    mut opened: UnboundedReceiver<Opened>,
    shutdown: CancellationToken,
) {
    let mut workers = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(queue) = opened.recv() => {
                let id = queue.id;
                let parts = WorkerParts {
                    queue,
                    api: api.clone(),
                    shards: shards.clone(),
                    link: shared.link.clone(),
                    metrics: shared.metrics.queues.clone(),
                    shutdown: shutdown.clone(),
                };
                let worker = Worker::new(parts).run();
                workers.spawn(async move {
                    worker.await;
                    id
                });
            }
            Some(ended) = workers.join_next() => match ended {
                Ok(id) => shared.registry.remove(id),
                Err(error) => warn!(%error, "a queue failed"),
            },
        }
    }
    let ended = async { while workers.join_next().await.is_some() {} };
    if tokio::time::timeout(SHUTDOWN_TIMEOUT / 2, ended)
        .await
        .is_err()
    {
        warn!("not all messages could be given back in time: they come again when ackWait ends");
    }
}
