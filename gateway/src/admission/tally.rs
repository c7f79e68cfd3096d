//! How many connections each of many has, and how often it came: a table that only those are in who are here, or were a
//! moment ago.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use wsgateway_crds::config::PerAddress;

use super::throttle;

/// The table's parts, each with a lock of its own.
const PARTS: usize = 16;

/// How many of a part may be remembered for nothing but how often they came. When so many addresses come within a
/// second, none of them comes too often, and the newest is let in unnoted: the process's own limit is what holds then.
const VISITORS_MAX: usize = 4_096;

/// A part is looked through for who may be forgotten whenever it has doubled, and not before it has so many.
const SWEEP_AT_MIN: usize = 64;

/// One that can remember no more visitors is looked through so often, in nanoseconds.
const SWEEP_PERIOD_NS: u64 = 100_000_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Tally<K> {
    parts: [Mutex<Part<K>>; PARTS],
    hasher: RandomState,
}

#[derive(Debug)]
struct Part<K> {
    entries: HashMap<K, Entry>,
    /// Those of them with an open connection.
    open: usize,
    sweep_at: usize,
    /// When it was last looked through.
    swept_at: u64,
}

#[derive(Debug, Default)]
struct Entry {
    open: u32,
    /// When it may come as often as it likes again: see [`throttle::take`].
    full_at: u64,
}

/// A place among the connections of one, given back when dropped.
#[derive(Debug)]
pub(super) struct Place<K: Hash + Eq + Copy> {
    tally: Arc<Tally<K>>,
    key: K,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// All are taken.
    Full,
    /// It has come as often as it may; it may come again after so long.
    TooOften(Duration),
}

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self {
            parts: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
        }
    }
}

impl<K> Default for Part<K> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            open: 0,
            sweep_at: SWEEP_AT_MIN,
            swept_at: 0,
        }
    }
}

impl<K: Hash + Eq + Copy> Tally<K> {
    /// Lets one in, at a time since any fixed moment. Comes with its place, where there is a limit of connections.
    pub(super) fn enter(
        self: &Arc<Self>,
        key: K,
        limits: PerAddress,
        now: Duration,
    ) -> Result<Option<Place<K>>, Taken> {
        let now = throttle::nanos(now);
        let mut part = self.part(&key);
        let part = &mut *part;
        let is_counted = limits.connections > 0;
        let is_known = part.entries.contains_key(&key);
        if !is_known && part.is_due(now) {
            part.sweep(now);
        }
        if !is_known && !is_counted && part.visitors() >= VISITORS_MAX {
            return Ok(None);
        }
        let entry = part.entries.entry(key).or_default();
        if limits.handshakes_per_second > 0 {
            let taken = throttle::take(entry.full_at, now, limits.handshakes_per_second);
            entry.full_at = taken.map_err(|wait| Taken::TooOften(Duration::from_nanos(wait)))?;
        }
        if !is_counted {
            return Ok(None);
        }
        if entry.open >= limits.connections {
            return Err(Taken::Full);
        }
        if entry.open == 0 {
            part.open += 1;
        }
        entry.open += 1;
        Ok(Some(Place {
            tally: self.clone(),
            key,
        }))
    }

    fn leave(&self, key: &K) {
        let mut part = self.part(key);
        let Some(entry) = part.entries.get_mut(key) else {
            return;
        };
        entry.open -= 1;
        if entry.open > 0 {
            return;
        }
        // How often it came is forgotten when the part is next looked through, if there is room until then.
        let never_counts = entry.full_at == 0;
        part.open -= 1;
        let may_be_forgotten = never_counts || part.visitors() > VISITORS_MAX;
        if may_be_forgotten {
            part.entries.remove(key);
        }
        part.shrink();
    }

    fn part(&self, key: &K) -> MutexGuard<'_, Part<K>> {
        let at = self.hasher.hash_one(key) as usize % PARTS;
        #[expect(clippy::indexing_slicing, reason = "a remainder is below its divisor")]
        let part = &self.parts[at];
        // Nothing that is done under the lock panics halfway.
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let parts = self.parts.iter();
        parts.map(|part| part.lock().unwrap().entries.len()).sum()
    }
}

impl<K: Hash + Eq> Part<K> {
    fn visitors(&self) -> usize {
        self.entries.len() - self.open
    }

    fn is_due(&self, now: u64) -> bool {
        self.entries.len() >= self.sweep_at
            || (self.visitors() >= VISITORS_MAX
                && now >= self.swept_at.saturating_add(SWEEP_PERIOD_NS))
    }

    /// Forgets who has no connection and may come as often as anybody.
    fn sweep(&mut self, now: u64) {
        self.entries
            .retain(|_, entry| entry.open > 0 || entry.full_at > now);
        self.swept_at = now;
        self.sweep_at = (2 * self.entries.len()).max(SWEEP_AT_MIN);
        self.shrink();
    }

    /// Gives memory back once a quarter of it is used.
    fn shrink(&mut self) {
        if self.entries.capacity() > SWEEP_AT_MIN
            && self.entries.len() <= self.entries.capacity() / 4
        {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }
}

impl<K: Hash + Eq + Copy> Drop for Place<K> {
    fn drop(&mut self) {
        self.tally.leave(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: u32, handshakes_per_second: u32) -> PerAddress {
        PerAddress {
            connections,
            handshakes_per_second,
        }
    }

    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn each_has_its_own_places_and_gives_them_back() {
        let tally = Arc::new(Tally::default());
        let enter = |key: u64| tally.enter(key, limits(2, 0), NOW);
        let (a, b) = (enter(1).unwrap(), enter(1).unwrap());
        assert!(a.is_some() && b.is_some());
        assert_eq!(enter(1).unwrap_err(), Taken::Full);
        let c = enter(2).unwrap();
        drop(a);
        let d = enter(1).unwrap();
        assert_eq!(enter(1).unwrap_err(), Taken::Full);
        assert_eq!(tally.len(), 2);
        drop((b, c, d));
        assert_eq!(tally.len(), 0);
    }

    #[test]
    fn a_limit_that_is_lowered_or_lifted_loses_no_count() {
        let tally = Arc::new(Tally::default());
        let enter = |connections| tally.enter(1_u64, limits(connections, 0), NOW);
        let mut places: Vec<_> = (0..5).map(|_| enter(5).unwrap()).collect();
        assert_eq!(enter(2).unwrap_err(), Taken::Full);
        assert!(enter(0).unwrap().is_none());
        places.truncate(1);
        places.push(enter(2).unwrap());
        assert_eq!(enter(2).unwrap_err(), Taken::Full);
        places.clear();
        assert_eq!(tally.len(), 0);
    }

    #[test]
    fn who_comes_too_often_waits_and_others_do_not() {
        let tally = Arc::new(Tally::default());
        let enter = |key: u64, now| tally.enter(key, limits(0, 2), now).map(drop);
        assert_eq!(enter(1, NOW), Ok(()));
        assert_eq!(enter(1, NOW), Ok(()));
        let wait = Duration::from_millis(500);
        assert_eq!(enter(1, NOW), Err(Taken::TooOften(wait)));
        assert_eq!(enter(2, NOW), Ok(()));
        assert_eq!(enter(1, NOW + wait), Ok(()));
    }

    #[test]
    fn a_million_addresses_leave_no_table_behind() {
        let tally = Arc::new(Tally::default());
        // All at one moment, the most that can be: what is kept has a limit.
        for key in 0..1_000_000_u64 {
            tally.enter(key, limits(0, 5), NOW).unwrap();
        }
        assert!(tally.len() <= PARTS * VISITORS_MAX, "{}", tally.len());
        // Each with a connection that ends at once: kept for a second, and bounded alike.
        let later = NOW + Duration::from_secs(10);
        for key in 0..100_000_u64 {
            let now = later + Duration::from_micros(100) * key as u32;
            drop(tally.enter(key, limits(1, 5), now).unwrap());
        }
        // 10,000 come in a second.
        assert!(tally.len() <= 25_000, "{}", tally.len());
        // The next one of each part finds that nobody need be remembered.
        let much_later = NOW + Duration::from_secs(60);
        for key in 0..100_000_u64 {
            let now = much_later + Duration::from_secs(2) * key as u32;
            tally.enter(key, limits(0, 1), now).unwrap();
        }
        assert!(tally.len() <= PARTS * SWEEP_AT_MIN, "{}", tally.len());
        let capacity = tally
            .parts
            .iter()
            .map(|part| part.lock().unwrap().entries.capacity());
        assert!(capacity.sum::<usize>() <= PARTS * SWEEP_AT_MIN * 4);
    }
}
