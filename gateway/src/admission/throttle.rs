//! So many in a second, and in a burst.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

const SECOND_NS: u64 = 1_000_000_000;

/// When a bucket of so many will be full, once one more has been taken of it, in nanoseconds since a fixed moment. A
/// bucket that is full is like one that was never asked.
///
/// # Errors
/// The nanoseconds until there is one.
pub(super) fn take(full_at: u64, now: u64, per_second: u32) -> Result<u64, u64> {
    let interval = SECOND_NS / u64::from(per_second.max(1));
    let latest = now.saturating_add(SECOND_NS.saturating_sub(interval));
    if full_at > latest {
        return Err(full_at - latest);
    }
    Ok(full_at.max(now).saturating_add(interval))
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A bucket that threads share.
#[derive(Debug, Default)]
pub(super) struct Throttle(AtomicU64);

impl Throttle {
    /// Takes one, at a time since any fixed moment.
    ///
    /// # Errors
    /// The time until there is one again.
    pub(super) fn take(&self, now: Duration, per_second: u32) -> Result<(), Duration> {
        let now = nanos(now);
        let next = |full_at: u64| take(full_at, now, per_second).ok();
        match self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
        {
            Ok(_) => Ok(()),
            Err(full_at) => {
                let wait = take(full_at, now, per_second).err().unwrap_or_default();
                Err(Duration::from_nanos(wait))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_s_worth_in_a_burst_and_then_one_at_a_time() {
        let throttle = Throttle::default();
        let at = Duration::from_millis;
        for taken in 0..10 {
            assert_eq!(throttle.take(at(5_000), 10), Ok(()), "after {taken}");
        }
        assert_eq!(throttle.take(at(5_000), 10), Err(at(100)));
        assert_eq!(throttle.take(at(5_060), 10), Err(at(40)));
        assert_eq!(throttle.take(at(5_100), 10), Ok(()));
        assert_eq!(throttle.take(at(5_100), 10), Err(at(100)));
        // However long nobody asks, there are no more than a second's worth.
        for _ in 0..10 {
            assert_eq!(throttle.take(at(900_000), 10), Ok(()));
        }
        assert!(throttle.take(at(900_000), 10).is_err());
    }

    #[test]
    fn in_the_long_run_there_are_as_many_as_there_may_be() {
        for per_second in [1, 3, 7, 1_000, 1_000_000] {
            let throttle = Throttle::default();
            let seconds = 5;
            let step = Duration::from_micros(500);
            let taken = (0..seconds * 2_000)
                .map(|step_number| step * step_number)
                .map(|now| {
                    (0..2_000)
                        .take_while(|_| throttle.take(now, per_second).is_ok())
                        .count()
                })
                .sum::<usize>();
            // The burst, and what comes in the time.
            let expected = (per_second * (seconds + 1)) as usize;
            let off = taken.abs_diff(expected);
            assert!(
                off <= 1 + expected / 500,
                "{per_second}: {taken} of {expected}"
            );
        }
    }

    #[test]
    fn another_limit_holds_from_the_next_one_on() {
        let throttle = Throttle::default();
        let at = Duration::from_millis;
        throttle.take(at(0), 1).unwrap();
        assert_eq!(throttle.take(at(0), 1), Err(at(1_000)));
        // What the old one took, the new one gives back within a second.
        assert_eq!(throttle.take(at(500), 1_000), Ok(()));
    }
}
