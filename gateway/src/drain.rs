//! How fast clients are told to go. Free of IO.

use std::time::Duration;

use wsgateway_crds::config::Drain;

/// A paced ending of a number of connections.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    count: usize,
    per_second: f64,
}

impl Pace {
    /// At most `maxPerSecond` in a second over all shards, of which this is one share; but all within
    /// the period.
    pub fn new(count: usize, drain: &Drain, shards: u16) -> Self {
        let period_secs = drain.period.get().as_secs_f64().max(0.001);
        let share = f64::from(drain.max_per_second.max(1)) / f64::from(shards.max(1));
        Self {
            count,
            per_second: share.max(count as f64 / period_secs),
        }
    }

    /// How many should have been told after so long.
    pub fn due(&self, elapsed: Duration) -> usize {
        let due = self.per_second * elapsed.as_secs_f64();
        // The first goes at once. A cast of a float saturates.
        (due as usize).saturating_add(1).min(self.count)
    }
}

/// What a client is told beside the reason: when to come back, drawn between the configured bounds so
/// that they do not all come at once. `random` is any number.
pub fn retry_hint(drain: &Drain, random: u32) -> String {
    let (min, max) = (drain.retry_after_min.get(), drain.retry_after_max.get());
    let spread = max.saturating_sub(min);
    let after = min + spread.mul_f64(f64::from(random) / f64::from(u32::MAX));
    format!(" retryAfterMs={}", after.as_millis())
}

#[cfg(test)]
mod tests {
    use wsgateway_crds::value;

    use super::*;

    fn drain(period_secs: u64, max_per_second: u32) -> Drain {
        let period = value::Duration::from_secs(period_secs);
        Drain {
            period,
            max_per_second,
            ..Drain::default()
        }
    }

    #[test]
    fn connections_end_at_the_rate_or_within_the_period() {
        for (count, period, rate, shards, after_ms, due) in [
            (1_000, 30, 200, 1, 0, 1),
            (1_000, 30, 200, 1, 1_000, 201),
            (1_000, 30, 200, 2, 1_000, 101),
            (1_000, 30, 200, 1, 6_000, 1_000),
            (60_000, 30, 200, 1, 1_000, 2_001),
            (3, 30, 200, 1, 100, 3),
            (0, 30, 200, 1, 100, 0),
        ] {
            let pace = Pace::new(count, &drain(period, rate), shards);
            assert_eq!(
                pace.due(Duration::from_millis(after_ms)),
                due,
                "{count} {after_ms}"
            );
        }
    }

    #[test]
    fn the_hint_lies_between_its_bounds() {
        let drain = Drain::default();
        assert_eq!(retry_hint(&drain, 0), " retryAfterMs=1000");
        assert_eq!(retry_hint(&drain, u32::MAX), " retryAfterMs=15000");
    }
}
