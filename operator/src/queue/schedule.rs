//! Which `WsGateway` is to be reconciled when: free of IO, time is an argument.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use super::{Backoff, Cause, Visit};
use crate::watch::Key;

/// How long a trigger waits for others of the same gateway: one `kubectl apply` and one write of ours make
/// several events.
pub(super) const DEBOUNCE: Duration = Duration::from_millis(50);

/// The wait after a failed reconcile.
const FAILURE: Backoff = Backoff {
    min: Duration::from_millis(500),
    max: Duration::from_secs(300),
};

/// How a reconcile ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// As it should. Look again after this time at the latest.
    Well(Duration),
    /// The `WsGateway` is gone, and so is what was kept for it.
    Gone,
    /// It failed.
    Badly,
}

/// The order of those that wait for their turn: what users wait for comes before what only repeats, and
/// within each the first comes first.
type Turn = (Urgency, u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    Changed,
    Routine,
}

/// What is known of one `WsGateway`.
#[derive(Debug, Default)]
struct Entry {
    /// When it is due; it stands in `Schedule::timed` under it.
    due: Option<(Instant, u64)>,
    /// It is due and waits for its turn; it stands in `Schedule::ready` under it.
    turn: Option<Turn>,
    is_running: bool,
    /// The most pressing trigger since the running reconcile began.
    again: Option<Cause>,
    /// Failures in a row.
    failures: u32,
    /// Whether something changed since it last ran, rather than time having passed.
    is_changed: bool,
}

/// Which `WsGateway` is to be reconciled when.
///
/// A key is in at most one place: it waits for a time, waits for its turn, or runs.
#[derive(Debug)]
pub(super) struct Schedule {
    entries: HashMap<Key, Entry>,
    timed: BTreeMap<(Instant, u64), Key>,
    ready: BTreeMap<Turn, Key>,
    running: BTreeSet<Key>,
    concurrency: usize,
    /// Tells apart what is due at the same time.
    sequence: u64,
}

impl Schedule {
    pub(super) fn new(concurrency: usize) -> Self {
        Self {
            entries: HashMap::new(),
            timed: BTreeMap::new(),
            ready: BTreeMap::new(),
            running: BTreeSet::new(),
            concurrency,
            sequence: 0,
        }
    }

    /// Something happened to a gateway.
    pub(super) fn trigger(&mut self, key: &Key, cause: Cause, now: Instant) {
        let entry = self.entries.entry(key.clone()).or_default();
        if entry.is_running {
            entry.again = entry.again.max(Some(cause));
            return;
        }
        if entry.failures > 0 && cause != Cause::Spec {
            // Its time comes; an event that the failing reconcile itself makes must not undo the wait.
            return;
        }
        entry.is_changed |= cause != Cause::Sync;
        if let Some((Urgency::Routine, _)) = entry.turn
            && entry.is_changed
        {
            self.take_turn(key);
        } else if entry.turn.is_none() {
            self.wait_until(key, now + DEBOUNCE);
        }
    }

    /// What made reconciles fail is over: those that wait for their next try need not.
    pub(super) fn retry_failed(&mut self, now: Instant) {
        let waits = |(_, entry): &(&Key, &Entry)| entry.failures > 0 && entry.due.is_some();
        let failed = self.entries.iter().filter(waits);
        let failed: Vec<_> = failed.map(|(key, _)| key.clone()).collect();
        for key in failed {
            self.wait_until(&key, now + DEBOUNCE);
        }
    }

    /// The next to run, if its time and its turn have come. It runs until [`Self::ended`].
    pub(super) fn next(&mut self, now: Instant) -> Option<(Key, Visit)> {
        self.ripen(now);
        if self.running.len() >= self.concurrency {
            return None;
        }
        let (_, key) = self.ready.pop_first()?;
        let entry = self.entries.get_mut(&key)?;
        entry.turn = None;
        entry.is_running = true;
        let visit = if std::mem::take(&mut entry.is_changed) {
            Visit::Changed
        } else {
            Visit::Routine
        };
        self.running.insert(key.clone());
        Some((key, visit))
    }

    /// When something becomes due that does not only wait for its turn.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.timed.first_key_value().map(|((due, _), _)| *due)
    }

    /// A reconcile has ended.
    pub(super) fn ended(&mut self, key: &Key, ended: Ended, now: Instant, jitter: f64) {
        self.running.remove(key);
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        entry.is_running = false;
        let again = entry.again.take();
        entry.is_changed = again.is_some_and(|cause| cause != Cause::Sync);
        let wait = match ended {
            Ended::Well(after) => {
                entry.failures = 0;
                Some(again.map_or(after, |_| after.min(DEBOUNCE)))
            }
            Ended::Gone => {
                entry.failures = 0;
                again.map(|_| DEBOUNCE)
            }
            Ended::Badly => {
                entry.failures = entry.failures.saturating_add(1);
                let wait = FAILURE.delay(entry.failures, jitter);
                Some(match again {
                    Some(Cause::Spec) => wait.min(DEBOUNCE),
                    _ => wait,
                })
            }
        };
        match wait {
            Some(wait) => self.wait_until(key, now + wait),
            None => {
                self.entries.remove(key);
            }
        }
    }

    /// Nothing runs after this but what already does.
    pub(super) fn clear(&mut self) {
        self.timed.clear();
        self.ready.clear();
        self.entries.retain(|_, entry| {
            entry.due = None;
            entry.turn = None;
            entry.is_running
        });
    }

    /// How many wait for their turn.
    pub(super) fn depth(&self) -> usize {
        self.ready.len()
    }

    /// How many run.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// How many failed and wait.
    pub(super) fn in_backoff(&self) -> usize {
        let failed = |entry: &&Entry| entry.failures > 0 && !entry.is_running;
        self.entries.values().filter(failed).count()
    }

    /// Puts a key among those that wait for a time; the earlier time wins.
    fn wait_until(&mut self, key: &Key, due: Instant) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if entry.due.is_some_and(|(earlier, _)| earlier <= due) {
            return;
        }
        if let Some(later) = entry.due.take() {
            self.timed.remove(&later);
        }
        self.sequence += 1;
        entry.due = Some((due, self.sequence));
        self.timed.insert((due, self.sequence), key.clone());
    }

    /// Moves what is due to those that wait for their turn.
    fn ripen(&mut self, now: Instant) {
        while let Some(first) = self.timed.first_entry()
            && first.key().0 <= now
        {
            let key = first.remove();
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.due = None;
            }
            self.take_turn(&key);
        }
    }

    fn take_turn(&mut self, key: &Key) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if let Some(turn) = entry.turn.take() {
            self.ready.remove(&turn);
        }
        let urgency = if entry.is_changed {
            Urgency::Changed
        } else {
            Urgency::Routine
        };
        self.sequence += 1;
        entry.turn = Some((urgency, self.sequence));
        self.ready.insert((urgency, self.sequence), key.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A schedule with a clock in milliseconds.
    struct Clocked {
        schedule: Schedule,
        start: Instant,
    }

    impl Clocked {
        fn new(concurrency: usize) -> Self {
            Self {
                schedule: Schedule::new(concurrency),
                start: Instant::now(),
            }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn trigger(&mut self, ms: u64, name: &str, cause: Cause) {
            self.schedule
                .trigger(&Key::new("ns", name), cause, self.at(ms));
        }

        fn next(&mut self, ms: u64) -> Option<String> {
            let (key, _) = self.schedule.next(self.at(ms))?;
            Some(key.name.to_string())
        }

        fn ended(&mut self, ms: u64, name: &str, ended: Ended) {
            let key = Key::new("ns", name);
            self.schedule.ended(&key, ended, self.at(ms), 1.0);
        }

        fn due(&self) -> Option<u128> {
            let due = self.schedule.next_due()?;
            Some(due.duration_since(self.start).as_millis())
        }
    }

    const HOUR: Ended = Ended::Well(Duration::from_secs(3_600));

    #[test]
    fn triggers_of_one_gateway_become_one_run() {
        let mut queue = Clocked::new(2);
        queue.trigger(0, "a", Cause::Event);
        queue.trigger(30, "a", Cause::Event);
        assert_eq!(queue.next(49), None);
        assert_eq!(queue.due(), Some(50));
        assert_eq!(queue.next(50).as_deref(), Some("a"));
        assert_eq!(queue.next(1_000), None);
    }

    #[test]
    fn what_happens_during_a_run_is_remembered_and_never_runs_beside_it() {
        let mut queue = Clocked::new(2);
        queue.trigger(0, "a", Cause::Event);
        assert_eq!(queue.next(50).as_deref(), Some("a"));
        queue.trigger(60, "a", Cause::Event);
        assert_eq!(queue.next(500), None);
        queue.ended(500, "a", HOUR);
        assert_eq!(queue.next(550).as_deref(), Some("a"));
        queue.ended(600, "a", HOUR);
        assert_eq!(queue.due(), Some(3_600_600));
    }

    #[test]
    fn concurrency_is_bounded_and_changes_go_before_routine() {
        let mut queue = Clocked::new(1);
        queue.trigger(0, "a", Cause::Sync);
        queue.trigger(1, "b", Cause::Sync);
        queue.trigger(2, "c", Cause::Event);
        assert_eq!(queue.next(100).as_deref(), Some("c"));
        assert_eq!(queue.next(100), None);
        assert_eq!(queue.schedule.depth(), 2);
        queue.trigger(110, "b", Cause::Spec);
        queue.ended(120, "c", HOUR);
        assert_eq!(queue.next(120).as_deref(), Some("b"));
        queue.ended(130, "b", HOUR);
        assert_eq!(queue.next(130).as_deref(), Some("a"));
    }

    #[test]
    fn failures_back_off_events_wait_and_a_changed_spec_does_not() {
        let mut queue = Clocked::new(1);
        queue.trigger(0, "a", Cause::Event);
        assert_eq!(queue.next(50).as_deref(), Some("a"));
        queue.trigger(90, "a", Cause::Event);
        queue.ended(100, "a", Ended::Badly);
        assert_eq!(queue.due(), Some(600));
        queue.trigger(150, "a", Cause::Event);
        assert_eq!(queue.due(), Some(600));
        assert_eq!(queue.schedule.in_backoff(), 1);
        assert_eq!(queue.next(600).as_deref(), Some("a"));
        queue.ended(700, "a", Ended::Badly);
        assert_eq!(queue.due(), Some(1_700));
        queue.trigger(800, "a", Cause::Spec);
        assert_eq!(queue.next(850).as_deref(), Some("a"));
        queue.trigger(860, "a", Cause::Spec);
        queue.ended(900, "a", Ended::Badly);
        assert_eq!(queue.next(950).as_deref(), Some("a"));
        queue.ended(1_000, "a", HOUR);
        assert_eq!(queue.schedule.in_backoff(), 0);
        queue.trigger(1_010, "a", Cause::Event);
        assert_eq!(queue.next(1_060).as_deref(), Some("a"));
        queue.ended(1_100, "a", Ended::Badly);
        assert_eq!(
            queue.due(),
            Some(1_600),
            "the wait begins anew after a success"
        );
    }

    #[test]
    fn when_the_cause_is_over_those_that_failed_need_not_wait() {
        let mut queue = Clocked::new(2);
        for name in ["a", "b"] {
            queue.trigger(0, name, Cause::Event);
            queue.next(50);
        }
        queue.ended(100, "a", Ended::Badly);
        queue.ended(100, "b", HOUR);
        queue.schedule.retry_failed(queue.at(200));
        assert_eq!(queue.due(), Some(250));
        assert_eq!(queue.next(250).as_deref(), Some("a"));
        assert_eq!(queue.next(250), None);
        queue.ended(300, "a", Ended::Badly);
        assert_eq!(queue.due(), Some(1_300), "it still counts as failed");
    }

    #[test]
    fn what_is_gone_is_forgotten_unless_it_came_back() {
        let mut queue = Clocked::new(1);
        queue.trigger(0, "a", Cause::Spec);
        queue.next(50);
        queue.trigger(60, "a", Cause::Spec);
        queue.ended(70, "a", Ended::Gone);
        assert_eq!(queue.next(120).as_deref(), Some("a"));
        queue.ended(130, "a", Ended::Gone);
        assert!(queue.schedule.entries.is_empty());
        assert_eq!(queue.due(), None);
    }

    #[test]
    fn the_earliest_time_wins() {
        let mut queue = Clocked::new(1);
        queue.trigger(0, "a", Cause::Event);
        queue.next(50);
        queue.ended(60, "a", Ended::Well(Duration::from_millis(20)));
        queue.trigger(60, "a", Cause::Event);
        assert_eq!(queue.due(), Some(80));
        assert_eq!(queue.schedule.timed.len(), 1);
    }

    #[test]
    fn once_cleared_only_what_runs_is_left() {
        let mut queue = Clocked::new(1);
        queue.trigger(0, "a", Cause::Event);
        queue.trigger(0, "b", Cause::Event);
        queue.next(50);
        queue.schedule.clear();
        assert_eq!(queue.next(100), None);
        assert_eq!((queue.schedule.depth(), queue.schedule.running()), (0, 1));
    }

    #[test]
    fn a_visit_says_whether_something_changed() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let gateway = Key::new("shop", "a");
        let mut schedule = Schedule::new(1);
        let mut check = |cause: Option<Cause>, during: Option<Cause>, ms, expected| {
            if let Some(cause) = cause {
                schedule.trigger(&gateway, cause, at(ms));
            }
            let visit = schedule.next(at(ms + 50)).map(|(_, visit)| visit);
            assert_eq!(visit, Some(expected), "at {ms} ms");
            if let Some(cause) = during {
                schedule.trigger(&gateway, cause, at(ms + 50));
            }
            let after = Ended::Well(Duration::from_millis(50));
            schedule.ended(&gateway, after, at(ms + 50), 0.0);
        };
        check(Some(Cause::Sync), None, 0, Visit::Routine);
        check(None, Some(Cause::Sync), 100, Visit::Routine);
        check(None, Some(Cause::Event), 200, Visit::Routine);
        check(None, None, 300, Visit::Changed);
        check(Some(Cause::Event), None, 400, Visit::Changed);
        check(None, None, 500, Visit::Routine);
    }
}
