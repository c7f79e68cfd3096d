//! The shards as threads: started, told, awaited.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64},
    thread,
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Builder, LocalOptions},
    sync::mpsc,
    time::{sleep, timeout},
};
use wsgateway_crds::config::Drain;

use super::Error;
use crate::{
    config::LiveConfig,
    exchange::{ShardId, ShardInbox, ToShard, shard_channel},
    interest::SHARDS_MAX,
    logout::Logouts,
    metrics::Metrics,
    nats::NatsHandle,
    session::CLOSE_WAIT,
    shard::{self, ShardParts},
    tls::Certificates,
    upgrade::Gate,
};

/// What all shards are given.
#[derive(Debug, Clone)]
pub(super) struct Common {
    pub(super) nats: NatsHandle,
    pub(super) gate: Arc<Gate>,
    pub(super) connections_max: usize,
    pub(super) logouts: Arc<Logouts>,
    pub(super) metrics: Metrics,
    pub(super) epoch: Instant,
    pub(super) live: Arc<LiveConfig>,
    pub(super) certificates: Option<Arc<Certificates>>,
}

/// The shards.
#[derive(Debug)]
pub(super) struct Fleet {
    inboxes: Vec<ShardInbox>,
    heartbeats: Vec<Arc<AtomicU64>>,
    /// A message for each shard that has ended, however it ended.
    ended: mpsc::Receiver<()>,
}

/// Says that its thread has ended, when it is dropped there.
struct SaysEnd(mpsc::Sender<()>);

impl Drop for SaysEnd {
    fn drop(&mut self) {
        // There is room for every shard; nobody listens only when the process ends.
        let _ = self.0.try_send(());
    }
}

impl Fleet {
    /// Binds a listener for each shard on the same port, and starts them.
    pub(super) fn start(address: SocketAddr, count: u16, common: &Common) -> Result<Self, Error> {
        let (say_end, ended) = mpsc::channel(usize::from(SHARDS_MAX));
        let mut fleet = Self {
            inboxes: Vec::new(),
            heartbeats: Vec::new(),
            ended,
        };
        for id in 0..count {
            let listener = shard::listen(address, common.live.pong_wait())
                .map_err(|source| Error::Listen { address, source })?;
            let (inbox, outlet) = shard_channel();
            let heartbeat = Arc::new(AtomicU64::new(0));
            fleet.inboxes.push(inbox);
            fleet.heartbeats.push(heartbeat.clone());
            let Common {
                nats,
                gate,
                connections_max,
                logouts,
                metrics,
                epoch,
                live,
                certificates,
            } = common.clone();
            let parts = ShardParts {
                id: ShardId(id),
                shards: count,
                listener,
                outlet,
                nats,
                gate,
                connections_max,
                logouts,
                metrics,
                epoch,
                live,
                certificates,
                heartbeat,
            };
            start_thread(parts, SaysEnd(say_end.clone()))?;
        }
        Ok(fleet)
    }

    pub(super) fn inboxes(&self) -> Vec<ShardInbox> {
        self.inboxes.clone()
    }

    /// The shards' last sweeps, in milliseconds since the epoch.
    pub(super) fn heartbeats(&self) -> Vec<Arc<AtomicU64>> {
        self.heartbeats.clone()
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.inboxes.len()
    }

    pub(super) fn tell(&self, message: impl Fn() -> ToShard) {
        for inbox in &self.inboxes {
            inbox.send(message());
        }
    }

    /// Returns when a shard has ended.
    pub(super) async fn ended(&mut self) {
        self.ended.recv().await;
    }

    /// Accepts on for as long as proxies may take to hear, then closes all connections at their pace and
    /// waits for the last, for a bounded time.
    pub(super) async fn drain(&mut self, drain: &Drain, write_wait: Duration) {
        sleep(drain.propagation.get()).await;
        self.tell(|| ToShard::Drain);
        let limit = drain.period.get() + write_wait + CLOSE_WAIT;
        let count = self.count();
        let all = async {
            for _ in 0..count {
                self.ended().await;
            }
        };
        match timeout(limit, all).await {
            Ok(()) => tracing::info!("every connection has ended"),
            Err(_elapsed) => {
                let seconds = limit.as_secs();
                tracing::warn!(seconds, "some connections did not end in time");
            }
        }
    }
}

fn start_thread(parts: ShardParts, says_end: SaysEnd) -> Result<(), Error> {
    thread::Builder::new()
        .name(format!("shard-{}", parts.id.0))
        .spawn(move || {
            let _says_end = says_end;
            let runtime = Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default());
            let ran = runtime.and_then(|runtime| runtime.block_on(shard::run(parts)));
            if let Err(error) = ran {
                tracing::error!(%error, "a shard cannot run");
            }
        })
        .map(drop)
        .map_err(Error::Start)
}
