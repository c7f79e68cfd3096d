//! Who disturbs the shared cluster has it alone. Turns come in the order in which they were asked for, so that nobody waits
//! for ever.

use std::ops::Deref;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{Kubernetes, READY};
use crate::{
    cluster::{Cluster, blocking},
    wait::until_true,
};

/// The runtime's lock, and not the standard library's, since this one says that it is fair.
static TURNS: RwLock<()> = RwLock::const_new(());

/// A test's turn with the shared cluster.
#[derive(Debug)]
pub struct Turn {
    cluster: &'static Kubernetes,
    _lock: Lock,
}

#[derive(Debug)]
#[expect(dead_code, reason = "they are held, and nothing else")]
enum Lock {
    Shared(RwLockReadGuard<'static, ()>),
    Exclusive(RwLockWriteGuard<'static, ()>),
}

impl Turn {
    /// The cluster, for who keeps it beside the turn. It is not to be used after that.
    pub fn cluster(&self) -> &'static Kubernetes {
        self.cluster
    }
}

impl Deref for Turn {
    type Target = Kubernetes;

    fn deref(&self) -> &Kubernetes {
        self.cluster
    }
}

pub(super) fn with_others(cluster: &'static Kubernetes) -> Turn {
    let lock = Lock::Shared(blocking(TURNS.read()));
    Turn {
        cluster,
        _lock: lock,
    }
}

pub(super) fn alone(cluster: &'static Kubernetes) -> Turn {
    let lock = Lock::Exclusive(blocking(TURNS.write()));
    until_settled(cluster);
    Turn {
        cluster,
        _lock: lock,
    }
}

/// The namespaces of the tests before are deleted, which nobody has awaited, and their pods drain.
fn until_settled(cluster: &Kubernetes) {
    until_true("what other tests had is gone", READY, || {
        let phases = cluster.admin().kubectl(&[
            "get",
            "namespaces",
            "--output=jsonpath={.items[*].status.phase}",
        ]);
        !phases.contains("Terminating")
    });
}
