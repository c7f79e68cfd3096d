//! Which patterns this process needs from NATS, free of IO.
//!
//! Shards say which patterns have subscribers; out come the subscriptions to make and to end. One whose
//! last shard has left is kept for [`LINGER`], so that clients that reconnect do not cost NATS an UNSUB
//! and a SUB each, and miss nothing in between.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::exchange::ShardId;

/// How long a subscription that nobody wants is kept.
pub const LINGER: Duration = Duration::from_secs(5);

/// How many shards there may be: what a [`ShardSet`] holds. More than eight are not worth having.
pub const SHARDS_MAX: u16 = 64;

/// Some of the shards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardSet(u64);

impl ShardSet {
    /// No shard.
    pub const EMPTY: Self = Self(0);

    /// Adds a shard. One beyond [`SHARDS_MAX`] is not held.
    pub fn insert(&mut self, shard: ShardId) {
        self.0 |= Self::bit(shard);
    }

    /// Takes a shard away.
    pub fn remove(&mut self, shard: ShardId) {
        self.0 &= !Self::bit(shard);
    }

    /// Whether a shard is in it.
    pub fn contains(self, shard: ShardId) -> bool {
        self.0 & Self::bit(shard) != 0
    }

    /// Whether none is.
    pub fn is_empty(self) -> bool {
        self == Self::EMPTY
    }

    /// The shards of either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn bit(shard: ShardId) -> u64 {
        1_u64.checked_shl(u32::from(shard.0)).unwrap_or(0)
    }
}

/// What to do at NATS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Subscribe to a pattern.
    Subscribe(Arc<str>),
    /// End the subscription.
    Unsubscribe(Arc<str>),
}

/// The patterns that are subscribed to, and for whom.
#[derive(Debug, Default)]
pub struct Interest {
    patterns: HashMap<Arc<str>, Wanted>,
    /// In the order of their deadlines. An entry counts only while its pattern has the same deadline.
    lingering: VecDeque<(Instant, Arc<str>)>,
    changes: VecDeque<Change>,
}

#[derive(Debug)]
struct Wanted {
    shards: ShardSet,
    /// Set while no shard wants it.
    ends_at: Option<Instant>,
}

impl Interest {
    /// A shard has its first subscriber of a pattern.
    pub fn handle_subscribe(&mut self, shard: ShardId, pattern: Arc<str>) {
        let changes = &mut self.changes;
        let wanted = self.patterns.entry(pattern).or_insert_with_key(|pattern| {
            changes.push_back(Change::Subscribe(pattern.clone()));
            Wanted {
                shards: ShardSet::EMPTY,
                ends_at: None,
            }
        });
        wanted.shards.insert(shard);
        wanted.ends_at = None;
    }

    /// A shard has lost its last subscriber of a pattern.
    pub fn handle_unsubscribe(&mut self, shard: ShardId, pattern: &Arc<str>, now: Instant) {
        let Some(wanted) = self.patterns.get_mut(pattern) else {
            return;
        };
        wanted.shards.remove(shard);
        if wanted.shards.is_empty() && wanted.ends_at.is_none() {
            let ends_at = now + LINGER;
            wanted.ends_at = Some(ends_at);
            self.lingering.push_back((ends_at, pattern.clone()));
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        while self.poll_timeout().is_some_and(|at| at <= now) {
            let Some((ends_at, pattern)) = self.lingering.pop_front() else {
                return;
            };
            let over = |wanted: &Wanted| wanted.ends_at == Some(ends_at);
            if self.patterns.get(&pattern).is_some_and(over) {
                self.patterns.remove(&pattern);
                self.changes.push_back(Change::Unsubscribe(pattern));
            }
        }
    }

    /// When [`Interest::handle_timeout`] is next worth calling.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.lingering.front().map(|(at, _)| *at)
    }

    /// The next thing to do at NATS, in order.
    pub fn poll_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// The shards that want what comes by a pattern.
    pub fn shards(&self, pattern: &str) -> ShardSet {
        self.patterns
            .get(pattern)
            .map_or(ShardSet::EMPTY, |wanted| wanted.shards)
    }

    /// Whether a pattern is subscribed to.
    pub fn contains(&self, pattern: &str) -> bool {
        self.patterns.contains_key(pattern)
    }

    /// How many patterns are subscribed to, lingering ones included.
    pub fn len(&self) -> usize {
        self.patterns.len()
    }

    /// Whether no pattern is.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Step {
        Sub(u16, &'static str),
        Unsub(u16, &'static str),
        Wait(u64),
    }

    fn check(steps: &[Step], expected: &[&str]) {
        let start = Instant::now();
        let (mut interest, mut now, mut seen) = (Interest::default(), start, Vec::new());
        for step in steps {
            match *step {
                Step::Sub(shard, pattern) => {
                    interest.handle_subscribe(ShardId(shard), pattern.into());
                }
                Step::Unsub(shard, pattern) => {
                    interest.handle_unsubscribe(ShardId(shard), &pattern.into(), now);
                }
                Step::Wait(ms) => {
                    now += Duration::from_millis(ms);
                    interest.handle_timeout(now);
                }
            }
            while let Some(change) = interest.poll_change() {
                let at = (now - start).as_millis();
                seen.push(match change {
                    Change::Subscribe(pattern) => format!("{at} + {pattern}"),
                    Change::Unsubscribe(pattern) => format!("{at} - {pattern}"),
                });
            }
        }
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_pattern_is_subscribed_once_and_kept_for_the_linger() {
        use Step::{Sub, Unsub, Wait};
        check(
            &[Sub(0, "a"), Sub(1, "a"), Sub(0, "b")],
            &["0 + a", "0 + b"],
        );
        check(&[Sub(0, "a"), Unsub(0, "a"), Wait(4_999)], &["0 + a"]);
        check(
            &[Sub(0, "a"), Unsub(0, "a"), Wait(5_000)],
            &["0 + a", "5000 - a"],
        );
        // One shard still wants it.
        check(
            &[Sub(0, "a"), Sub(1, "a"), Unsub(0, "a"), Wait(9_000)],
            &["0 + a"],
        );
        // Churn: it is wanted again before the linger ends, and the linger then starts anew.
        check(
            &[
                Sub(0, "a"),
                Unsub(0, "a"),
                Wait(4_000),
                Sub(1, "a"),
                Wait(4_000),
                Unsub(1, "a"),
            ],
            &["0 + a"],
        );
        check(
            &[
                Sub(0, "a"),
                Unsub(0, "a"),
                Wait(4_000),
                Sub(1, "a"),
                Unsub(1, "a"),
                Wait(1_000),
                Wait(3_999),
                Wait(1),
            ],
            &["0 + a", "9000 - a"],
        );
        // What ended can come back, and what never was ends nothing.
        check(
            &[
                Unsub(0, "x"),
                Sub(0, "a"),
                Unsub(0, "a"),
                Unsub(0, "a"),
                Wait(5_000),
                Sub(0, "a"),
            ],
            &["0 + a", "5000 - a", "5000 + a"],
        );
    }

    #[test]
    fn the_shards_of_a_pattern_are_those_with_subscribers() {
        let mut interest = Interest::default();
        let now = Instant::now();
        for shard in [0, 5, 63] {
            interest.handle_subscribe(ShardId(shard), "a".into());
        }
        interest.handle_unsubscribe(ShardId(5), &"a".into(), now);
        let shards = interest.shards("a");
        let found: Vec<u16> = (0..70)
            .filter(|shard| shards.contains(ShardId(*shard)))
            .collect();
        assert_eq!(found, [0, 63]);
        assert!(interest.shards("b").is_empty());
        assert_eq!(interest.poll_timeout(), None);
        interest.handle_unsubscribe(ShardId(0), &"a".into(), now);
        interest.handle_unsubscribe(ShardId(63), &"a".into(), now);
        assert!(interest.shards("a").is_empty());
        assert_eq!(interest.poll_timeout(), Some(now + LINGER));
        assert_eq!(interest.len(), 1);
    }
}
