//! How pods end and how many serve meanwhile: what their watch tells, written down.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use tokio::{sync::oneshot, task::JoinHandle};

use super::place::is_ready;

/// A pod that was told to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Its name.
    pub pod: String,
    /// When it was told.
    pub told: Instant,
    /// When it was gone.
    pub gone: Option<Instant>,
    /// The code that its container ended with, where the kubelet said so.
    pub exit_code: Option<i32>,
    /// How long it was given.
    pub grace: Duration,
}

impl Ending {
    /// How long it took, where it has ended.
    pub fn took(&self) -> Option<Duration> {
        Some(self.gone? - self.told)
    }
}

/// Writes down how pods end, until it is dropped.
#[derive(Debug)]
pub struct Endings {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    /// In the order in which they were told.
    endings: Vec<Ending>,
    ready: BTreeSet<String>,
    /// None before the first list is complete.
    ready_min: Option<usize>,
}

impl Endings {
    /// Of the pods that a selector means. Returns once they are known.
    pub async fn watch(pods: Api<Pod>, selector: &str) -> Self {
        let config = watcher::Config::default().labels(selector);
        let mut events = watcher(pods, config).default_backoff().boxed();
        let seen = Arc::<Mutex<Seen>>::default();
        let into = seen.clone();
        let (begin, has_begun) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut begin = Some(begin);
            while let Some(event) = events.next().await {
                // A watch that breaks begins again by itself.
                let Ok(event) = event else { continue };
                let mut seen = lock(&into);
                match event {
                    watcher::Event::Apply(pod) | watcher::Event::InitApply(pod) => seen.note(&pod),
                    watcher::Event::Delete(pod) => seen.note_gone(&pod),
                    watcher::Event::InitDone => {
                        seen.ready_min = Some(seen.ready.len());
                        // Nobody waits for it a second time.
                        begin.take().map(|begin| begin.send(()));
                    }
                    watcher::Event::Init => {}
                }
            }
        });
        has_begun.await.expect("the watch should begin");
        Self { seen, task }
    }

    /// Those that were told to end so far, in this order.
    pub fn so_far(&self) -> Vec<Ending> {
        lock(&self.seen).endings.clone()
    }

    /// Whether all that were told to end are gone.
    pub fn are_over(&self) -> bool {
        lock(&self.seen)
            .endings
            .iter()
            .all(|ending| ending.gone.is_some())
    }

    /// Most pods that were ending at the same time.
    pub fn at_once(&self) -> usize {
        at_once(&lock(&self.seen).endings)
    }

    /// Fewest pods that served at the same time and had not been told to end.
    pub fn ready_min(&self) -> usize {
        lock(&self.seen).ready_min.unwrap_or_default()
    }
}

impl Drop for Endings {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Display for Endings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endings = self.so_far();
        let (count, most) = (endings.len(), at_once(&endings));
        write!(
            f,
            "{count} pods ended, {most} at once, {} ready at least",
            self.ready_min()
        )?;
        for ending in endings {
            let took = ending.took().map_or("not yet".to_owned(), |took| {
                format!("{} ms", took.as_millis())
            });
            let code = ending
                .exit_code
                .map_or("unknown".to_owned(), |code| code.to_string());
            let grace = ending.grace.as_secs();
            write!(
                f,
                "; {} in {took} of {grace} s, exit code {code}",
                ending.pod
            )?;
        }
        Ok(())
    }
}

impl Seen {
    fn note(&mut self, pod: &Pod) {
        let name = pod.name_any();
        if is_ready(pod) {
            self.ready.insert(name);
        } else {
            self.set_not_ready(&name);
        }
        if pod.metadata.deletion_timestamp.is_none() {
            return;
        }
        let ending = self.ending(pod);
        let statuses = pod
            .status
            .iter()
            .flat_map(|status| &status.container_statuses);
        let mut ended = statuses
            .flatten()
            .filter_map(|status| status.state.as_ref()?.terminated.as_ref());
        if let Some(ended) = ended.next() {
            ending.exit_code = Some(ended.exit_code);
        }
    }

    fn note_gone(&mut self, pod: &Pod) {
        self.note(pod);
        self.set_not_ready(&pod.name_any());
        self.ending(pod).gone = Some(Instant::now());
    }

    fn set_not_ready(&mut self, pod: &str) {
        self.ready.remove(pod);
        let ready = self.ready.len();
        self.ready_min = self.ready_min.map(|min| min.min(ready));
    }

    /// A pod's ending, which begins now unless it has begun.
    fn ending(&mut self, pod: &Pod) -> &mut Ending {
        let name = pod.name_any();
        let known = self.endings.iter().position(|ending| ending.pod == name);
        let at = known.unwrap_or_else(|| {
            let grace = pod.metadata.deletion_grace_period_seconds;
            self.endings.push(Ending {
                pod: name,
                told: Instant::now(),
                gone: None,
                exit_code: None,
                grace: Duration::from_secs(grace.unwrap_or_default().cast_unsigned()),
            });
            self.endings.len() - 1
        });
        &mut self.endings[at]
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn at_once(endings: &[Ending]) -> usize {
    let mut changes: BTreeMap<Instant, isize> = BTreeMap::new();
    for ending in endings {
        *changes.entry(ending.told).or_default() += 1;
        if let Some(gone) = ending.gone {
            *changes.entry(gone).or_default() -= 1;
        }
    }
    let mut ending = 0;
    let counts = changes.into_values().map(|change| {
        ending += change;
        ending
    });
    counts.max().unwrap_or_default().cast_unsigned()
}
