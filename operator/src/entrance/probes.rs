//! The probes of all `WsGateways`: a small task each that tries the way in from time to time, and calls for a reconcile
//! when it comes to another result. No reconcile waits for one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use kube::Client;
use tokio::{
    sync::{Semaphore, watch},
    time,
};

use super::{
    Question,
    dial::dial,
    events::last_warning,
    judge::{is_of_probe, judge, with_quote},
    pace::Pace,
};
use crate::{
    metrics::Metrics,
    queue::{Cause, Queue},
    status::{Holds, Verdict},
    watch::Key,
};

/// How many ways are tried at once.
const AT_ONCE: usize = 16;

/// What was known before the operator began is checked within this time: a large fleet spreads over it.
const AFTER_START: Duration = Duration::from_secs(10);

/// What all probes share.
#[derive(Debug)]
pub struct Probes {
    shared: Arc<Shared>,
    running: Mutex<BTreeMap<Key, Running>>,
}

struct Shared {
    client: Client,
    queue: Queue,
    metrics: Metrics,
    /// How often a way that is right is tried.
    period: Duration,
    places: Semaphore,
}

/// A probe. Its task ends when this is dropped.
#[derive(Debug)]
struct Running {
    question: watch::Sender<Question>,
    told: Arc<Mutex<Option<Verdict>>>,
}

impl Probes {
    /// With the operator's own rights; a way that is right is tried once in `period`.
    pub fn new(client: Client, queue: Queue, metrics: Metrics, period: Duration) -> Self {
        Self {
            shared: Arc::new(Shared {
                client,
                queue,
                metrics,
                period,
                places: Semaphore::new(AT_ONCE),
            }),
            running: Mutex::default(),
        }
    }

    /// What is known of the way in; from now on it is asked as `question` says. `before` is what the status says of the
    /// same spec, which stands until something else is found: an operator that begins has nothing to tell.
    pub fn verdict(&self, key: &Key, question: Question, before: Option<Verdict>) -> Verdict {
        if question.is_answered() {
            self.forget(key);
            return question.so_far;
        }
        let mut all = lock(&self.running);
        let running = all.entry(key.clone()).or_insert_with(|| {
            let before = before.filter(|before| question.may_stand(before));
            self.shared.start(key.clone(), question.clone(), before)
        });
        running.ask(&question);
        let told = lock(&running.told).clone();
        told.unwrap_or(question.so_far)
    }

    /// Ends the probe of one that is gone, or has no way in.
    pub fn forget(&self, key: &Key) {
        lock(&self.running).remove(key);
    }
}

impl Running {
    fn ask(&self, question: &Question) {
        self.question.send_if_modified(|asked| {
            if asked == question {
                return false;
            }
            if asked.is_another(question) {
                // What was found is no answer to this one.
                *lock(&self.told) = None;
            }
            asked.clone_from(question);
            true
        });
    }
}

impl Shared {
    fn start(self: &Arc<Self>, key: Key, question: Question, before: Option<Verdict>) -> Running {
        let is_known = before.is_some();
        let told = Arc::new(Mutex::new(before));
        let (sender, receiver) = watch::channel(question);
        let task = self.clone().run(key, receiver, told.clone(), is_known);
        tokio::spawn(task);
        Running {
            question: sender,
            told,
        }
    }

    async fn run(
        self: Arc<Self>,
        key: Key,
        mut questions: watch::Receiver<Question>,
        told: Arc<Mutex<Option<Verdict>>>,
        is_known: bool,
    ) {
        let mut pace = Pace::new(self.period);
        let mut asked = questions.borrow_and_update().clone();
        let mut wait = pace.changed(true, asked.target.is_some());
        if is_known {
            wait += AFTER_START.min(self.period).mul_f64(fastrand::f64());
        }
        loop {
            tokio::select! {
                changed = questions.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let question = questions.borrow_and_update().clone();
                    wait = pace.changed(asked.is_another(&question), question.target.is_some());
                    asked = question;
                }
                () = time::sleep(wait) => {
                    let found = self.look(&asked).await;
                    match questions.has_changed() {
                        // It was asked before the change.
                        Ok(true) => continue,
                        Ok(false) => {}
                        Err(_) => return,
                    }
                    wait = self.weigh(&key, &asked, &told, found, &mut pace);
                }
            }
        }
    }

    /// Tells what was found, where it is time to. Returns when to look again.
    fn weigh(
        &self,
        key: &Key,
        asked: &Question,
        told: &Mutex<Option<Verdict>>,
        found: Option<Verdict>,
        pace: &mut Pace,
    ) -> Duration {
        let mut told = lock(told);
        if told.is_none() && asked.target.is_none() {
            *told = Some(asked.so_far.clone());
        }
        let (is_told, wait) = pace.tried(told.as_ref(), found.as_ref(), Instant::now());
        if is_told && *told != found {
            *told = found;
            self.queue.trigger(key, Cause::Event);
        }
        // Those that began together part.
        wait.mul_f64(0.9 + 0.2 * fastrand::f64())
    }

    /// Tries the way once. None where that says nothing.
    async fn look(&self, question: &Question) -> Option<Verdict> {
        let Ok(_place) = self.places.acquire().await else {
            return None;
        };
        let verdict = match &question.target {
            Some(target) => {
                let answers = target.addresses.iter().map(|address| async move {
                    let answer = dial(address, target).await;
                    tracing::debug!(%address, ?answer, "probed");
                    (address.clone(), answer)
                });
                let verdict = judge(target, &join_all(answers).await)?;
                self.metrics.probed(verdict.holds);
                verdict
            }
            None => question.so_far.clone(),
        };
        if verdict.holds == Holds::True {
            return Some(verdict);
        }
        let Some(regarding) = &question.regarding else {
            return Some(verdict);
        };
        let quote = last_warning(&self.client, regarding).await;
        Some(with_quote(verdict, quote.as_ref()))
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Question {
    /// Whether what a status says can be an answer to this.
    fn may_stand(&self, before: &Verdict) -> bool {
        let is_same = before.reason == self.so_far.reason || before.reason == "IngressRejected";
        is_same || self.target.is_some() && is_of_probe(&before.reason)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
