//! An issuer's keys, kept fresh in the background and used on while the issuer is away.
//!
//! A task for each issuer fetches them ahead of their time. Shards read what it last found; the only thing that they
//! ask it for is another look, when a token names a key that is not there.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use wsgateway_auth::KeySet;
use wsgateway_crds::{
    config::{KeySource, Provider},
    report::{FetchFailure, ProviderReport},
};
use wsgateway_issuer::{FetchError, Fetched, Fetcher};

use super::{
    metrics::{AuthMetrics, IssuerMetrics},
    part,
};
use crate::telemetry::chain;

/// How often unknown keys may make an issuer's be fetched: whoever sends tokens with made-up keys costs it no more.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(60);

/// How long a handshake waits for keys. Less than an issuer may take: the handshake has its own deadline.
const LOOKUP_WAIT: Duration = Duration::from_secs(3);

/// How long an issuer may take to answer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// How long keys are kept before they are fetched again where the answer does not say.
const REFRESH_DEFAULT: Duration = Duration::from_secs(300);

/// The bounds of what it says.
const REFRESH_MIN: Duration = Duration::from_secs(60);
const REFRESH_MAX: Duration = Duration::from_secs(3_600);

/// How often a file is read again. The kubelet takes up to a minute to bring a changed one.
const FILE_REFRESH: Duration = Duration::from_secs(5);

/// The wait after a first failure, at most; it doubles with each further one.
pub(super) const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The longest wait after a failure.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// After how many times the usual interval keys are said to be old, and after how long at least. They are used on.
const STALE_AFTER_REFRESHES: u32 = 3;
const STALE_AFTER_MIN: Duration = Duration::from_secs(60);

const _: () = assert!(LOOKUP_WAIT.as_secs() < FETCH_TIMEOUT.as_secs());
const _: () = assert!(REFRESH_MIN.as_secs() >= LOOKUP_INTERVAL.as_secs());

/// The keys of an issuer. Its task ends with the last who holds it.
#[derive(Debug)]
pub struct Keyring {
    known: watch::Receiver<Known>,
    lookups: Arc<Lookups>,
    _task: DropGuard,
}

/// What a handshake that asks for another look gets.
#[derive(Debug)]
pub(super) enum Lookup {
    /// The keys as they were fetched since.
    Fetched(Arc<KeySet>),
    /// They could not be fetched, or were asked for too lately; ask again then.
    Unavailable(Duration),
}

/// What the task has found.
#[derive(Debug, Clone, Default)]
struct Known {
    /// The newest keys that could be had.
    keys: Option<Arc<KeySet>>,
    /// Whether it has tried at all.
    is_tried: bool,
    /// The lookups that have been answered, and whether the last one succeeded.
    answered: u64,
    /// Why it failed, where it did.
    failure: Option<FetchFailure>,
    loaded: Option<Loaded>,
}

/// When keys were had, and how long from then until they are asked for again.
#[derive(Debug, Clone, Copy)]
struct Loaded {
    at: Instant,
    clock: SystemTime,
    refresh: Duration,
}

impl Loaded {
    fn is_stale(self, now: Instant) -> bool {
        let stale_after = (self.refresh * STALE_AFTER_REFRESHES).max(STALE_AFTER_MIN);
        now.saturating_duration_since(self.at) > stale_after
    }
}

impl Known {
    fn report(&self, name: &str, now: Instant) -> ProviderReport {
        let since_1970 = |it: Loaded| it.clock.duration_since(UNIX_EPOCH).unwrap_or_default();
        ProviderReport {
            name: name.to_owned(),
            keys: self.keys.as_ref().map_or(0, |keys| keys.len() as u64),
            loaded: self.loaded.map(|loaded| since_1970(loaded).as_secs()),
            stale: self.loaded.is_some_and(|loaded| loaded.is_stale(now)),
            failure: self.failure.clone(),
        }
    }
}

/// Lookups of all handshakes of the process.
#[derive(Debug, Default)]
struct Lookups {
    asked: Mutex<Asked>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Asked {
    /// How many lookups there have been.
    count: u64,
    last: Option<Instant>,
}

impl Lookups {
    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the lookup to wait for: the one under way, or another where its time has come.
    fn ask(&self, answered: u64, now: Instant) -> Result<u64, Duration> {
        let mut asked = self.lock();
        if asked.count > answered {
            return Ok(asked.count);
        }
        if let Some(last) = asked.last {
            let wait = (last + LOOKUP_INTERVAL).saturating_duration_since(now);
            if !wait.is_zero() {
                return Err(wait);
            }
        }
        asked.last = Some(now);
        asked.count += 1;
        self.wake.notify_one();
        Ok(asked.count)
    }
}

impl Keyring {
    /// One without a task, for configurations that are only checked.
    pub fn unopened() -> Self {
        Self {
            known: watch::channel(Known::default()).1,
            lookups: Arc::default(),
            _task: CancellationToken::new().drop_guard(),
        }
    }

    /// Whether its keys have been asked for, and are there.
    pub fn is_loaded(&self) -> bool {
        self.known.borrow().keys.is_some()
    }

    /// The keys at hand. Where they are being fetched for the first time, that is awaited for a while.
    pub(super) async fn known(&self) -> Option<Arc<KeySet>> {
        let mut known = self.known.clone();
        let tried = timeout(LOOKUP_WAIT, known.wait_for(|known| known.is_tried)).await;
        tried.ok()?.ok()?.keys.clone()
    }

    /// Other keys than those that were `seen`: newer ones that are here already, else as they are once they have been
    /// fetched again.
    pub(super) async fn look_again(&self, seen: &Arc<KeySet>) -> Lookup {
        let mut known = self.known.clone();
        let newer = known.borrow().keys.clone();
        if let Some(keys) = newer.filter(|keys| !Arc::ptr_eq(keys, seen)) {
            return Lookup::Fetched(keys);
        }
        let answered = known.borrow().answered;
        let number = match self.lookups.ask(answered, Instant::now()) {
            Ok(number) => number,
            Err(wait) => return Lookup::Unavailable(wait),
        };
        let answer = timeout(
            LOOKUP_WAIT,
            known.wait_for(|known| known.answered >= number),
        )
        .await;
        match answer {
            Ok(Ok(known)) if known.failure.is_none() => match &known.keys {
                Some(keys) => Lookup::Fetched(keys.clone()),
                None => Lookup::Unavailable(FIRST_RETRY),
            },
            _ => Lookup::Unavailable(LOOKUP_INTERVAL),
        }
    }
}

/// The keyrings of the process. A configuration that is read again finds those that it had.
#[derive(Debug)]
pub struct Keyrings {
    metrics: AuthMetrics,
    open: Mutex<HashMap<(String, String, KeySource), Weak<Keyring>>>,
}

impl Keyrings {
    /// None yet.
    pub fn new(metrics: AuthMetrics) -> Self {
        Self {
            metrics,
            open: Mutex::default(),
        }
    }

    /// The keyring of an issuer, whose task begins here on the runtime of who calls, unless it runs already.
    pub fn open(&self, provider: &Provider) -> Arc<Keyring> {
        let Provider {
            name, issuer, keys, ..
        } = provider;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, keyring| keyring.strong_count() > 0);
        let key = (name.clone(), issuer.clone(), keys.clone());
        if let Some(keyring) = open.get(&key).and_then(Weak::upgrade) {
            return keyring;
        }
        let (sender, known) = watch::channel(Known::default());
        let lookups = Arc::new(Lookups::default());
        let stop = CancellationToken::new();
        let task = Task {
            name: name.clone(),
            fetcher: Fetcher::new(issuer, keys),
            known: sender,
            lookups: lookups.clone(),
            metrics: self.metrics.issuer(name),
        };
        tokio::spawn(task.run(stop.clone()));
        let keyring = Arc::new(Keyring {
            known,
            lookups,
            _task: stop.drop_guard(),
        });
        open.insert(key, Arc::downgrade(&keyring));
        keyring
    }

    /// What there is to say of each issuer, in the order of their names.
    pub fn report(&self) -> Vec<ProviderReport> {
        let now = Instant::now();
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let told = open.iter().filter_map(|((name, ..), keyring)| {
            let keyring = keyring.upgrade()?;
            let report = keyring.known.borrow().report(name, now);
            Some(report)
        });
        let mut told: Vec<_> = told.collect();
        told.sort_by(|a, b| a.name.cmp(&b.name));
        told
    }

    /// Whether every issuer's keys have been asked for, and those of one at least are there: a process that can verify
    /// nobody's tokens is of no use yet.
    pub fn are_loaded(&self) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let rings: Vec<_> = open.values().filter_map(Weak::upgrade).collect();
        let all_tried = rings.iter().all(|ring| ring.known.borrow().is_tried);
        rings.is_empty() || (all_tried && rings.iter().any(|ring| ring.is_loaded()))
    }
}

/// What fetches an issuer's keys.
struct Task {
    name: String,
    fetcher: Fetcher,
    known: watch::Sender<Known>,
    lookups: Arc<Lookups>,
    metrics: IssuerMetrics,
}

impl Task {
    async fn run(self, stop: CancellationToken) {
        let mut failures = 0;
        loop {
            let wait = tokio::select! {
                () = stop.cancelled() => break,
                wait = self.fetch(&mut failures) => wait,
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(wait) => {}
                () = self.lookups.wake.notified() => {}
            }
        }
        self.metrics.forget();
    }

    /// Fetches them once, and says when to do it again.
    async fn fetch(&self, failures: &mut u32) -> Duration {
        // A lookup that comes later may mean a key that this fetch is too early for.
        let asked = self.lookups.lock().count;
        let result = timeout(FETCH_TIMEOUT, self.fetcher.fetch()).await;
        let result = result.unwrap_or(Err(FetchError::Timeout));
        let provider = &self.name;
        let failure = result.as_ref().err().map(|error| FetchFailure {
            reason: error.reason().to_owned(),
            message: chain(error),
        });
        match &result {
            Ok(Fetched { keys, .. }) => {
                let is_new = !self.known.borrow().is_tried || *failures > 0;
                if is_new {
                    let (count, skipped) = (keys.len(), keys.skipped);
                    tracing::info!(provider, count, skipped, "the issuer's keys are loaded");
                }
                *failures = 0;
                self.metrics.loaded(keys.len());
            }
            Err(error) => {
                let reason = error.reason();
                self.metrics.failed(reason);
                let message = chain(error);
                tracing::warn!(provider, reason, "cannot load the issuer's keys: {message}");
                *failures += 1;
            }
        }
        let wait = match &result {
            Ok(_) if self.fetcher.is_file() => FILE_REFRESH,
            Ok(Fetched { max_age, .. }) => refresh_after(*max_age),
            Err(_) => part(retry_after_max(*failures)).max(FIRST_RETRY / 2),
        };
        self.known.send_modify(|known| {
            known.is_tried = true;
            known.answered = asked;
            known.failure = failure;
            if let Ok(Fetched { keys, .. }) = result {
                known.keys = Some(Arc::new(keys));
                known.loaded = Some(Loaded {
                    at: Instant::now(),
                    clock: SystemTime::now(),
                    refresh: wait,
                });
            }
        });
        wait
    }
}

/// Ahead of the end of their time, and not all processes at once.
fn refresh_after(max_age: Option<Duration>) -> Duration {
    let age = max_age.map_or(REFRESH_DEFAULT, |age| age.clamp(REFRESH_MIN, REFRESH_MAX));
    age * 3 / 4 + part(age / 8)
}

fn retry_after_max(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(10);
    (FIRST_RETRY * 2_u32.pow(doublings)).min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_that_come_together_share_one_and_the_next_comes_a_minute_later() {
        let lookups = Lookups::default();
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(lookups.ask(0, at(0)), Ok(1));
        for _ in 0..10_000 {
            assert_eq!(lookups.ask(0, at(1)), Ok(1));
        }
        assert_eq!(lookups.ask(1, at(20)), Err(Duration::from_secs(40)));
        assert_eq!(lookups.ask(1, at(60)), Ok(2));
        assert_eq!(lookups.ask(2, at(61)), Err(Duration::from_secs(59)));
    }

    #[test]
    fn keys_are_old_once_fetches_have_failed_for_several_times_the_usual_interval() {
        let at = Instant::now();
        for (refresh, fresh, stale) in [(5, 60, 61), (240, 720, 721)] {
            let loaded = Loaded {
                at,
                clock: UNIX_EPOCH + Duration::from_secs(7),
                refresh: Duration::from_secs(refresh),
            };
            let mut known = Known {
                loaded: Some(loaded),
                ..Known::default()
            };
            known.failure = Some(FetchFailure {
                reason: "Unreachable".to_owned(),
                message: "nobody there".to_owned(),
            });
            let report = |after| known.report("sso", at + Duration::from_secs(after));
            assert!(!report(fresh).stale && report(stale).stale);
            assert_eq!(report(stale).loaded, Some(7));
            assert_eq!(report(stale).failure, known.failure);
        }
        let never = Known::default().report("sso", at);
        assert_eq!((never.keys, never.loaded, never.stale), (0, None, false));
    }

    #[test]
    fn keys_are_fetched_ahead_of_their_time_and_within_bounds() {
        for (said, least, most) in [
            (None, 225, 263),
            (Some(0), 45, 53),
            (Some(600), 450, 525),
            (Some(1 << 40), 2_700, 3_150),
        ] {
            let wait = refresh_after(said.map(Duration::from_secs));
            assert!(
                (least..=most).contains(&wait.as_secs()),
                "{said:?} {wait:?}"
            );
        }
        let waits = [1, 2, 4, 7, 1_000].map(|failures| retry_after_max(failures).as_secs());
        assert_eq!(waits, [1, 2, 8, 60, 60]);
    }
}
