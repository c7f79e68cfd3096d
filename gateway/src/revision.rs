//! Which configuration runs, and which was refused: what the admin port reports of the files.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use wsgateway_crds::report::Rejected;

/// The configurations of a process, one after the other.
#[derive(Debug)]
pub struct Revisions {
    /// Of the file that the process started with.
    boot_hash: String,
    live: Mutex<LiveRevision>,
}

#[derive(Debug)]
struct LiveRevision {
    /// Of the file that runs in every shard.
    hash: String,
    rejected: Option<Rejected>,
}

/// A live part on its way into the shards.
#[derive(Debug)]
pub struct Handover {
    hash: String,
    /// The shards that have not gone over to it yet.
    remaining: AtomicUsize,
    revisions: Arc<Revisions>,
}

impl Revisions {
    /// What a process starts with: a shard serves nobody before it has its first configuration.
    pub fn new(boot_hash: String, live_hash: String) -> Self {
        let live = LiveRevision {
            hash: live_hash,
            rejected: None,
        };
        Self {
            boot_hash,
            live: Mutex::new(live),
        }
    }

    /// The hash of the file that the process started with.
    pub fn boot_hash(&self) -> &str {
        &self.boot_hash
    }

    /// The hash of the file that runs in every shard, and why the newest one does not.
    pub fn live(&self) -> (String, Option<Rejected>) {
        let live = self.lock();
        (live.hash.clone(), live.rejected.clone())
    }

    /// The newest file is refused.
    pub fn reject(&self, rejected: Rejected) {
        self.lock().rejected = Some(rejected);
    }

    /// The newest file is not refused.
    pub fn accept(&self) {
        self.lock().rejected = None;
    }

    /// The file of this hash is about to be taken over by so many shards.
    pub fn hand_over(self: &Arc<Self>, hash: &str, shards: usize) -> Arc<Handover> {
        Arc::new(Handover {
            hash: hash.to_owned(),
            remaining: AtomicUsize::new(shards),
            revisions: self.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, LiveRevision> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handover {
    /// A shard has gone over to it. Each says so once, in the order in which the files came, so that the last shard of
    /// one file speaks before the last shard of the next.
    pub fn taken(&self) {
        if self.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.revisions.lock().hash.clone_from(&self.hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_counts_once_the_last_shard_has_it() {
        let revisions = Arc::new(Revisions::new("boot".to_owned(), "first".to_owned()));
        let shown = || revisions.live().0;
        let second = revisions.hand_over("second", 2);
        let third = revisions.hand_over("third", 2);
        second.taken();
        third.taken();
        assert_eq!(shown(), "first");
        second.taken();
        assert_eq!(shown(), "second");
        third.taken();
        assert_eq!(shown(), "third");
    }

    #[test]
    fn a_refusal_stands_until_a_file_is_accepted() {
        let revisions = Arc::new(Revisions::new("boot".to_owned(), "first".to_owned()));
        let rejected = Rejected {
            hash: "second".to_owned(),
            reason: "Malformed".to_owned(),
            message: "line 1".to_owned(),
        };
        revisions.reject(rejected.clone());
        assert_eq!(revisions.live(), ("first".to_owned(), Some(rejected)));
        revisions.accept();
        assert_eq!(revisions.live(), ("first".to_owned(), None));
    }
}
