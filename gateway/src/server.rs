//! The whole process: what is started in which order, what it hears, and how it ends.

use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    runtime::{Builder, LocalOptions},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::Admin,
    config::{Args, ConfigError, ConfigFiles, LiveConfig, RouteQueue, shards},
    exchange::{ShardId, ShardInbox, ToShard, shard_channel},
    metrics::{Metrics, ResultLabel},
    nats::{self, NatsHandle},
    session::CLOSE_WAIT,
    shard::{self, ShardParts},
    upgrade::Gate,
    watch,
};

/// Descriptors that are not for clients: listeners, NATS, the admin port, files, handshakes that are
/// refused.
const DESCRIPTORS_RESERVED: usize = 256;

/// Why the process does not run, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// NATS cannot be connected to as configured.
    #[error(transparent)]
    Nats(#[from] nats::NatsConfigError),
    /// A port cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A thread or a runtime cannot be had.
    #[error("cannot start")]
    Start(#[source] io::Error),
    /// A shard ended by itself.
    #[error("a shard has failed")]
    ShardFailed,
}

/// Whether the configuration could be run with.
///
/// # Errors
/// When it could not.
pub fn check(args: &Args) -> Result<(), Error> {
    let read = ConfigFiles::new(args).read()?;
    nats::check(&read.boot.nats)?;
    let mut no_queue = |_: &_| RouteQueue {
        id: crate::exchange::QueueId(0),
        status: Arc::default(),
    };
    LiveConfig::new(&read.live, &mut no_queue)?;
    Ok(())
}

/// Runs until SIGTERM or SIGINT, and drains then.
///
/// # Errors
/// When it cannot start, or a shard fails.
pub fn run(args: &Args) -> Result<(), Error> {
    let epoch = Instant::now();
    let files = ConfigFiles::new(args);
    let read = files.read()?;
    warn_of_unknown(&read.unknown);
    let descriptors = raise_descriptor_limit();
    let control = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Start)?;
    control.block_on(async {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let nats_metrics = nats::NatsMetrics::register(&mut registry);
        let (handle, nats) = nats::new(read.boot.nats.clone(), nats_metrics)?;
        let live = Arc::new(live_config(&read.live, &handle)?);

        let connections_max = descriptors.saturating_sub(DESCRIPTORS_RESERVED) * 95 / 100;
        report_limits(&metrics, &live, connections_max);
        let gate = Arc::new(Gate::default());
        let mut fleet = Fleet::default();
        let count = shards(&read.boot);
        for id in 0..count {
            let address = read.boot.listen.clients;
            let listener = shard::listen(address, live.pong_wait())
                .map_err(|source| Error::Listen { address, source })?;
            let (inbox, outlet) = shard_channel();
            let heartbeat = Arc::new(AtomicU64::new(0));
            fleet.inboxes.push(inbox);
            fleet.heartbeats.push(heartbeat.clone());
            fleet.start(ShardParts {
                id: ShardId(id),
                shards: count,
                listener,
                outlet,
                nats: handle.clone(),
                gate: gate.clone(),
                connections_max,
                metrics: metrics.clone(),
                epoch,
                live: live.clone(),
                heartbeat,
            })?;
        }
        let address = read.boot.listen.admin;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| Error::Listen { address, source })?;
        let heartbeats = fleet.heartbeats.clone();
        let admin = Admin {
            registry,
            nats: handle.clone(),
            gate: gate.clone(),
            connections_max,
            heartbeats,
            epoch,
            has_started: AtomicBool::new(false),
        };
        tokio::spawn(Arc::new(admin).serve(listener));
        let stop_nats = CancellationToken::new();
        let nats = tokio::spawn(nats.run(fleet.inboxes.clone(), stop_nats.clone()));
        tracing::info!(
            clients = %read.boot.listen.clients,
            admin = %read.boot.listen.admin,
            shards = count,
            "serving"
        );

        let live = serve(&files, live, &read.live, &handle, &metrics, &mut fleet).await?;
        gate.start_draining();
        metrics.draining.set(1);
        let result = fleet.drain(&live.drain, live.write_wait()).await;
        stop_nats.cancel();
        if nats.await.is_err() {
            tracing::error!("the NATS side has failed");
        }
        tracing::info!("ended");
        result
    })
}

/// Serves until it is told to end: reloads meanwhile. Returns the configuration of then.
async fn serve(
    files: &ConfigFiles,
    live: Arc<LiveConfig>,
    written: &wsgateway_crds::config::Live,
    nats: &NatsHandle,
    metrics: &Metrics,
    fleet: &mut Fleet,
) -> Result<Arc<LiveConfig>, Error> {
    let (mut live, mut written) = (live, written.clone());
    let mut end = signal(SignalKind::terminate()).map_err(Error::Start)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Start)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(Error::Start)?;
    let mut changes = watch::changes(files).map_err(Error::Start)?;
    loop {
        tokio::select! {
            _ = end.recv() => { tracing::info!("SIGTERM: draining"); return Ok(live) }
            _ = interrupt.recv() => { tracing::info!("SIGINT: draining"); return Ok(live) }
            _ = hangup.recv() => {}
            Some(()) = changes.recv() => {}
            () = fleet.failure() => return Err(Error::ShardFailed),
        }
        let result = match reload(files, &written, nats) {
            Ok(Some((new, text))) => {
                live = new;
                written = text;
                report_limits(metrics, &live, usize::MAX);
                fleet.tell(|| ToShard::Reload(live.clone()));
                tracing::info!(routes = live.routes.len(), "configuration reloaded");
                "applied"
            }
            Ok(None) => "unchanged",
            Err(error) => {
                tracing::error!(
                    reason = error.reason(),
                    "{error}; the old configuration stays"
                );
                "rejected"
            }
        };
        metrics.reloads.get_or_create(&ResultLabel { result }).inc();
    }
}

type Reloaded = (Arc<LiveConfig>, wsgateway_crds::config::Live);

fn reload(
    files: &ConfigFiles,
    written: &wsgateway_crds::config::Live,
    nats: &NatsHandle,
) -> Result<Option<Reloaded>, ConfigError> {
    let read = files.read()?;
    if read.live == *written {
        return Ok(None);
    }
    warn_of_unknown(&read.unknown);
    let live = live_config(&read.live, nats)?;
    let queues: HashSet<_> = live
        .routes
        .iter()
        .flat_map(|route| route.queues.iter().map(|queue| queue.id))
        .collect();
    nats.retain_queues(&queues);
    Ok(Some((Arc::new(live), read.live)))
}

fn live_config(
    live: &wsgateway_crds::config::Live,
    nats: &NatsHandle,
) -> Result<LiveConfig, ConfigError> {
    // Nothing is asked of NATS before the whole configuration is known to hold.
    LiveConfig::new(live, &mut |_| RouteQueue {
        id: crate::exchange::QueueId(0),
        status: Arc::default(),
    })?;
    LiveConfig::new(live, &mut |queue| {
        let (id, status) = nats.queue(queue);
        RouteQueue { id, status }
    })
}

fn warn_of_unknown(unknown: &[String]) {
    for path in unknown {
        tracing::warn!(
            field = path,
            "the configuration has a field that this version does not know"
        );
    }
}

fn report_limits(metrics: &Metrics, live: &LiveConfig, descriptors: usize) {
    let wanted = live.connections_max as usize;
    metrics.connections_max.set(wanted.min(descriptors) as u64);
    if wanted > descriptors {
        tracing::warn!(
            wanted,
            possible = descriptors,
            "the descriptor limit allows fewer connections"
        );
    }
}

/// Raises the soft limit of descriptors to the hard one, as containers start with a soft limit of 1,024.
/// Returns what holds then.
fn raise_descriptor_limit() -> usize {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1_024, 1_024));
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(error) => {
            tracing::warn!(%error, soft, hard, "cannot raise the limit of descriptors");
            soft
        }
    };
    tracing::debug!(limit, "descriptors");
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// The shards and their threads.
#[derive(Debug, Default)]
struct Fleet {
    inboxes: Vec<ShardInbox>,
    heartbeats: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<()>>,
    /// Closed once every thread has ended; a message when one has.
    ended: Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>,
}

/// Says that its thread has ended, however it ended.
struct SaysEnd(mpsc::Sender<()>);

impl Drop for SaysEnd {
    fn drop(&mut self) {
        // Nobody listens only when the process ends.
        let _ = self.0.try_send(());
    }
}

impl Fleet {
    fn start(&mut self, parts: ShardParts) -> Result<(), Error> {
        let (ended, _) = self.ended.get_or_insert_with(|| mpsc::channel(1_024));
        let says_end = SaysEnd(ended.clone());
        let thread = thread::Builder::new()
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
            .map_err(Error::Start)?;
        self.threads.push(thread);
        Ok(())
    }

    fn tell(&self, message: impl Fn() -> ToShard) {
        for inbox in &self.inboxes {
            inbox.send(message());
        }
    }

    /// Returns when a shard has ended.
    async fn failure(&mut self) {
        match &mut self.ended {
            Some((_, ended)) => {
                ended.recv().await;
            }
            None => std::future::pending().await,
        }
    }

    /// Accepts on for as long as proxies may take to hear, then closes all connections at their pace and
    /// waits for the last, for a bounded time.
    async fn drain(
        &mut self,
        drain: &wsgateway_crds::config::Drain,
        write_wait: Duration,
    ) -> Result<(), Error> {
        sleep(drain.propagation.get()).await;
        self.tell(|| ToShard::Drain);
        let limit = drain.period.get() + write_wait + CLOSE_WAIT;
        let all = async {
            for _ in 0..self.threads.len() {
                self.failure().await;
            }
        };
        let all: std::pin::Pin<Box<dyn Future<Output = ()> + '_>> = Box::pin(all);
        if timeout(limit, all).await.is_err() {
            tracing::warn!(
                seconds = limit.as_secs(),
                "some connections did not end in time"
            );
        }
        Ok(())
    }
}
