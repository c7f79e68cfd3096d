//! When a way in is tried again, and when what came of it is told: free of IO and of any clock.
//!
//! A proxy that takes up a change, or replaces its workers, answers wrongly for a moment, so what is worse than before
//! is told once it has lasted. What is told stays as it was until then, and no status flickers.

use std::time::{Duration, Instant};

use crate::status::{Holds, Verdict};

/// How soon a way is tried after something changed. Several objects change together.
const AFTER_CHANGE: Duration = Duration::from_millis(500);

/// How soon again while it is in doubt.
const IN_DOUBT: Duration = Duration::from_secs(1);

/// How long something wrong must last to be told of a way that was right …
const PATIENCE: Duration = Duration::from_secs(3);

/// … and of one that has just been made or changed: controllers take up what is new within seconds.
const PATIENCE_WHEN_NEW: Duration = Duration::from_secs(10);

/// The waits between tries while it is known to be wrong.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));

/// How often the Events are read where there is nothing to dial, at the last: they tell of a change at once.
const WITHOUT_ADDRESS_MAX: Duration = Duration::from_secs(300);

/// When to try, and what is known.
#[derive(Debug)]
pub(super) struct Pace {
    /// How often a way that is right is tried.
    period: Duration,
    /// The backoff's longest wait.
    longest: Duration,
    patience: Duration,
    /// Since when it is worse than what is told.
    doubt: Option<Instant>,
    /// How often it was wrong since the last change.
    failures: u32,
}

impl Pace {
    /// Of a way that is new.
    pub(super) fn new(period: Duration) -> Self {
        Self {
            period,
            longest: BACKOFF.1.min(period),
            patience: PATIENCE_WHEN_NEW,
            doubt: None,
            failures: 0,
        }
    }

    /// Something changed; `is_new` where what is asked for did.
    pub(super) fn changed(&mut self, is_new: bool, has_address: bool) -> Duration {
        self.failures = 0;
        self.longest = if has_address {
            BACKOFF.1.min(self.period)
        } else {
            WITHOUT_ADDRESS_MAX
        };
        if is_new {
            self.doubt = None;
            self.patience = PATIENCE_WHEN_NEW;
        }
        AFTER_CHANGE
    }

    /// What came of a try: whether it is told from now on in place of `told`, and when to try again.
    pub(super) fn tried(
        &mut self,
        told: Option<&Verdict>,
        found: Option<&Verdict>,
        now: Instant,
    ) -> (bool, Duration) {
        let Some(found) = found else {
            return (false, self.backoff(self.longest));
        };
        if found.holds == Holds::True {
            self.doubt = None;
            self.failures = 0;
            self.patience = PATIENCE;
            return (true, self.period);
        }
        let was_right = told.is_none_or(|told| told.holds == Holds::True);
        if was_right {
            let since = *self.doubt.get_or_insert(now);
            if now.saturating_duration_since(since) < self.patience {
                return (false, IN_DOUBT.min(self.period));
            }
        }
        self.doubt = None;
        // A controller that has refused the Ingress may take it at any time.
        let longest = match found.holds {
            Holds::False => BACKOFF.1.min(self.period),
            _ => self.longest,
        };
        (true, self.backoff(longest))
    }

    /// Longer with each failure. What is wrong is not tried less often than what is right.
    fn backoff(&mut self, longest: Duration) -> Duration {
        let factor = 1 << self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        (BACKOFF.0 * factor).min(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(60);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn what_is_wrong_is_told_once_it_lasts_and_tried_less_and_less() {
        let (yes, no) = (Verdict::yes("A", "a"), Verdict::no("B", "b"));
        let start = Instant::now();
        let mut pace = Pace::new(PERIOD);
        assert_eq!(pace.changed(true, true), AFTER_CHANGE);
        let mut check = |told: Option<&Verdict>, found: &Verdict, at: u64, expected| {
            let tried = pace.tried(told, Some(found), start + secs(at));
            assert_eq!(tried, expected, "at {at} s");
        };
        // It is new: its controller may need a while.
        check(None, &no, 0, (false, IN_DOUBT));
        check(None, &no, 9, (false, IN_DOUBT));
        check(None, &yes, 10, (true, PERIOD));
        // Somebody breaks it.
        check(Some(&yes), &no, 100, (false, IN_DOUBT));
        check(Some(&yes), &no, 102, (false, IN_DOUBT));
        check(Some(&yes), &no, 103, (true, secs(2)));
        check(Some(&no), &no, 105, (true, secs(4)));
        check(Some(&no), &no, 109, (true, secs(8)));
        check(Some(&no), &no, 117, (true, secs(16)));
        check(Some(&no), &no, 133, (true, secs(30)));
        check(Some(&no), &no, 163, (true, secs(30)));
        check(Some(&no), &yes, 193, (true, PERIOD));
        // A moment's fault is not told.
        check(Some(&yes), &no, 300, (false, IN_DOUBT));
        check(Some(&yes), &yes, 301, (true, PERIOD));
        check(Some(&yes), &no, 302, (false, IN_DOUBT));
    }

    #[test]
    fn a_change_is_looked_at_soon_and_an_answer_that_says_nothing_changes_nothing() {
        let no = Verdict::no("B", "b");
        let now = Instant::now();
        let mut pace = Pace::new(PERIOD);
        for _ in 0..10 {
            pace.tried(Some(&no), Some(&no), now);
        }
        assert_eq!(pace.tried(Some(&no), None, now), (false, secs(30)));
        assert_eq!(pace.changed(false, true), AFTER_CHANGE);
        assert_eq!(pace.tried(Some(&no), Some(&no), now), (true, secs(2)));
        // Without an address, only what a controller refused is looked at as often.
        let nothing = Verdict::unknown("C", "c");
        pace.changed(false, false);
        for (found, longest) in [(&nothing, WITHOUT_ADDRESS_MAX), (&no, secs(30))] {
            for _ in 0..10 {
                pace.tried(Some(found), Some(found), now);
            }
            let tried = pace.tried(Some(found), Some(found), now);
            assert_eq!(tried, (true, longest));
        }
    }
}
