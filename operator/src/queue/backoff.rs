//! How long to wait after the n-th failure in a row.

use std::time::Duration;

/// Doubles from `min` to `max`. What is waited is between half of that and all of it, so that what failed
/// together does not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub min: Duration,
    /// After many.
    pub max: Duration,
}

impl Backoff {
    /// The wait after `failures` failures in a row; `jitter` is between 0 and 1.
    pub fn delay(self, failures: u32, jitter: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let full = self.min.saturating_mul(1 << doublings).min(self.max);
        full.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_its_end() {
        let backoff = Backoff {
            min: Duration::from_millis(500),
            max: Duration::from_secs(300),
        };
        for (failures, jitter, seconds) in [
            (1, 1.0, 0.5),
            (1, 0.0, 0.25),
            (2, 1.0, 1.0),
            (5, 1.0, 8.0),
            (5, 0.5, 6.0),
            (11, 1.0, 300.0),
            (u32::MAX, 1.0, 300.0),
        ] {
            let delay = backoff.delay(failures, jitter);
            assert_eq!(
                delay,
                Duration::from_secs_f64(seconds),
                "{failures} {jitter}"
            );
        }
    }
}
