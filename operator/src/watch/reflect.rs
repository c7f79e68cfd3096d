//! One kind's watch: list, watch, and begin again, into a [`Store`].
//!
//! kube's `watcher` does not show bookmarks, nor that it tries; so a quiet kind could not be told from a
//! stuck one. This one speaks the same protocol through the same client, shows both, and parses straight
//! into what is kept.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::TryStreamExt;
use kube::{
    Client, Resource,
    api::{DynamicObject, ListParams, WatchEvent, WatchParams},
    core::Request,
};
use serde::Deserialize;
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::{
    Notices,
    health::{Fault, Health, WatchKey},
    object::Watched,
    store::{Concern, Store},
};
use crate::{
    kinds::Kind,
    metrics::Metrics,
    queue::{Backoff, Cause},
    telemetry,
};

/// How many objects one answer to a list holds. What is not yet parsed of it is held twice.
const PAGE: u32 = 100;

/// How long a list's page may take.
const LIST_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the answer to the beginning of a watch may take.
const WATCH_START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the API server is asked to keep a watch open.
const WATCH_SECONDS: u32 = 290;

/// A watch that ended sooner than this, without a word, counts as failed: beginning anew at once would be
/// a busy loop.
const WATCH_MIN: Duration = Duration::from_secs(1);

/// A watch that lasted longer than this has worked.
const STEADY: Duration = Duration::from_secs(30);

/// The wait where the API server is away, or our own definition is: a restart must not cost more than it takes.
const AWAY: Backoff = Backoff {
    min: Duration::from_millis(250),
    max: Duration::from_secs(5),
};

/// The wait where the API server refuses: it will do so until somebody changes something.
const REFUSED: Backoff = Backoff {
    min: Duration::from_secs(1),
    max: Duration::from_secs(30),
};

/// One watch, of one kind in one namespace or in all.
pub(super) struct Reflector<T> {
    pub(super) key: WatchKey,
    /// The labels that are watched; empty for all.
    pub(super) labels: &'static str,
    /// Whether only metadata is asked for.
    pub(super) is_metadata: bool,
    /// How long a watch may say nothing, not even a bookmark.
    pub(super) silence: Duration,
    pub(super) client: Client,
    pub(super) store: Arc<Store<T>>,
    pub(super) health: Arc<Health>,
    pub(super) notices: Notices,
    pub(super) metrics: Metrics,
}

/// Where a watch stands.
#[derive(Debug, PartialEq, Eq)]
enum Position {
    /// Everything has to be listed.
    Unknown,
    /// Everything up to this resource version is known.
    At(String),
}

/// An attempt that failed, and where that leaves the watch.
struct Failed {
    fault: Fault,
    position: Position,
}

#[derive(Deserialize)]
struct Page<T> {
    metadata: PageMetadata,
    items: Option<Vec<T>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    next: String,
}

impl<T: Watched> Reflector<T> {
    /// Watches until shutdown; then nothing of the kind is known any more.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        self.health.begin(&self.key, Instant::now());
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.watch_forever() => {}
        }
        self.health.end(&self.key);
        for gone in self.store.clear(self.key.1.as_ref()) {
            self.store.remove(&gone);
        }
    }

    async fn watch_forever(&self) {
        let mut position = Position::Unknown;
        let mut failures = 0;
        let mut code = Box::default();
        let mut round = 0;
        loop {
            let began = Instant::now();
            let is_watch = position != Position::Unknown;
            let attempt = match position {
                Position::Unknown => {
                    round += 1;
                    self.metrics.watch_restarted(self.key.0);
                    self.list(round).await
                }
                Position::At(version) => self.watch(version, round).await,
            };
            let (next, fault) = match attempt {
                Ok(next) => (next, None),
                Err(Failed { fault, position }) => (position, Some(fault)),
            };
            position = next;
            // A watch that worked for a while was no failure, whatever ended it. A list alone proves
            // nothing: the watch after it may be refused each time.
            let has_watched = fault.is_none() && is_watch;
            if has_watched || began.elapsed() > STEADY {
                failures = 0;
            }
            if let Some(fault) = fault {
                // What fails otherwise than before is told of, and waits by its own count.
                if fault.code != code {
                    failures = 0;
                    code.clone_from(&fault.code);
                }
                failures += 1;
                time::sleep(self.failed(fault, failures)).await;
            }
        }
    }

    /// Tells of a failed attempt, and how long to wait.
    fn failed(&self, fault: Fault, failures: u32) -> Duration {
        let (kind, namespace) = &self.key;
        let backoff = match fault.code.parse::<u16>() {
            Ok(401..=403) => REFUSED,
            _ => AWAY,
        };
        let wait = backoff.delay(failures, fastrand::f64());
        let namespace = namespace.as_deref().unwrap_or_default();
        let (code, message) = (&fault.code, &fault.message);
        // An API server that is away is away for all of them, so one says it.
        if failures == 1 && (fault.is_answer() || *kind == Kind::WsGateway) {
            tracing::warn!(kind = kind.name(), namespace, %code, %message, "watch failed");
        } else {
            tracing::debug!(kind = kind.name(), namespace, %code, %message, ?wait, "watch failed");
        }
        self.metrics.watch_failed(*kind, fault.code.to_string());
        if self.health.failed(&self.key, fault, Instant::now()) {
            self.notices.everyone(Cause::Event);
        }
        wait
    }

    fn answered(&self, has_listed: bool) {
        let (kind, namespace) = &self.key;
        let ended = self.health.answered(&self.key, has_listed, Instant::now());
        let Some(fault) = ended else { return };
        if fault.is_answer() || *kind == Kind::WsGateway {
            let namespace = namespace.as_deref().unwrap_or_default();
            tracing::info!(kind = kind.name(), namespace, "watch works again");
        }
        if fault.is_forbidden() {
            self.notices.everyone(Cause::Event);
        }
        if !fault.is_answer() && *kind == Kind::WsGateway {
            // The API server was away, and whoever asked it meanwhile has failed.
            self.notices.queue.retry_failed();
        }
    }

    /// Lists everything, page by page, and forgets what is gone.
    async fn list(&self, round: u64) -> Result<Position, Failed> {
        let unknown = |fault| Failed {
            fault,
            position: Position::Unknown,
        };
        let namespace = self.key.1.as_deref().unwrap_or_default();
        // What a first list finds is not news.
        let is_first = !self.store.is_synced(namespace);
        let mut params = ListParams::default().limit(PAGE).labels(self.labels);
        loop {
            self.health.attempted(&self.key, Instant::now());
            let page = self.page(&params).await.map_err(unknown)?;
            for object in page.items.into_iter().flatten() {
                let key = object.key();
                let concern = self.store.put(object, round).map(|mut concern| {
                    if is_first {
                        concern.cause = Cause::Sync;
                    }
                    concern
                });
                self.tell(&key, concern);
            }
            if page.metadata.next.is_empty() {
                for gone in self.store.end_round(self.key.1.as_ref(), round) {
                    let concern = self.store.remove(&gone);
                    self.tell(&gone, concern);
                }
                self.answered(true);
                if is_first && self.key.0.is_optional() {
                    // What was unknown of this kind is known now, which may be that there is nothing.
                    self.notices.everyone(Cause::Event);
                }
                return Ok(Position::At(page.metadata.resource_version));
            }
            params = params.continue_token(&page.metadata.next);
        }
    }

    async fn page(&self, params: &ListParams) -> Result<Page<T>, Fault> {
        let request = if self.is_metadata {
            self.request().list_metadata(params)
        } else {
            self.request().list(params)
        };
        let request = request.map_err(|error| fault(&kube::Error::BuildRequest(error)))?;
        match time::timeout(LIST_TIMEOUT, self.client.request(request)).await {
            Ok(answer) => answer.map_err(|error| fault(&error)),
            Err(_) => Err(timeout("the list was not answered in time")),
        }
    }

    /// Watches from a resource version until the watch ends.
    async fn watch(&self, version: String, round: u64) -> Result<Position, Failed> {
        self.health.attempted(&self.key, Instant::now());
        let began = Instant::now();
        let resume = |version: String, fault| Failed {
            fault,
            position: Position::At(version),
        };
        let params = WatchParams::default()
            .timeout(WATCH_SECONDS)
            .labels(self.labels);
        let request = if self.is_metadata {
            self.request().watch_metadata(&params, &version)
        } else {
            self.request().watch(&params, &version)
        };
        let request = match request {
            Ok(request) => request,
            Err(error) => return Err(resume(version, fault(&kube::Error::BuildRequest(error)))),
        };
        let start = time::timeout(
            WATCH_START_TIMEOUT,
            self.client.request_events::<T>(request),
        );
        let events = match start.await {
            Ok(Ok(events)) => events,
            Ok(Err(error)) => return Err(Self::after(&error, version)),
            Err(_) => {
                return Err(resume(
                    version,
                    timeout("the watch was not answered in time"),
                ));
            }
        };
        self.answered(false);
        let mut events = pin!(events);
        let mut version = version;
        let mut is_silent = true;
        loop {
            let event = match time::timeout(self.silence, events.try_next()).await {
                Ok(Ok(Some(event))) => event,
                Ok(Ok(None)) if is_silent && began.elapsed() < WATCH_MIN => {
                    return Err(resume(version, timeout("the watch was closed at once")));
                }
                // The API server ends watches when their time is over.
                Ok(Ok(None)) | Err(_) => return Ok(Position::At(version)),
                Ok(Err(error)) => return Err(Self::after(&error, version)),
            };
            is_silent = false;
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    self.health.event(&self.key, Instant::now());
                    object.resource_version().clone_into(&mut version);
                    let key = object.key();
                    let concern = self.store.put(object, round);
                    self.tell(&key, concern);
                }
                WatchEvent::Deleted(object) => {
                    self.health.event(&self.key, Instant::now());
                    object.resource_version().clone_into(&mut version);
                    let key = object.key();
                    let concern = self.store.remove(&key);
                    self.tell(&key, concern);
                }
                WatchEvent::Bookmark(bookmark) => {
                    self.health.bookmark(&self.key, Instant::now());
                    version = bookmark.metadata.resource_version;
                }
                WatchEvent::Error(status) => {
                    return Err(Self::after(&kube::Error::Api(status), version));
                }
            }
        }
    }

    /// Where an error leaves a watch. An API server that answers with an error may mean that it no longer
    /// knows the version (410), or not yet (after a restore); listing anew heals both. Where nothing was
    /// answered, and where the answer is to wait, the version still stands.
    fn after(error: &kube::Error, version: String) -> Failed {
        let position = match error {
            kube::Error::Api(status) if status.code != 429 => Position::Unknown,
            // What cannot be parsed would come again, and be listed as badly; it must not be skipped.
            kube::Error::SerdeError(_) => Position::Unknown,
            _ => Position::At(version),
        };
        Failed {
            fault: fault(error),
            position,
        }
    }

    /// Tells those whom a change concerns.
    fn tell(&self, key: &super::Key, concern: Option<Concern>) {
        let Some(Concern { gateways, cause }) = concern else {
            return;
        };
        let (kind, _) = self.key;
        if matches!(
            kind,
            Kind::IngressClass | Kind::GatewayClass | Kind::Gateway
        ) {
            self.notices.everyone(cause);
            return;
        }
        // A WsGateway that appears or disappears is a change of what was asked for.
        let cause = match cause {
            Cause::Event if kind == Kind::WsGateway => Cause::Spec,
            other => other,
        };
        for gateway in &gateways {
            self.notices.one(gateway, cause);
        }
        self.notices.referrers(kind, key, cause);
    }

    fn request(&self) -> Request {
        let resource = self.key.0.resource();
        Request::new(DynamicObject::url_path(&resource, self.key.1.as_deref()))
    }
}

fn timeout(message: &str) -> Fault {
    Fault {
        code: "timeout".into(),
        message: message.into(),
    }
}

fn fault(error: &kube::Error) -> Fault {
    let (code, message) = match error {
        kube::Error::Api(status) => (status.code.to_string(), status.message.clone()),
        kube::Error::SerdeError(_) => ("decode".to_owned(), telemetry::chain(error)),
        _ => ("transport".to_owned(), telemetry::chain(error)),
    };
    Fault {
        code: code.into(),
        message: message.into(),
    }
}
