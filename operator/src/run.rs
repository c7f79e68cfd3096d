//! How the parts hang together, from a client to an exit code.
//!
//! Watches and the admin port run from the start, so a standby is warm. Reconciles run while this operator
//! is the leader. One that lost its lease stops them and stands by again, since an API server that is away
//! for a while is no reason to lose what is known; but each term has a reconciler of its own, so that nothing
//! is believed that was known of one's own writes before.

use std::{
    io,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use kube::Client;
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    time,
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::Admin,
    args::{Args, Config, ConfigError},
    client::fenced,
    kinds::{self, Served},
    leader::{Leader, Tenure},
    metrics::Metrics,
    queue::{Queue, QueueConfig, Reconcile},
    watch::{HealthCollector, Stores, Watches},
};

/// How long one connection to the API server may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long reconciles that run may take to end on a polite stop. A pod's grace period is 30 s.
const STOP_GRACE: Duration = Duration::from_secs(20);

/// How long a new leader waits for the rest of what it watches, beside the `WsGateways`. What is still
/// unknown then is asked for one by one.
const SYNC_GRACE: Duration = Duration::from_secs(10);

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was typed is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no way to the API server.
    #[error("cannot find the API server")]
    Infer(#[source] kube::config::InferConfigError),
    /// The client could not be made.
    #[error("cannot make a client")]
    Client(#[source] kube::Error),
    /// The admin port is taken, or a signal cannot be listened to.
    #[error("cannot {what}")]
    Io {
        /// What could not be done.
        what: String,
        /// Why.
        source: io::Error,
    },
}

/// What a reconciler is made with.
#[derive(Clone)]
pub struct Context {
    /// What the operator runs with.
    pub config: Arc<Config>,
    /// The API server.
    pub client: Client,
    /// What is known of the cluster.
    pub stores: Arc<Stores>,
    /// How the watches fare.
    pub health: Arc<crate::watch::Health>,
    /// The optional kinds that are served; `None` until that is known.
    pub served: watch::Receiver<Option<Served>>,
    /// To look at other `WsGateways`, or again.
    pub queue: Queue,
    /// What is counted.
    pub metrics: Metrics,
}

/// Runs until a signal to end.
pub async fn operator<R: Reconcile>(
    args: Args,
    reconciler: impl Fn(Context) -> R,
) -> Result<(), Error> {
    let (config, client) = connect(args).await?;
    let shutdown = shutdown_signal()?;
    run(config, client, shutdown, reconciler).await
}

/// The configuration, and a client for it.
pub async fn connect(args: Args) -> Result<(Config, Client), Error> {
    let mut client = kube::Config::infer().await.map_err(Error::Infer)?;
    client.connect_timeout = Some(CONNECT_TIMEOUT);
    // Every user of the client has a backoff and limits of its own; one below them would only hide how
    // the API server fares, and hold up a lease's renewal.
    client.default_retry = false;
    let config = Config::new(args, Some(&client.default_namespace))?;
    let client = Client::try_from(client).map_err(Error::Client)?;
    Ok((config, client))
}

/// Cancelled by the first SIGTERM or SIGINT.
fn shutdown_signal() -> Result<CancellationToken, Error> {
    let listen = |kind| {
        signal(kind).map_err(|source| Error::Io {
            what: "listen to signals".to_owned(),
            source,
        })
    };
    let (mut terminate, mut interrupt) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    );
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to end");
        token.cancel();
    });
    Ok(shutdown)
}

/// Runs until shutdown. `reconciler` makes one for each time that this operator becomes the leader.
pub async fn run<R: Reconcile>(
    config: Config,
    client: Client,
    shutdown: CancellationToken,
    reconciler: impl Fn(Context) -> R,
) -> Result<(), Error> {
    let config = Arc::new(config);
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let queue = Queue::new(metrics.clone());
    let stop_watching = CancellationToken::new();
    let _stop_on_drop = stop_watching.clone().drop_guard();

    let tenure = Arc::new(match config.lease {
        Some(_) => Tenure::leased(),
        None => Tenure::default(),
    });
    let of_lease = client.clone();
    let client = fenced(client, tenure.clone());

    let (served, served_now) = watch::channel(None);
    let discovery = kinds::discover(
        client.clone(),
        served,
        metrics.clone(),
        stop_watching.clone(),
    );
    let discovery = tokio::spawn(discovery);
    let watches = Watches::start(
        &client,
        &config.scope,
        config.watch_silence,
        &served_now,
        &queue,
        &metrics,
        &stop_watching,
    );
    registry.register_collector(Box::new(HealthCollector(watches.health.clone())));

    let admin = Arc::new(Admin {
        registry,
        health: watches.health.clone(),
        tenure: tenure.clone(),
    });
    let listener = TcpListener::bind(config.admin)
        .await
        .map_err(|source| Error::Io {
            what: format!("listen at {}", config.admin),
            source,
        })?;
    let admin = tokio::spawn(admin.serve(listener));

    let leader = Leader::new(&of_lease, config.lease.clone(), tenure, metrics.clone());
    let context = Context {
        config,
        client,
        stores: watches.stores.clone(),
        health: watches.health.clone(),
        served: served_now,
        queue,
        metrics,
    };
    lead(leader, context, reconciler, &shutdown).await;

    stop_watching.cancel();
    watches.ended().await;
    let _ = discovery.await;
    admin.abort();
    Ok(())
}

/// Waits for the lease, works while it is held, gives it away once the work has stopped, and stands by again
/// where it was lost.
async fn lead<R: Reconcile>(
    mut leader: Leader,
    context: Context,
    reconciler: impl Fn(Context) -> R,
    shutdown: &CancellationToken,
) {
    while !shutdown.is_cancelled() {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = leader.acquire() => {
                let reconciler = Arc::new(reconciler(context.clone()));
                term(&mut leader, &context, reconciler, shutdown).await;
            }
        }
        // Also where it was only about to be taken: the last write may have succeeded after all.
        leader.release().await;
    }
}

/// Works from when the lease was taken until shutdown, or until the lease is lost.
async fn term<R: Reconcile>(
    leader: &mut Leader,
    context: &Context,
    reconciler: Arc<R>,
    shutdown: &CancellationToken,
) {
    let stop = shutdown.child_token();
    let tenure = leader.tenure();
    let mut work = pin!(work(context, reconciler, stop.clone()));
    let mut lost = pin!(leader.hold());
    let mut overdue = pin!(async {
        shutdown.cancelled().await;
        time::sleep(STOP_GRACE).await;
    });
    tokio::select! {
        () = &mut work => {}
        () = &mut overdue => tracing::warn!("reconciles did not end in time and were dropped"),
        () = &mut lost => {
            stop.cancel();
            let rest = tenure.rest(Instant::now());
            if time::timeout(rest, &mut work).await.is_err() {
                tracing::warn!("reconciles did not end before the lease did and were dropped");
            }
        }
    }
}

/// Reconciles until `stop`, once enough is known.
async fn work<R: Reconcile>(context: &Context, reconciler: Arc<R>, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => return,
        () = known(context) => {}
    }
    let config = QueueConfig {
        concurrency: context.config.concurrency,
        resync: context.config.resync,
    };
    let first = || context.stores.gateways.keys();
    context.queue.run(config, reconciler, first, stop).await;
}

/// Waits until the watches know what there is, or have been refused.
async fn known(context: &Context) {
    let mut served = context.served.clone();
    let all = async {
        context.health.ready().await;
        // An error means that discovery has ended, as it does on shutdown.
        let _ = served.wait_for(Option::is_some).await;
    };
    if time::timeout(SYNC_GRACE, all).await.is_err() {
        let missing = context.health.not_ready();
        tracing::warn!(missing, "beginning without knowing everything");
    }
}
