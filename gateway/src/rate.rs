//! How much one client may send, free of IO and of any clock: buckets that hold a second's worth.

use std::time::Duration;

use crate::clock::{TICKS_PER_SECOND, Tick};

/// What a connection may send. Of every number 0 is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// Frames a second.
    pub frames_per_second: u32,
    /// Bytes a second, as they come off the wire.
    pub bytes_per_second: u64,
    /// Bytes in a burst: a second's worth, or a message of the largest size where that is more.
    pub bytes_burst: u64,
    /// How long the first message may take.
    pub first_message: Option<Duration>,
}

impl Rates {
    /// Whether there is anything to be held to.
    pub const fn is_none(&self) -> bool {
        self.frames_per_second == 0 && self.bytes_per_second == 0 && self.first_message.is_none()
    }
}

/// What a connection has sent, where it is held to something.
#[derive(Debug, Clone)]
pub struct Meter {
    frames: Bucket,
    bytes: Bucket,
    /// Pings that were sent and not answered: their pongs cost nothing.
    pongs_due: u32,
    /// Until when its first message must have come.
    first_message_due: Option<Tick>,
}

/// Tokens, counted in as many parts as a second has ticks.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    parts: u64,
    at: Tick,
}

impl Meter {
    /// That of a connection which opens now.
    pub fn new(rates: &Rates, now: Tick) -> Self {
        Self {
            first_message_due: rates.first_message.map(|wait| now.after(wait)),
            ..Self::of_open(rates, now)
        }
    }

    /// That of a connection which has been open: whether it has sent a message is not known, so none is asked for.
    pub fn of_open(rates: &Rates, now: Tick) -> Self {
        Self {
            frames: Bucket::full(u64::from(rates.frames_per_second), now),
            bytes: Bucket::full(rates.bytes_burst, now),
            pongs_due: 0,
            first_message_due: None,
        }
    }

    /// Goes over to other rates, with full buckets. A first message is asked for only where it was before.
    pub fn handle_new_rates(&mut self, rates: &Rates, now: Tick) {
        let due = self.first_message_due.and(rates.first_message);
        *self = Self {
            pongs_due: self.pongs_due,
            first_message_due: due.map(|wait| now.after(wait)),
            ..Self::of_open(rates, now)
        };
    }

    /// Takes bytes that came. False where there are more than there may be.
    #[must_use]
    pub fn take_bytes(&mut self, bytes: usize, rates: &Rates, now: Tick) -> bool {
        let per_second = rates.bytes_per_second;
        per_second == 0
            || self
                .bytes
                .take(bytes as u64, per_second, rates.bytes_burst, now)
    }

    /// Takes a frame that came, likewise.
    #[must_use]
    pub fn take_frame(&mut self, rates: &Rates, now: Tick) -> bool {
        let per_second = u64::from(rates.frames_per_second);
        per_second == 0 || self.frames.take(1, per_second, per_second, now)
    }

    /// Takes a pong, likewise: one that answers a ping costs nothing.
    #[must_use]
    pub fn take_pong(&mut self, rates: &Rates, now: Tick) -> bool {
        if self.pongs_due > 0 {
            self.pongs_due -= 1;
            return true;
        }
        self.take_frame(rates, now)
    }

    /// A ping is sent.
    pub fn expect_pong(&mut self) {
        self.pongs_due = self.pongs_due.saturating_add(1);
    }

    /// A message has come.
    pub fn handle_message(&mut self) {
        self.first_message_due = None;
    }

    /// Whether the first message should have come.
    pub fn lacks_first_message(&self, now: Tick) -> bool {
        self.first_message_due.is_some_and(|due| now >= due)
    }

    /// Nothing is read from now on, through no fault of the client's.
    pub fn pause(&mut self, rates: &Rates, now: Tick) {
        self.frames.fill(
            u64::from(rates.frames_per_second),
            u64::from(rates.frames_per_second),
            now,
        );
        self.bytes
            .fill(rates.bytes_per_second, rates.bytes_burst, now);
    }

    /// Reading goes on. What came meanwhile is read at once, so the buckets hold what it was worth.
    pub fn resume(&mut self, rates: &Rates, now: Tick) {
        self.frames
            .fill(u64::from(rates.frames_per_second), u64::MAX, now);
        self.bytes.fill(rates.bytes_per_second, u64::MAX, now);
    }
}

impl Bucket {
    fn full(burst: u64, now: Tick) -> Self {
        Self {
            parts: burst.saturating_mul(TICKS_PER_SECOND),
            at: now,
        }
    }

    /// Adds what the time since is worth, up to a burst. What is above that already stays.
    fn fill(&mut self, per_second: u64, burst: u64, now: Tick) {
        let ticks = u64::from(now.ticks_since(self.at));
        let full = burst.saturating_mul(TICKS_PER_SECOND);
        let filled = self.parts.saturating_add(ticks.saturating_mul(per_second));
        self.parts = filled.min(full.max(self.parts));
        self.at = now;
    }

    fn take(&mut self, count: u64, per_second: u64, burst: u64, now: Tick) -> bool {
        self.fill(per_second, burst, now);
        match self
            .parts
            .checked_sub(count.saturating_mul(TICKS_PER_SECOND))
        {
            Some(left) => {
                self.parts = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const RATES: Rates = Rates {
        frames_per_second: 10,
        bytes_per_second: 1_000,
        bytes_burst: 5_000,
        first_message: Some(Duration::from_secs(3)),
    };

    fn at(millis: u64) -> Tick {
        let epoch = Instant::now();
        Tick::at(epoch, epoch + Duration::from_millis(millis))
    }

    fn frames(meter: &mut Meter, now: Tick) -> usize {
        (0..1_000)
            .take_while(|_| meter.take_frame(&RATES, now))
            .count()
    }

    #[test]
    fn a_second_s_worth_in_a_burst_and_then_by_the_rate() {
        let mut meter = Meter::new(&RATES, at(0));
        assert_eq!(frames(&mut meter, at(0)), 10);
        assert_eq!(frames(&mut meter, at(99)), 0);
        assert_eq!(frames(&mut meter, at(100)), 1);
        assert_eq!(frames(&mut meter, at(600)), 5);
        assert_eq!(frames(&mut meter, at(1_000_000)), 10);
        // A message of the largest size passes, and the next one waits.
        assert!(meter.take_bytes(5_000, &RATES, at(0)));
        assert!(!meter.take_bytes(1, &RATES, at(0)));
        assert!(meter.take_bytes(1_000, &RATES, at(1_000)));
        assert!(!meter.take_bytes(101, &RATES, at(1_100)));
    }

    #[test]
    fn none_is_no_limit() {
        let none = Rates::default();
        let mut meter = Meter::new(&none, at(0));
        assert!(none.is_none() && !RATES.is_none());
        assert!((0..10_000).all(|_| meter.take_frame(&none, at(0))));
        assert!(meter.take_bytes(usize::MAX, &none, at(0)));
        assert!(!meter.lacks_first_message(at(1_000_000)));
    }

    #[test]
    fn a_pong_costs_nothing_where_it_was_asked_for() {
        let mut meter = Meter::new(&RATES, at(0));
        assert_eq!(frames(&mut meter, at(0)), 10);
        assert!(!meter.take_pong(&RATES, at(0)));
        meter.expect_pong();
        assert!(meter.take_pong(&RATES, at(0)));
        assert!(!meter.take_pong(&RATES, at(0)));
    }

    #[test]
    fn what_comes_while_nothing_is_read_is_no_flood() {
        let mut meter = Meter::new(&RATES, at(0));
        assert_eq!(frames(&mut meter, at(0)), 10);
        meter.pause(&RATES, at(0));
        meter.resume(&RATES, at(10_000));
        assert_eq!(frames(&mut meter, at(10_000)), 100);
        // Time that was spent reading is worth a second at most.
        meter.pause(&RATES, at(50_000));
        meter.resume(&RATES, at(50_000));
        assert_eq!(frames(&mut meter, at(50_000)), 10);
    }

    #[test]
    fn the_first_message_has_its_time_and_then_no_more() {
        let mut meter = Meter::new(&RATES, at(0));
        assert!(!meter.lacks_first_message(at(2_900)));
        assert!(meter.lacks_first_message(at(3_200)));
        // Another time begins anew.
        meter.handle_new_rates(&RATES, at(3_000));
        assert!(!meter.lacks_first_message(at(5_900)));
        assert!(meter.lacks_first_message(at(6_200)));
        meter.handle_message();
        assert!(!meter.lacks_first_message(at(1_000_000)));
        meter.handle_new_rates(&RATES, at(3_000));
        assert!(!meter.lacks_first_message(at(1_000_000)));
        // Who has been open before is not asked.
        assert!(!Meter::of_open(&RATES, at(0)).lacks_first_message(at(1_000_000)));
    }
}
