//! Time as connections keep it: four bytes, tenths of a second.

use std::time::{Duration, Instant};

/// How many ticks a second has.
pub const TICKS_PER_SECOND: u64 = 10;

/// A moment, in tenths of a second since the process's epoch. It lasts for 13 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tick(u32);

impl Tick {
    /// The tick that has begun at `now`.
    pub fn at(epoch: Instant, now: Instant) -> Self {
        let tenths = now.saturating_duration_since(epoch).as_millis() / 100;
        Self(u32::try_from(tenths).unwrap_or(u32::MAX))
    }

    /// This tick and so much later, rounded up, and one more for the part of this tick that has
    /// passed: what is due then is never early.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(tenths(duration)).saturating_add(1))
    }

    /// The ticks since an earlier one; none since a later one.
    pub fn ticks_since(self, earlier: Self) -> u32 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whether so much has passed since this tick.
    pub fn is_older_than(self, duration: Duration, now: Self) -> bool {
        now >= self.after(duration)
    }
}

fn tenths(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis().div_ceil(100)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_is_never_early() {
        let epoch = Instant::now();
        for (start_ms, wait_ms) in [(0, 100), (99, 100), (50, 1_050), (1, 1)] {
            let start = Tick::at(epoch, epoch + Duration::from_millis(start_ms));
            let wait = Duration::from_millis(wait_ms);
            let just_before =
                Tick::at(epoch, epoch + Duration::from_millis(start_ms + wait_ms - 1));
            assert!(
                !start.is_older_than(wait, just_before),
                "{start_ms} {wait_ms}"
            );
            let later = Tick::at(
                epoch,
                epoch + Duration::from_millis(start_ms + wait_ms + 200),
            );
            assert!(start.is_older_than(wait, later), "{start_ms} {wait_ms}");
        }
    }
}
