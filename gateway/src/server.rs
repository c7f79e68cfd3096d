//! The whole process: what is started in which order, what it hears, and how it ends.

mod fleet;

use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use wsgateway_crds::{config as file, report::Rejected};

use self::fleet::{Common, Fleet};
use crate::{
    admin::Admin,
    auth::{
        AuthMetrics,
        keyring::{Keyring, Keyrings},
    },
    config::{Args, ConfigError, ConfigFiles, LiveConfig, ReadConfig, Refusal, RouteQueue, shards},
    exchange::{QueueId, ToShard},
    logout::Logouts,
    metrics::{Metrics, ResultLabel},
    nats::{self, NatsHandle},
    probe,
    revision::Revisions,
    telemetry::chain,
    tls::{CertificateError, Certificates},
    upgrade::Gate,
    watch,
};

/// Descriptors that are not for clients: listeners, NATS, the admin port, files, probes, handshakes that are
/// refused.
const DESCRIPTORS_RESERVED: usize = 256;

const _: () = assert!(
    (probe::OPEN_MAX as usize) < DESCRIPTORS_RESERVED / 2,
    "probes are no connections and live on what is reserved"
);

/// The share of the remaining descriptors that clients may take, in percent.
const DESCRIPTORS_PERCENT: usize = 95;

/// How much of what is wrong with a file is reported: a value in it may be of any length.
const REJECTED_CHARS_MAX: usize = 500;

/// Why the process does not run, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no certificate to show to clients.
    #[error("no TLS for clients")]
    Certificate(#[from] CertificateError),
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
    /// A thread, a runtime or a watcher cannot be had.
    #[error("cannot start")]
    Start(#[source] io::Error),
    /// A shard ended by itself.
    #[error("a shard has failed")]
    ShardFailed,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Config(refusal.error)
    }
}

/// Whether the configuration could be run with.
///
/// # Errors
/// When it could not.
pub fn check(args: &Args) -> Result<(), Error> {
    let read = ConfigFiles::new(args).read()?;
    nats::check(&read.boot.nats)?;
    check_live(&read.live)?;
    if let Some(files) = &read.boot.listen.tls {
        Certificates::check(files)?;
    }
    Ok(())
}

/// Runs until SIGTERM or SIGINT, and drains then.
///
/// # Errors
/// When it cannot start, or a shard fails.
pub fn run(args: &Args) -> Result<(), Error> {
    let epoch = Instant::now();
    let files = ConfigFiles::new(args);
    let descriptors = raise_descriptor_limit();
    let control = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Start)?;
    control.block_on(async {
        let mut signals = Signals::new()?;
        // Watched before it is read: a change between the two would go unnoticed.
        let watched = watch::changes(files.paths()).map_err(Error::Start);
        let read = files.read()?;
        let mut changes = Changes {
            certificate: match &read.boot.listen.tls {
                Some(files) => {
                    let paths = Certificates::paths(files).into_iter();
                    watch::changes(paths).map_err(Error::Start)?
                }
                None => mpsc::channel(1).1,
            },
            config: watched?,
        };
        let mut process = Process::start(files, read, descriptors, epoch).await?;
        process.serve(&mut signals, &mut changes).await?;
        process.drain().await;
        Ok(())
    })
}

/// What asks the process for something.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        let of = |kind| signal(kind).map_err(Error::Start);
        Ok(Self {
            terminate: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
            hangup: of(SignalKind::hangup())?,
        })
    }
}

/// What says that files may have changed.
struct Changes {
    config: mpsc::Receiver<()>,
    certificate: mpsc::Receiver<()>,
}

/// All that runs.
struct Process {
    files: ConfigFiles,
    /// What the files said when they were last taken over.
    boot: file::Boot,
    written: file::Live,
    live_hash: String,
    revisions: Arc<Revisions>,
    live: Arc<LiveConfig>,
    /// What the descriptors allow.
    connections_max: usize,
    metrics: Metrics,
    gate: Arc<Gate>,
    fleet: Fleet,
    nats: NatsHandle,
    keyrings: Arc<Keyrings>,
    logouts: Arc<Logouts>,
    certificates: Option<Arc<Certificates>>,
    nats_task: JoinHandle<()>,
    stop_nats: CancellationToken,
}

impl Process {
    async fn start(
        files: ConfigFiles,
        read: ReadConfig,
        descriptors: usize,
        epoch: Instant,
    ) -> Result<Self, Error> {
        let ReadConfig {
            boot,
            live: written,
            boot_hash,
            live_hash,
            unknown,
        } = read;
        warn_of_unknown(&unknown);
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let tls = boot.listen.tls.as_ref();
        let certificates = tls.map(|files| Certificates::open(files, &mut registry));
        let certificates = certificates.transpose()?.map(Arc::new);
        let nats_metrics = nats::NatsMetrics::register(&mut registry);
        let (nats, nats_side) = nats::new(boot.nats.clone(), nats_metrics)?;
        let auth_metrics = AuthMetrics::register(&mut registry);
        let keyrings = Arc::new(Keyrings::new(auth_metrics.clone()));
        let live = Arc::new(live_config(&written, &nats, &keyrings)?);
        let logouts = Arc::new(Logouts::new(live.clone(), nats.clone(), auth_metrics));
        let connections_max =
            descriptors.saturating_sub(DESCRIPTORS_RESERVED) * DESCRIPTORS_PERCENT / 100;
        report_limits(&metrics, &live, connections_max);
        let gate = Arc::new(Gate::default());
        let revisions = Arc::new(Revisions::new(boot_hash, live_hash.clone()));

        let common = Common {
            nats: nats.clone(),
            gate: gate.clone(),
            connections_max,
            logouts: logouts.clone(),
            metrics: metrics.clone(),
            epoch,
            live: live.clone(),
            certificates: certificates.clone(),
        };
        let count = shards(&boot);
        let fleet = Fleet::start(boot.listen.clients, count, &common)?;
        let admin = Admin {
            registry,
            nats: nats.clone(),
            keyrings: keyrings.clone(),
            certificates: certificates.clone(),
            gate: gate.clone(),
            revisions: revisions.clone(),
            connections_max,
            heartbeats: fleet.heartbeats(),
            epoch,
            has_started: AtomicBool::new(false),
        };
        let address = boot.listen.admin;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| Error::Listen { address, source })?;
        tokio::spawn(Arc::new(admin).serve(listener));
        let stop_nats = CancellationToken::new();
        tokio::spawn(logouts.clone().run(fleet.inboxes()));
        let nats_task = tokio::spawn(nats_side.run(fleet.inboxes(), stop_nats.clone()));
        let file::Listen { clients, admin, .. } = &boot.listen;
        tracing::info!(%clients, %admin, shards = count, "serving");
        Ok(Self {
            files,
            boot,
            written,
            live_hash,
            revisions,
            live,
            connections_max,
            metrics,
            gate,
            fleet,
            nats,
            keyrings,
            logouts,
            certificates,
            nats_task,
            stop_nats,
        })
    }

    /// Serves until it is told to end: reloads meanwhile.
    async fn serve(&mut self, signals: &mut Signals, changes: &mut Changes) -> Result<(), Error> {
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => {
                    tracing::info!("SIGTERM: draining");
                    return Ok(());
                }
                _ = signals.interrupt.recv() => {
                    tracing::info!("SIGINT: draining");
                    return Ok(());
                }
                _ = signals.hangup.recv() => self.reload_certificate(),
                Some(()) = changes.config.recv() => {}
                Some(()) = changes.certificate.recv() => {
                    self.reload_certificate();
                    continue;
                }
                () = self.fleet.ended() => return Err(Error::ShardFailed),
            }
            let result = match self.reload() {
                Ok(result) => result,
                Err(refusal) => {
                    self.reject(refusal);
                    "rejected"
                }
            };
            let label = ResultLabel { result };
            self.metrics.reloads.get_or_create(&label).inc();
        }
    }

    fn reload_certificate(&self) {
        if let Some(certificates) = &self.certificates {
            certificates.reload();
        }
    }

    fn reload(&mut self) -> Result<&'static str, Refusal> {
        let ReadConfig {
            boot,
            live: written,
            boot_hash: _,
            live_hash,
            unknown,
        } = self.files.read()?;
        if boot != self.boot {
            tracing::warn!(
                "the part `boot` has changed: that takes effect when the process starts anew"
            );
            self.boot = boot;
        }
        let result = if written == self.written {
            "unchanged"
        } else {
            warn_of_unknown(&unknown);
            self.go_over(written).map_err(|error| Refusal {
                hash: live_hash.clone(),
                error,
            })?;
            "applied"
        };
        self.revisions.accept();
        // One that says the same in other words goes to the shards too: then its hash is reported.
        if live_hash != self.live_hash {
            let handover = self.revisions.hand_over(&live_hash, self.fleet.count());
            self.fleet
                .tell(|| ToShard::Reload(self.live.clone(), handover.clone()));
            self.live_hash = live_hash;
        }
        Ok(result)
    }

    fn go_over(&mut self, written: file::Live) -> Result<(), ConfigError> {
        self.live = Arc::new(live_config(&written, &self.nats, &self.keyrings)?);
        self.written = written;
        self.logouts.reload(self.live.clone());
        let queues = self.live.routes.iter().flat_map(|route| &route.queues);
        let queues: HashSet<_> = queues.map(|queue| queue.id).collect();
        self.nats.retain_queues(&queues);
        report_limits(&self.metrics, &self.live, self.connections_max);
        tracing::info!(routes = self.live.routes.len(), "configuration reloaded");
        Ok(())
    }

    fn reject(&self, Refusal { hash, error }: Refusal) {
        let reason = error.reason();
        let message = chain(&error);
        tracing::error!(reason, "{message}; the old configuration stays");
        // What follows the first line shows the place in the file.
        let line = message.lines().next().unwrap_or_default();
        self.revisions.reject(Rejected {
            hash,
            reason: reason.to_owned(),
            message: line.chars().take(REJECTED_CHARS_MAX).collect(),
        });
    }

    /// Ends: first out of readiness, then the connections, last what NATS still has to hear.
    async fn drain(mut self) {
        self.gate.start_draining();
        self.metrics.draining.set(1);
        self.fleet
            .drain(&self.live.drain, self.live.write_wait())
            .await;
        self.stop_nats.cancel();
        if self.nats_task.await.is_err() {
            tracing::error!("the NATS side has failed");
        }
        tracing::info!("ended");
    }
}

/// Whether a part `live` holds together. Nothing is asked of NATS.
fn check_live(live: &file::Live) -> Result<(), ConfigError> {
    let mut queue = |_: &file::Queue| RouteQueue {
        id: QueueId(0),
        status: Arc::default(),
    };
    LiveConfig::new(live, &mut queue, &mut |_| Arc::new(Keyring::unopened())).map(drop)
}

fn live_config(
    live: &file::Live,
    nats: &NatsHandle,
    keyrings: &Keyrings,
) -> Result<LiveConfig, ConfigError> {
    // Queues are opened and keys asked for only once the whole is known to hold.
    check_live(live)?;
    let mut queue = |queue: &file::Queue| {
        let (id, status) = nats.queue(queue);
        RouteQueue { id, status }
    };
    LiveConfig::new(live, &mut queue, &mut |provider| keyrings.open(provider))
}

fn warn_of_unknown(unknown: &[String]) {
    for field in unknown {
        tracing::warn!(
            field,
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
