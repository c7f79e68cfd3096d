//! The work queue: which `WsGateway` is reconciled when, at most one reconcile of each at a time.
//!
//! kube's own scheduler knows neither a backoff for each object that ends with its success nor an order of
//! urgency, so [`schedule`] is ours; it is free of IO, and this file runs it.

mod backoff;
mod schedule;
#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::Notify, task::JoinSet, time};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

pub use self::backoff::Backoff;
use self::schedule::{Ended, Schedule};
use crate::{metrics::Metrics, telemetry, watch::Key};

/// How long one reconcile may take. Every request in it has shorter limits of its own; this one is for what
/// was not thought of.
const RUN_TIMEOUT: Duration = Duration::from_secs(120);

/// The part of the resync by which a visit may come early, so that what began together spreads out.
const RESYNC_JITTER: f64 = 0.2;

/// Why a `WsGateway` is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Time has passed, or the operator has begun.
    Sync,
    /// Something that it depends on changed. It waits where the last reconcile failed.
    Event,
    /// The `WsGateway` itself changed. It never waits.
    Spec,
}

/// What came of a reconcile that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Look again when something happens, or at the resync.
    Settled,
    /// Look again after this time at the latest.
    Again(Duration),
    /// There is no such `WsGateway` any more.
    Gone,
}

/// What brought a reconcile about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// Something changed since the last one.
    Changed,
    /// Time has passed, or the last one failed.
    Routine,
}

/// Why a reconcile failed.
pub trait Failure: std::error::Error + Send + 'static {
    /// A stable name, for metrics.
    fn reason(&self) -> &'static str;
}

impl Failure for Infallible {
    fn reason(&self) -> &'static str {
        match *self {}
    }
}

/// What runs the queue.
pub trait Reconcile: Send + Sync + 'static {
    /// Why it may fail.
    type Error: Failure;

    /// Makes one `WsGateway` true. It may be dropped at any await when the lease is lost.
    fn reconcile(
        &self,
        gateway: &Key,
        visit: Visit,
    ) -> impl Future<Output = Result<Outcome, Self::Error>> + Send;
}

/// The work queue. Clones are the same queue.
#[derive(Debug, Clone)]
pub struct Queue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// `None` while this operator does not work: who becomes the leader begins with every `WsGateway`.
    schedule: Mutex<Option<Schedule>>,
    changed: Notify,
    metrics: Metrics,
}

/// How the queue runs.
#[derive(Debug, Clone, Copy)]
pub struct QueueConfig {
    /// How many reconciles run at once.
    pub concurrency: usize,
    /// How long a `WsGateway` for which nothing happens goes unvisited.
    pub resync: Duration,
}

impl Queue {
    /// A queue that drops what it is given until it runs.
    pub fn new(metrics: Metrics) -> Self {
        Self {
            shared: Arc::new(Shared {
                schedule: Mutex::new(None),
                changed: Notify::new(),
                metrics,
            }),
        }
    }

    /// Something happened to a `WsGateway`.
    pub fn trigger(&self, gateway: &Key, cause: Cause) {
        if let Some(schedule) = &mut *self.lock() {
            schedule.trigger(gateway, cause, Instant::now());
            self.shared.changed.notify_one();
        }
    }

    /// What may have made reconciles fail, such as an API server that was away, is over.
    pub fn retry_failed(&self) {
        if let Some(schedule) = &mut *self.lock() {
            schedule.retry_failed(Instant::now());
            self.shared.changed.notify_one();
        }
    }

    /// Runs reconciles until `stop`, then waits for those that still run. `first` gives the `WsGateways` that
    /// there are; it is called once triggers are taken, so that none is lost in between.
    ///
    /// Dropping the future drops the reconciles that run.
    pub async fn run<R: Reconcile>(
        &self,
        config: QueueConfig,
        reconcile: Arc<R>,
        first: impl FnOnce() -> Vec<Key> + Send,
        stop: CancellationToken,
    ) {
        *self.lock() = Some(Schedule::new(config.concurrency));
        let _closed = CloseOnDrop(self);
        for gateway in first() {
            self.trigger(&gateway, Cause::Sync);
        }
        let mut runs = JoinSet::new();
        while !stop.is_cancelled() {
            let due = self.start_due(&mut runs, &reconcile);
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.shared.changed.notified() => {}
                () = sleep_until(due) => {}
                Some(ended) = runs.join_next() => self.ended(config, ended),
            }
        }
        if let Some(schedule) = &mut *self.lock() {
            schedule.clear();
        }
        while let Some(ended) = runs.join_next().await {
            self.ended(config, ended);
        }
    }

    /// Starts what is due and has its turn, and says when to look again.
    fn start_due<R: Reconcile>(
        &self,
        runs: &mut JoinSet<(Key, Ended)>,
        reconcile: &Arc<R>,
    ) -> Option<Instant> {
        let mut guard = self.lock();
        let schedule = guard.as_mut()?;
        let now = Instant::now();
        while let Some((gateway, visit)) = schedule.next(now) {
            let metrics = self.shared.metrics.clone();
            runs.spawn(one(reconcile.clone(), gateway, visit, metrics));
        }
        self.measure(schedule);
        schedule.next_due()
    }

    fn ended(&self, config: QueueConfig, ended: Result<(Key, Ended), tokio::task::JoinError>) {
        // A panic is caught within `one`, so what cannot be joined was dropped with the set.
        let Ok((gateway, ended)) = ended else { return };
        let ended = match ended {
            Ended::Well(after) => Ended::Well(after.min(a_little_early(config.resync))),
            other => other,
        };
        if let Some(schedule) = &mut *self.lock() {
            schedule.ended(&gateway, ended, Instant::now(), fastrand::f64());
        }
    }

    fn measure(&self, schedule: &Schedule) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let metrics = &self.shared.metrics;
        metrics.queue_depth.set(count(schedule.depth()));
        metrics.queue_running.set(count(schedule.running()));
        metrics.queue_backoff.set(count(schedule.in_backoff()));
    }

    fn lock(&self) -> MutexGuard<'_, Option<Schedule>> {
        let schedule = &self.shared.schedule;
        schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A resync's time, by chance a little sooner, so that what began together spreads out.
pub fn a_little_early(resync: Duration) -> Duration {
    resync.mul_f64(1.0 - RESYNC_JITTER * fastrand::f64())
}

/// Makes the queue drop what it is given, also where [`Queue::run`] itself was dropped.
struct CloseOnDrop<'a>(&'a Queue);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
        self.0.measure(&Schedule::new(0));
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// One reconcile, with its span, its limit of time, its metrics and its log line.
async fn one<R: Reconcile>(
    reconcile: Arc<R>,
    gateway: Key,
    visit: Visit,
    metrics: Metrics,
) -> (Key, Ended) {
    let span = telemetry::reconcile_span(&gateway);
    let began = Instant::now();
    let task = {
        let gateway = gateway.clone();
        // In a task of its own, so that a panic is one gateway's failure and not the queue's end.
        let run = async move { reconcile.reconcile(&gateway, visit).await };
        AbortOnDrop(tokio::spawn(
            time::timeout(RUN_TIMEOUT, run).instrument(span.clone()),
        ))
    };
    let result = task.join().await;
    let took = began.elapsed();
    let _entered = span.enter();
    let (ended, label) = match result {
        Ok(Ok(Ok(outcome))) => {
            tracing::debug!(?took, ?outcome, "reconciled");
            let ended = match outcome {
                Outcome::Settled => Ended::Well(Duration::MAX),
                Outcome::Again(after) => Ended::Well(after),
                Outcome::Gone => Ended::Gone,
            };
            (ended, "success")
        }
        Ok(Ok(Err(error))) => {
            let reason = error.reason();
            tracing::warn!(?took, reason, error = %telemetry::chain(&error), "reconcile failed");
            (Ended::Badly, reason)
        }
        Ok(Err(_)) => {
            tracing::error!(?took, "reconcile took too long and was dropped");
            (Ended::Badly, "Timeout")
        }
        Err(error) => {
            tracing::error!(?took, %error, "reconcile panicked");
            (Ended::Badly, "Panic")
        }
    };
    metrics.reconciled(label, took);
    (gateway, ended)
}

/// A task that ends with who awaits it.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> AbortOnDrop<T> {
    async fn join(mut self) -> Result<T, tokio::task::JoinError> {
        (&mut self.0).await
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
