//! How many `WsGateways` a newer operator replaces at a time.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::watch::Key;

/// The turns of upgrades. One that is taken is given back once its gateways are all ready, and never before: an
/// upgrade that fails stops the others.
#[derive(Debug)]
pub struct Turns {
    most: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Whether it is known which upgrades were under way when this operator began to work.
    is_seeded: bool,
    taken: BTreeSet<Key>,
    waiting: BTreeSet<Key>,
}

impl Turns {
    /// So many at a time.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            inner: Mutex::default(),
        }
    }

    /// Takes a turn, or waits for one. `upgrading` gives the gateways that are seen to be under way, and is asked
    /// once: an operator that has just begun knows of them alone.
    pub fn take(&self, gateway: &Key, upgrading: impl FnOnce() -> Vec<Key>) -> bool {
        let mut inner = self.lock();
        if !inner.is_seeded {
            inner.is_seeded = true;
            inner.taken.extend(upgrading());
        }
        if inner.taken.contains(gateway) || inner.taken.len() < self.most {
            inner.taken.insert(gateway.clone());
            inner.waiting.remove(gateway);
            return true;
        }
        inner.waiting.insert(gateway.clone());
        false
    }

    /// The others that have a turn.
    pub fn of_others(&self, gateway: &Key) -> Vec<Key> {
        let inner = self.lock();
        let others = inner.taken.iter().filter(|taken| *taken != gateway);
        others.cloned().collect()
    }

    /// Gives a turn back, and waits for none any more.
    pub fn give_back(&self, gateway: &Key) {
        let mut inner = self.lock();
        inner.waiting.remove(gateway);
        inner.taken.remove(gateway);
    }

    /// Who is to be looked at since a turn is free. Each is named once: who then takes no turn leaves it to the next.
    pub fn next(&self) -> Option<Key> {
        let mut inner = self.lock();
        if inner.taken.len() < self.most {
            inner.waiting.pop_first()
        } else {
            None
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    #[test]
    fn a_turn_is_free_once_its_gateways_are_ready() {
        let turns = Turns::new(1);
        let [a, b, c] = ["a", "b", "c"].map(|name| Key::new("shop", name));
        let none = Vec::new;
        assert!(turns.take(&a, none));
        assert!(turns.take(&a, none), "it is still its turn");
        assert!(!turns.take(&b, none));
        assert!(!turns.take(&c, none));
        assert_eq!(turns.next(), None, "no turn is free");
        assert_eq!(turns.of_others(&b), slice::from_ref(&a));
        assert_eq!(turns.of_others(&a), []);
        turns.give_back(&a);
        assert_eq!(turns.next(), Some(b.clone()));
        assert_eq!(turns.next(), Some(c.clone()), "b did not take it");
        assert_eq!(turns.next(), None);
        assert!(turns.take(&c, none));
    }

    #[test]
    fn what_was_under_way_at_the_beginning_has_its_turn() {
        let turns = Turns::new(1);
        let [a, b] = ["a", "b"].map(|name| Key::new("shop", name));
        assert!(!turns.take(&a, || vec![b.clone()]));
        turns.give_back(&b);
        assert_eq!(turns.next(), Some(a.clone()));
        assert!(turns.take(&a, || vec![b.clone()]));
    }
}
