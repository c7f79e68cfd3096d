//! The objects of one kind, as last heard of, by name and by the `WsGateway` that they belong to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::{Key, object::Watched};
use crate::queue::Cause;

/// The objects of one kind. Readers take a moment's lock and hold what they found by reference count.
#[derive(Debug)]
pub struct Store<T>(RwLock<Inner<T>>);

#[derive(Debug)]
struct Inner<T> {
    objects: BTreeMap<Key, Slot<T>>,
    by_gateway: BTreeMap<Key, BTreeSet<Key>>,
    /// The namespaces that have been listed; `None` is all of them.
    synced: BTreeSet<Option<Arc<str>>>,
}

#[derive(Debug)]
struct Slot<T> {
    object: Arc<T>,
    /// The list that it was last seen in.
    round: u64,
}

/// What a change concerns.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Concern {
    pub(super) gateways: Vec<Key>,
    pub(super) cause: Cause,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self(RwLock::new(Inner {
            objects: BTreeMap::new(),
            by_gateway: BTreeMap::new(),
            synced: BTreeSet::new(),
        }))
    }
}

impl<T: Watched> Store<T> {
    /// The object of a name.
    pub fn get(&self, key: &Key) -> Option<Arc<T>> {
        self.read().objects.get(key).map(|slot| slot.object.clone())
    }

    /// The objects that belong to a `WsGateway`, by name.
    pub fn of(&self, gateway: &Key) -> Vec<Arc<T>> {
        let inner = self.read();
        let keys = inner.by_gateway.get(gateway).into_iter().flatten();
        keys.filter_map(|key| inner.objects.get(key))
            .map(|slot| slot.object.clone())
            .collect()
    }

    /// Every object, by namespace and name.
    pub fn all(&self) -> Vec<Arc<T>> {
        let inner = self.read();
        inner
            .objects
            .values()
            .map(|slot| slot.object.clone())
            .collect()
    }

    /// Every object's name.
    pub fn keys(&self) -> Vec<Key> {
        self.read().objects.keys().cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.read().objects.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether what is not here does not exist: the namespace has been listed, and its watch goes on.
    /// For a cluster-scoped kind the namespace is empty.
    pub fn is_synced(&self, namespace: &str) -> bool {
        let inner = self.read();
        inner.synced.contains(&None) || inner.synced.contains(&Some(namespace.into()))
    }

    /// Puts an object, and says whom that concerns: the old owner, too, where the owner changed.
    pub(super) fn put(&self, mut object: T, round: u64) -> Option<Concern> {
        object.slim();
        let key = object.key();
        let gateway = object.gateway();
        let object = Arc::new(object);
        let mut inner = self.write();
        let before = inner.objects.insert(
            key.clone(),
            Slot {
                object: object.clone(),
                round,
            },
        );
        let owner_before = before.as_ref().and_then(|slot| slot.object.gateway());
        let is_moved = owner_before != gateway;
        if is_moved && let Some(owner) = &owner_before {
            inner.unlink(owner, &key);
        }
        if let Some(gateway) = &gateway
            && (is_moved || before.is_none())
        {
            let keys = inner.by_gateway.entry(gateway.clone()).or_default();
            keys.insert(key);
        }
        drop(inner);
        let cause = match &before {
            None => Some(Cause::Event),
            Some(slot) if is_moved => object.change(&slot.object).or(Some(Cause::Event)),
            Some(slot) => object.change(&slot.object),
        };
        let gateways = gateway.into_iter().chain(owner_before.filter(|_| is_moved));
        Some(Concern {
            gateways: gateways.collect(),
            cause: cause?,
        })
    }

    /// Removes an object, and says whom that concerns.
    pub(super) fn remove(&self, key: &Key) -> Option<Concern> {
        let mut inner = self.write();
        let slot = inner.objects.remove(key)?;
        let gateway = slot.object.gateway();
        if let Some(gateway) = &gateway {
            inner.unlink(gateway, key);
        }
        Some(Concern {
            gateways: gateway.into_iter().collect(),
            cause: Cause::Event,
        })
    }

    /// A list of a namespace, or of all, is complete: it has been synced, and what is there that the list of
    /// this round had not is gone.
    pub(super) fn end_round(&self, namespace: Option<&Arc<str>>, round: u64) -> Vec<Key> {
        let mut inner = self.write();
        inner.synced.insert(namespace.cloned());
        inner.keys_where(namespace, |slot| slot.round != round)
    }

    /// The watch of a namespace, or of all, has ended: nothing of it is known any more.
    pub(super) fn clear(&self, namespace: Option<&Arc<str>>) -> Vec<Key> {
        let mut inner = self.write();
        inner.synced.remove(&namespace.cloned());
        inner.keys_where(namespace, |_| true)
    }

    // A panic while the lock was held would have been inside of a map's own code, so what it guards is whole.
    fn read(&self) -> RwLockReadGuard<'_, Inner<T>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner<T>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Inner<T> {
    fn unlink(&mut self, gateway: &Key, key: &Key) {
        if let Some(keys) = self.by_gateway.get_mut(gateway) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_gateway.remove(gateway);
            }
        }
    }

    fn keys_where(&self, namespace: Option<&Arc<str>>, is: impl Fn(&Slot<T>) -> bool) -> Vec<Key> {
        let is_within = |key: &Key| namespace.is_none_or(|namespace| **namespace == *key.namespace);
        let found = self
            .objects
            .iter()
            .filter(|(key, slot)| is_within(key) && is(slot));
        found.map(|(key, _)| key.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::object::MetaObject, *};

    fn object(namespace: &str, name: &str, instance: &str, version: &str) -> MetaObject {
        serde_json::from_value(json!({"metadata": {
            "namespace": namespace, "name": name, "resourceVersion": version,
            "labels": {"app.kubernetes.io/instance": instance},
        }}))
        .unwrap()
    }

    fn concern(names: &[&str]) -> Concern {
        Concern {
            gateways: names.iter().map(|name| Key::new("a", name)).collect(),
            cause: Cause::Event,
        }
    }

    #[test]
    fn a_change_concerns_both_owners_and_a_repetition_nobody() {
        let store = Store::default();
        assert_eq!(
            store.put(object("a", "x", "one", "1"), 1),
            Some(concern(&["one"]))
        );
        assert_eq!(store.put(object("a", "x", "one", "1"), 2), None);
        assert_eq!(
            store.put(object("a", "x", "two", "2"), 2),
            Some(concern(&["two", "one"]))
        );
        assert!(store.of(&Key::new("a", "one")).is_empty());
        assert_eq!(store.of(&Key::new("a", "two")).len(), 1);
        assert_eq!(store.remove(&Key::new("a", "x")), Some(concern(&["two"])));
        assert_eq!(store.remove(&Key::new("a", "x")), None);
        assert!(store.of(&Key::new("a", "two")).is_empty());
    }

    #[test]
    fn a_list_shows_what_is_gone_of_its_own_namespace_alone() {
        let store = Store::default();
        for (namespace, name) in [("a", "x"), ("a", "y"), ("b", "x")] {
            store.put(object(namespace, name, "one", "1"), 1);
        }
        store.put(object("a", "x", "one", "1"), 2);
        assert!(!store.is_synced("a"));
        assert_eq!(store.end_round(Some(&"a".into()), 2), [Key::new("a", "y")]);
        assert!(store.is_synced("a") && !store.is_synced("b"));
        assert_eq!(store.clear(Some(&"b".into())), [Key::new("b", "x")]);
        store.clear(Some(&"a".into()));
        assert!(!store.is_synced("a"));
    }
}
