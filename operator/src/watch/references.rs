//! Which `WsGateways` name an object that is not theirs, such as a Secret of the user's, so that a change of
//! it is a change for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::Key;
use crate::kinds::Kind;

/// An object that is named by others.
pub type Referent = (Kind, Key);

/// Who names what. Each reconcile replaces what its `WsGateway` names.
#[derive(Debug, Default)]
pub struct References(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    by_gateway: BTreeMap<Key, BTreeSet<Referent>>,
    by_referent: BTreeMap<Referent, BTreeSet<Key>>,
}

impl References {
    /// What a `WsGateway` names from now on; nothing when it is gone.
    pub fn set(&self, gateway: &Key, referents: BTreeSet<Referent>) {
        let mut inner = self.lock();
        let before = inner.by_gateway.remove(gateway).unwrap_or_default();
        for gone in before.difference(&referents) {
            if let Some(gateways) = inner.by_referent.get_mut(gone) {
                gateways.remove(gateway);
                if gateways.is_empty() {
                    inner.by_referent.remove(gone);
                }
            }
        }
        for new in referents.difference(&before) {
            let gateways = inner.by_referent.entry(new.clone()).or_default();
            gateways.insert(gateway.clone());
        }
        if !referents.is_empty() {
            inner.by_gateway.insert(gateway.clone(), referents);
        }
    }

    /// Who names an object.
    pub fn of(&self, kind: Kind, key: &Key) -> Vec<Key> {
        let inner = self.lock();
        let gateways = inner.by_referent.get(&(kind, key.clone()));
        gateways.into_iter().flatten().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_reconcile_says_what_is_named() {
        let references = References::default();
        let secret = |name| (Kind::Secret, Key::new("shop", name));
        let (chat, feed) = (Key::new("shop", "chat"), Key::new("shop", "feed"));
        references.set(&chat, [secret("a"), secret("b")].into());
        references.set(&feed, [secret("b")].into());
        references.set(&chat, [secret("b"), secret("c")].into());
        let of = |name| references.of(Kind::Secret, &Key::new("shop", name));
        assert_eq!(of("a"), []);
        assert_eq!(of("b"), [chat.clone(), feed]);
        assert_eq!(of("c").len(), 1);
        references.set(&chat, BTreeSet::new());
        assert_eq!(of("c"), []);
        assert_eq!(references.lock().by_gateway.len(), 1);
    }
}
