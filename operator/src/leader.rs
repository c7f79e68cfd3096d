//! Which of several operators works: the one that holds the `Lease`.
//!
//! The crate `kube-lease-manager` compares the lease's time with its own machine's clock, retries within the
//! lease only, and cannot wait for work to end before it releases; so [`election`] is ours, free of IO, and
//! this file runs it.

mod election;

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use k8s_openapi::{
    Resource,
    api::{apps::v1::Deployment, coordination::v1::Lease},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{Api, Client, api::PostParams};
use tokio::time;

use self::election::{Election, Seen, Step};
use crate::{args::LeaseConfig, metrics::Metrics, telemetry::chain};

/// The longest that one request may take, so that a renewal that hangs leaves time for another.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);

/// How long giving the lease away may take; without it others wait until the lease ends.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// How much sooner than the lease's end the work must have stopped, for requests that are under way.
const STOP_SLACK: Duration = Duration::from_secs(1);

/// How long a leader that lost its lease may go on before only a restart helps.
const OVERSTAY_MAX: Duration = Duration::from_secs(10);

/// Until when this operator may work: for who writes, and for /livez. By default for ever, as where there is no lease.
#[derive(Debug)]
pub struct Tenure {
    start: Instant,
    has_lease: bool,
    /// Milliseconds from `start` to the end of the lease; 0 while it does not work.
    until_ms: AtomicU64,
}

impl Default for Tenure {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            has_lease: false,
            until_ms: AtomicU64::new(0),
        }
    }
}

impl Tenure {
    /// One that begins and ends with a lease.
    pub fn leased() -> Self {
        Self {
            has_lease: true,
            ..Self::default()
        }
    }

    /// Whether a request that changes something may be sent now.
    pub fn may_write(&self, now: Instant) -> bool {
        !self.has_lease || !self.rest(now).is_zero()
    }

    /// How long the work may go on, before another operator begins.
    pub fn rest(&self, now: Instant) -> Duration {
        let until = Duration::from_millis(self.until_ms.load(Ordering::Relaxed));
        let end = self.start + until.saturating_sub(STOP_SLACK);
        end.saturating_duration_since(now)
    }

    /// Says so when the lease has ended and the work has not.
    pub fn overstayed(&self, now: Instant) -> Option<String> {
        let until = self.until_ms.load(Ordering::Relaxed);
        if until == 0 {
            return None;
        }
        let end = self.start + Duration::from_millis(until);
        let over = now.saturating_duration_since(end);
        (over > OVERSTAY_MAX).then(|| {
            let seconds = over.as_secs();
            format!("the lease ended {seconds} s ago, and the work has not")
        })
    }

    /// Another operator may begin then.
    pub(crate) fn works_until(&self, end: Instant) {
        let ms = end.saturating_duration_since(self.start).as_millis();
        let ms = u64::try_from(ms).unwrap_or(u64::MAX).max(1);
        self.until_ms.store(ms, Ordering::Relaxed);
    }

    fn ended(&self) {
        self.until_ms.store(0, Ordering::Relaxed);
    }
}

/// One operator's part in choosing the leader.
#[derive(Debug)]
pub struct Leader {
    seat: Option<Seat>,
    tenure: Arc<Tenure>,
    metrics: Metrics,
    leads: bool,
}

/// The lease, where there is one.
#[derive(Debug)]
struct Seat {
    api: Api<Lease>,
    deployments: Api<Deployment>,
    config: LeaseConfig,
    election: Election,
    /// As last read or written.
    lease: Option<Lease>,
}

impl Leader {
    /// Without a lease, this operator is the leader from the start.
    pub fn new(
        client: &Client,
        config: Option<LeaseConfig>,
        tenure: Arc<Tenure>,
        metrics: Metrics,
    ) -> Self {
        let seat = config.map(|config| Seat {
            api: Api::namespaced(client.clone(), &config.namespace),
            deployments: Api::namespaced(client.clone(), &config.namespace),
            election: Election::new(config.clone()),
            config,
            lease: None,
        });
        Self {
            seat,
            tenure,
            metrics,
            leads: false,
        }
    }

    /// Waits until this operator is the leader.
    pub async fn acquire(&mut self) {
        if let Some(seat) = &mut self.seat {
            let mut holder = None;
            while let Err(wait) = seat.try_take().await {
                let now = seat.holder();
                if now != holder {
                    let name = now.as_deref().unwrap_or_default();
                    tracing::info!(holder = name, "standing by");
                    holder = now;
                }
                time::sleep(wait).await;
            }
        }
        tracing::info!("leading");
        if let Some(seat) = &self.seat {
            self.tenure.works_until(seat.end());
        }
        self.leads = true;
        self.metrics.leader.set(1);
        self.metrics.lease_transitions.inc();
    }

    /// Keeps the lease for as long as it can be kept. When this ends, the work must stop within
    /// [`Tenure::rest`].
    pub async fn hold(&mut self) {
        let Some(seat) = &mut self.seat else {
            return std::future::pending().await;
        };
        while let Some(deadline) = seat.election.deadline() {
            self.tenure.works_until(seat.end());
            time::sleep(seat.config.retry_period).await;
            let renewal = time::timeout_at(deadline.into(), seat.renew());
            if renewal.await.is_err() {
                tracing::error!("the lease could not be renewed in time");
                return;
            }
        }
        self.tenure.works_until(Instant::now());
        tracing::error!("another operator took the lease");
    }

    /// Until when it may work.
    pub fn tenure(&self) -> Arc<Tenure> {
        self.tenure.clone()
    }

    /// The work has stopped: others may begin at once.
    pub async fn release(&mut self) {
        self.tenure.ended();
        if mem::take(&mut self.leads) {
            self.metrics.leader.set(0);
            self.metrics.lease_transitions.inc();
        }
        let Some(seat) = &mut self.seat else { return };
        match time::timeout(RELEASE_TIMEOUT, seat.release()).await {
            Ok(Ok(true)) => tracing::info!("released the lease"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = %chain(&error), "the lease was not released");
            }
            Err(_) => tracing::warn!("the lease was not released in time"),
        }
    }
}

impl Seat {
    /// Reads the lease and takes it where that is allowed; else says how long to wait.
    async fn try_take(&mut self) -> Result<(), Duration> {
        match limited(self.read_and_step()).await {
            Ok(None) => Ok(()),
            Ok(Some(wait)) => Err(wait),
            Err(error) => {
                tracing::debug!(error = %chain(&error), "the lease was not taken");
                // Two standbys that meet must not meet again and again.
                let period = self.election.standby_period();
                Err(period.mul_f64(0.5 + 0.5 * fastrand::f64()))
            }
        }
    }

    /// Renews until it succeeds or somebody else holds the lease.
    async fn renew(&mut self) {
        let mut is_first = true;
        while let Err(error) = self.try_renew().await {
            if mem::take(&mut is_first) {
                tracing::warn!(error = %chain(&error), "the lease was not renewed");
            } else {
                tracing::debug!(error = %chain(&error), "the lease was not renewed");
            }
            let period = self.config.retry_period / 2;
            time::sleep(period.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
        }
    }

    /// Renews what is known of the lease or, where that is old, what is read of it. Where that shows that
    /// another holds it, there is no deadline any more.
    async fn try_renew(&mut self) -> Result<(), Error> {
        if let Some(lease) = &self.lease {
            let sent = Instant::now();
            let renewal = self.election.renewal(lease);
            let params = PostParams::default();
            let request = self.api.replace(&self.config.name, &params, &renewal);
            match limited(request).await {
                Ok(lease) => {
                    self.wrote(lease, sent);
                    return Ok(());
                }
                Err(Error::Client(kube::Error::Api(status))) => {
                    tracing::debug!(%status, "the lease is read again");
                }
                // No answer to this means none to a reading either.
                Err(error) => return Err(error),
            }
        }
        limited(self.read_and_step()).await.map(|_| ())
    }

    /// One reading, and the write that it allows. Gives how long to wait where it allows none.
    async fn read_and_step(&mut self) -> Result<Option<Duration>, kube::Error> {
        let seen = match self.api.get_opt(&self.config.name).await? {
            None => Seen::Missing,
            Some(lease) => Seen::Lease(Box::new(lease)),
        };
        if let Seen::Lease(lease) = &seen {
            self.lease = Some(Lease::clone(lease));
        }
        let step = self.election.step(seen, Instant::now());
        let sent = Instant::now();
        let params = PostParams::default();
        let name = &self.config.name;
        let lease = match step {
            Step::Wait(wait) => return Ok(Some(wait)),
            Step::Create(lease) => self.api.create(&params, &self.owned(*lease).await).await?,
            Step::Replace(lease) => {
                let lease = self.owned(*lease).await;
                self.api.replace(name, &params, &lease).await?
            }
        };
        self.wrote(lease, sent);
        Ok(None)
    }

    /// The lease, with the Deployment of its name as its owner, so that it does not outlive an operator that is
    /// uninstalled. Where there is no such Deployment, or it may not be read, the lease stays as it is.
    async fn owned(&self, mut lease: Lease) -> Lease {
        let Ok(Some(deployment)) = self.deployments.get_metadata_opt(&self.config.name).await
        else {
            return lease;
        };
        let owners = lease.metadata.owner_references.get_or_insert_default();
        if let Some(owner) = owner_reference(&deployment.metadata)
            && !owners.contains(&owner)
        {
            owners.push(owner);
        }
        lease
    }

    fn wrote(&mut self, lease: Lease, sent: Instant) {
        self.election.wrote(&lease, sent);
        self.lease = Some(lease);
    }

    /// Gives the lease away where it is ours. Says whether it was.
    async fn release(&self) -> Result<bool, kube::Error> {
        // Read anew: a renewal may have been under way when the work was told to stop.
        let Some(lease) = self.api.get_opt(&self.config.name).await? else {
            return Ok(false);
        };
        let Some(released) = self.election.release(&lease) else {
            return Ok(false);
        };
        let params = PostParams::default();
        self.api
            .replace(&self.config.name, &params, &released)
            .await?;
        Ok(true)
    }

    fn holder(&self) -> Option<String> {
        self.lease.as_ref()?.spec.as_ref()?.holder_identity.clone()
    }

    /// When others may begin.
    fn end(&self) -> Instant {
        self.election.deadline().unwrap_or_else(Instant::now) + self.config.rest()
    }
}

fn owner_reference(deployment: &ObjectMeta) -> Option<OwnerReference> {
    Some(OwnerReference {
        api_version: Deployment::API_VERSION.to_owned(),
        kind: Deployment::KIND.to_owned(),
        name: deployment.name.clone()?,
        uid: deployment.uid.clone()?,
        ..OwnerReference::default()
    })
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the API server has not answered in time")]
    Timeout,
    #[error(transparent)]
    Client(#[from] kube::Error),
}

async fn limited<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Error> {
    match time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Error::Timeout),
    }
}
