//! How each watch fares: for status, /livez, /readyz and metrics.

use std::{
    collections::BTreeMap,
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

use tokio::sync::Notify;

use crate::kinds::Kind;

/// How long a watch may go without an attempt (an event, a bookmark, an answer or an error) before it
/// counts as stuck. The API server sends bookmarks every minute, and a silent watch is begun anew sooner.
pub const STUCK_AFTER: Duration = Duration::from_secs(600);

/// Why an attempt to list or watch failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The HTTP status, or what else failed: `transport`, `timeout`, `decode`.
    pub code: Box<str>,
    /// A sentence, as the API server or the client wrote it.
    pub message: Box<str>,
}

impl Fault {
    /// Whether the operator lacks the permission.
    pub fn is_forbidden(&self) -> bool {
        &*self.code == "403"
    }

    /// Whether the API server gave this answer, as opposed to none.
    pub fn is_answer(&self) -> bool {
        self.code.parse::<u16>().is_ok()
    }
}

/// A kind in one namespace, or in all.
pub type WatchKey = (Kind, Option<Arc<str>>);

/// How one watch fares.
#[derive(Debug, Clone)]
struct State {
    attempt: Instant,
    event: Option<Instant>,
    bookmark: Option<Instant>,
    has_synced: bool,
    fault: Option<Fault>,
}

/// How all watches fare.
#[derive(Debug, Default)]
pub struct Health {
    states: Mutex<BTreeMap<WatchKey, State>>,
    changed: Notify,
}

impl Health {
    /// Why a kind cannot be watched in a namespace (empty for cluster-scoped kinds), if that is so now.
    pub fn fault(&self, kind: Kind, namespace: &str) -> Option<Fault> {
        let states = self.lock();
        let everywhere = states.get(&(kind, None));
        let state = everywhere.or_else(|| states.get(&(kind, Some(namespace.into()))));
        state?.fault.clone()
    }

    /// Every watch whose last attempt failed, with the namespace; `None` is the whole cluster.
    pub fn faults(&self) -> Vec<(WatchKey, Fault)> {
        let states = self.lock();
        let faults = states.iter();
        faults
            .filter_map(|(key, state)| Some((key.clone(), state.fault.clone()?)))
            .collect()
    }

    /// The watch that has made no attempt for too long, if there is one.
    pub fn stuck(&self, now: Instant) -> Option<String> {
        let states = self.lock();
        let (key, state) = states.iter().min_by_key(|(_, state)| state.attempt)?;
        let silent = now.saturating_duration_since(state.attempt);
        (silent > STUCK_AFTER).then(|| {
            let seconds = silent.as_secs();
            format!(
                "the watch of {} has made no attempt for {seconds} s",
                Name(key)
            )
        })
    }

    /// Why the operator could not take over now: what it watches is not known yet, or the API server does
    /// not answer for `WsGateways`.
    pub fn not_ready(&self) -> Option<String> {
        let states = self.lock();
        let mut main = states
            .iter()
            .filter(|((kind, _), _)| *kind == Kind::WsGateway)
            .peekable();
        if main.peek().is_none() {
            return Some("the watches have not begun".to_owned());
        }
        for (key, state) in main {
            if let Some(fault) = &state.fault {
                return Some(format!(
                    "the watch of {} failed: {}",
                    Name(key),
                    fault.message
                ));
            }
        }
        // What is refused stays unknown; the reconciler then reads what it needs one by one.
        let is_open = |state: &State| {
            !state.has_synced && !state.fault.as_ref().is_some_and(Fault::is_answer)
        };
        let (key, _) = states
            .iter()
            .find(|((kind, _), state)| !kind.is_optional() && is_open(state))?;
        Some(format!("{} have not been listed yet", Name(key)))
    }

    /// Waits until the operator could take over.
    pub async fn ready(&self) {
        loop {
            let mut changed = pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            if self.not_ready().is_none() {
                return;
            }
            changed.await;
        }
    }

    /// A watch begins.
    pub(super) fn begin(&self, key: &WatchKey, now: Instant) {
        let state = State {
            attempt: now,
            event: None,
            bookmark: None,
            has_synced: false,
            fault: None,
        };
        self.lock().insert(key.clone(), state);
    }

    /// A watch ends, since its kind is no longer served.
    pub(super) fn end(&self, key: &WatchKey) {
        self.lock().remove(key);
    }

    /// Something was asked.
    pub(super) fn attempted(&self, key: &WatchKey, now: Instant) {
        self.with(key, |state| state.attempt = now);
    }

    /// An event came.
    pub(super) fn event(&self, key: &WatchKey, now: Instant) {
        self.with(key, |state| {
            state.attempt = now;
            state.event = Some(now);
        });
    }

    /// A bookmark came.
    pub(super) fn bookmark(&self, key: &WatchKey, now: Instant) {
        self.with(key, |state| {
            state.attempt = now;
            state.bookmark = Some(now);
        });
    }

    /// A list is complete, or a watch was accepted. Says which fault that ends.
    pub(super) fn answered(&self, key: &WatchKey, has_listed: bool, now: Instant) -> Option<Fault> {
        let ended = self.with(key, |state| {
            state.attempt = now;
            state.has_synced |= has_listed;
            state.fault.take()
        });
        self.changed.notify_waiters();
        ended.flatten()
    }

    /// An attempt failed. Says whether that begins a refusal.
    pub(super) fn failed(&self, key: &WatchKey, fault: Fault, now: Instant) -> bool {
        let is_begin = self.with(key, |state| {
            state.attempt = now;
            let was_forbidden = state.fault.as_ref().is_some_and(Fault::is_forbidden);
            let is_forbidden = fault.is_forbidden();
            state.fault = Some(fault);
            is_forbidden && !was_forbidden
        });
        self.changed.notify_waiters();
        is_begin.unwrap_or(false)
    }

    fn with<R>(&self, key: &WatchKey, change: impl FnOnce(&mut State) -> R) -> Option<R> {
        self.lock().get_mut(key).map(change)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<WatchKey, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A watch, in words.
struct Name<'a>(&'a WatchKey);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, namespace) = self.0;
        f.write_str(kind.plural())?;
        namespace
            .iter()
            .try_for_each(|namespace| write!(f, " in {namespace}"))
    }
}

/// The ages of each kind's watches; of several namespaces the worst.
#[derive(Debug)]
pub struct HealthCollector(pub Arc<Health>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

type Reading = fn(&State, Instant) -> Option<f64>;

const READINGS: [(&str, &str, Reading); 5] = [
    (
        "wsgateway_operator_watch_attempt_age_seconds",
        "Time since a watch last heard of the API server or asked it",
        |state, now| Some(age(state.attempt, now)),
    ),
    (
        "wsgateway_operator_watch_event_age_seconds",
        "Time since a watch's last event",
        |state, now| Some(age(state.event?, now)),
    ),
    (
        "wsgateway_operator_watch_bookmark_age_seconds",
        "Time since a watch's last bookmark",
        |state, now| Some(age(state.bookmark?, now)),
    ),
    (
        "wsgateway_operator_watch_unsynced",
        "1 while a watch has not listed its objects once",
        |state, _| Some(f64::from(u8::from(!state.has_synced))),
    ),
    (
        "wsgateway_operator_watch_failing",
        "1 while a watch's last attempt failed",
        |state, _| Some(f64::from(u8::from(state.fault.is_some()))),
    ),
];

fn age(then: Instant, now: Instant) -> f64 {
    now.saturating_duration_since(then).as_secs_f64()
}

impl Collector for HealthCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let states = self.0.lock().clone();
        let now = Instant::now();
        for (name, help, reading) in READINGS {
            let mut worst = BTreeMap::<Kind, f64>::new();
            for ((kind, _), state) in &states {
                if let Some(value) = reading(state, now) {
                    let known = worst.entry(*kind).or_default();
                    *known = known.max(value);
                }
            }
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (kind, value) in worst {
                let label = KindLabel { kind: kind.name() };
                ConstGauge::new(value).encode(family.encode_family(&label)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    fn fault(code: &str) -> Fault {
        Fault {
            code: code.into(),
            message: "no".into(),
        }
    }

    #[test]
    fn it_is_ready_once_everything_is_known_or_refused() {
        let health = Health::default();
        let now = Instant::now();
        assert!(health.not_ready().is_some());
        let [main, pods, monitors] =
            [Kind::WsGateway, Kind::Pod, Kind::PodMonitor].map(|kind| (kind, None));
        for key in [&main, &pods, &monitors] {
            health.begin(key, now);
        }
        assert_eq!(
            health.not_ready().unwrap(),
            "wsgateways have not been listed yet"
        );
        health.answered(&main, true, now);
        assert_eq!(health.not_ready().unwrap(), "pods have not been listed yet");
        health.failed(&pods, fault("transport"), now);
        assert!(health.not_ready().is_some());
        assert!(health.failed(&pods, fault("403"), now));
        assert!(!health.failed(&pods, fault("403"), now));
        assert_eq!(health.not_ready(), None);
        assert_eq!(health.fault(Kind::Pod, "shop").unwrap(), fault("403"));
        assert_eq!(health.answered(&pods, true, now), Some(fault("403")));
        assert_eq!(health.fault(Kind::Pod, "shop"), None);
        health.failed(&main, fault("transport"), now);
        assert_eq!(
            health.not_ready().unwrap(),
            "the watch of wsgateways failed: no"
        );
    }

    #[test]
    fn a_watch_that_tries_is_not_stuck_even_when_it_fails() {
        let health = Health::default();
        let start = Instant::now();
        let key = (Kind::Service, Some("shop".into()));
        health.begin(&key, start);
        let late = start + STUCK_AFTER + Duration::from_secs(1);
        assert_eq!(
            health.stuck(late).unwrap(),
            "the watch of services in shop has made no attempt for 601 s"
        );
        health.failed(&key, fault("transport"), start + Duration::from_secs(30));
        assert_eq!(health.stuck(late), None);
        health.end(&key);
        assert_eq!(health.stuck(late + STUCK_AFTER), None);
    }

    #[test]
    fn ages_are_counted_when_they_are_asked_for() {
        let health = Arc::new(Health::default());
        health.begin(&(Kind::Pod, None), Instant::now());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(HealthCollector(health)));
        let text = crate::metrics::render(&registry);
        assert!(
            text.contains("wsgateway_operator_watch_unsynced{kind=\"Pod\"} 1"),
            "{text}"
        );
        assert!(
            !text.contains("wsgateway_operator_watch_bookmark_age_seconds{"),
            "{text}"
        );
    }
}
