//! How long a child that ended waits before it is started again.

use std::time::Duration;

/// The first wait: long enough to read the line about it, too short to be noticed otherwise.
const FIRST: Duration = Duration::from_millis(200);

/// The longest wait: what a person at the keyboard tolerates after having mended the cause.
const LONGEST: Duration = Duration::from_secs(5);

/// A child that ran this long was well, and starts from [`FIRST`] again.
const HEALTHY: Duration = Duration::from_secs(10);

const _: () = assert!(
    HEALTHY.as_millis() > LONGEST.as_millis(),
    "a child that always ends at once must not pass for a healthy one"
);

/// Doubles from [`FIRST`] to [`LONGEST`]. Without jitter: nobody competes on one machine.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    /// For a child that has not ended yet.
    pub fn new() -> Self {
        Self { next: FIRST }
    }

    /// The wait after an end, `ran` after the start.
    pub fn after(&mut self, ran: Duration) -> Duration {
        if ran >= HEALTHY {
            self.next = FIRST;
        }
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        wait
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew_after_health() {
        let mut backoff = Backoff::new();
        let mut waits = |ran_s| backoff.after(Duration::from_secs(ran_s)).as_millis();
        let got: Vec<_> = [0, 0, 9, 1, 0, 0, 0, 10, 0].map(&mut waits).into();
        assert_eq!(got, [200, 400, 800, 1_600, 3_200, 5_000, 5_000, 200, 400]);
    }
}
